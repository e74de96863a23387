"""Write a folder of unusual image files and of bad ones: `python tests/corpus.py FOLDER`.

Each file is found in its folder by its suffix or its content, so that it gets exactly one record.
"""

import gzip
import io
import os
import struct
import sys
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import encoders as enc
import odd_images
from image_helpers import encoded
from odd_images import IMAGE, SCENE, SIDE, Odd
from PIL import Image, features

NAMES = (
    *(
        b"a space.png",
        b"  leading spaces.png",
        b"trailing space .png",
        b"-dash.png",
        b"--weights.png",
        b"a\nnewline.png",
    ),
    *(b"a\ttab.png", b"a\rreturn.png", b"\x1b[31mred\x1b[0m.png", b"\x1b]0;title\x07.png", b"[bold]markup[reset].png"),
    *(
        b"[link=file:x]y.png",
        b"a[1].png",
        b"star*.png",
        b"what?.png",
        b"quote'.png",
        b'quotes".png',
        b"back\\slash.png",
    ),
    *(b"$(touch x).png", b"`id`.png", b"a;b&c|d.png", b"percent%s%n.png", b"{braces}.png", b"#hash.png", b"~tilde.png"),
    *("강아지.png".encode(), "강아지.png".encode(), "é.png".encode(), "é.png".encode(), "🐕.png".encode()),
    *("\u202egnp.exe.png".encode(), "\ufeffbom.png".encode(), "a\u2028line.png".encode(), "\x85next.png".encode()),
    *(b"\xff\xfe.png", b"caf\xe9.png", b"\xed\xa0\x80surrogate.png", b"n" * 251 + b".png", b"UPPER.PNG", b"dots..png"),
    *(
        "너".encode() * 83 + b".png",
        b"comma,semi;.png",
        b"=formula().png",
        b"a:b.png",
        b"CON.png",
        b"x.jpg.png",
        b"\x7f.png",
    ),
)


@cache
def odd() -> dict[bytes, Odd]:
    """Return files that must be classified, by name."""
    files = {name.encode(): file for name, file in odd_images.everything()}
    return files | {name: Odd(encoded(IMAGE), SCENE) for name in NAMES}


@dataclass(frozen=True)
class Bad:
    """A file that must be reported: its bytes and the kind of error."""

    content: bytes
    kind: str = "unreadable_image"


