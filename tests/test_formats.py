"""Formats of phones and cameras are read, others are named, and folders leave nothing out in silence."""

import sys
from pathlib import Path

import encoders as enc
import numpy as np
import pytest
from conftest import run_main
from image_helpers import SAMPLES, STORED, decode_bytes, exif, populate
from odd_names import from_json_lines
from PIL import Image
from test_viewers import DISPLAY_P3, shown

from resnet_cli.images import decode, formats
from resnet_cli.images.folders import Skipped
from resnet_cli.images.inputs import find
from resnet_cli.network.preprocessing import Decoding

pytestmark = pytest.mark.usefixtures("shared_cache")
TINY = ("predict", "--weights", "tiny", "--format", "jsonl")
SIDE = 64
with Image.open(SAMPLES / "coffee.jpg") as photo:
    PICTURE = photo.convert("RGB").resize((SIDE, SIDE))
RGB = np.asarray(PICTURE)


def read(path: Path) -> np.ndarray:
    return decode.decode_file(path, Decoding(SIDE)).astype(int)


def test_rows_agree_with_pillow() -> None:
    Image.init()
    known = {name: set[str]() for name in formats.PILLOW}
    for suffix, name in Image.registered_extensions().items():
        known.setdefault("JPEG" if name == "MPO" else name, set()).add(suffix)
    assert {name: set(suffixes) for name, suffixes in formats.PILLOW.items()}.items() <= known.items()
    assert {name for name in formats.PILLOW if Image.OPEN[name][1] is None} == {*formats.SUFFIX_NEEDED}
    assert {suffix for row in formats.OTHERS for suffix in row.suffixes}.isdisjoint(formats.SUFFIXES)


