"""Images are made with known pixels, so that the expected result of decoding follows from how they are made."""

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
from image_helpers import (
    BOMB,
    EPS,
    IMAGE,
    decode_bytes,
    decoding_error,
    encoded,
    exif,
    gradients,
    grey,
    noise,
    over_white,
)
from PIL import Image, ImageCms, features
from PIL.PngImagePlugin import PngImageFile

from resnet_cli.errors import ImageError
from resnet_cli.images import formats
from resnet_cli.images.inputs import find
from resnet_cli.images.readers import MAX_PIXELS, MAX_SIDE
from resnet_cli.network.preprocessing import Fit

Image.init()
WRITABLE = sorted(set(formats.pillow_formats("")) & set(Image.SAVE))  # Pillow cannot write all formats that it reads
pytestmark = pytest.mark.filterwarnings(r"ignore:::PIL\.")  # as in `configure_pillow`; pytest sets its own filters
pillow_13 = pytest.mark.skipif(PIL.__version__ < "13", reason="Pillow reads this kind of TIFF since version 13")
SIDE = 8  # most images already have the requested size, so that their pixels must not change

rng = np.random.default_rng(20240229)
NOISE = rng.integers(0, 256, (SIDE, SIDE, 3), np.uint8)
NOISE_RGBA = rng.integers(0, 256, (SIDE, SIDE, 4), np.uint8)
NOISE_16 = rng.integers(0, 65536, (SIDE, SIDE)).astype(np.uint16)


def read(content: bytes, size: int = SIDE, fit: Fit = Fit.CROP) -> np.ndarray:
    return decode_bytes(content, size, fit)


# Orientation; the corpus contains all eight in several formats


@pytest.mark.parametrize("mode", ["P", "L", "I;16"])
def test_every_mode_becomes_upright(mode: str) -> None:
    image = Image.fromarray(NOISE_16) if mode == "I;16" else Image.fromarray(NOISE).convert(mode)
    upright = np.rot90(read(encoded(image)), -1)  # 6: row 0 is the right side, column 0 the top
    np.testing.assert_array_equal(read(encoded(image, exif=exif(6))), upright)


def test_orientation_is_applied_before_the_fit() -> None:
    """A wide image that is upright as a tall one is padded left and right."""
    content = encoded(Image.new("RGB", (16, 8), "red"), "JPEG", exif=exif(6))
    columns = (read(content, fit=Fit.PAD)[:, :, 0] > 200).all(axis=0)
    assert columns.tolist() == [False, False, True, True, True, True, False, False]


@pytest.mark.parametrize("junk", [b"", b"Exif\0\0", b"Exif\0\0junk", b"Exif\0\0II*\0\xff\xff\xff\xff", bytes(99)])
def test_junk_exif_is_ignored(junk: bytes) -> None:
    np.testing.assert_array_equal(read(encoded(Image.fromarray(NOISE), exif=junk)), NOISE)
    assert read(encoded(Image.fromarray(NOISE), "JPEG", exif=junk)).shape == NOISE.shape


def test_damaged_exif_only_affects_the_orientation() -> None:
    good = Image.Exif()
    good[274] = 6
    good[271], good[282], good[34853] = "maker", 72.5, {1: "N", 2: (1.0, 2.0, 3.0)}
    orientations = {np.rot90(side, turns).tobytes() for side in (NOISE, NOISE[::-1]) for turns in range(4)}
    for _ in range(300):
        damaged = bytearray(good.tobytes())
        damaged[rng.integers(6, len(damaged))] = rng.integers(256)
        assert read(encoded(Image.fromarray(NOISE), exif=bytes(damaged))).tobytes() in orientations


# Transparency


@pytest.mark.parametrize("image_format", ["PNG", "WEBP", "TIFF", "JPEG2000", "QOI", "SGI"])
def test_alpha_is_blended_with_white(image_format: str) -> None:
    options = {"lossless": True, "exact": True} if image_format == "WEBP" else {}
    content = encoded(Image.fromarray(NOISE_RGBA), image_format, **options)
    np.testing.assert_allclose(read(content), over_white(NOISE_RGBA[..., :3], NOISE_RGBA[..., 3]), atol=1)


