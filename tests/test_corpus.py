"""Unusual files are classified, bad files reported, and neither content nor names have any other effect."""

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

import corpus
import encoders
import numpy as np
import pytest
from conftest import Run
from image_helpers import SAMPLES, decode_bytes, encoded
from odd_images import SIDE
from PIL import Image, PngImagePlugin

from resnet_cli.errors import ImageError
from resnet_cli.images.decode import configure_pillow

ODD, BAD = corpus.odd(), corpus.bad()
MAX_SECONDS = 10  # for one small file, on a busy machine
pytestmark = pytest.mark.filterwarnings(r"ignore:::PIL\.")  # as in `configure_pillow`; pytest sets its own filters


@pytest.fixture(autouse=True, scope="module")
def _configured_pillow() -> Iterator[None]:
    """Configure Pillow as the command line does, and reset it afterwards."""
    text, block = PngImagePlugin.MAX_TEXT_CHUNK, Image.core.get_block_size()
    configure_pillow()
    yield
    PngImagePlugin.MAX_TEXT_CHUNK = text
    Image.core.set_block_size(block)


def decode_in_time(content: bytes, size: int = SIDE) -> np.ndarray:
    started = time.monotonic()
    try:
        return decode_bytes(content, size)
    finally:
        assert time.monotonic() - started < MAX_SECONDS


def test_size_of_the_corpus() -> None:
    assert len(ODD) >= 80
    assert len(BAD) >= 80


@pytest.mark.parametrize("name", ODD, ids=ascii)
def test_unusual_files_are_decoded(name: bytes) -> None:
    odd = ODD[name]
    pixels = decode_in_time(odd.content)
    assert pixels.shape == (SIDE, SIDE, 3)
    if odd.pixels is not None:
        np.testing.assert_allclose(pixels, odd.pixels, atol=odd.tolerance)


@pytest.mark.parametrize("name", BAD, ids=ascii)
def test_bad_files_raise_image_errors(name: bytes) -> None:
    with pytest.raises(ImageError) as caught:
        decode_in_time(BAD[name].content)
    assert caught.value.kind == BAD[name].kind
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 300


def test_predict_writes_one_record_per_file(resnet: Run, tmp_path: Path) -> None:
    folder = tmp_path / "corpus"
    folder.mkdir()
    good, kinds = corpus.write(folder)
    result = resnet("predict", "--weights", "tiny", "--format", "json", folder)
    assert result.returncode == 1
    assert "Traceback" not in result.stderr
    assert all(line.isprintable() for line in result.stderr.split("\n"))
    records = json.loads(result.stdout)
    names = sorted(os.fsdecode(name) for name in {**good, **kinds})
    assert len(records) == len(names)
    outcomes = {
        name: record["error"]["kind"] if "error" in record else "classified"
        for name, record in zip(names, records, strict=True)
    }
    assert outcomes == {os.fsdecode(name): kinds.get(name, "classified") for name in {**good, **kinds}}
    assert all("error" in record or len(record["predictions"]) == 3 for record in records)


def error_kind(content: bytes) -> str:
    """Return the kind of the ImageError, or an empty string if there is none."""
    try:
        assert decode_in_time(content, 16).shape == (16, 16, 3)
    except ImageError as error:
        return error.kind if str(error).isprintable() else f"{error!r}"
    return ""


def with_checksums(content: bytes) -> bytes:
    """Correct the checksums of a damaged PNG, so that they do not hide the damage."""
    parts, at = [content[:8]], 8
    while at + 12 <= len(content):
        size = int.from_bytes(content[at : at + 4])
        parts.append(encoders.chunk(content[at + 4 : at + 8], content[at + 8 : at + 8 + size]))
        at += 12 + size
    return b"".join(parts)


def damage(content: bytes, random: np.random.Generator) -> bytes:
    damaged = bytearray(content)
    match random.integers(5):
        case 0:  # half of all flips are in the header, where they have the largest effect
            for _ in range(random.integers(1, 9)):
                damaged[random.integers(len(damaged) if random.integers(2) else min(200, len(damaged)))] ^= (
                    1 << random.integers(8)
                )
        case 1:
            damaged[random.integers(len(damaged))] = random.choice([0, 1, 127, 128, 255])
        case 2:
            del damaged[random.integers(len(damaged)) :]
        case 3:
            start = random.integers(len(damaged))
            del damaged[start : start + random.integers(1, 64)]
        case 4:
            start, other = random.integers(len(damaged), size=2)
            damaged[start:start] = damaged[other : other + random.integers(1, 64)]
    return bytes(damaged)


FORMATS = {
    "JPEG": {},
    "progressive": {"image_format": "JPEG", "progressive": True},
    "PNG": {},
    "GIF": {},
    "BMP": {},
    "DIB": {},
    "WEBP": {},
    "lossless": {"image_format": "WEBP", "lossless": True},
    "TIFF": {},
    "LZW": {"image_format": "TIFF", "compression": "tiff_lzw"},
    "ICO": {},
    "PPM": {},
    "JPEG2000": {},
    "PCX": {},
    "SGI": {},
    "QOI": {},
    "AVIF": {},
}


@pytest.mark.parametrize("name", FORMATS)
def test_damaged_photos_raise_only_image_errors(name: str) -> None:
    random = np.random.default_rng(20240229)
    options = {"image_format": name} | FORMATS[name]
    if options["image_format"] not in Image.SAVE:
        pytest.skip(f"this Pillow does not write {name}")
    side = 16 if name == "QOI" else 48  # Pillow decodes QOI in Python
    for sample in sorted(SAMPLES.glob("*.jpg")):
        content = encoded(Image.open(sample).convert("RGB").resize((side, side * 5 // 6)), **options)
        for _ in range(80):
            damaged = damage(content, random)
            if name == "PNG" and random.integers(2):
                damaged = with_checksums(damaged)
            assert error_kind(damaged) in ("", "not_an_image", "unreadable_image", "too_large")