def incomplete() -> Iterator[tuple[str, Bad]]:
    """Yield incomplete files, which end in the header, among the pixels or just before the end."""
    noise = Image.effect_noise((SIDE, SIDE), 90).convert("RGB")
    forms = {
        "jpg": ("JPEG", {}),
        "progressive.jpg": ("JPEG", {"progressive": True}),
        "png": ("PNG", {}),
        "gif": ("GIF", {}),
        "bmp": ("BMP", {}),
        "webp": ("WEBP", {}),
        "lossless.webp": ("WEBP", {"lossless": True}),
        "tif": ("TIFF", {}),
        "lzw.tif": ("TIFF", {"compression": "tiff_lzw"}),
        "jp2": ("JPEG2000", {}),
        "ico": ("ICO", {"sizes": [(32, 32)]}),
        "bmp.ico": ("ICO", {"sizes": [(32, 32)], "bitmap_format": "bmp"}),
        "ppm": ("PPM", {}),
        "pcx": ("PCX", {}),
        "sgi": ("SGI", {}),
        "qoi": ("QOI", {}),
    }
    if features.check("avif"):
        forms["avif"] = ("AVIF", {})
    for suffix, (form, options) in forms.items():
        content = encoded(noise, form, **options)
        for percent in (4, 20, 40, 60, 80, 96):
            yield f"{percent}.{suffix}", Bad(content[: len(content) * percent // 100])
    content = encoded(noise)
    for size in (8, 16, 33, 41, 50):
        yield f"{size}-bytes.png", Bad(content[:size])
    content = encoded(noise, "JPEG")
    for size in (3, 10, 30, 200):
        yield f"{size}-bytes.jpg", Bad(content[:size])


def damaged() -> Iterator[tuple[str, Bad]]:
    """Yield files with wrong checksums, impossible headers or missing parts."""
    rows = enc.png_rows(SCENE)
    good = enc.png(SIDE, SIDE, 8, 2, rows, (b"gAMA", struct.pack(">I", 45455)))
    for name in (b"IHDR", b"IDAT"):
        at = good.index(name)
        end = at + 4 + int.from_bytes(good[at - 4 : at])
        yield f"crc-{name.decode()}.png", Bad(good[:end] + b"\1\2\3\4" + good[end + 4 :])
    head, tail = good[: good.index(b"IDAT") - 4], good[-12:]
    packed = zlib.compress(rows)
    for name, data in {
        "adler": packed[:-4] + b"\1\2\3\4",
        "not-compressed": rows,
        "empty": b"",
        "flipped": packed[:40] + bytes([packed[40] ^ 255]) + packed[41:],
    }.items():
        yield f"pixels-{name}.png", Bad(head + enc.chunk(b"IDAT", data) + tail)
    yield "no-pixels.png", Bad(head + tail)
    yield "no-header.png", Bad(good[:8] + good[33:])
    for name, (width, height, depth, colour) in {
        "zero-width": (0, 9, 8, 2),
        "zero-height": (9, 0, 8, 2),
        "depth-3": (9, 9, 3, 2),
        "colour-5": (9, 9, 8, 5),
    }.items():
        yield f"{name}.png", Bad(enc.png(width, height, depth, colour, rows))
    photo = encoded(IMAGE, "JPEG")
    parts = list(enc.jpeg_segments(photo))
    for marker, name in {0xDB: "quantisation", 0xC0: "frame"}.items():
        yield f"no-{name}.jpg", Bad(enc.jpeg(part for other, part in parts if other != marker))
    frame = photo.index(b"\xff\xc0")
    yield "12-bit.jpg", Bad(photo[: frame + 4] + b"\x0c" + photo[frame + 5 :])
    yield "lossless.jpg", Bad(photo.replace(b"\xff\xc0", b"\xff\xc3"))
    yield "zero-height.jpg", Bad(photo[: frame + 5] + b"\0\0" + photo[frame + 7 :])
    yield "two-channels.jpg", Bad(photo[: frame + 9] + b"\2" + photo[frame + 10 :])
    yield "long-segment.jpg", Bad(photo[:4] + b"\xff\xff" + photo[6:])
    yield "no-frames.gif", Bad(enc.gif(SIDE, SIDE, [], palette=bytes(12)))
    yield "zero.gif", Bad(enc.gif(0, 0, [], palette=bytes(12)))
    yield "bits-7.bmp", Bad(enc.bmp(SIDE, SIDE, 7, bytes(9999)))
    yield "zero.bmp", Bad(enc.bmp(0, 0, 24, b""))
    yield "compression.bmp", Bad(enc.bmp(SIDE, SIDE, 24, bytes(9999), compression=77))
    rgb = enc.tiff_tags(SIDE, SIDE, [8, 8, 8], 2, t278=(enc.SHORT, [SIDE]))
    yield "compression.tif", Bad(enc.tiff(rgb | {259: (enc.SHORT, [12345])}, [SCENE.tobytes()]))
    yield "samples.tif", Bad(enc.tiff(rgb | {277: (enc.SHORT, [99])}, [SCENE.tobytes()]))
    yield "deflate-junk.tif", Bad(enc.tiff(rgb | {259: (enc.SHORT, [8])}, [SCENE.tobytes()]))
    yield "no-directory.tif", Bad(b"II*\0\xff\xff\xff\0")
    yield "loop.tif", Bad(b"II*\0\x08\0\0\0\0\0\x08\0\0\0")
    yield "not-riff.webp", Bad(b"RIFF\x10\0\0\0WEBPVP8 junkjunkjunk")
    yield "header.ppm", Bad(b"P6 32")
    yield "text.ppm", Bad(b"P3 2 2 255 1 2 3 x y z 4 5 6 7 8 9")
    yield "boxes.avif", Bad(b"\0\0\0\x1cftypavif\0\0\0\0avifmif1miafMA1B" + bytes(99))
    yield "boxes.jp2", Bad(b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(99))
    yield "layers.psd", Bad(enc.psd(SCENE)[:600])


def huge() -> Iterator[tuple[str, Bad]]:
    """Yield small files that decompress to more than fits in memory, and headers that announce as much."""
    rows = enc.deflate_repeated(bytes(60_001), 99)
    yield "bomb.png", Bad(enc.png_of_deflated(20_000, 20_000, 8, 2, rows), "too_large")
    yield "header.png", Bad(enc.png(2**31 - 1, 2**31 - 1, 8, 2, b""), "too_large")
    yield "wide.png", Bad(enc.png(2**31 - 1, 1, 1, 0, b""), "too_large")
    yield (
        "grey.png",
        Bad(enc.png_of_deflated(20_000, 20_000, 1, 0, enc.deflate_repeated(bytes(50_020), 1000)), "too_large"),
    )
    photo = encoded(IMAGE, "JPEG")
    frame = photo.index(b"\xff\xc0")
    yield "bomb.jpg", Bad(photo[: frame + 5] + struct.pack(">HH", 65500, 65500) + photo[frame + 9 :], "too_large")
    yield "negative.png", Bad(enc.png(0x80000001, 9, 8, 2, b""), "too_large")
    frame = enc.gif_frame(0, 0, odd_images.INDICES)
    yield "bomb.gif", Bad(enc.gif(65535, 65535, [frame], palette=bytes(12)), "too_large")
    yield "frame.gif", Bad(enc.gif(9, 9, [frame[:5] + b"\xff" * 4 + frame[9:]], palette=bytes(12)), "too_large")
    blank = encoded(Image.new("L", (3000, 3000)), "JPEG", progressive=True)
    last = blank[blank.rindex(b"\xff\xda") : -2]
    yield "scans.jpg", Bad(blank[:-2] + last * 2000, "too_large")
    yield "bomb.bmp", Bad(enc.bmp(100_000, 100_000, 24, b""), "too_large")
    tags = enc.tiff_tags(100_000, 100_000, [8], 1, t278=(enc.LONG, [100_000]))
    yield "bomb.tif", Bad(enc.tiff(tags, [b"\0"]), "too_large")
    yield "bomb.ppm", Bad(b"P6 99999 99999 255\n", "too_large")
    yield "bomb.qoi", Bad(b"qoif" + struct.pack(">IIBB", 99_999, 99_999, 3, 0), "too_large")
    yield "bomb.psd", Bad(b"8BPS" + struct.pack(">HxxxxxxHIIHH", 1, 3, 30_000, 30_000, 8, 3) + bytes(14), "too_large")
    yield "bomb.sgi", Bad(struct.pack(">HBBHHHH", 474, 0, 1, 3, 65535, 65535, 3) + bytes(600), "too_large")
    bomb = enc.png(60_000, 60_000, 8, 2, b"")
    icon = struct.pack("<HHHBBBBHHII", 0, 1, 1, 16, 16, 0, 0, 1, 32, len(bomb), 22) + bomb
    yield "bomb.ico", Bad(icon, "too_large")
    jp2 = encoded(IMAGE, "JPEG2000")
    sides = struct.pack(">II", SIDE, SIDE)
    yield "bomb.jp2", Bad(jp2.replace(sides, struct.pack(">II", 99_999, 99_999)), "too_large")
    tags = enc.tiff_tags(
        SIDE, SIDE, [8], 1, t259=(enc.SHORT, [8]), t322=(enc.LONG, [32_768]), t323=(enc.LONG, [32_768])
    )
    tile = zlib.compress(bytes(1 << 20), 9) * 4
    yield "tile.tif", Bad(enc.tiff(tags, [tile]), "too_large")


def mislabelled() -> Iterator[tuple[str, Bad]]:
    """Yield files of other types with the suffix of an image."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("dog.png", encoded(IMAGE))
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w") as file:
        file.addfile(tarfile.TarInfo("dog.png"))
    contents = {
        "empty.jpg": b"",
        "empty.png": b"",
        "one-byte.jpg": b"\xff",
        "newline.jpg": b"\n",
        "zeros.jpg": bytes(5000),
        "ones.png": b"\xff" * 5000,
        "text.jpg": b"This is not an image.\n",
        "escapes.jpg": b"\x1b]0;title\x07\x1b[31m[bold]red[/bold]\n",
        "utf16.jpg": "not an image".encode("utf-16"),
        "page.jpg": b"<!DOCTYPE html><title>404 Not Found</title>",
        "drawing.png": b'<svg xmlns="http://www.w3.org/2000/svg"/>',
        "data.png": b'{"image": null}',
        "script.jpg": b"#!/bin/sh\nrm -rf /\n",
        "program.jpg": b"\x7fELF\2\1\1" + bytes(99),
        "windows.jpg": b"MZ\x90\0" + bytes(99),
        "paper.jpg": b"%PDF-1.7\n" + bytes(99),
        "drawing.jpg": encoded(IMAGE, "EPS"),
        "archive.jpg": archive.getvalue(),
        "archive.png": gzip.compress(encoded(IMAGE)),
        "tape.png": tar.getvalue(),
        "7z.webp": b"7z\xbc\xaf\x27\x1c" + bytes(99),
        "sound.webp": b"RIFF\x24\0\0\0WAVEfmt " + bytes(99),
        "song.gif": b"ID3\4" + bytes(99),
        "film.jpg": b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom" + bytes(99),
        "phone.heic": b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(99),
        "table.bmp": b"SQLite format 3\0" + bytes(99),
        "array.png": b"\x93NUMPY\1\0" + bytes(99),
        "base64.png": b"iVBORw0KGgoAAAANSUhEUgAAACAAAAAgCAIAAAD8GO2jAAA=",
        "line-ends.png": encoded(IMAGE).replace(b"\r\n", b"\n"),
        "shifted.jpg": b"\n" + encoded(IMAGE, "JPEG"),
    }
    kinds = dict.fromkeys(("drawing.png", "paper.jpg", "drawing.jpg", "film.jpg"), "unsupported_format")
    kinds["phone.heic"] = "unreadable_image"
    yield from ((name, Bad(content, kinds.get(name, "not_an_image"))) for name, content in contents.items())
    signatures = {"jpg": b"\xff\xd8\xff", "png": b"\x89PNG\r\n\x1a\n", "gif": b"GIF89a", "tif": b"II*\0"}
    yield from ((f"signature.{suffix}", Bad(content)) for suffix, content in signatures.items())


@cache
def bad() -> dict[bytes, Bad]:
    """Return files that must be reported, by name."""
    return {
        f"{make.__name__}-{name}".encode(): file
        for make in (incomplete, damaged, huge, mislabelled)
        for name, file in make()
    }


def special(folder: Path) -> dict[bytes, str]:
    """Make links, pipes, folders and files to skip; return the kind of error of each that is not skipped."""
    (folder / "link-dangling.png").symlink_to("nothing")
    (folder / "link-to-itself.png").symlink_to("link-to-itself.png")
    (folder / "link-in-circles").symlink_to(".")
    (folder / "folder.jpg").mkdir()
    (folder / ".hidden.png").write_bytes(encoded(IMAGE))
    (folder / "notes.txt").write_text("not an image")
    kinds = {b"link-dangling.png": "not_found", b"link-to-itself.png": "unreadable_image"}
    if hasattr(os, "mkfifo"):
        os.mkfifo(folder / "pipe.jpg")
        kinds[b"pipe.jpg"] = "not_a_file"
    if Path("/dev/zero").exists():
        (folder / "endless.jpg").symlink_to("/dev/zero")
        kinds[b"endless.jpg"] = "not_a_file"
    return kinds


def write(folder: Path) -> tuple[dict[bytes, Odd], dict[bytes, str]]:
    """Write all files; return those that must be classified, and the kind of error of the others, by name."""
    good, broken = odd(), bad()
    for name, file in {**good, **broken}.items():
        with open(os.path.join(os.fsencode(folder), name), "wb") as stream:  # noqa: PTH118, PTH123 - names are bytes
            stream.write(file.content)
    return good, {name: file.kind for name, file in broken.items()} | special(folder)


if __name__ == "__main__":
    Path(sys.argv[1]).mkdir(parents=True, exist_ok=True)
    written, kinds = write(Path(sys.argv[1]))
    print(f"{len(written)} unusual files, {len(kinds)} bad files")