@pytest.mark.parametrize("image_format", ["PNG", "TIFF"])
def test_grey_with_alpha_is_blended_with_white(image_format: str) -> None:
    levels, alpha = NOISE[..., 0], NOISE[..., 1]
    content = encoded(Image.merge("LA", [Image.fromarray(levels), Image.fromarray(alpha)]), image_format)
    np.testing.assert_allclose(read(content), over_white(grey(levels), alpha), atol=1)


@pillow_13
def test_premultiplied_grey_is_blended_with_white() -> None:
    """Grey 100, premultiplied with an alpha of 128, is 100 + 255 - 128 on white."""
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


@pytest.mark.parametrize("image_format", ["PNG", "GIF", "BMP", "TIFF", "PCX"])
def test_palette(image_format: str) -> None:
    np.testing.assert_array_equal(read(encoded(paletted(), image_format)), np.array(PALETTE)[INDICES])


@pytest.mark.parametrize("image_format", ["PNG", "GIF"])
def test_transparent_palette_entry(image_format: str) -> None:
    expected = np.array([PALETTE[0], [255, 255, 255], PALETTE[2]])
    np.testing.assert_array_equal(read(encoded(paletted(), image_format, transparency=1)), expected[INDICES])


def test_translucent_palette() -> None:
    alpha = np.array([0, 128, 255])
    content = encoded(paletted(), transparency=bytes(alpha.tolist()))
    np.testing.assert_allclose(read(content), over_white(np.array(PALETTE)[INDICES], alpha[INDICES]), atol=1)


def test_transparent_colour_of_a_png() -> None:
    colours = np.array(PALETTE, np.uint8)[INDICES]
    expected = np.array([PALETTE[0], PALETTE[1], [255, 255, 255]])[INDICES]
    np.testing.assert_array_equal(read(encoded(Image.fromarray(colours), transparency=(10, 20, 30))), expected)


@pytest.mark.parametrize(("dtype", "scale"), [(np.uint8, 1), (np.uint16, 257)])
def test_transparent_grey_of_a_png(dtype: type, scale: int) -> None:
    levels = np.array([0, 100, 200])
    content = encoded(Image.fromarray((levels * scale)[INDICES].astype(dtype)), transparency=100 * scale)
    np.testing.assert_array_equal(read(content), grey(np.array([0, 255, 200])[INDICES]))


# Depth and colour


@pytest.mark.parametrize(
    ("image_format", "mode"), [("PNG", "I;16"), ("TIFF", "I;16"), ("TIFF", "I;16B"), ("PPM", "I;16")]
)
def test_16_bit_grey_keeps_its_range(image_format: str, mode: str) -> None:
    image = Image.frombytes(mode, (SIDE, SIDE), NOISE_16.astype(">u2" if mode == "I;16B" else "<u2").tobytes())
    np.testing.assert_array_equal(read(encoded(image, image_format)), grey(np.rint(NOISE_16 / 257)))


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


def test_dark_deep_grey_stays_dark() -> None:
    """It is scaled by 65535, not by its own maximum."""
    assert read(encoded(Image.new("I", (SIDE, SIDE), 257 * 20), "TIFF")).max() == 20


def test_nan_and_infinity_become_black() -> None:
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


@pytest.mark.parametrize(("image_format", "tolerance"), [("TIFF", 1), ("JPEG", 3)])
@pytest.mark.parametrize("ink", [(0, 0, 0, 0), (255, 0, 0, 0), (0, 200, 100, 0), (30, 60, 90, 120), (0, 0, 0, 255)])
def test_cmyk(image_format: str, tolerance: int, ink: tuple[int, ...]) -> None:
    """JPEG stores CMYK inverted and marks that with Adobe's segment."""
    options = {"quality": 100} if image_format == "JPEG" else {}
    *cmy, k = np.array(ink) / 255
    expected = [255 * (1 - c) * (1 - k) for c in cmy]
    content = encoded(Image.new("CMYK", (SIDE, SIDE), ink), image_format, **options)
    np.testing.assert_allclose(read(content), np.broadcast_to(expected, NOISE.shape), atol=tolerance)


