"""From image files to square RGB arrays: decode, orient, fit.

Pictures are decoded in several threads, so that what is set for all of Pillow is set once, here at the top.
"""

import logging
import os
import re
import stat
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from math import ceil
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, PngImagePlugin, UnidentifiedImageError
from PIL.TiffImagePlugin import TiffImageFile

from resnet_cli import colours
from resnet_cli.errors import ImageError
from resnet_cli.pretrained import Fit, Resizing

# What a person calls a picture, commonest first (JPEG covers MPO). Left out: what starts programs (EPS), documents,
# video, and TGA, which has no signature, so that many a damaged file would pass for one.
FORMATS: tuple[str, ...] = (
    *("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "ICO"),
    *("PPM", "JPEG2000", "DIB", "PCX", "SGI", "PSD", "QOI"),
)

# Of FORMATS, and of phones' photos that Pillow cannot read: better reported than left out. Asking Pillow would import
# all of its plugins.
SUFFIXES = frozenset(
    (
        *(".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif"),
        *(".avifs", ".ico", ".ppm", ".pgm", ".pbm", ".pnm", ".pfm", ".jp2", ".j2k", ".j2c", ".jpc", ".jpf", ".jpx"),
        *(".dib", ".pcx", ".sgi", ".bw", ".rgb", ".rgba", ".psd", ".qoi", ".heic", ".heif"),
    )
)

MAX_BYTES = 1 << 30  # of a file, as some decoders read it whole
MAX_PIXELS = 178_956_970  # Pillow's own bound; a 100-megapixel photo stays well below it
MAX_SIDE = 1 << 18  # four times what a JPEG can have: resampling takes memory by the side too, not by the area alone

MAX_SCANNED = 1 << 33  # pixels of all scans of a progressive JPEG; a usual one has 10 scans, this takes 10 s

USUAL = Resizing()
MAX_ASPECT = 16  # longer strips are cut to their middle first, or 1 x 20,000 would be resized to 256 x 5,120,000
GROUND = (124, 116, 104)  # ImageNet's mean colour: about zero for the network

TYPICAL = 6  # as many times as large is a picture of ImageNet as that of 64 x 64 pixels that was sampled of it
HEADROOM = 1.25  # how much larger than needed a JPEG is at least decoded, so that the resizing still has its say
SMALL = 1 << 22  # pixels up to which pictures are decoded side by side at will
TOGETHER = 1 << 26  # pixels of all larger ones that are decoded at once

# By EXIF orientation: what turns a picture upright, and which side (left, top, right, bottom) goes to each of them.
TURNS = {
    2: (Image.Transpose.FLIP_LEFT_RIGHT, (2, 1, 0, 3)),
    3: (Image.Transpose.ROTATE_180, (2, 3, 0, 1)),
    4: (Image.Transpose.FLIP_TOP_BOTTOM, (0, 3, 2, 1)),
    5: (Image.Transpose.TRANSPOSE, (1, 0, 3, 2)),
    6: (Image.Transpose.ROTATE_270, (3, 0, 1, 2)),
    7: (Image.Transpose.TRANSVERSE, (3, 2, 1, 0)),
    8: (Image.Transpose.ROTATE_90, (1, 2, 3, 0)),
}

SPECIAL_FILES = {stat.S_IFDIR: "a folder without images", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket"}

BITS_PER_SAMPLE, TILE_WIDTH, TILE_LENGTH = 258, 322, 323  # tags of TIFF

Box = tuple[float, float, float, float]  # left, top, right, bottom

Image.MAX_IMAGE_PIXELS = MAX_PIXELS // 2  # Pillow warns beyond this limit and refuses beyond twice the limit
# Blocks of over 32 MiB go back to the system as soon as they are freed.
Image.core.set_block_size(1 << 26)  # type: ignore[attr-defined]
PngImagePlugin.MAX_TEXT_CHUNK = PngImagePlugin.MAX_TEXT_MEMORY  # a long text does not spoil a good picture
warnings.filterwarnings("ignore", module=r"PIL\.")  # what matters comes as an exception
logging.getLogger("PIL").addHandler(logging.NullHandler())  # without a handler, logging prints Pillow's errors


def decode(name: str | Path, size: int, fit: Fit, resizing: Resizing = USUAL) -> NDArray[np.uint8]:
    """Read an image file as `decode_stream` does.

    Args:
        name: the file.
        size: side of the square in pixels.
        fit: how the picture becomes square.
        resizing: the network's wishes.

    Returns:
        RGB values from 0 to 255: (size, size, 3) uint8.

    Raises:
        ImageError: of the kind `not_found`, `not_a_file`, `permission_denied` or one of `decode_stream`.
    """
    with _file(Path(name)) as file:
        return decode_stream(file, size, fit, resizing)


def load(name: str | Path, enough: int) -> Image.Image:
    """Read an image file in its own shape.

    Args:
        name: the file.
        enough: sides in pixels beyond which detail may be left out where that saves time, as it does for JPEG.

    Returns:
        The first frame: 8-bit RGB, upright, laid over white.

    Raises:
        ImageError: as `decode` does.
    """
    with _file(Path(name)) as file, _decoding(file):
        return _upright(file, enough)[0]


def decode_stream(file: BinaryIO, size: int, fit: Fit, resizing: Resizing = USUAL) -> NDArray[np.uint8]:
    """Read the first frame of an image, turned upright, laid over white, in 8-bit RGB and square.

    Args:
        file: the bytes of one image; seekable.
        size: side of the square in pixels. An upright picture of exactly this size is not resampled.
        fit: `crop` resizes the short side to size / crop and keeps the middle, as the evaluation transforms of
            torchvision and timm do; `stretch` resizes both sides to size; `pad` resizes the long side to size and
            centres the picture on ImageNet's mean colour.
        resizing: the network's wishes; all resizing antialiases but for what it says is sampled.

    Returns:
        RGB values from 0 to 255: (size, size, 3) uint8.

    Raises:
        ImageError: of the kind `not_an_image` (not one of FORMATS), `unreadable_image` (one of them, but damaged or
            of an unsupported variant) or `too_large`.
    """
    with _decoding(file):
        enough = max(ceil(HEADROOM * size / resizing.crop), TYPICAL * (resizing.sampled or 0))
        return np.array(_fitted(*_upright(file, enough), size, fit, resizing))


def is_image(path: str) -> bool:
    """Tell by the content whether a regular file is an image; reads no more than the header."""
    try:
        with Image.open(path, formats=FORMATS):
            return True
    except Image.DecompressionBombError:
        return True
    except Exception:  # see _decoding
        return False


def fitted(image: Image.Image, size: int, fit: Fit, resizing: Resizing = USUAL) -> Image.Image:
    """Make an RGB picture square as `decode_stream` does.

    Args:
        image: the picture.
        size: side of the square in pixels.
        fit: how.
        resizing: the network's wishes.
    """
    return _fitted(image, (0, 0, *image.size), size, fit, resizing)


@contextmanager
def _file(path: Path) -> Iterator[BinaryIO]:
    """Open an image file, and name what hinders it."""
    try:
        # Looked at before it is opened: opening a pipe would wait for its writer.
        status = path.stat()
        if not os.access(path, os.R_OK):
            raise ImageError("permission_denied", "expected a readable file, received one without read permission")
        if not stat.S_ISREG(status.st_mode):
            received = SPECIAL_FILES.get(stat.S_IFMT(status.st_mode), "a device")
            raise ImageError("not_a_file", f"expected an image file, received {received}")
        if status.st_size > MAX_BYTES:
            raise ImageError("too_large", f"expected at most {MAX_BYTES >> 30} GiB, received {status.st_size:,} bytes")
        with path.open("rb") as file:
            yield file
    except PermissionError as error:
        raise ImageError("permission_denied", f"expected a readable file, received: {error.strerror}") from error
    except (FileNotFoundError, NotADirectoryError, ValueError) as error:  # ValueError: a NUL in the name
        raise ImageError("not_found", "expected an image file, found none of this name") from error
    except OSError as error:
        raise ImageError("unreadable_image", f"expected a readable file, received: {error.strerror}") from error


@contextmanager
def _decoding(file: BinaryIO) -> Iterator[None]:
    """Name what is wrong with the bytes of an image."""
    try:
        yield
    except UnidentifiedImageError as error:
        raise _unidentified(file) from error
    except Image.DecompressionBombError as error:
        raise ImageError("too_large", _line(error)) from error
    except MemoryError as error:
        raise ImageError("too_large", "expected a picture that fits in memory, received a larger one") from error
    except Exception as error:  # on damaged files Pillow's plugins raise nearly everything, from OSError to KeyError
        message = f"expected a whole image, received a damaged one: {_line(error)}"
        raise ImageError("unreadable_image", message) from error


def _upright(file: BinaryIO, enough: int) -> tuple[Image.Image, Box]:
    """Return the first frame in 8-bit RGB, turned as its EXIF tag says, and what it fills of its pixels.

    Args:
        file: the bytes of one image.
        enough: as in `load`.
    """
    with _opened(file) as image:
        _check_size(image)
        if isinstance(image, TiffImageFile):
            _check_tiff(image)
        pixels = image.width * image.height
        drafted = image.draft(None, (enough, enough))
        if image.info.get("progressive"):  # then the decoder keeps all coefficients, and goes through them in each scan
            _check_scans(file, pixels)
        else:
            pixels = image.width * image.height
        with _BUDGET.taken(pixels):
            image.load()
            picture, factor = colours.shrunk(image, enough)
            orientation = _orientation(image)
            left, top, right, bottom = drafted[1] if drafted else (0, 0, *image.size)
            if picture is not image:
                image.close()  # frees its pixels before the next picture takes their room
    box = (left / factor, top / factor, right / factor, bottom / factor)
    return _turned(picture, box, orientation) if orientation in TURNS else (picture, box)


def _check_size(image: Image.Image) -> None:
    if max(image.size) > MAX_SIDE:
        raise Image.DecompressionBombError(f"expected sides of at most {MAX_SIDE} pixels, got {image.size}")


def _check_scans(file: BinaryIO, pixels: int) -> None:
    file.seek(0)
    scans = sum(chunk.count(b"\xff\xda") for chunk in iter(partial(file.read, 1 << 20), b""))
    if scans * pixels > MAX_SCANNED:
        raise Image.DecompressionBombError(f"expected a progressive JPEG of a few scans, got {scans:,}")


def _check_tiff(image: TiffImageFile) -> None:
    """Refuse tiles that are larger than the picture by far, as they are decoded whole; mend how planes are read."""
    if image.tag_v2.get(TILE_WIDTH, 0) * image.tag_v2.get(TILE_LENGTH, 0) > MAX_PIXELS:
        raise Image.DecompressionBombError(f"expected tiles of at most {MAX_PIXELS} pixels, got larger ones")
    if 16 in image.tag_v2.get(BITS_PER_SAMPLE, ()):  # of which Pillow reads uncompressed planes as if they had 8 bits
        depth = ";16B" if image.tag_v2.prefix == b"MM" else ";16L"
        image.tile = [
            tile._replace(args=(tile.args[0] + depth, *tile.args[1:]))
            if tile.codec_name == "raw" and isinstance(tile.args, tuple) and tile.args[0] in tuple("RGBAX")
            else tile
            for tile in image.tile
        ]


class _Budget:
    """Lets threads decode large pictures side by side while all their pixels fit; a larger one is decoded alone."""

    def __init__(self, pixels: int) -> None:
        self._all = self._left = pixels
        self._changed = threading.Condition()

    @contextmanager
    def taken(self, pixels: int) -> Iterator[None]:
        """Wait until there is room for the pixels of a picture, and keep it."""
        share = min(pixels, self._all) if pixels > SMALL else 0
        with self._changed:
            self._changed.wait_for(lambda: self._left >= share)
            self._left -= share
        try:
            yield
        finally:
            with self._changed:
                self._left += share
                self._changed.notify_all()


_BUDGET = _Budget(TOGETHER)


def _opened(file: BinaryIO) -> Image.Image:
    image = Image.open(file, formats=FORMATS)
    if image.format == "PNG":  # only `verify` compares the checksums of the pixels; it leaves the image unusable
        image.verify()
        image = Image.open(file, formats=FORMATS)
    return image


def _unidentified(file: BinaryIO) -> ImageError:
    """Tell a damaged image, by the signature it begins with, from a file that is no image."""
    file.seek(0)
    head = file.read(16)
    signatures = [accept for name in FORMATS if (accept := Image.OPEN[name][1])]
    if any(accept(head.ljust(16, b"\xff")) for accept in signatures):
        return ImageError("unreadable_image", "expected a whole image, received a damaged or unsupported header")
    received = f"a file that begins with {head!r}" if head else "an empty file"
    return ImageError("not_an_image", f"expected an image, received {received}")


def _line(error: Exception) -> str:
    text = re.sub(r"[^!-~]+", " ", str(error)).strip()
    return text if len(text) <= 200 else f"{text[:200]}..."


def _turned(image: Image.Image, box: Box, orientation: int) -> tuple[Image.Image, Box]:
    method, margins = TURNS[orientation]
    room = (box[0], box[1], image.width - box[2], image.height - box[3])
    left, top, right, bottom = (room[side] for side in margins)
    image = image.transpose(method)
    return image, (left, top, image.width - right, image.height - bottom)


def _orientation(image: Image.Image) -> int:
    """Return the EXIF tag, or 1, upright, as junk in EXIF must not spoil a good picture."""
    with suppress(Exception):
        return int(image.getexif()[ExifTags.Base.Orientation])
    return 1


def _fitted(image: Image.Image, box: Box, size: int, fit: Fit, resizing: Resizing) -> Image.Image:
    """Make the part of a picture within the box square."""
    if image.size == (size, size):
        return image
    if resizing.sampled:
        image, box = _sampled(image, _middle(box) if fit is Fit.CROP else box, resizing.sampled)
    method = Image.Resampling[resizing.interpolation.upper()]
    match fit:
        case Fit.CROP:
            return _cropped(image, box, size, int(size / resizing.crop), method)
        case Fit.STRETCH:
            return image.resize((size, size), method, box)
        case Fit.PAD:
            return _padded(image, box, size, method)


def _sampled(image: Image.Image, box: Box, short: int) -> tuple[Image.Image, Box]:
    """Take every so many pixels, and of their colours half as many, as JPEG does, where the short side has more.

    By far too many are averaged first.
    """
    left, top, right, bottom = box
    step = min(right - left, bottom - top) / short
    if step <= 1:
        return image, box
    if step > TYPICAL:
        width, height = (round((end - start) * TYPICAL / step) for start, end in ((left, right), (top, bottom)))
        return _sampled(image.resize((width, height), Image.Resampling.BILINEAR, box), (0, 0, width, height), short)
    columns, rows = (
        (start + np.arange(round((end - start) / step)) * step).astype(int)
        for start, end in ((left, right), (top, bottom))
    )
    luma, *chroma = Image.fromarray(np.asarray(image)[rows[:, None], columns]).convert("YCbCr").split()
    halved = [plane.reduce(2).resize(luma.size, Image.Resampling.BILINEAR) for plane in chroma]
    return Image.merge("YCbCr", (luma, *halved)).convert("RGB"), (0, 0, *luma.size)


def _middle(box: Box) -> Box:
    """Return the square in the middle, at whole pixels."""
    left, top, right, bottom = box
    side = min(right - left, bottom - top)
    left, top = left + (right - left - side) // 2, top + (bottom - top - side) // 2
    return left, top, left + side, top + side


def _cropped(image: Image.Image, box: Box, size: int, short: int, method: Image.Resampling) -> Image.Image:
    """The rules of torchvision's Resize to a short side and CenterCrop, digit for digit."""
    left, top, right, bottom = box
    longest = MAX_ASPECT * min(right - left, bottom - top)
    beyond_x, beyond_y = max(0, right - left - longest) / 2, max(0, bottom - top - longest) / 2
    left, top, right, bottom = box = (left + beyond_x, top + beyond_y, right - beyond_x, bottom - beyond_y)
    width, height = right - left, bottom - top
    # The long side is rounded down.
    scaled = (short, int(short * height / width)) if width <= height else (int(short * width / height), short)
    x, y = round((scaled[0] - size) / 2), round((scaled[1] - size) / 2)
    return image.resize(scaled, method, box).crop((x, y, x + size, y + size))


def _padded(image: Image.Image, box: Box, size: int, method: Image.Resampling) -> Image.Image:
    # Not ImageOps.pad: it rounds the short side of a thin picture down to nothing.
    left, top, right, bottom = box
    scale = size / max(right - left, bottom - top)
    width, height = max(1, round((right - left) * scale)), max(1, round((bottom - top) * scale))
    square = Image.new("RGB", (size, size), GROUND)
    resized = image.resize((width, height), method, box)
    square.paste(resized, ((size - width) // 2, (size - height) // 2))
    return square
