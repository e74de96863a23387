"""Images of any shape become squares with exactly the pixels of torchvision's documented transforms."""

import math
import time
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from image_helpers import decode_bytes, encoded, gradients, noise
from PIL import Image, ImageCms

from resnet_cli.images.decode import decode_file
from resnet_cli.images.inputs import find
from resnet_cli.images.readers import MAX_SIDE
from resnet_cli.network.preprocessing import Decoding, Fit, Resizing

PAD_COLOUR = [124, 116, 104]  # ImageNet's mean
SIDE = 8


@pytest.mark.parametrize("fit", Fit)
def test_images_of_the_right_size_stay_unchanged(fit: Fit) -> None:
    image = noise(SIDE, SIDE)
    np.testing.assert_array_equal(decode_bytes(encoded(image), SIDE, fit), np.asarray(image))


def torchvision_crop(image: Image.Image, size: int) -> np.ndarray:
    """Apply Resize(floor(size / 0.875), bicubic), as timm does, and CenterCrop(size), as torchvision documents them."""
    width, height = image.size
    short = math.floor(size / 0.875)
    if width <= height:
        new_width, new_height = short, int(short * height / width)
    else:
        new_width, new_height = int(short * width / height), short
    pixels = np.asarray(image.resize((new_width, new_height), Image.Resampling.BICUBIC))
    top, left = round((new_height - size) / 2.0), round((new_width - size) / 2.0)
    return pixels[top : top + size, left : left + size]


@pytest.mark.parametrize("size", [64, 224, 299])
@pytest.mark.parametrize(("width", "height"), [(640, 480), (333, 500), (97, 31), (50, 800), (257, 256), (223, 225)])
def test_crop_equals_torchvisions(width: int, height: int, size: int) -> None:
    image = noise(width, height)
    np.testing.assert_array_equal(decode_bytes(encoded(image, "PPM"), size), torchvision_crop(image, size))


@pytest.mark.parametrize(
    ("size", "width", "height", "left", "top"),
    [(224, 256, 256, 16, 16), (224, 256, 512, 16, 144), (224, 301, 256, 38, 16), (64, 73, 74, 4, 5)],
)
def test_crop_keeps_the_centre(size: int, width: int, height: int, left: int, top: int) -> None:
    """If the short side is already size / 0.875, nothing is resampled. Halves are rounded to even."""
    image = noise(width, height)
    expected = np.asarray(image)[top : top + size, left : left + size]
    np.testing.assert_array_equal(decode_bytes(encoded(image), size), expected)


def test_subsampling_keeps_single_pixels() -> None:
    """Tiny ImageNet was made so: a side of 48 pixels becomes 8 by keeping every sixth pixel."""
    image = noise(96, 48).convert("L").convert("RGB")
    sampled = decode_bytes(encoded(image), SIDE, resizing=Resizing(1.0, "bicubic", SIDE))
    np.testing.assert_allclose(sampled, np.asarray(image)[::6, 24:72:6], atol=1)  # YCbCr rounds


def test_subsampling_has_the_colours_of_jpeg() -> None:
    image = noise(384, 384)
    ours = decode_bytes(encoded(image), 64, resizing=Resizing(1.0, "bicubic", 64))
    plain = Image.fromarray(np.asarray(image)[::6, ::6])
    theirs = decode_jpeg(plain)
    assert np.abs(ours.astype(int) - theirs).mean() < 3
    assert np.abs(np.asarray(plain).astype(int) - theirs).mean() > 30


def decode_jpeg(image: Image.Image) -> np.ndarray:
    """Encode an image as JPEG with colour at half resolution, and decode it with Pillow."""
    return np.asarray(Image.open(BytesIO(encoded(image, "JPEG", quality=100, subsampling="4:2:0"))))


@pytest.mark.parametrize("side", [8, 7])
def test_small_images_are_not_subsampled(side: int) -> None:
    content = encoded(noise(side, side))
    plain, sampled = (decode_bytes(content, 16, resizing=Resizing(1.0, "bicubic", short)) for short in (None, 8))
    np.testing.assert_array_equal(sampled, plain)


def test_large_images_are_averaged_before_subsampling() -> None:
    board = Image.fromarray((np.indices((640, 640)).sum(axis=0) % 2 * 255).astype(np.uint8))
    sampled = decode_bytes(encoded(board), SIDE, resizing=Resizing(1.0, "bicubic", SIDE))
    np.testing.assert_allclose(sampled, 127.5, atol=3)


@pytest.mark.parametrize(("width", "height"), [(20, 400), (700, 30), (401, 20)])
def test_crop_of_a_strip_is_close_to_the_plain_crop(width: int, height: int) -> None:
    image = gradients(width, height)
    np.testing.assert_allclose(decode_bytes(encoded(image), 64), torchvision_crop(image, 64), atol=2)


@pytest.mark.parametrize("fit", Fit)
@pytest.mark.parametrize(("width", "height"), [(1, 10_000), (20_000, 1), (1, MAX_SIDE)])
def test_extreme_strips_take_little_time(width: int, height: int, fit: Fit) -> None:
    start = time.monotonic()
    pixels = decode_bytes(encoded(Image.new("RGB", (width, height), "red")), 224, fit)
    assert time.monotonic() - start < 5
    assert (pixels[112, 112] == [255, 0, 0]).all() or fit is Fit.PAD


def test_stretch() -> None:
    image = noise(50, 31)
    expected = np.asarray(image.resize((64, 64), Image.Resampling.BICUBIC))
    np.testing.assert_array_equal(decode_bytes(encoded(image), 64, Fit.STRETCH), expected)


@pytest.mark.parametrize(
    ("width", "height", "rows", "columns"),
    [
        (20, 10, slice(2, 6), slice(0, 8)),
        (10, 20, slice(0, 8), slice(2, 6)),
        (4, 4, slice(0, 8), slice(0, 8)),
        (2, 1, slice(2, 6), slice(0, 8)),
        (1000, 1, slice(3, 4), slice(0, 8)),
        (1, 1000, slice(0, 8), slice(3, 4)),
    ],
)
def test_pad(width: int, height: int, rows: slice, columns: slice) -> None:
    expected = np.full((8, 8, 3), PAD_COLOUR)
    expected[rows, columns] = [255, 0, 0]
    content = encoded(Image.new("RGB", (width, height), "red"))
    np.testing.assert_array_equal(decode_bytes(content, 8, Fit.PAD), expected)


def in_srgb(image: Image.Image) -> Image.Image:
    """Convert an RGB image by its profile; one of sRGB, which rounds differently, is left out."""
    if not (content := image.info.get("icc_profile")) or b"sRGB" in content:
        return image
    profile = ImageCms.ImageCmsProfile(BytesIO(content))
    intent = profile.profile.rendering_intent
    converted = ImageCms.profileToProfile(image, profile, ImageCms.createProfile("sRGB"), renderingIntent=intent)
    assert converted
    return converted


def test_real_photos(shared: Path) -> None:
    folder = shared / "images" / "photos"
    paths = list(find([str(folder)]))
    assert [Path(path).name for path in paths] == sorted(path.name for path in folder.iterdir())
    for path in paths:
        expected = torchvision_crop(in_srgb(Image.open(path).convert("RGB")), 224)
        pixels = decode_file(path, Decoding(224))
        assert pixels.dtype == np.uint8
        np.testing.assert_array_equal(pixels, expected)
