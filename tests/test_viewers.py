"""Images are read as a viewer shows them: their colours, the range of their samples, the right page, around damage."""

import logging
import struct
import zlib
from io import BytesIO
from itertools import product
from pathlib import Path

import encoders as enc
import numpy as np
import pytest
from image_helpers import SAMPLES, decode_bytes, encoded, grey, over_white
from PIL import Image, ImageCms

from resnet_cli.errors import ImageError
from resnet_cli.images import decode, profiles, tiff

SIDE = 48
SHORT, LONG = enc.SHORT, enc.LONG
with Image.open(SAMPLES / "coffee.jpg") as photo:
    PICTURE = photo.convert("RGB").resize((SIDE, SIDE))
RGB, GREY = np.asarray(PICTURE), np.asarray(PICTURE.convert("L"))
SRGB = ImageCms.createProfile("sRGB")


def read(content: bytes) -> np.ndarray:
    return decode_bytes(content, SIDE).astype(int)


# Colour profiles


def matrix_profile(primaries: tuple[float, ...], gamma: float, space: bytes = b"RGB ") -> bytes:
    """Return an ICC profile, version 2: the XYZ of red, green and blue under D50, and one gamma."""
    tags = {b"wtpt": struct.pack(">4s4x3i", b"XYZ ", 63190, 65536, 54061)}
    curve = struct.pack(">4s4xIH2x", b"curv", 1, round(gamma * 256))
    if space == b"GRAY":
        tags[b"kTRC"] = curve
    else:
        for i, name in enumerate((b"r", b"g", b"b")):
            tags[name + b"XYZ"] = struct.pack(
                ">4s4x3i", b"XYZ ", *(round(v * 65536) for v in primaries[3 * i : 3 * i + 3])
            )
            tags[name + b"TRC"] = curve
    table, body = b"", b""
    start = 128 + 4 + 12 * len(tags)
    for name, content in tags.items():
        table += struct.pack(">4sII", name, start + len(body), len(content))
        body += content
    header = struct.pack(">I4sI4s4s4s12x4s", start + len(body), b"lcms", 0x02400000, b"mntr", space, b"XYZ ", b"acsp")
    return (
        header.ljust(68, b"\0")
        + struct.pack(">3i", 63190, 65536, 54061).ljust(60, b"\0")
        + struct.pack(">I", len(tags))
        + table
        + body
    )


# The columns of the matrices from linear RGB to XYZ, adapted to D50.
DISPLAY_P3 = matrix_profile((0.5151, 0.2412, -0.0011, 0.2919, 0.6922, 0.0419, 0.1572, 0.0666, 0.7841), 2.2)
ADOBE_RGB = matrix_profile((0.6097, 0.3111, 0.0195, 0.2053, 0.6257, 0.0609, 0.1492, 0.0632, 0.7446), 2.2)
LINEAR = matrix_profile((0.4361, 0.2225, 0.0139, 0.3851, 0.7169, 0.0971, 0.1431, 0.0606, 0.7141), 1)
GAMMA_18 = matrix_profile((), 1.8, b"GRAY")


def shown(image: Image.Image, profile: bytes) -> np.ndarray:
    converted = ImageCms.profileToProfile(image, ImageCms.ImageCmsProfile(BytesIO(profile)), SRGB, outputMode="RGB")
    return np.asarray(converted, int)


@pytest.mark.parametrize("profile", [DISPLAY_P3, ADOBE_RGB, LINEAR])
@pytest.mark.parametrize("image_format", ["PNG", "TIFF", "WEBP", "JPEG"])
def test_profiles_are_converted_to_srgb(profile: bytes, image_format: str) -> None:
    options = {"lossless": True} if image_format == "WEBP" else {}
    content = encoded(PICTURE, image_format, icc_profile=profile, **options)
    with Image.open(BytesIO(content)) as stored:
        expected = shown(stored.convert("RGB"), profile)
    np.testing.assert_array_equal(read(content), expected)
    assert np.abs(expected - RGB).max() > 10