@pytest.mark.skipif(not features.check("littlecms2"), reason="this Pillow has no colour management")
def test_lab() -> None:
    image = gradients(SIDE, SIDE)
    srgb, lab = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    content = encoded(ImageCms.profileToProfile(image, srgb, lab, outputMode="LAB"), "TIFF")
    assert Image.open(BytesIO(content)).mode == "LAB"
    assert np.abs(read(content).astype(int) - np.asarray(image)).mean() < 3  # 8-bit LAB is coarse


@pillow_13
def test_ycbcr() -> None:
    image = gradients(SIDE, SIDE)
    np.testing.assert_allclose(read(encoded(image.convert("YCbCr"), "TIFF")), np.asarray(image), atol=3)


@pytest.mark.parametrize("image_format", ["GIF", "WEBP", "PNG", "TIFF"])
def test_only_the_first_frame_of_an_animation_is_used(image_format: str) -> None:
    red, blue = (Image.new("RGB", (SIDE, SIDE), colour) for colour in ("red", "blue"))
    options = {"lossless": True} if image_format == "WEBP" else {}
    content = encoded(red, image_format, save_all=True, append_images=[blue], **options)
    assert Image.open(BytesIO(content)).n_frames == 2
    np.testing.assert_array_equal(read(content), np.full_like(NOISE, [255, 0, 0]))


@pytest.mark.parametrize("image_format", WRITABLE)
def test_every_format_is_read(image_format: str) -> None:
    image = gradients(32, 32)
    lossy = {"JPEG": 12, "AVIF": 12, "WEBP": 40, "GIF": 40}
    difference = np.abs(read(encoded(image, image_format), 32).astype(int) - np.asarray(image))
    assert difference.max() <= lossy.get(image_format, 0)


# Errors


def flipped(content: bytes, at: int) -> bytes:
    return content[:at] + bytes([content[at] ^ 255]) + content[at + 1 :]


