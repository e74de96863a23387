"""Pictures are made here with known pixels, so that what `images` must return follows from their making."""

import contextlib
import math
import os
import socket
import struct
import subprocess
import sys
import time
from io import BytesIO
from pathlib import Path

import numpy as np
import PIL
import pytest
from encoders import png
from PIL import Image, ImageCms, features

from resnet_cli.errors import ImageError
from resnet_cli.images import FORMATS, MAX_PIXELS, MAX_SIDE, Fit, decode, decode_stream
from resnet_cli.inputs import find
from resnet_cli.pretrained import Resizing

PHOTOS = Path(__file__).parents[2] / "shared" / "images" / "photos"
GROUND = [124, 116, 104]
Image.init()
WRITABLE = sorted(set(FORMATS) & set(Image.SAVE))  # not all that Pillow reads it also writes
pytestmark = pytest.mark.filterwarnings(r"ignore:::PIL\.")  # as in `images`; pytest sets its own filters
pillow_13 = pytest.mark.skipif(PIL.__version__ < "13", reason="Pillow reads this kind of TIFF from 13 on")
SIDE = 8  # most pictures here already have the size asked for, so that their pixels must come out as they are

rng = np.random.default_rng(20240229)
NOISE = rng.integers(0, 256, (SIDE, SIDE, 3), np.uint8)
NOISE_RGBA = rng.integers(0, 256, (SIDE, SIDE, 4), np.uint8)
NOISE_16 = rng.integers(0, 65536, (SIDE, SIDE)).astype(np.uint16)


def encoded(image: Image.Image, form: str = "PNG", **options: object) -> bytes:
    file = BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def read(content: bytes, size: int = SIDE, fit: Fit = Fit.CROP) -> np.ndarray:
    return decode_stream(BytesIO(content), size, fit)


def grey(values: np.ndarray) -> np.ndarray:
    return np.repeat(values[..., None], 3, axis=2)


def over_white(rgba: np.ndarray) -> np.ndarray:
    alpha = rgba[..., 3:] / 255
    return rgba[..., :3] * alpha + 255 * (1 - alpha)


def smooth(width: int, height: int) -> Image.Image:
    """A picture with another gradient in each channel."""
    y, x = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j]
    return Image.fromarray((np.stack([x, y, x * y], axis=2) * 255).round().astype(np.uint8))


def noise(width: int, height: int) -> Image.Image:
    return Image.fromarray(rng.integers(0, 256, (height, width, 3), np.uint8))


def failure(path: Path) -> str:
    """The kind of failure; its message must be one line that leaves the file's name to the caller."""
    with pytest.raises(ImageError) as caught:
        decode(path, SIDE, Fit.CROP)
    message = str(caught.value)
    assert message.isprintable()
    assert path.name not in message
    return caught.value.kind


# Orientation

UPRIGHT = {  # from the EXIF standard: where row 0 and column 0 of the stored picture are seen
    1: lambda stored: stored,  # top, left
    2: lambda stored: stored[:, ::-1],  # top, right
    3: lambda stored: stored[::-1, ::-1],  # bottom, right
    4: lambda stored: stored[::-1],  # bottom, left
    5: lambda stored: stored.swapaxes(0, 1),  # left, top
    6: lambda stored: stored.swapaxes(0, 1)[:, ::-1],  # right, top
    7: lambda stored: stored.swapaxes(0, 1)[::-1, ::-1],  # right, bottom
    8: lambda stored: stored.swapaxes(0, 1)[::-1],  # left, bottom
}


def exif(orientation: int) -> Image.Exif:
    tags = Image.Exif()
    tags[274] = orientation
    return tags


@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize("form", ["PNG", "TIFF", "WEBP"])
def test_pictures_are_turned_upright(form: str, orientation: int) -> None:
    options = {"lossless": True} if form == "WEBP" else {}
    content = encoded(Image.fromarray(NOISE), form, exif=exif(orientation), **options)
    np.testing.assert_array_equal(read(content), UPRIGHT[orientation](NOISE))


@pytest.mark.parametrize("mode", ["P", "L", "I;16"])
def test_every_mode_is_turned(mode: str) -> None:
    image = Image.fromarray(NOISE_16) if mode == "I;16" else Image.fromarray(NOISE).convert(mode)
    upright = UPRIGHT[6](read(encoded(image)))
    np.testing.assert_array_equal(read(encoded(image, exif=exif(6))), upright)