def test_profiles_of_grey_palettes_and_transparent_images() -> None:
    levels = Image.fromarray(GREY)
    expected = shown(levels, GAMMA_18)
    expected_grey = expected
    np.testing.assert_array_equal(read(encoded(levels, icc_profile=GAMMA_18)), expected)
    deep = Image.fromarray(GREY.astype(np.uint16) * 257)
    np.testing.assert_array_equal(read(encoded(deep, icc_profile=GAMMA_18)), expected)
    np.testing.assert_array_equal(
        read(encoded(levels, icc_profile=DISPLAY_P3)), shown(levels.convert("RGB"), DISPLAY_P3)
    )
    few = PICTURE.quantize(16)
    np.testing.assert_array_equal(read(encoded(few, icc_profile=DISPLAY_P3)), shown(few.convert("RGB"), DISPLAY_P3))
    alpha = GREY[::-1]
    levels.putalpha(Image.fromarray(alpha))
    content = encoded(levels, icc_profile=GAMMA_18)
    np.testing.assert_allclose(read(content), over_white(expected_grey, alpha), atol=1)
    layer = PICTURE.copy()
    layer.putalpha(Image.fromarray(alpha))
    expected = over_white(shown(PICTURE, DISPLAY_P3), alpha)
    np.testing.assert_allclose(read(encoded(layer, icc_profile=DISPLAY_P3)), expected, atol=1)


def test_large_images_are_converted_in_strips(monkeypatch: pytest.MonkeyPatch) -> None:
    content = encoded(PICTURE, icc_profile=DISPLAY_P3)
    whole = read(content)
    monkeypatch.setattr("resnet_cli.images.colours.LARGE_PIXELS", 100)
    monkeypatch.setattr("resnet_cli.images.colours.STRIP_PIXELS", 500)
    np.testing.assert_array_equal(read(content), whole)


@pytest.mark.parametrize(
    "profile", [b"junk", DISPLAY_P3[:200], GAMMA_18, ImageCms.ImageCmsProfile(SRGB).tobytes(), b""]
)
def test_junk_and_srgb_change_nothing(profile: bytes) -> None:
    np.testing.assert_array_equal(read(encoded(PICTURE, icc_profile=profile)), RGB)
    assert profiles.to_srgb(PICTURE, profile) is PICTURE


# Deep samples


def predicted(samples: np.ndarray, predictor: int) -> bytes:
    """Return rows of samples as the predictor of TIFF stores them: 2 as differences, 3 with floats taken apart."""
    if predictor == 2:
        unsigned = samples.view(samples.dtype.str.replace("f", "u").replace("i", "u"))
        return np.diff(unsigned, axis=1, prepend=np.zeros_like(unsigned[:, :1])).astype(unsigned.dtype).tobytes()
    if predictor == 3:
        height, width, channels = samples.shape
        raw = samples.astype(samples.dtype.newbyteorder(">")).view(np.uint8).reshape(height, width * channels, -1)
        apart = raw.transpose(0, 2, 1).reshape(height, -1, channels)
        return np.diff(apart, axis=1, prepend=np.zeros_like(apart[:, :1])).tobytes()
    return samples.tobytes()


def deep_tiff(samples: np.ndarray, photometric: int, predictor: int = 1, **tags: object) -> bytes:
    """Return a TIFF of samples (height, width, channels), in strips of 20 rows."""
    dtype, channels = samples.dtype, samples.shape[-1]
    kind = {"u": 1, "i": 2, "f": 3}[dtype.kind]
    strips = [zlib.compress(predicted(samples[top : top + 20], predictor)) for top in range(0, SIDE, 20)]
    fields = {
        "t278": (SHORT, [20]),
        "t259": (SHORT, [8]),
        "t317": (SHORT, [predictor]),
        "t339": (SHORT, [kind] * channels),
    }
    numbers = enc.tiff_tags(SIDE, SIDE, [8 * dtype.itemsize] * channels, photometric, **fields, **tags)
    return enc.tiff(numbers, strips, order=">" if dtype.str[0] == ">" else "<")


def stored(levels: np.ndarray, dtype: str) -> np.ndarray:
    """Return levels from 0 to 255 in the range of another type."""
    white = 1 if "f" in dtype else np.iinfo(dtype).max
    return (levels / 255 * white).astype(dtype) if "f" in dtype else np.rint(levels / 255 * white).astype(dtype)