def icon_of(content: bytes) -> bytes:
    """Return an ICO that announces 16 x 16 pixels and contains another image."""
    return struct.pack("<HHHBBBBHHII", 0, 1, 1, 16, 16, 0, 0, 1, 32, len(content), 22) + content


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        pytest.param("not_an_image", b"", id="empty"),
        pytest.param("not_an_image", b"\xff", id="one byte"),
        pytest.param("not_an_image", b"This is not an image.\n", id="text"),
        pytest.param("unsupported_format", b"%PDF-1.7\n" + bytes(500), id="PDF"),
        pytest.param("not_an_image", bytes(1000), id="zeros"),
        pytest.param("unsupported_format", EPS, id="EPS"),
        pytest.param("unreadable_image", IMAGE[: len(IMAGE) // 2], id="half of a PNG"),
        pytest.param("unreadable_image", flipped(IMAGE, 32), id="wrong checksum of the header"),
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
    assert decoding_error(tmp_path / "broken.jpg") == kind
    assert time.monotonic() - start < 2


@pytest.mark.parametrize("name", ["none.jpg", "none/none.jpg", "file/none.jpg", "a\0b.jpg"])
def test_not_found(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").touch()
    assert decoding_error(tmp_path / name) == "not_found"


def test_folders_are_not_files(tmp_path: Path) -> None:
    assert decoding_error(tmp_path) == "not_a_file"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_pipes_are_not_files(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    assert decoding_error(tmp_path / "pipe.jpg") == "not_a_file"


@pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="this system has no socket files")
def test_sockets_are_not_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # the name of a socket must be short
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket.jpg")
        assert decoding_error(Path("socket.jpg")) == "not_a_file"


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="this system has no device files")
def test_devices_are_not_files() -> None:
    assert decoding_error(Path("/dev/zero")) == "not_a_file"


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_no_permission(tmp_path: Path) -> None:
    for name in ("file.png", "folder/inside.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(IMAGE)
    (tmp_path / "file.png").chmod(0)
    (tmp_path / "folder").chmod(0)
    try:
        assert decoding_error(tmp_path / "file.png") == "permission_denied"
        assert decoding_error(tmp_path / "folder" / "inside.png") == "permission_denied"
        assert list(find([str(tmp_path)])) == [str(tmp_path / "file.png"), str(tmp_path / "folder")]
        assert decoding_error(tmp_path / "folder") == "permission_denied"
    finally:
        (tmp_path / "folder").chmod(0o700)


def test_permission_lost_at_opening(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Simulated, because root may read everything."""
    (tmp_path / "file.png").write_bytes(IMAGE)

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied", "file.png")

    monkeypatch.setattr(Path, "open", refuse)
    assert decoding_error(tmp_path / "file.png") == "permission_denied"


def test_no_read_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Simulated, because root may read everything."""
    (tmp_path / "file.png").write_bytes(IMAGE)
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert decoding_error(tmp_path / "file.png") == "permission_denied"


def test_files_above_1_gib_are_not_read(tmp_path: Path) -> None:
    with (tmp_path / "sparse.png").open("wb") as file:
        file.write(IMAGE)
        file.truncate((1 << 30) + 1)
    assert decoding_error(tmp_path / "sparse.png") == "too_large"


def test_limit_on_pixels_without_that_of_pillow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    (tmp_path / "bomb.png").write_bytes(BOMB)
    assert decoding_error(tmp_path / "bomb.png") == "too_large"


def test_an_image_that_does_not_fit_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise MemoryError

    (tmp_path / "image.png").write_bytes(IMAGE)
    monkeypatch.setattr(PngImageFile, "load", fail)
    assert decoding_error(tmp_path / "image.png") == "too_large"


def test_pillow_prints_nothing_once_configured(tmp_path: Path) -> None:
    """In a new process, because pytest changes warnings; each file makes Pillow warn or log."""
    (tmp_path / "large.png").write_bytes(png(10_000, 10_000, 1, 0, b""))
    (tmp_path / "exif.jpg").write_bytes(encoded(noise(8, 8), "JPEG", exif=b"Exif\0\0II*\0\x08\0\0\0\x05\0"))
    tiff = encoded(noise(8, 8), "TIFF")
    (tmp_path / "tag.tif").write_bytes(tiff.replace(struct.pack("<HHI", 277, 3, 1), struct.pack("<HHI", 277, 3, 99)))
    (tmp_path / "samples.tif").write_bytes(
        tiff.replace(struct.pack("<HHIH", 277, 3, 1, 3), struct.pack("<HHIH", 277, 3, 1, 99))
    )
    program = """if True:
        import sys, warnings
        from contextlib import suppress
        import numpy  # adds filters of its own
        from PIL import Image, PngImagePlugin
        def pillow_state():
            return PngImagePlugin.MAX_TEXT_CHUNK, Image.core.get_block_size(), [*warnings.filters]
        before = pillow_state()
        from resnet_cli.errors import ImageError
        from resnet_cli.images.decode import configure_pillow, decode_file
        from resnet_cli.images.inputs import find
        from resnet_cli.network.preprocessing import Decoding
        assert pillow_state() == before  # an import configures nothing
        configure_pillow()
        for path in find(sys.argv[1:]):
            with suppress(ImageError):
                decode_file(path, Decoding(8))
    """
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=True)
    assert done.stdout + done.stderr == ""


def test_every_flipped_byte_of_a_png_is_detected_or_changes_nothing() -> None:
    good = encoded(gradients(16, 16))
    whole, errors = read(good), 0
    for at in range(8, len(good) - 12):  # the last chunk does not affect the pixels
        try:
            np.testing.assert_array_equal(read(flipped(good, at)), whole)
        except ImageError:
            errors += 1
    assert errors > len(good) - 30