def test_orientation_comes_before_the_fit() -> None:
    """A wide stored picture that is seen tall has its padding left and right."""
    content = encoded(Image.new("RGB", (16, 8), "red"), "JPEG", exif=exif(6))
    columns = (read(content, fit=Fit.PAD)[:, :, 0] > 200).all(axis=0)
    assert columns.tolist() == [False, False, True, True, True, True, False, False]


@pytest.mark.parametrize("junk", [b"", b"Exif\0\0", b"Exif\0\0junk", b"Exif\0\0II*\0\xff\xff\xff\xff", bytes(99)])
def test_junk_exif_does_not_spoil_a_picture(junk: bytes) -> None:
    np.testing.assert_array_equal(read(encoded(Image.fromarray(NOISE), exif=junk)), NOISE)
    assert read(encoded(Image.fromarray(NOISE), "JPEG", exif=junk)).shape == NOISE.shape


def test_damaged_exif_does_not_spoil_a_picture() -> None:
    good = exif(6)
    good[271], good[282], good[34853] = "maker", 72.5, {1: "N", 2: (1.0, 2.0, 3.0)}
    upright = {UPRIGHT[orientation](NOISE).tobytes() for orientation in UPRIGHT}
    for _ in range(300):
        damaged = bytearray(good.tobytes())
        damaged[rng.integers(6, len(damaged))] = rng.integers(256)
        assert read(encoded(Image.fromarray(NOISE), exif=bytes(damaged))).tobytes() in upright


# Transparency


@pytest.mark.parametrize("form", ["PNG", "WEBP", "TIFF", "JPEG2000", "QOI", "SGI"])
def test_alpha_is_laid_over_white(form: str) -> None:
    options = {"lossless": True, "exact": True} if form == "WEBP" else {}
    content = encoded(Image.fromarray(NOISE_RGBA), form, **options)
    np.testing.assert_allclose(read(content), over_white(NOISE_RGBA), atol=1)


@pytest.mark.parametrize("form", ["PNG", "TIFF"])
def test_grey_with_alpha_is_laid_over_white(form: str) -> None:
    values = np.concatenate([grey(NOISE[..., 0]), NOISE[..., 1:2]], axis=2)
    content = encoded(Image.fromarray(values).convert("LA"), form)
    np.testing.assert_allclose(read(content), over_white(values), atol=1)


@pillow_13
def test_premultiplied_grey_is_laid_over_white() -> None:
    """The TIFF says that 100 is premultiplied with an alpha of 128: seen over white, 100 + 255 - 128."""
    content = encoded(Image.new("LA", (SIDE, SIDE), (100, 128)), "TIFF")
    tag = struct.Struct("<HHIH")
    assert tag.pack(338, 3, 1, 2) in content
    content = content.replace(tag.pack(338, 3, 1, 2), tag.pack(338, 3, 1, 1))
    assert Image.open(BytesIO(content)).mode == "La"
    np.testing.assert_allclose(read(content), 227, atol=1)


PALETTE = [[255, 0, 0], [0, 255, 0], [10, 20, 30]]
INDICES = rng.integers(0, 3, (SIDE, SIDE), np.uint8)


def paletted() -> Image.Image:
    image = Image.fromarray(INDICES)
    image.putpalette(np.ravel(PALETTE).tolist())
    return image


@pytest.mark.parametrize("form", ["PNG", "GIF", "BMP", "TIFF", "PCX"])
def test_palette(form: str) -> None:
    np.testing.assert_array_equal(read(encoded(paletted(), form)), np.array(PALETTE)[INDICES])


@pytest.mark.parametrize("form", ["PNG", "GIF"])
def test_transparent_palette_entry(form: str) -> None:
    seen = np.array([PALETTE[0], [255, 255, 255], PALETTE[2]])
    np.testing.assert_array_equal(read(encoded(paletted(), form, transparency=1)), seen[INDICES])


def test_translucent_palette() -> None:
    alpha = [[0], [128], [255]]
    content = encoded(paletted(), transparency=bytes(np.ravel(alpha).tolist()))
    np.testing.assert_allclose(read(content), over_white(np.hstack([PALETTE, alpha])[INDICES]), atol=1)


def test_transparent_colour_of_a_png() -> None:
    colours = np.array(PALETTE, np.uint8)[INDICES]
    seen = np.array([PALETTE[0], PALETTE[1], [255, 255, 255]])[INDICES]
    np.testing.assert_array_equal(read(encoded(Image.fromarray(colours), transparency=(10, 20, 30))), seen)


