"""Unusual but valid image files: every variant of every format that can be classified."""

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import encoders as enc
import numpy as np
from encoders import FLOAT, LONG, SHORT
from image_helpers import SAMPLES, STORED, encoded, exif, grey, over_white
from PIL import Image, ImageCms, features

SIDE = 32  # the result of decoding has the same size, so that nothing is resampled


def scene() -> np.ndarray:
    """Return an image without symmetry: (32, 32, 3) uint8."""
    image = Image.open(SAMPLES / "cat.jpg").convert("RGB").resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    pixels = np.array(image)
    pixels[:6, :12] = (200, 30, 40)
    return pixels


SCENE = scene()
IMAGE = Image.fromarray(SCENE)
GREY = np.asarray(IMAGE.convert("L"))
ALPHA = np.linspace(0, 255, SIDE).round().astype(np.uint8)[None].repeat(SIDE, axis=0)
INDICES = (GREY // 64).astype(np.uint8)
FOUR = np.array([[0, 0, 0], [200, 40, 40], [40, 200, 40], [240, 240, 240]], np.uint8)


@dataclass(frozen=True)
class Odd:
    """A file that must be classified.

    Args:
        content: its bytes.
        pixels: the expected pixels (height, width, 3), or None if the format is lossy.
        tolerance: the largest difference of a value.
    """

    content: bytes
    pixels: np.ndarray | None = None
    tolerance: float = 0


def orientations() -> Iterator[tuple[str, Odd]]:
    for number, stored in STORED.items():
        image = Image.fromarray(np.ascontiguousarray(stored(SCENE)))
        for suffix, form, options in (
            ("jpg", "JPEG", {"quality": 100, "subsampling": 0}),
            ("png", "PNG", {}),
            ("tif", "TIFF", {}),
            ("webp", "WEBP", {"lossless": True}),
        ):
            content = encoded(image, form, exif=exif(number), **options)
            yield f"orientation-{number}.{suffix}", Odd(content, SCENE, 6 if form == "JPEG" else 0)
    xmp = b'http://ns.adobe.com/xap/1.0/\0<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf tiff:Orientation="3"/></x:xmpmeta>'
    turned = encoded(Image.fromarray(SCENE[::-1, ::-1]), "JPEG", quality=100, subsampling=0)
    yield "orientation-xmp.jpg", Odd(enc.jpeg([enc.segment(0xE1, xmp), turned[2:]]), SCENE, 6)
    for value in (0, 9, 65535):
        yield f"orientation-{value}.png", Odd(encoded(IMAGE, exif=exif(value)), SCENE)


def jpegs() -> Iterator[tuple[str, Odd]]:
    best = {"quality": 100, "subsampling": 0}
    plain = encoded(IMAGE, "JPEG", **best)
    for name, options in {
        "444": best,
        "420": {"quality": 90, "subsampling": 2},
        "422": {"quality": 90, "subsampling": 1},
        "progressive": best | {"progressive": True},
        "optimised": best | {"optimize": True},
        "restarts": best | {"restart_marker_blocks": 1},
        "rgb": best | {"keep_rgb": True},
        "quality-1": {"quality": 1},
        "icc": best | {"icc_profile": ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()},
        "icc-junk": best | {"icc_profile": b"junk" * 99},
        "exif-junk": best | {"exif": b"Exif\0\0II*\0\xff\xff\xff\xff"},
        "exif-cut": best | {"exif": exif(6)[:-9]},
        "comment": best | {"comment": b"\x1b[31m\n[bold]" * 4000},
    }.items():
        yield f"{name}.jpg", Odd(encoded(IMAGE, "JPEG", **options), SCENE if options is best else None, 6)
    yield "trailing.jpg", Odd(plain + b"garbage" * 1000, SCENE, 6)
    yield "trailing-jpeg.jpg", Odd(plain + encoded(Image.new("RGB", (9, 9)), "JPEG"), SCENE, 6)
    yield "fill-bytes.jpg", Odd(plain[:2] + b"\xff" * 9 + plain[2:], SCENE, 6)
    yield "no-jfif.jpg", Odd(enc.jpeg(part for marker, part in enc.jpeg_segments(plain) if marker != 0xE0), SCENE, 6)
    # As in frames of Motion JPEG; the decoder uses the standard Huffman tables.
    yield "no-huffman.jpg", Odd(enc.jpeg(part for marker, part in enc.jpeg_segments(plain) if marker != 0xC4), SCENE, 6)
    yield "grey.jpg", Odd(encoded(Image.fromarray(GREY), "JPEG", quality=100), grey(GREY), 3)
    cmyk = encoded(IMAGE.convert("CMYK"), "JPEG", **best)
    yield "cmyk-adobe.jpg", Odd(cmyk, SCENE, 9)
    unmarked = enc.jpeg(part for marker, part in enc.jpeg_segments(cmyk) if marker != 0xEE)
    yield "cmyk-unmarked.jpg", Odd(unmarked, SCENE, 9)  # browsers also decode it as if it had the marker
    yield "ycck.jpg", Odd(cmyk.replace(b"Adobe\0\x64\0\0\0\0\0", b"Adobe\0\x64\0\0\0\0\2"))
    yield "mpo.jpg", Odd(encoded(IMAGE, "MPO", save_all=True, append_images=[Image.new("RGB", (9, 9))]))
    yield "stereo.mpo", Odd(encoded(IMAGE, "MPO", save_all=True, append_images=[IMAGE]))


def pngs() -> Iterator[tuple[str, Odd]]:
    for depth in (1, 2, 4, 8, 16):
        levels = (GREY.astype(int) * 257) >> (16 - depth)
        shown = np.rint(levels / (2**depth - 1) * 255)
        rows = enc.png_rows(levels, depth)
        yield f"grey-{depth}.png", Odd(enc.png(SIDE, SIDE, depth, 0, rows), grey(shown))
    for depth in (1, 2, 4, 8):
        indices = INDICES & (2**depth - 1)
        palette = (b"PLTE", FOUR[: 2**depth].tobytes())
        rows = enc.png_rows(indices, depth)
        yield f"palette-{depth}.png", Odd(enc.png(SIDE, SIDE, depth, 3, rows, palette), FOUR[indices])
    rows = enc.png_rows(INDICES, 8)
    clear = (b"tRNS", bytes([255, 0]))
    on_white = FOUR.copy()
    on_white[1] = 255
    content = enc.png(SIDE, SIDE, 8, 3, rows, (b"PLTE", FOUR.tobytes()), clear)
    yield "palette-transparent.png", Odd(content, on_white[INDICES])
    for depth, scale in ((8, 1), (16, 257)):
        with_alpha = np.dstack([SCENE, ALPHA]).astype(int) * scale
        grey_alpha = np.dstack([GREY, ALPHA]).astype(int) * scale
        colours = enc.png_rows(SCENE.astype(int) * scale, depth)
        yield f"rgb-{depth}.png", Odd(enc.png(SIDE, SIDE, depth, 2, colours), SCENE)
        content = enc.png(SIDE, SIDE, depth, 6, enc.png_rows(with_alpha, depth))
        yield f"rgba-{depth}.png", Odd(content, over_white(SCENE, ALPHA), 1)
        content = enc.png(SIDE, SIDE, depth, 4, enc.png_rows(grey_alpha, depth))
        yield f"grey-alpha-{depth}.png", Odd(content, over_white(grey(GREY), ALPHA), 1)
    red = (b"tRNS", struct.pack(">HHH", 200, 30, 40))
    on_white = SCENE.copy()
    on_white[(SCENE == (200, 30, 40)).all(axis=2)] = 255
    yield "rgb-transparent.png", Odd(enc.png(SIDE, SIDE, 8, 2, enc.png_rows(SCENE), red), on_white)
    yield "interlaced.png", Odd(enc.png(SIDE, SIDE, 8, 2, enc.adam7_rows(SCENE), interlaced=True), SCENE)
    yield "interlaced-grey.png", Odd(enc.png(SIDE, SIDE, 8, 0, enc.adam7_rows(GREY), interlaced=True), grey(GREY))
    rows = enc.png_rows(SCENE)
    for name, extra in {
        "icc-junk": (b"iCCP", b"junk\0\0not compressed"),
        "icc-empty": (b"iCCP", b"junk\0\0" + zlib.compress(b"")),
        "gamma": (b"gAMA", struct.pack(">I", 45455)),
        "unknown-chunk": (b"qqQq", bytes(5000)),
        "text": (b"tEXt", b"Comment\0" + b"\x1b[31m\xff\n" * 9999),
        "text-large": (b"zTXt", b"Comment\0\0" + zlib.compress(bytes(3_000_000))),
        "exif-junk": (b"eXIf", b"II*\0\xff\xff\xff\xff"),
        "time": (b"tIME", bytes(7)),
    }.items():
        yield f"{name}.png", Odd(enc.png(SIDE, SIDE, 8, 2, rows, extra), SCENE)
    yield "many-chunks.png", Odd(enc.png(SIDE, SIDE, 8, 2, rows, pieces=2000), SCENE)
    yield "empty-chunk.png", Odd(enc.png(SIDE, SIDE, 8, 2, rows, (b"IDAT", b"")), SCENE)
    yield "trailing.png", Odd(enc.png(SIDE, SIDE, 8, 2, rows) + b"garbage" * 1000, SCENE)
    yield "animated.png", Odd(encoded(IMAGE, save_all=True, append_images=[Image.new("RGB", (SIDE, SIDE))]), SCENE)


def gifs() -> Iterator[tuple[str, Odd]]:
    palette, frame = FOUR.tobytes(), enc.gif_frame(0, 0, INDICES)
    shown = FOUR[INDICES]
    yield "plain.gif", Odd(enc.gif(SIDE, SIDE, [frame], palette=palette), shown)
    yield "old.gif", Odd(enc.gif(SIDE, SIDE, [frame], palette=palette, version=b"87a"), shown)
    yield "no-trailer.gif", Odd(enc.gif(SIDE, SIDE, [frame], palette=palette, end=b""), shown)
    yield "trailing.gif", Odd(enc.gif(SIDE, SIDE, [frame], palette=palette) + b"garbage" * 99, shown)
    local = enc.gif_frame(0, 0, INDICES, palette=palette)
    yield "local-palette.gif", Odd(enc.gif(SIDE, SIDE, [local]), shown)
    yield "no-palette.gif", Odd(enc.gif(SIDE, SIDE, [frame]))
    small = enc.gif_frame(8, 8, INDICES[:16, :16])
    yield "small-frame.gif", Odd(enc.gif(SIDE, SIDE, [small], palette=palette))
    yield "large-frame.gif", Odd(enc.gif(4, 4, [frame], palette=palette))
    comment = b"!\xfe\x09\x1b[31mboo\n\0"
    yield "comment.gif", Odd(enc.gif(SIDE, SIDE, [comment, frame], palette=palette), shown)
    control = b"!\xf9\4\1\0\0\1\0"
    on_white = FOUR.copy()
    on_white[1] = 255
    yield "transparent.gif", Odd(enc.gif(SIDE, SIDE, [control + frame], palette=palette), on_white[INDICES])
    animation = [frame, enc.gif_frame(0, 0, INDICES[::-1])]
    yield "animated.gif", Odd(enc.gif(SIDE, SIDE, animation, palette=palette), shown)
    yield "cut-animation.gif", Odd(enc.gif(SIDE, SIDE, [frame, frame[:40]], palette=palette, end=b""), shown)
    yield "pillow.gif", Odd(encoded(IMAGE, "GIF", interlace=1))


def bmps() -> Iterator[tuple[str, Odd]]:
    bgr, palette = SCENE[..., ::-1], FOUR.tolist()
    yield "rgb.bmp", Odd(enc.bmp(SIDE, SIDE, 24, enc.bmp_rows(bgr, 24)), SCENE)
    yield "top-down.bmp", Odd(enc.bmp(SIDE, -SIDE, 24, enc.bmp_rows(bgr[::-1], 24)), SCENE)
    quads = np.dstack([bgr, np.full_like(GREY, 255)])
    yield "rgbx.bmp", Odd(enc.bmp(SIDE, SIDE, 32, enc.bmp_rows(quads, 32)), SCENE)
    for bits, colours in ((4, 16), (8, 256)):
        table = (palette * 64)[:colours]
        content = enc.bmp(SIDE, SIDE, bits, enc.bmp_rows(INDICES, bits), palette=table)
        yield f"palette-{bits}.bmp", Odd(content, FOUR[INDICES])
    content = enc.bmp(SIDE, SIDE, 1, enc.bmp_rows(INDICES & 1, 1), palette=palette[:2])
    yield "palette-1.bmp", Odd(content, FOUR[INDICES & 1])
    five = SCENE.astype(int) >> 3
    words = (five[..., 0] << 10 | five[..., 1] << 5 | five[..., 2]).astype("<u2")
    yield "555.bmp", Odd(enc.bmp(SIDE, SIDE, 16, words[::-1].tobytes()), SCENE, 8)
    words = (five[..., 0] << 11 | (SCENE.astype(int)[..., 1] >> 2) << 5 | five[..., 2]).astype("<u2")
    content = enc.bmp(SIDE, SIDE, 16, words[::-1].tobytes(), compression=3, masks=(0xF800, 0x7E0, 0x1F))
    yield "565.bmp", Odd(content, SCENE, 8)
    runs = b"".join(b"".join(bytes([1, index]) for index in row) + b"\0\0" for row in INDICES[::-1]) + b"\0\1"
    table = (palette * 64)[:256]
    yield "rle8.bmp", Odd(enc.bmp(SIDE, SIDE, 8, runs, palette=table, compression=1), FOUR[INDICES])
    runs = b"".join(b"".join(bytes([1, index << 4]) for index in row) + b"\0\0" for row in INDICES[::-1]) + b"\0\1"
    yield "rle4.bmp", Odd(enc.bmp(SIDE, SIDE, 4, runs, palette=table[:16], compression=2), FOUR[INDICES])
    core = struct.pack("<IHHHH", 12, SIDE, SIDE, 1, 24)
    rows = enc.bmp_rows(bgr, 24)
    yield "os2.bmp", Odd(b"BM" + struct.pack("<IHHI", 26 + len(rows), 0, 0, 26) + core + rows, SCENE)
    yield "rgb.dib", Odd(encoded(IMAGE, "DIB"), SCENE)


def tiffs() -> Iterator[tuple[str, Odd]]:
    for method in ("raw", "tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg", "zstd", "lzma", "webp"):
        try:
            content = encoded(IMAGE, "TIFF", compression=method)
        except (OSError, RuntimeError):  # this libtiff does not support it
            continue
        lossy = method in ("jpeg", "webp")
        yield f"{method}.tif", Odd(content, None if lossy else SCENE)
    yield "group4.tif", Odd(encoded(Image.fromarray(GREY > 99), "TIFF", compression="group4"), grey((GREY > 99) * 255))
    yield "group3.tif", Odd(encoded(Image.fromarray(GREY > 99), "TIFF", compression="group3"), grey((GREY > 99) * 255))
    data = SCENE.tobytes()
    rgb = (SIDE, SIDE, [8, 8, 8], 2)
    rows = {"t278": (SHORT, [SIDE])}
    yield "big-endian.tif", Odd(enc.tiff(enc.tiff_tags(*rgb, **rows), [data], order=">"), SCENE)
    yield "big.tif", Odd(enc.tiff(enc.tiff_tags(*rgb, **rows), [data], big=True), SCENE)
    strips = [SCENE[top : top + 5].tobytes() for top in range(0, SIDE, 5)]
    yield "strips.tif", Odd(enc.tiff(enc.tiff_tags(*rgb, t278=(SHORT, [5])), strips), SCENE)
    tiles = [SCENE[y : y + 16, x : x + 16].tobytes() for y in (0, 16) for x in (0, 16)]
    content = enc.tiff(enc.tiff_tags(*rgb, t322=(SHORT, [16]), t323=(SHORT, [16])), tiles)
    yield "tiled.tif", Odd(content, SCENE)
    packed = [zlib.compress(tile) for tile in tiles]
    tags = enc.tiff_tags(*rgb, t259=(SHORT, [8]), t322=(SHORT, [16]), t323=(SHORT, [16]))
    yield "tiled-deflate.tif", Odd(enc.tiff(tags, packed), SCENE)
    planes = [SCENE[..., channel].tobytes() for channel in range(3)]
    yield "planar.tif", Odd(enc.tiff(enc.tiff_tags(*rgb, **rows, t284=(SHORT, [2])), planes), SCENE)
    tags = enc.tiff_tags(*rgb, **rows, t284=(SHORT, [2]), t259=(SHORT, [8]))
    yield "planar-deflate.tif", Odd(enc.tiff(tags, [zlib.compress(plane) for plane in planes]), SCENE)
    steps = np.diff(SCENE, axis=1, prepend=np.zeros((SIDE, 1, 3), np.uint8)).astype(np.uint8).tobytes()
    tags = enc.tiff_tags(*rgb, **rows, t259=(SHORT, [8]), t317=(SHORT, [2]))
    yield "predictor.tif", Odd(enc.tiff(tags, [zlib.compress(steps)]), SCENE)

    for order in "<>":
        deep = (GREY.astype(int) * 257).astype(order + "u2").tobytes()
        content = enc.tiff(enc.tiff_tags(SIDE, SIDE, [16], 1, **rows), [deep], order=order)
        yield f"grey-16-{'little' if order == '<' else 'big'}.tif", Odd(content, grey(GREY))
    deep = (SCENE.astype(int) * 257).astype("<u2").tobytes()
    yield "rgb-16.tif", Odd(enc.tiff(enc.tiff_tags(SIDE, SIDE, [16] * 3, 2, **rows), [deep]), SCENE, 1)
    for order in "<>":
        planes = [(SCENE[..., channel].astype(int) * 257).astype(order + "u2").tobytes() for channel in range(3)]
        tags = enc.tiff_tags(SIDE, SIDE, [16] * 3, 2, **rows, t284=(SHORT, [2]))
        name = f"planar-16-{'little' if order == '<' else 'big'}.tif"
        yield name, Odd(enc.tiff(tags, planes, order=order), SCENE, 1)
    for bits in (1, 2, 4):
        levels = GREY >> (8 - bits)
        content = b"".join(enc.packed(row, bits) for row in levels)
        shown = grey(np.rint(levels / (2**bits - 1) * 255))
        yield f"grey-{bits}.tif", Odd(enc.tiff(enc.tiff_tags(SIDE, SIDE, [bits], 1, **rows), [content]), shown)
    white = enc.tiff(enc.tiff_tags(SIDE, SIDE, [8], 0, **rows), [(255 - GREY).tobytes()])
    yield "white-is-zero.tif", Odd(white, grey(GREY))
    for name, factor in {"unit": 1 / 255, "byte": 1, "word": 257}.items():
        values = (GREY.astype(float) * factor).astype("<f4").tobytes()
        tags = enc.tiff_tags(SIDE, SIDE, [32], 1, **rows, t339=(SHORT, [3]))
        yield f"float-{name}.tif", Odd(enc.tiff(tags, [values]), grey(GREY), 1)
    holes = (GREY / 255).astype("<f4")
    holes[3, 3:6] = np.nan, np.inf, -np.inf
    tags = enc.tiff_tags(SIDE, SIDE, [32], 1, **rows, t339=(SHORT, [3]))
    yield "float-holes.tif", Odd(enc.tiff(tags, [holes.tobytes()]))
    tags = enc.tiff_tags(SIDE, SIDE, [32], 1, **rows, t339=(SHORT, [2]))
    yield "int-32.tif", Odd(enc.tiff(tags, [(GREY.astype("<i4") * 257).tobytes()]), grey(GREY), 1)
    table = np.zeros((3, 256), int)
    table[:, :4] = FOUR.T.astype(int) * 257
    tags = enc.tiff_tags(SIDE, SIDE, [8], 3, **rows, t320=(SHORT, table.ravel().tolist()))
    yield "palette.tif", Odd(enc.tiff(tags, [INDICES.tobytes()]), FOUR[INDICES])
    tags = enc.tiff_tags(SIDE, SIDE, [8] * 4, 2, **rows, t338=(SHORT, [2]))
    content = enc.tiff(tags, [np.dstack([SCENE, ALPHA]).tobytes()])
    yield "rgba.tif", Odd(content, over_white(SCENE, ALPHA), 1)
    ink = np.dstack([255 - SCENE, np.zeros_like(GREY)]).tobytes()
    yield "cmyk.tif", Odd(enc.tiff(enc.tiff_tags(SIDE, SIDE, [8] * 4, 5, **rows), [ink]), SCENE, 1)
    if features.check("littlecms2"):
        srgb, lab = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
        image = ImageCms.profileToProfile(IMAGE, srgb, lab, outputMode="LAB")
        yield "lab.tif", Odd(encoded(image, "TIFF"), SCENE, 24)
    yield "ycbcr.tif", Odd(encoded(IMAGE.convert("YCbCr"), "TIFF"), SCENE, 4)
    yield "pages.tif", Odd(encoded(IMAGE, "TIFF", save_all=True, append_images=[Image.new("L", (9, 9))]), SCENE)
    tags = enc.tiff_tags(*rgb, **rows, t34665=(LONG, [0xFFFFFF00]), t34853=(LONG, [1]), t282=(FLOAT, [72.0]))
    yield "exif-junk.tif", Odd(enc.tiff(tags, [data]), SCENE)
    tags = enc.tiff_tags(*rgb, **rows, t34675=(enc.BYTE, list(b"junk profile")), t65000=(enc.ASCII, list(b"x" * 999)))
    yield "tags-junk.tif", Odd(enc.tiff(tags, [data]), SCENE)


def others() -> Iterator[tuple[str, Odd]]:
    yield "lossy.webp", Odd(encoded(IMAGE, "WEBP"))
    yield "lossless.webp", Odd(encoded(IMAGE, "WEBP", lossless=True), SCENE)
    clear = Image.fromarray(np.dstack([SCENE, ALPHA]))
    shown = over_white(SCENE, ALPHA)
    yield "alpha.webp", Odd(encoded(clear, "WEBP", lossless=True, exact=True), shown, 1)
    black = Image.new("RGB", (SIDE, SIDE))
    yield "animated.webp", Odd(encoded(IMAGE, "WEBP", lossless=True, save_all=True, append_images=[black]), SCENE)
    yield "trailing.webp", Odd(encoded(IMAGE, "WEBP", lossless=True) + b"garbage" * 99, SCENE)
    if features.check("avif"):
        yield "plain.avif", Odd(encoded(IMAGE, "AVIF"))
        yield "alpha.avif", Odd(encoded(clear, "AVIF"))
        yield "animated.avif", Odd(encoded(IMAGE, "AVIF", save_all=True, append_images=[black]))
    yield "sizes.ico", Odd(encoded(IMAGE, "ICO", sizes=[(16, 16), (32, 32)]), SCENE)
    yield "bitmap.ico", Odd(encoded(IMAGE, "ICO", sizes=[(32, 32)], bitmap_format="bmp"), SCENE)
    for suffix, form, options in (
        ("jp2", "JPEG2000", {}),
        ("j2k", "JPEG2000", {"no_jp2": True}),
        ("pcx", "PCX", {}),
        ("sgi", "SGI", {}),
        ("qoi", "QOI", {}),
        ("ppm", "PPM", {}),
    ):
        yield f"plain.{suffix}", Odd(encoded(IMAGE, form, **options), SCENE)
    yield "lossy.jp2", Odd(encoded(IMAGE, "JPEG2000", irreversible=True, quality_layers=[20]))
    deep = Image.frombytes("I;16", (SIDE, SIDE), (GREY.astype(int) * 257).astype("<u2").tobytes())
    yield "grey-16.jp2", Odd(encoded(deep, "JPEG2000"), grey(GREY))
    yield "alpha.jp2", Odd(encoded(clear, "JPEG2000"), shown, 1)
    yield "grey.jp2", Odd(encoded(Image.fromarray(GREY), "JPEG2000"), grey(GREY))
    yield "alpha.sgi", Odd(encoded(clear, "SGI"), shown, 1)
    yield "flat.psd", Odd(enc.psd(SCENE), SCENE)
    bits, size = (GREY > 99).astype(int), b" 32 32 "
    ink = grey((1 - bits) * 255)
    yield "p1.pbm", Odd(b"P1" + size + b" ".join(b"%d" % bit for bit in bits.ravel()), ink)
    yield "p2.pgm", Odd(b"P2 # a comment\n" + size + b"255 " + b" ".join(b"%d" % v for v in GREY.ravel()), grey(GREY))
    yield "p3.ppm", Odd(b"P3" + size + b"255\n" + b" ".join(b"%d" % value for value in SCENE.ravel()), SCENE)
    yield "p4.pbm", Odd(b"P4" + size[:-1] + b"\n" + np.packbits(bits, axis=1).tobytes(), ink)
    yield "p5.pgm", Odd(b"P5" + size + b"255\n" + GREY.tobytes(), grey(GREY))
    deep_bytes = (GREY.astype(int) * 257).astype(">u2").tobytes()
    yield "p5-16.pgm", Odd(b"P5" + size + b"65535\n" + deep_bytes, grey(GREY))
    deep_bytes = (SCENE.astype(int) * 257).astype(">u2").tobytes()
    yield "p6-16.ppm", Odd(b"P6" + size + b"65535\n" + deep_bytes, SCENE)
    yield "p6-100.ppm", Odd(b"P6" + size + b"100\n" + np.rint(SCENE / 2.55).astype(np.uint8).tobytes(), SCENE, 3)
    yield "pf.pfm", Odd(b"Pf\n32 32\n-1.0\n" + (GREY[::-1] / 255).astype("<f4").tobytes(), grey(GREY), 1)


def shapes() -> Iterator[tuple[str, Odd]]:
    for width, height in ((1, 1), (1, 5000), (5000, 1), (2, 3), (31, 33), (33, 32), (1, 32), (7, 1024), (1024, 7)):
        colour = np.full((SIDE, SIDE, 3), (200, 30, 40))
        image = Image.new("RGB", (width, height), (200, 30, 40))
        yield f"{width}x{height}.png", Odd(encoded(image), colour)
        yield f"{width}x{height}.jpg", Odd(encoded(image, "JPEG", quality=100), colour, 3)
    yield "65500x9.jpg", Odd(encoded(Image.new("RGB", (65500, 9), (200, 30, 40)), "JPEG", quality=100), colour, 3)
    for lie in ("really.png", "really.bmp", "really.heic", "really.webp"):
        yield lie, Odd(encoded(IMAGE, "JPEG"))
    yield "really.jpg", Odd(encoded(IMAGE), SCENE)
    yield "really.tif", Odd(encoded(IMAGE, "GIF"))


def everything() -> Iterator[tuple[str, Odd]]:
    """Yield all files with their names."""
    for make in (orientations, jpegs, pngs, gifs, bmps, tiffs, others, shapes):
        yield from ((f"{make.__name__}-{name}", odd) for name, odd in make())
