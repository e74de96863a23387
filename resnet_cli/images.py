"""From names on the command line to square RGB arrays: find, decode, orient, fit.

Pictures are decoded in several threads, so that what is set for all of Pillow is set once, here at the top.
"""

import logging
import os
import stat
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from resnet_cli.errors import ImageError
from resnet_cli.pretrained import Fit

# What a person calls a picture, commonest first (JPEG covers MPO). Left out: what starts programs (EPS), documents,
# video, and TGA, which has no signature, so that many a damaged file would pass for one.
FORMATS: tuple[str, ...] = (
    *("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "ICO"),
    *("PPM", "JPEG2000", "DIB", "PCX", "SGI", "PSD", "QOI"),
)

MAX_PIXELS = 178_956_970  # Pillow's own bound; a 100-megapixel photo stays well below it
MAX_SIDE = 1 << 18  # four times what a JPEG can have: resampling takes memory by the side too, not by the area alone

CROP = 0.875  # the share of the resized short side that the crop keeps: 224 of 256
MAX_ASPECT = 16  # longer strips are cut to their middle first, or 1 x 20,000 would be resized to 256 x 5,120,000
GROUND = (124, 116, 104)  # ImageNet's mean colour: about zero for the network

GREY_RANGES = {"I": (255, 65535), "F": (1, 255, 65535)}  # full scales in use, by Pillow's mode; all others: 16 bits

SPECIAL_FILES = {stat.S_IFDIR: "a folder without images", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket"}

Image.MAX_IMAGE_PIXELS = MAX_PIXELS // 2  # Pillow warns beyond this limit and refuses beyond twice the limit
warnings.filterwarnings("ignore", module=r"PIL\.")  # what matters comes as an exception
logging.getLogger("PIL").addHandler(logging.NullHandler())  # without a handler, logging prints Pillow's errors


def find(inputs: Iterable[str]) -> Iterator[str]:
    """Name the images behind the inputs, lazily: one folder at a time is listed.

    Args:
        inputs: names of files and folders.

    Yields:
        A file as it is, whether or not it exists, so that every input gets a record. Of a folder, at any depth and
        sorted by name, each file that is an image by suffix or by content; hidden names are left out, a folder that
        links lead to again is walked once. A folder without images, or one that cannot be listed, is yielded itself
        for `decode` to report.
    """
    for name in inputs:
        # Path("") is the current folder, which nobody means by an empty name.
        if name and stat.S_ISDIR(_mode(Path(name))):
            images = _walk(Path(name))
            yield str(next(images, name))
            yield from map(str, images)
        else:
            yield name


def decode(name: str | Path, size: int, fit: Fit) -> NDArray[np.uint8]:
    """Read an image file as `decode_stream` does.

    Args:
        name: the file.
        size: side of the square in pixels.
        fit: how the picture becomes square.

    Returns:
        RGB values from 0 to 255: (size, size, 3) uint8.

    Raises:
        ImageError: of the kind `not_found`, `not_a_file`, `permission_denied` or one of `decode_stream`.
    """
    with _file(Path(name)) as file:
        return decode_stream(file, size, fit)


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
        return _upright(file, enough)


def decode_stream(file: BinaryIO, size: int, fit: Fit) -> NDArray[np.uint8]:
    """Read the first frame of an image, turned upright, laid over white, in 8-bit RGB and square.

    Args:
        file: the bytes of one image; seekable.
        size: side of the square in pixels. An upright picture of exactly this size is not resampled.
        fit: `crop` resizes the short side to size / 0.875 and keeps the middle, as torchvision's evaluation transform
            does; `stretch` resizes both sides to size; `pad` resizes the long side to size and centres the picture on
            ImageNet's mean colour. All resizing is bicubic with antialiasing.

    Returns:
        RGB values from 0 to 255: (size, size, 3) uint8.

    Raises:
        ImageError: of the kind `not_an_image` (not one of FORMATS), `unreadable_image` (one of them, but damaged or
            of an unsupported variant) or `too_large`.
    """
    with _decoding(file):
        return np.array(fitted(_upright(file), size, fit))


def fitted(image: Image.Image, size: int, fit: Fit) -> Image.Image:
    """Make an RGB picture square as `decode_stream` does.

    Args:
        image: the picture.
        size: side of the square in pixels.
        fit: how.
    """
    if image.size == (size, size):
        return image
    match fit:
        case Fit.CROP:
            return _cropped(image, size)
        case Fit.STRETCH:
            return image.resize((size, size), Image.Resampling.BICUBIC)
        case Fit.PAD:
            return _padded(image, size)


@contextmanager
def _file(path: Path) -> Iterator[BinaryIO]:
    """Open an image file, and name what hinders it."""
    try:
        # Looked at before it is opened: opening a pipe would wait for its writer.
        mode = path.stat().st_mode
        if not os.access(path, os.R_OK):
            raise ImageError("permission_denied", "expected a readable file, received one without read permission")
        if not stat.S_ISREG(mode):
            received = SPECIAL_FILES.get(stat.S_IFMT(mode), "a device")
            raise ImageError("not_a_file", f"expected an image file, received {received}")
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
    except Exception as error:  # on damaged files Pillow's plugins raise nearly everything, from OSError to KeyError
        message = f"expected a whole image, received a damaged one: {_line(error)}"
        raise ImageError("unreadable_image", message) from error


def _upright(file: BinaryIO, enough: int | None = None) -> Image.Image:
    """Return the first frame in 8-bit RGB, turned as its EXIF tag says."""
    with _opened(file) as image:
        if max(image.size) > MAX_SIDE:
            raise Image.DecompressionBombError(f"expected sides of at most {MAX_SIDE} pixels, got {image.size}")
        if enough:
            image.draft(None, (enough, enough))
        image.load()
        # Junk EXIF must not spoil a good picture. Pillow turns the picture before it writes the tags anew.
        with suppress(Exception):
            ImageOps.exif_transpose(image, in_place=True)
        return _rgb(image)


def _mode(path: Path) -> int:
    """Type and permission bits of a file; 0 where there is no such file or no access to it."""
    try:
        return path.stat().st_mode
    except (OSError, ValueError):  # ValueError: a NUL in the name
        return 0


def _walk(folder: Path) -> Iterator[Path]:
    seen: set[Path] = set()
    waiting = [folder]  # a stack instead of recursion: the folders may be nested more deeply than Python's calls
    while waiting:
        path = waiting.pop()
        if not stat.S_ISDIR(mode := _mode(path)):
            if path.suffix.lower() in _suffixes() or (stat.S_ISREG(mode) and _is_image(path)):
                yield path
        elif (real := path.resolve()) not in seen:
            seen.add(real)
            try:
                children = [child for child in path.iterdir() if not child.name.startswith(".")]
            except OSError:
                yield path
            else:
                waiting += sorted(children, key=lambda child: child.name, reverse=True)


@cache
def _suffixes() -> frozenset[str]:
    """Suffixes of FORMATS, and of photos that phones write but Pillow cannot read: better reported than left out."""
    known = {suffix for suffix, name in Image.registered_extensions().items() if name in (*FORMATS, "MPO")}
    return frozenset(known | {".heic", ".heif"})


def _is_image(path: Path) -> bool:
    """Tell by the content; reads no more than the header."""
    try:
        with Image.open(path, formats=FORMATS):
            return True
    except Image.DecompressionBombError:
        return True
    except Exception:  # see decode_stream
        return False


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
    if any(accept(head.ljust(16, b"\0")) for accept in signatures):
        return ImageError("unreadable_image", "expected a whole image, received a damaged or unsupported header")
    received = f"a file that begins with {head!r}" if head else "an empty file"
    return ImageError("not_an_image", f"expected an image, received {received}")


def _line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _rgb(image: Image.Image) -> Image.Image:
    """Any of Pillow's modes in 8-bit RGB, without loss of range, transparency laid over white."""
    if image.mode in GREY_RANGES or image.mode.startswith("I;16"):
        image = _grey(image)
    elif image.has_transparency_data:
        # By way of LA: Pillow has no direct way from La, grey with premultiplied alpha.
        layer = (image.convert("LA") if image.mode == "La" else image).convert("RGBA")
        image = Image.new("RGB", image.size, "white")
        image.paste(layer, mask=layer)
    return image if image.mode == "RGB" else image.convert("RGB")


def _grey(image: Image.Image) -> Image.Image:
    """Deep grey in 8 bits: of the full scales in use the smallest that holds all values, else their own range."""
    pixels = np.nan_to_num(np.asarray(image), nan=0, posinf=0, neginf=0)
    low, high = pixels.min(), pixels.max()
    for full in GREY_RANGES.get(image.mode, (65535,)):
        if low >= 0 and high <= full:
            low, high = 0, full
            break
    grey = np.rint(np.interp(pixels, (low, high), (0, 255))).astype(np.uint8)
    if "transparency" in image.info:  # a PNG may declare one grey value transparent
        grey[pixels == image.info["transparency"]] = 255
    return Image.fromarray(grey)


def _cropped(image: Image.Image, size: int) -> Image.Image:
    """The rules of torchvision's Resize and CenterCrop, digit for digit."""
    longest = MAX_ASPECT * min(image.size)
    if max(image.size) > longest:
        image = _middle(image, min(image.width, longest), min(image.height, longest))
    width, height = image.size
    short = round(size / CROP)
    # The long side is rounded down.
    scaled = (short, short * height // width) if width <= height else (short * width // height, short)
    return _middle(image.resize(scaled, Image.Resampling.BICUBIC), size, size)


def _middle(image: Image.Image, width: int, height: int) -> Image.Image:
    left, top = round((image.width - width) / 2), round((image.height - height) / 2)
    return image.crop((left, top, left + width, top + height))


def _padded(image: Image.Image, size: int) -> Image.Image:
    # Not ImageOps.pad: it rounds the short side of a thin picture down to nothing.
    scale = size / max(image.size)
    width, height = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    square = Image.new("RGB", (size, size), GROUND)
    square.paste(image.resize((width, height), Image.Resampling.BICUBIC), ((size - width) // 2, (size - height) // 2))
    return square