@pytest.mark.parametrize(("dtype", "scale"), [(np.uint8, 1), (np.uint16, 257)])
def test_transparent_grey_of_a_png(dtype: type, scale: int) -> None:
    levels = np.array([0, 100, 200])
    content = encoded(Image.fromarray((levels * scale)[INDICES].astype(dtype)), transparency=100 * scale)
    np.testing.assert_array_equal(read(content), grey(np.array([0, 255, 200])[INDICES]))


# Depth and colour


@pytest.mark.parametrize(("form", "mode"), [("PNG", "I;16"), ("TIFF", "I;16"), ("TIFF", "I;16B"), ("PPM", "I;16")])
def test_16_bit_grey_keeps_its_range(form: str, mode: str) -> None:
    image = Image.frombytes(mode, (SIDE, SIDE), NOISE_16.astype(">u2" if mode == "I;16B" else "<u2").tobytes())
    np.testing.assert_array_equal(read(encoded(image, form)), grey(np.rint(NOISE_16 / 257)))


def test_16_bit_colour_keeps_its_range() -> None:
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in NOISE.astype(int) * 257)
    np.testing.assert_array_equal(read(png(SIDE, SIDE, 16, 2, rows)), NOISE)


RAMP = np.arange(SIDE * SIDE).reshape(SIDE, SIDE) / (SIDE * SIDE - 1)  # 0 to 1


@pytest.mark.parametrize(
    ("dtype", "values"),
    [
        (np.int32, RAMP * 255),
        (np.int32, RAMP * 65535),
        (np.int32, RAMP * 3_000_000 - 1_000_000),
        (np.float32, RAMP),
        (np.float32, RAMP * 255),
        (np.float32, RAMP * 65535),
        (np.float32, RAMP * 2 - 1),
        (np.float32, RAMP * 1e30),
    ],
)
def test_deep_grey_keeps_its_range(dtype: type, values: np.ndarray) -> None:
    content = encoded(
        Image.fromarray(values.round().astype(dtype) if dtype is np.int32 else values.astype(dtype)), "TIFF"
    )
    np.testing.assert_allclose(read(content), grey(RAMP * 255), atol=1)


def test_deep_grey_is_not_stretched_within_a_full_scale() -> None:
    """A dark picture stays dark: scaled by 65535, not by its own maximum."""
    assert read(encoded(Image.new("I", (SIDE, SIDE), 257 * 20), "TIFF")).max() == 20


def test_holes_in_float_pictures_are_black() -> None:
    values = RAMP.astype(np.float32)
    values[-1] = [np.nan, np.inf, -np.inf, 1, 1, 1, 1, 1]
    assert read(encoded(Image.fromarray(values), "TIFF"))[-1, :, 0].tolist() == [0, 0, 0, 255, 255, 255, 255, 255]


@pytest.mark.parametrize("value", [-5, 70_000])
def test_deep_grey_of_one_value(value: int) -> None:
    assert np.ptp(read(encoded(Image.new("I", (SIDE, SIDE), value), "TIFF"))) == 0


def test_black_and_white() -> None:
    bits = rng.integers(0, 2, (SIDE, SIDE)).astype(bool)
    np.testing.assert_array_equal(read(encoded(Image.fromarray(bits))), grey(bits * 255))


def test_grey() -> None:
    np.testing.assert_array_equal(read(encoded(Image.fromarray(NOISE[..., 0]))), grey(NOISE[..., 0]))


@pytest.mark.parametrize(("form", "tolerance"), [("TIFF", 1), ("JPEG", 3)])
@pytest.mark.parametrize("ink", [(0, 0, 0, 0), (255, 0, 0, 0), (0, 200, 100, 0), (30, 60, 90, 120), (0, 0, 0, 255)])
def test_cmyk(form: str, tolerance: int, ink: tuple[int, ...]) -> None:
    """JPEG stores CMYK inverted, which Adobe's marker says."""
    options = {"quality": 100} if form == "JPEG" else {}
    *cmy, k = np.array(ink) / 255
    expected = [255 * (1 - c) * (1 - k) for c in cmy]
    content = encoded(Image.new("CMYK", (SIDE, SIDE), ink), form, **options)
    np.testing.assert_allclose(read(content), np.broadcast_to(expected, NOISE.shape), atol=tolerance)