@pytest.mark.parametrize(("dtype", "order"), [*product(["u2", "u4", "i2", "i4", "f2", "f4", "f8"], "<>")])
def test_deep_samples_keep_their_range(dtype: str, order: str) -> None:
    for predictor in (1, 2, *([3] if dtype[0] == "f" else [])):
        grey_samples, colours = stored(GREY[..., None], order + dtype), stored(RGB, order + dtype)
        np.testing.assert_allclose(read(deep_tiff(grey_samples, 1, predictor)), grey(GREY), atol=1)
        np.testing.assert_allclose(read(deep_tiff(colours, 2, predictor)), RGB, atol=1)
    inverted = stored(255 - GREY[..., None], order + dtype)
    np.testing.assert_allclose(read(deep_tiff(inverted, 0)), grey(GREY), atol=1)


def test_deep_samples_are_read_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiff, "BLOCK", 1000)
    for dtype in ("<u4", "<f4"):
        samples = stored(RGB, dtype)
        np.testing.assert_allclose(read(deep_tiff(samples, 2, 2)), RGB, atol=1)
        kind = (SHORT, [3 if "f" in dtype else 1] * 3)
        plain = enc.tiff_tags(SIDE, SIDE, [32] * 3, 2, t278=(SHORT, [SIDE]), t339=kind)  # one strip, not compressed
        np.testing.assert_allclose(read(enc.tiff(plain, [samples.tobytes()])), RGB, atol=1)
    monkeypatch.setattr(tiff, "MAX_BLOCK", 1000)
    with pytest.raises(ImageError, match="expected strips of at most"):
        read(deep_tiff(stored(RGB, "<u4"), 2))


@pytest.mark.parametrize("order", "<>")
def test_the_file_says_what_is_white(order: str) -> None:
    for samples, photometric, expected in ((GREY[..., None], 1, grey(GREY)), (RGB, 2, RGB)):
        twelve_bits = np.rint(samples / 255 * 4095).astype(f"{order}u2")
        white = (SHORT, [4095] * samples.shape[-1])
        np.testing.assert_allclose(read(deep_tiff(twelve_bits, photometric, t281=white)), expected, atol=1)
    inverted = 4095 - np.rint(GREY[..., None] / 255 * 4095).astype(f"{order}u2")
    np.testing.assert_allclose(read(deep_tiff(inverted, 0, t281=(SHORT, [4095]))), grey(GREY), atol=1)


def test_grey_with_alpha_and_separate_planes() -> None:
    alpha = GREY[::-1]
    both = stored(np.dstack([GREY, alpha]), "<u2")
    expected = over_white(grey(GREY).astype(float), alpha)
    np.testing.assert_allclose(read(deep_tiff(both, 1, t338=(SHORT, [2]))), expected, atol=1)
    planes = [stored(RGB[..., i], "<f4").tobytes() for i in range(3)]
    tags = enc.tiff_tags(SIDE, SIDE, [32] * 3, 2, t278=(SHORT, [SIDE]), t284=(SHORT, [2]), t339=(SHORT, [3] * 3))
    np.testing.assert_allclose(read(enc.tiff(tags, planes)), RGB, atol=1)


@pytest.mark.parametrize("scale", [1 / 255, 1])
@pytest.mark.parametrize("channels", [1, 3])
def test_highlights_do_not_turn_an_image_black(scale: float, channels: int) -> None:
    samples = (RGB if channels == 3 else GREY[..., None]) * float(scale)
    samples[:4, :4] = 300 * scale
    expected = RGB.copy() if channels == 3 else grey(GREY).copy()
    expected[:4, :4] = 255
    content = deep_tiff(samples.astype("<f4"), 2 if channels == 3 else 1)
    np.testing.assert_allclose(read(content), expected, atol=1)


def test_an_unsupported_variant_is_named() -> None:
    tags = enc.tiff_tags(SIDE, SIDE, [24], 1, t278=(SHORT, [SIDE]))
    with pytest.raises(ImageError, match="this TIFF variant is not supported: 24-bit integer samples, 1 channel, grey"):
        read(enc.tiff(tags, [bytes(SIDE * SIDE * 3)]))


# Pages