@pytest.mark.parametrize("name", ["a.tga", "a.TGA", "a.dds"])
def test_tga_by_its_suffix_and_dds(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    PICTURE.save(path, path.suffix[1:])
    np.testing.assert_array_equal(read(path), RGB)
    assert [*find([str(tmp_path)])] == [str(path)]


# Phones


def heic(path: Path, pixels: np.ndarray, **info: bytes) -> bytes:
    """Write a HEIC file; its encoder turns an EXIF orientation into the rotation and the mirroring of HEIF."""
    from pillow_heif import from_pillow

    file = from_pillow(Image.fromarray(np.ascontiguousarray(pixels)))
    file.info.update(info)
    file.save(path, quality=-1, chroma=444)
    return path.read_bytes()


@pytest.mark.parametrize("orientation", STORED)
def test_heic_is_turned_once(tmp_path: Path, orientation: int) -> None:
    content = heic(tmp_path / "IMG_1.HEIC", STORED[orientation](RGB), exif=exif(orientation))
    assert (b"irot" in content or b"imir" in content) == (orientation > 1)
    assert np.abs(read(tmp_path / "IMG_1.HEIC") - RGB).max() <= 3
    assert np.abs(decode_bytes(content, SIDE).astype(int) - RGB).max() <= 3  # also without a suffix


def test_heic_colours_are_converted(tmp_path: Path) -> None:
    heic(tmp_path / "a.heic", RGB, icc_profile=DISPLAY_P3)
    assert np.abs(read(tmp_path / "a.heic") - shown(PICTURE, DISPLAY_P3)).max() <= 6


def test_pillow_stays_as_it_is(tmp_path: Path) -> None:
    heic(tmp_path / "a.heic", RGB)
    before = dict(Image.OPEN), list(Image.ID)
    read(tmp_path / "a.heic")
    assert (dict(Image.OPEN), list(Image.ID)) == before


# Cameras and JPEG XL


def dng(preview: Image.Image | None = None) -> bytes:
    """Return a DNG of a red wall: a mosaic of 12-bit sensor values."""
    height, width = 96, 128
    mosaic = np.full((height, width), 300, "<u2")
    mosaic[0::2, 0::2] = 3600  # red; the pattern is red and green, green and blue
    identity = [1, 1, 0, 1, 0, 1, 0, 1, 1, 1, 0, 1, 0, 1, 0, 1, 1, 1]
    tags = enc.tiff_tags(width, height, [16], 32803, t278=(enc.LONG, [height]), t254=(enc.LONG, [0]))
    tags |= {50706: (enc.BYTE, [1, 4, 0, 0]), 33421: (enc.SHORT, [2, 2]), 33422: (enc.BYTE, [0, 1, 1, 2])}
    tags |= {50717: (enc.LONG, [4095]), 50714: (enc.LONG, [256]), 50721: (enc.RATIONAL, identity)}
    tags |= {271: (enc.ASCII, b"Test\0"), 272: (enc.ASCII, b"Camera\0"), 50778: (enc.SHORT, [21])}
    tags |= {50728: (enc.RATIONAL, [1, 1] * 3)}
    return enc.tiff(tags, [mosaic.tobytes()])


def test_raw_is_developed(tmp_path: Path) -> None:
    path = tmp_path / "photo.dng"
    path.write_bytes(dng())
    red, green, blue = read(path)[10:-10, 10:-10].reshape(-1, 3).mean(0)
    assert red > 3 * green
    assert red > 3 * blue


def test_jpeg_xl_is_read(tmp_path: Path) -> None:
    import pillow_jxl  # noqa: F401 - Pillow writes the format from now on

    PICTURE.save(tmp_path / "a.jxl", lossless=True)
    np.testing.assert_array_equal(read(tmp_path / "a.jxl"), RGB)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jxl", b"\xff\x0a" + bytes(99)),
        ("a.cr3", b"\0\0\0\x18ftypcrx \0\0\0\1crx isom" + bytes(99)),
        ("a.arw", bytes(300)),
        ("noname", b"FUJIFILMCCD-RAW 0201" + bytes(99)),
        ("a.dng", dng()),
    ],
)
def test_without_the_extra_each_file_is_a_record_that_names_it(
    name: str, content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("rawpy", "pillow_jxl", "pillow_jxl.JpegXLImagePlugin"):
        monkeypatch.setitem(sys.modules, module, None)
    (tmp_path / name).write_bytes(content)
    result = run_main(*TINY, tmp_path)
    [record] = from_json_lines(result.stdout)
    assert result.returncode == 1
    assert record["error"]["kind"] == "unsupported_format"
    assert "pip install 'resnet-cli[raw]'" in record["error"]["message"]


# What is left out


def test_folders_name_what_they_leave_out(tmp_path: Path) -> None:
    populate(tmp_path, "a.png", "@eaDir/a.png/thumb.png", "__MACOSX/a.png", ".thumbnails/b.png", "sub/._a.png")
    others = {"b.pdf": b"%PDF-1.7", "sub/c.MP4": b"", "d": b"\0\0\0\x18ftypisom", "e.svg": b"<svg/>", "f.dcm": b""}
    for name, content in (others | {"notes.txt": b"x", "Thumbs.db": b"\xd0\xcf"}).items():
        (tmp_path / name).write_bytes(content)
    result = run_main(*TINY, tmp_path)
    assert (result.returncode, len(result.stdout.splitlines())) == (0, 1)
    assert result.stderr.splitlines() == ["5 files left out: 2 video, 1 PDF, 1 SVG, 1 DICOM"]
    assert run_main(*TINY, "-q", tmp_path).stderr == ""
    named = run_main(*TINY, tmp_path / "b.pdf", tmp_path / "e.svg", tmp_path / "d")
    errors = [record["error"] for record in from_json_lines(named.stdout)]
    assert {error["kind"] for error in errors} == {"unsupported_format"}
    assert [error["message"] for error in errors] == [
        f"expected an image, got a file of another kind: {x}" for x in ("PDF", "SVG", "video")
    ]


def test_exclude_leaves_out_names_and_paths(tmp_path: Path) -> None:
    populate(tmp_path, "a.png", "b_small.png", "old/c.png", "new/old/d.png", "new/e.png", "new/tmp/f.png")
    for patterns, expected in (
        (["*_small.*"], 5),
        (["old"], 4),
        (["old/"], 4),
        (["new/tmp"], 5),
        (["new/*"], 3),
        (["*_small.png", "old", "tmp"], 2),
        ([f"{tmp_path.name[:4]}*"], 6),  # the folder itself is never left out
    ):
        options = [part for pattern in patterns for part in ("--exclude", pattern)]
        result = run_main(*TINY, *options, tmp_path)
        assert len(result.stdout.splitlines()) == expected, patterns


def test_kinds_are_counted_by_suffix_or_content(tmp_path: Path) -> None:
    populate(tmp_path, "photo.mp4")  # an image under the name of a video
    (tmp_path / "b.avi").write_bytes(b"RIFF\x24\0\0\0AVI LIST")
    skipped = Skipped()
    assert [*find([str(tmp_path)], skipped)] == [str(tmp_path / "photo.mp4")]
    assert (skipped.not_images, dict(skipped.kinds)) == (1, {"video": 1})