@pytest.mark.skipif(not features.check("littlecms2"), reason="this Pillow has no colour management")
def test_lab() -> None:
    image = smooth(SIDE, SIDE)
    srgb, lab = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    content = encoded(ImageCms.profileToProfile(image, srgb, lab, outputMode="LAB"), "TIFF")
    assert Image.open(BytesIO(content)).mode == "LAB"
    assert np.abs(read(content).astype(int) - np.asarray(image)).mean() < 3  # 8-bit LAB is coarse


@pillow_13
def test_ycbcr() -> None:
    image = smooth(SIDE, SIDE)
    np.testing.assert_allclose(read(encoded(image.convert("YCbCr"), "TIFF")), np.asarray(image), atol=3)


@pytest.mark.parametrize("form", ["GIF", "WEBP", "PNG", "TIFF"])
def test_first_frame_of_an_animation(form: str) -> None:
    red, blue = (Image.new("RGB", (SIDE, SIDE), colour) for colour in ("red", "blue"))
    options = {"lossless": True} if form == "WEBP" else {}
    content = encoded(red, form, save_all=True, append_images=[blue], **options)
    assert Image.open(BytesIO(content)).n_frames == 2
    np.testing.assert_array_equal(read(content), np.full_like(NOISE, [255, 0, 0]))


@pytest.mark.parametrize("form", WRITABLE)
def test_every_format_is_read(form: str) -> None:
    image = smooth(32, 32)
    lossy = {"JPEG": 12, "AVIF": 12, "WEBP": 40, "GIF": 40}
    assert np.abs(read(encoded(image, form), 32).astype(int) - np.asarray(image)).max() <= lossy.get(form, 0)


# Fit


@pytest.mark.parametrize("fit", Fit)
def test_the_exact_size_is_untouched(fit: Fit) -> None:
    np.testing.assert_array_equal(read(encoded(Image.fromarray(NOISE)), SIDE, fit), NOISE)


def torchvision_crop(image: Image.Image, size: int) -> np.ndarray:
    """Resize(floor(size / 0.875), bicubic), as timm does, and CenterCrop(size), as torchvision documents them."""
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
def test_crop_is_torchvisions(width: int, height: int, size: int) -> None:
    image = noise(width, height)
    np.testing.assert_array_equal(read(encoded(image), size), torchvision_crop(image, size))


@pytest.mark.parametrize(
    ("size", "width", "height", "left", "top"),
    [(224, 256, 256, 16, 16), (224, 256, 512, 16, 144), (224, 301, 256, 38, 16), (64, 73, 74, 4, 5)],
)
def test_crop_keeps_the_middle(size: int, width: int, height: int, left: int, top: int) -> None:
    """Where the short side is already size / 0.875, nothing is resized. Halves are rounded to even."""
    image = noise(width, height)
    expected = np.asarray(image)[top : top + size, left : left + size]
    np.testing.assert_array_equal(read(encoded(image), size), expected)


def test_sampled_pictures_are_made_of_single_pixels() -> None:
    """As Tiny ImageNet's are: each is a pixel of the photo, every sixth one of 48 for 8."""
    image = noise(96, 48).convert("L").convert("RGB")
    sampled = decode_stream(BytesIO(encoded(image)), SIDE, Fit.CROP, Resizing(1.0, "bicubic", SIDE))
    np.testing.assert_allclose(sampled, np.asarray(image)[::6, 24:72:6], atol=1)  # YCbCr rounds


def test_sampled_pictures_have_the_colours_of_jpeg() -> None:
    image = noise(384, 384)
    ours = decode_stream(BytesIO(encoded(image)), 64, Fit.CROP, Resizing(1.0, "bicubic", 64))
    plain = Image.fromarray(np.asarray(image)[::6, ::6])
    theirs = np.asarray(Image.open(BytesIO(encoded(plain, "JPEG", quality=100, subsampling="4:2:0"))))
    assert np.abs(ours.astype(int) - theirs).mean() < 3
    assert np.abs(np.asarray(plain).astype(int) - theirs).mean() > 30


@pytest.mark.parametrize("side", [8, 7])
def test_pictures_too_small_to_be_sampled_are_not(side: int) -> None:
    content = encoded(noise(side, side))
    plain, sampled = (decode_stream(BytesIO(content), 16, Fit.CROP, Resizing(1.0, "bicubic", n)) for n in (None, 8))
    np.testing.assert_array_equal(sampled, plain)