def pages(*levels: tuple[int, int, int], inside: bool = False) -> bytes:
    """Return a TIFF of one-coloured grey pages: side, level and NewSubfileType; the others are inside the first."""
    body, starts = b"", []
    for i, (side, level, kind) in enumerate(levels):
        tags = {254: kind, 256: side, 257: side, 258: 8, 259: 1, 262: 1, 277: 1, 278: side, 279: side * side}
        tags[273] = 8 + len(body)
        body += bytes([level]) * (side * side)
        body += b"\0" * (len(body) % 2)
        starts.append(8 + len(body))
        if inside and not i:
            tags[330] = 8 + len(body) + 2 + 12 * 11 + 4
        entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in sorted(tags.items()))
        more = i + 1 < len(levels) and not inside
        body += struct.pack("<H", len(tags)) + entries
        body += struct.pack("<I", 8 + len(body) + 4 + levels[i + 1][0] ** 2 if more else 0)
    return b"II*\0" + struct.pack("<I", starts[0]) + body


@pytest.mark.parametrize("inside", [False, True])
@pytest.mark.parametrize(
    ("levels", "expected"),
    [
        (((16, 10, 1), (SIDE, 200, 0)), 200),
        (((16, 10, 0), (SIDE, 200, 0)), 10),
        (((16, 10, 4), (SIDE, 200, 0)), 200),
        (((16, 10, 1), (SIDE, 200, 1)), 200),
    ],
)
def test_the_page_of_full_resolution_counts(
    levels: tuple[tuple[int, int, int], ...], expected: int, inside: bool
) -> None:
    if inside:  # the second page starts after the first one's directory and its own pixels
        first, second = pages(*levels[:1], inside=True), levels[1]
        at = len(first)
        tail = pages(second)[8:]
        moved = bytearray(first + tail)
        directory = at + second[0] ** 2
        count = struct.unpack_from("<H", moved, directory)[0]
        for entry in range(directory + 2, directory + 2 + 12 * count, 12):
            if struct.unpack_from("<H", moved, entry)[0] == 273:
                struct.pack_into("<I", moved, entry + 8, at)
        start = struct.unpack_from("<I", moved, 4)[0]
        for entry in range(start + 2, start + 2 + 12 * 11, 12):
            if struct.unpack_from("<H", moved, entry)[0] == 330:
                struct.pack_into("<I", moved, entry + 8, directory)
        content = bytes(moved)
    else:
        content = pages(*levels)
    assert set(read(content).ravel()) == {expected}


# Windows bitmaps and orientation


def test_a_bitmap_without_alpha_values_is_opaque() -> None:
    data = np.dstack([RGB[..., ::-1], np.zeros_like(GREY)])[::-1].tobytes()
    masks = struct.pack("<IIII", 0xFF0000, 0xFF00, 0xFF, 0xFF000000)
    header = struct.pack("<IiiHHIIiiII", 108, SIDE, SIDE, 1, 32, 3, len(data), 0, 0, 0, 0) + masks + b"BGRs" + bytes(48)
    offset = 14 + len(header)
    content = b"BM" + struct.pack("<IHHI", offset + len(data), 0, 0, offset) + header + data
    np.testing.assert_array_equal(read(content), RGB)


EXIF = b"MM\0*\0\0\0\x08\0\1\1\x12\0\3\0\0\0\1\0\6\0\0\0\0\0\0"  # orientation 6: shown a quarter turn clockwise
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'


def raw_profile(name: bytes, content: bytes) -> bytes:
    """Return a text in which ImageMagick stores metadata."""
    return b"Raw profile type %s\0\0" % name + zlib.compress(
        b"\n%s\n%8d\n%s\n" % (name, len(content), content.hex().encode())
    )


@pytest.mark.parametrize(
    "chunk",
    [
        (b"eXIf", EXIF),
        (b"zTXt", raw_profile(b"exif", b"Exif\0\0" + EXIF)),
        (b"zTXt", raw_profile(b"APP1", b"Exif\0\0" + EXIF)),
        (b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP),
    ],
)
@pytest.mark.parametrize("after", [False, True])
def test_orientation_in_a_png(chunk: tuple[bytes, bytes], after: bool) -> None:
    plain = enc.png(SIDE, SIDE, 8, 2, enc.png_rows(RGB))
    at = len(plain) - 12 if after else 33
    content = plain[:at] + enc.chunk(*chunk) + plain[at:]
    np.testing.assert_array_equal(read(content), np.rot90(RGB, -1))


# Damage outside the pixels


def damaged_png(kind: bytes, data: bytes, at: int) -> bytes:
    plain = enc.png(SIDE, SIDE, 8, 2, enc.png_rows(RGB))
    at = len(plain) - 12 if at else 33
    return plain[:at] + enc.chunk(kind, data)[:-4] + b"\1\2\3\4" + plain[at:]


