"""The formats of images, and of files that are often among them, one row per format (standard library only)."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

HEAD = 1024  # bytes in which every signature is found

# By Pillow's name, the suffixes of the formats that it reads, most common first (JPEG includes MPO). EPS is out: it
# starts programs. They are listed here because asking Pillow imports all its plugins.
PILLOW = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif", ".mpo"),
    "PNG": (".png", ".apng"),
    "WEBP": (".webp",),
    "GIF": (".gif",),
    "BMP": (".bmp",),
    "TIFF": (".tif", ".tiff"),
    "AVIF": (".avif", ".avifs"),
    "ICO": (".ico",),
    "PPM": (".ppm", ".pgm", ".pbm", ".pnm", ".pfm"),
    "JPEG2000": (".jp2", ".j2k", ".j2c", ".jpc", ".jpf", ".jpx"),
    "DIB": (".dib",),
    "PCX": (".pcx",),
    "SGI": (".sgi", ".bw", ".rgb", ".rgba"),
    "PSD": (".psd",),
    "QOI": (".qoi",),
    "DDS": (".dds",),
    "TGA": (".tga", ".icb", ".vda", ".vst"),
}
SUFFIX_NEEDED = ("TGA",)  # without a signature, so that any damaged file would pass for it


@dataclass(frozen=True)
class Format:
    """A format that Pillow does not read.

    Args:
        name: its name for people, in the singular.
        suffixes: its suffixes, in lower case.
        signature: what a file starts with.
        extra: the optional dependencies that reading it needs.
    """

    name: str
    suffixes: tuple[str, ...]
    signature: bytes
    extra: str = ""

    def matches(self, head: bytes) -> bool:
        """Return whether a file starts as this format does."""
        return bool(re.match(self.signature, head, re.DOTALL))


HEIC = Format(
    "HEIC",
    (".heic", ".heif", ".hif", ".heics", ".heifs"),
    rb".{4}ftyp(hei[cxms]|hev[cxms]|(mif1|msf1).{4}(.{4})*?hei[cx])",
)
JPEG_XL = Format("JPEG XL", (".jxl",), rb"\xff\x0a|\0\0\0\x0cJXL ", "raw")
RAW = Format(
    "camera RAW",
    (
        *(
            ".arw",
            ".cr2",
            ".cr3",
            ".crw",
            ".dcr",
            ".dng",
            ".erf",
            ".fff",
            ".iiq",
            ".k25",
            ".kdc",
            ".mef",
            ".mos",
            ".mrw",
        ),
        *(".nef", ".nrw", ".orf", ".pef", ".raf", ".raw", ".rw2", ".rwl", ".sr2", ".srf", ".srw", ".x3f", ".3fr"),
    ),
    rb".{4}ftypcrx |FUJIFILMCCD-RAW|II\*\0.{4}CR|IIR[OS]|MMOR|IIU\0|FOVb|\0MRM|II\x1a\0\0\0HEAPCCDR",
    "raw",
)
PLUGINS = (HEIC, JPEG_XL, RAW)  # images; `readers.PLUGINS` opens them
OTHERS = (  # no images, or none that are read
    Format("PDF", (".pdf", ".ai"), rb"\s*%PDF"),
    Format("SVG", (".svg", ".svgz"), rb"(\xef\xbb\xbf)?\s*<(svg|\?xml.*<svg|!DOCTYPE svg|!--.*<svg)"),
    Format(
        "video",
        (
            *(
                ".mp4",
                ".mov",
                ".m4v",
                ".avi",
                ".mkv",
                ".webm",
                ".mpg",
                ".mpeg",
                ".mts",
                ".m2ts",
                ".wmv",
                ".3gp",
                ".flv",
            ),
            *(".vob", ".ogv", ".mxf", ".insv", ".lrv"),
        ),
        rb".{4}(ftyp(isom|iso\d|mp4\d|qt  |M4V|avc1|3g|MSNV|dash|XAVC)|moov|mdat|wide)|RIFF.{4}AVI |\x1aE\xdf\xa3"
        rb"|\0\0\x01[\xba\xb3]|FLV\x01|0&\xb2u\x8ef\xcf\x11",
    ),
    Format("DICOM", (".dcm", ".dicom"), rb".{128}DICM"),
    Format("PostScript", (".eps", ".ps"), rb"%!PS|\xc5\xd0\xd3\xc6"),
    Format("GIMP image", (".xcf",), rb"gimp xcf"),
)


def _by_suffix() -> Iterator[tuple[str, Format]]:
    for row in (*PLUGINS, *OTHERS):
        for suffix in row.suffixes:
            yield suffix, row


BY_SUFFIX = dict(_by_suffix())
SUFFIXES = frozenset(
    [suffix for suffixes in PILLOW.values() for suffix in suffixes]
    + [suffix for row in PLUGINS for suffix in row.suffixes]
)


@cache
def pillow_formats(suffix: str) -> tuple[str, ...]:
    """Return the formats that Pillow may take a file for, by its suffix in lower case."""
    return tuple(name for name, suffixes in PILLOW.items() if name not in SUFFIX_NEEDED or suffix in suffixes)


ANY_SIGNATURE = re.compile(b"|".join(b"(?:%b)" % row.signature for row in (*PLUGINS, *OTHERS)), re.DOTALL)


def identify(head: bytes) -> Format | None:
    """Return the format of a file that Pillow does not read, by its first `HEAD` bytes."""
    if not ANY_SIGNATURE.match(head):  # most files
        return None
    return next((row for row in (*PLUGINS, *OTHERS) if row.matches(head)), None)