def test_of_a_large_picture_no_stray_pixel_is_sampled() -> None:
    board = Image.fromarray((np.indices((640, 640)).sum(axis=0) % 2 * 255).astype(np.uint8))
    sampled = decode_stream(BytesIO(encoded(board)), SIDE, Fit.CROP, Resizing(1.0, "bicubic", SIDE))
    np.testing.assert_allclose(sampled, 127.5, atol=3)


@pytest.mark.parametrize(("width", "height"), [(20, 400), (700, 30), (401, 20)])
def test_crop_of_a_strip_sees_what_the_plain_crop_sees(width: int, height: int) -> None:
    image = smooth(width, height)
    np.testing.assert_allclose(read(encoded(image), 64), torchvision_crop(image, 64), atol=2)


@pytest.mark.parametrize("fit", Fit)
@pytest.mark.parametrize(("width", "height"), [(1, 10_000), (20_000, 1), (1, MAX_SIDE)])
def test_extreme_strips_are_cheap(width: int, height: int, fit: Fit) -> None:
    start = time.monotonic()
    pixels = read(encoded(Image.new("RGB", (width, height), "red")), 224, fit)
    assert time.monotonic() - start < 5
    assert (pixels[112, 112] == [255, 0, 0]).all() or fit is Fit.PAD


def test_stretch() -> None:
    image = noise(50, 31)
    expected = np.asarray(image.resize((64, 64), Image.Resampling.BICUBIC))
    np.testing.assert_array_equal(read(encoded(image), 64, Fit.STRETCH), expected)


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
    expected = np.full((8, 8, 3), GROUND)
    expected[rows, columns] = [255, 0, 0]
    np.testing.assert_array_equal(read(encoded(Image.new("RGB", (width, height), "red")), 8, Fit.PAD), expected)


@pytest.mark.skipif(not PHOTOS.is_dir(), reason=f"no photos in {PHOTOS}")
def test_real_photos() -> None:
    names = sorted(path.name for path in PHOTOS.iterdir())
    paths = list(find([str(PHOTOS)]))
    assert [Path(path).name for path in paths] == names
    for path in paths:
        expected = torchvision_crop(Image.open(path).convert("RGB"), 224)
        pixels = decode(path, 224, Fit.CROP)
        assert pixels.dtype == np.uint8
        np.testing.assert_array_equal(pixels, expected)


# Failures

PICTURE = encoded(noise(32, 32))
PHOTO = encoded(noise(32, 32), "JPEG")
EPS = encoded(noise(4, 4), "EPS")
BOMB = png(60_000, 60_000, 8, 2, b"")


def flipped(content: bytes, at: int) -> bytes:
    return content[:at] + bytes([content[at] ^ 255]) + content[at + 1 :]