@pytest.mark.parametrize("at", [0, 1])
@pytest.mark.parametrize(
    "chunk",
    [
        (b"tEXt", b"Comment\0x"),
        (b"tIME", bytes(7)),
        (b"gAMA", bytes(4)),
        (b"iCCP", b"x\0\0" + zlib.compress(DISPLAY_P3)),
    ],
)
def test_wrong_checksums_of_metadata_do_not_cost_the_answer(
    chunk: tuple[bytes, bytes], at: int, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        np.testing.assert_array_equal(read(damaged_png(*chunk, at)), RGB)
    assert len(caplog.records) == 1


def test_a_png_whose_end_or_texts_are_damaged() -> None:
    plain = enc.png(SIDE, SIDE, 8, 2, enc.png_rows(RGB))
    bomb = enc.chunk(b"zTXt", b"Comment\0\0" + enc.deflate_repeated(bytes(1_000_000), 100))
    for content in (plain[:-12], plain[:-7], plain + b"junk", plain[:33] + bomb + plain[33:]):
        np.testing.assert_array_equal(read(content), RGB)
    data = plain.index(b"IDAT")
    for content in (plain[: data + 90], plain[: data + 4], plain[:33] + b"\0\0\0\1IDAT\0" + b"1234" + plain[33:]):
        with pytest.raises(ImageError, match="damaged"):
            read(content)


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"quality": 100}, {"restart_marker_rows": 1}])
def test_a_jpeg_without_its_end(options: dict[str, int], caplog: pytest.LogCaptureFixture) -> None:
    with Image.open(SAMPLES / "coffee.jpg") as image:
        content = encoded(image.resize((300, 200)), "JPEG", **options)
    whole = read(content)
    for end in (b"", b"\xff", bytes(300), b"\xff" * 300, b"\r\n" * 50):
        np.testing.assert_array_equal(read(content[:-2] + end), whole)
    for size in (len(content) // 2, len(content) * 95 // 100, len(content) - 12):
        for end in (b"", bytes(20)):
            with pytest.raises(ImageError, match="damaged"):
                decode_bytes(content[:size] + end, 200)


def test_a_progressive_jpeg_without_its_last_scans_is_damaged() -> None:
    with Image.open(SAMPLES / "coffee.jpg") as image:
        content = encoded(image.resize((300, 200)), "JPEG", progressive=True)
    scans = [at for at in range(len(content)) if content[at : at + 2] == b"\xff\xda"]
    tables = [content.rindex(b"\xff\xc4", 0, scan) for scan in scans[1:]]
    assert len(tables) > 5
    for end in (*tables, *scans[1:]):
        with pytest.raises(ImageError, match="damaged"):
            read(content[:end])


def test_16_bit_ppm_is_scaled_by_its_maximum() -> None:
    dark = np.full((SIDE, SIDE), 150, ">u2")
    dark[:8, :8] = 50_000
    shown_levels = np.rint(dark / 257)
    content = b"P5 %d %d 65535\n" % (SIDE, SIDE) + dark.tobytes()
    np.testing.assert_allclose(read(content), grey(shown_levels), atol=1)


def test_short_metadata_of_a_png_costs_nothing() -> None:
    plain = enc.png(SIDE, SIDE, 8, 2, enc.png_rows(RGB))
    for kind in (b"pHYs", b"gAMA", b"cHRM", b"sRGB", b"acTL"):
        np.testing.assert_array_equal(read(plain[:33] + enc.chunk(kind, b"\0") + plain[33:]), RGB)


def test_large_jpegs_are_decoded_at_a_reduced_scale(tmp_path: Path) -> None:
    path = tmp_path / "large.jpg"
    Image.linear_gradient("L").resize((16_384, 12_288)).save(path, quality=50)
    ramp = decode.decode_file(path, decode.Decoding(32))[:, 16, 0].astype(int)
    np.testing.assert_allclose(ramp, np.linspace(ramp[0], ramp[-1], 32), atol=3)
    assert ramp[-1] - ramp[0] > 200
    path.write_bytes(enc.png(16_384, 12_288, 1, 0, b""))
    with pytest.raises(ImageError, match="expected at most 178 megapixels, got 202"):
        decode.decode_file(path, decode.Decoding(32))
