"""Odd files are classified, bad ones reported, and nothing that a file holds or is called does anything else."""

import json
import os
import time
from io import BytesIO
from pathlib import Path

import corpus
import encoders
import numpy as np
import pytest
from conftest import Run
from odd_images import SAMPLES, SIDE
from PIL import Image

from resnet_cli import images
from resnet_cli.errors import ImageError
from resnet_cli.pretrained import Fit

ODD, BAD = corpus.odd(), corpus.bad()
PATIENCE = 10  # seconds for one small file, on a busy machine
pytestmark = pytest.mark.filterwarnings(r"ignore:::PIL\.")  # as in `images`; pytest sets its own filters


def decode(content: bytes, size: int = SIDE) -> np.ndarray:
    started = time.monotonic()
    try:
        return images.decode_stream(BytesIO(content), size, Fit.CROP)
    finally:
        assert time.monotonic() - started < PATIENCE


def test_there_are_enough() -> None:
    assert len(ODD) >= 80
    assert len(BAD) >= 80


@pytest.mark.parametrize("name", ODD, ids=ascii)
def test_odd_files_show_what_they_hold(name: bytes) -> None:
    odd = ODD[name]
    pixels = decode(odd.content)
    assert pixels.shape == (SIDE, SIDE, 3)
    if odd.pixels is not None:
        np.testing.assert_allclose(pixels, odd.pixels, atol=odd.tolerance)


@pytest.mark.parametrize("name", BAD, ids=ascii)
def test_bad_files_are_reported(name: bytes) -> None:
    with pytest.raises(ImageError) as caught:
        decode(BAD[name].content)
    assert caught.value.kind == BAD[name].kind
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 300


def test_each_file_gives_one_record(resnet: Run, tmp_path: Path) -> None:
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


def outcome(content: bytes) -> str:
    """The kind of error, if any; everything else that is raised passes."""
    try:
        assert decode(content, 16).shape == (16, 16, 3)
    except ImageError as error:
        return error.kind if str(error).isprintable() else f"{error!r}"
    return ""


def mended(content: bytes) -> bytes:
    """A damaged PNG with right checksums, so that the damage gets further than them."""
    parts, at = [content[:8]], 8
    while at + 12 <= len(content):
        size = int.from_bytes(content[at : at + 4])
        parts.append(encoders.chunk(content[at + 4 : at + 8], content[at + 8 : at + 8 + size]))
        at += 12 + size
    return b"".join(parts)


def mutated(content: bytes, random: np.random.Generator) -> bytes:
    damaged = bytearray(content)
    match random.integers(5):
        case 0:  # half of all flips are in the header, where they do most
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


FORMS = {
    "JPEG": {},
    "progressive": {"form": "JPEG", "progressive": True},
    "PNG": {},
    "GIF": {},
    "BMP": {},
    "WEBP": {},
    "lossless": {"form": "WEBP", "lossless": True},
    "TIFF": {},
    "LZW": {"form": "TIFF", "compression": "tiff_lzw"},
    "ICO": {},
    "PPM": {},
    "JPEG2000": {},
    "PCX": {},
    "SGI": {},
    "QOI": {},
    "AVIF": {},
}


@pytest.mark.parametrize("name", FORMS)
def test_damaged_photos_give_image_errors_only(name: str) -> None:
    random = np.random.default_rng(20240229)
    options = dict(FORMS[name])
    form = options.pop("form", name)
    if form not in Image.SAVE:
        pytest.skip(f"this Pillow does not write {form}")
    for sample in sorted(SAMPLES.glob("*.jpg")):
        photo = Image.open(sample).convert("RGB").resize((48, 40))
        content = corpus.encoded(photo, form, **options)
        for _ in range(80):
            damaged = mutated(content, random)
            if form == "PNG" and random.integers(2):
                damaged = mended(damaged)
            assert outcome(damaged) in ("", "not_an_image", "unreadable_image", "too_large")