def icon_of(content: bytes) -> bytes:
    """An ICO that promises 16 x 16 pixels and holds another picture."""
    return struct.pack("<HHHBBBBHHII", 0, 1, 1, 16, 16, 0, 0, 1, 32, len(content), 22) + content


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        pytest.param("not_an_image", b"", id="empty"),
        pytest.param("not_an_image", b"\xff", id="one byte"),
        pytest.param("not_an_image", b"This is not a picture.\n", id="text"),
        pytest.param("not_an_image", b"%PDF-1.7\n" + bytes(500), id="PDF"),
        pytest.param("not_an_image", bytes(1000), id="zeros"),
        pytest.param("not_an_image", EPS, id="EPS"),
        *(pytest.param("unreadable_image", PHOTO[: len(PHOTO) * n // 8], id=f"JPEG {n}/8") for n in range(1, 8)),
        *(pytest.param("unreadable_image", PICTURE[: len(PICTURE) * n // 8], id=f"PNG {n}/8") for n in range(1, 8)),
        *(pytest.param("unreadable_image", PHOTO[:n], id=f"JPEG {n} bytes") for n in (3, 10, 20, 100, 200)),
        *(pytest.param("unreadable_image", PICTURE[:n], id=f"PNG {n} bytes") for n in (8, 12, 20, 33, 40)),
        pytest.param("unreadable_image", flipped(PICTURE, 32), id="wrong checksum of the header"),
        pytest.param("unreadable_image", png(10_000, 10_000, 1, 0, b""), id="100 megapixels are not too many"),
        pytest.param("too_large", BOMB, id="bomb"),
        pytest.param("too_large", icon_of(BOMB), id="bomb in an icon"),
        pytest.param("too_large", png(MAX_PIXELS // 1000 + 1, 1000, 1, 0, b""), id="just too many pixels"),
        pytest.param("too_large", png(MAX_SIDE + 1, 1, 1, 0, bytes(MAX_SIDE)), id="just too wide"),
    ],
)
def test_bad_content(tmp_path: Path, kind: str, content: bytes) -> None:
    (tmp_path / "broken.jpg").write_bytes(content)
    start = time.monotonic()
    assert failure(tmp_path / "broken.jpg") == kind
    assert time.monotonic() - start < 2


@pytest.mark.parametrize("name", ["none.jpg", "none/none.jpg", "file/none.jpg", "a\0b.jpg"])
def test_not_found(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").touch()
    assert failure(tmp_path / name) == "not_found"


def test_a_folder_is_not_a_file(tmp_path: Path) -> None:
    assert failure(tmp_path) == "not_a_file"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_pipe_is_not_a_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    assert failure(tmp_path / "pipe.jpg") == "not_a_file"


@pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="this system has no socket files")
def test_a_socket_is_not_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # the name of a socket must be short
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket.jpg")
        assert failure(Path("socket.jpg")) == "not_a_file"


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="this system has no device files")
def test_a_device_is_not_a_file() -> None:
    assert failure(Path("/dev/zero")) == "not_a_file"


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_no_permission(tmp_path: Path) -> None:
    for name in ("file.png", "folder/inside.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(PICTURE)
    (tmp_path / "file.png").chmod(0)
    (tmp_path / "folder").chmod(0)
    try:
        assert failure(tmp_path / "file.png") == "permission_denied"
        assert failure(tmp_path / "folder" / "inside.png") == "permission_denied"
        assert list(find([str(tmp_path)])) == [str(tmp_path / "file.png"), str(tmp_path / "folder")]
        assert failure(tmp_path / "folder") == "permission_denied"
    finally:
        (tmp_path / "folder").chmod(0o700)


def test_permission_lost_at_opening(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Root may read everything, so the refusal is played."""
    (tmp_path / "file.png").write_bytes(PICTURE)

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied", "file.png")

    monkeypatch.setattr(Path, "open", refuse)
    assert failure(tmp_path / "file.png") == "permission_denied"


def test_pillow_prints_nothing(tmp_path: Path) -> None:
    """In a fresh process, because pytest has its own way with warnings. Each file makes Pillow warn or log."""
    (tmp_path / "large.png").write_bytes(png(10_000, 10_000, 1, 0, b""))
    (tmp_path / "exif.jpg").write_bytes(encoded(noise(8, 8), "JPEG", exif=b"Exif\0\0II*\0\x08\0\0\0\x05\0"))
    tiff = encoded(noise(8, 8), "TIFF")
    (tmp_path / "tag.tif").write_bytes(tiff.replace(struct.pack("<HHI", 277, 3, 1), struct.pack("<HHI", 277, 3, 99)))
    (tmp_path / "samples.tif").write_bytes(
        tiff.replace(struct.pack("<HHIH", 277, 3, 1, 3), struct.pack("<HHIH", 277, 3, 1, 99))
    )
    program = """if True:
        import sys
        from contextlib import suppress
        from resnet_cli.images import Fit, ImageError, decode
        from resnet_cli.inputs import find
        for path in find(sys.argv[1:]):
            with suppress(ImageError):
                decode(path, 8, Fit.CROP)
    """
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=True)
    assert done.stdout + done.stderr == ""


@pytest.mark.parametrize("form", WRITABLE)
def test_damage_gives_image_errors_only(form: str) -> None:
    """Damage may go unnoticed, but nothing but ImageError comes out."""
    random = np.random.default_rng(7)
    good = encoded(smooth(16, 16), form)
    for _ in range(40):
        damaged = bytearray(good)
        for _ in range(random.integers(1, 6)):
            damaged[random.integers(len(damaged))] = random.integers(256)
        with contextlib.suppress(ImageError):
            assert read(bytes(damaged)).shape == (SIDE, SIDE, 3)


def test_every_flipped_byte_of_a_png_is_noticed() -> None:
    good = encoded(smooth(16, 16))
    for at in range(8, len(good) - 12):  # what stands in the last chunk is nothing of the picture
        with pytest.raises(ImageError):
            read(flipped(good, at))
