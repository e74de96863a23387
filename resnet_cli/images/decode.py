"""From image files to upright 8-bit RGB images, and to the square pixels of a network."""

import logging
import os
import re
import stat
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from math import ceil
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin, UnidentifiedImageError

from resnet_cli.errors import ImageError, ImageErrorKind
from resnet_cli.images import colours, formats, orientation, readers, repair, resize, tiff
from resnet_cli.images.resize import Box
from resnet_cli.network.preprocessing import Decoding

MAX_SCAN_PIXELS = 1 << 33  # pixels in all scans of a progressive JPEG, or 10 s; a typical one has 10 scans

HEADROOM = 1.25  # decode a JPEG at least this much larger than needed, so that the final resize determines the result
SMALL_PIXELS = 1 << 22  # images up to this size are decoded in parallel without limit
DECODE_BUDGET_PIXELS = 1 << 26  # limit on the pixels of all larger images being decoded at once

SPECIAL_FILES = {stat.S_IFDIR: "a folder without images", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket"}


Pixels = NDArray[np.uint8]

_log = logging.getLogger(__name__)
_LOAD_LOCK = threading.Lock()  # Pillow reads a file on first use, and several threads may get the same image


def configure_pillow() -> None:
    """Set what the command line needs for all of Pillow; a library leaves these to the program that uses it.

    Call it before threads decode images.
    """
    Image.core.set_block_size(1 << 26)  # type: ignore[attr-defined] # so that freed images return their memory
    PngImagePlugin.MAX_TEXT_CHUNK = PngImagePlugin.MAX_TEXT_MEMORY  # a long text does not make an image unreadable
    warnings.filterwarnings("ignore", module=r"PIL\.")  # errors that matter are raised
    logging.getLogger("PIL").addHandler(logging.NullHandler())  # without a handler, logging prints Pillow's errors


def decode_file(name: str | Path, decoding: Decoding) -> Pixels:
    """Read an image file as the pixels of a network: RGB from 0 to 255, (size, size, 3) uint8.

    Raises:
        ImageError: of the kind `not_found`, `not_a_file`, `permission_denied` or any of `decode_stream`.
    """
    with _open_file(Path(name)) as file:
        return decode_stream(file, decoding)


def decode_stream(file: BinaryIO, decoding: Decoding) -> Pixels:
    """Read a seekable file of one image: its first frame, upright, on white, as RGB (size, size, 3) uint8.

    Raises:
        ImageError: of the kind `not_an_image` (none of `formats`), `unreadable_image` (one of them, but damaged or
            an unsupported variant) or `too_large`.
    """
    with _decoding_errors(file):
        image, box = _load_upright(file, _min_side(decoding))
        return np.array(resize.fit_square(image, decoding, box))


def decode_image(image: Image.Image, decoding: Decoding) -> Pixels:
    """Convert an open Pillow image like `decode_stream`.

    Raises:
        ImageError: of the kind `unreadable_image` or `too_large`.
    """
    with _decoding_errors():
        readers.check_size(image.size)
        with _LOAD_LOCK:
            image.load()
        rgb, factor = colours.to_rgb(image, _min_side(decoding))
        box = (0.0, 0.0, image.width / factor, image.height / factor)
        rgb, box = orientation.apply(rgb, box, orientation.of(image))
        return np.array(resize.fit_square(rgb, decoding, box))


def load_image(name: str | Path, min_side: int) -> Image.Image:
    """Read the first frame of an image file as upright 8-bit RGB, with transparent areas on white.

    Args:
        name: the file.
        min_side: side in pixels above which detail may be dropped if that saves time, as it does for JPEG.

    Raises:
        ImageError: as for `decode_file`.
    """
    with _open_file(Path(name)) as file, _decoding_errors(file):
        return _load_upright(file, min_side)[0]


def _min_side(decoding: Decoding) -> int:
    size, resizing = decoding.size, decoding.resizing
    return max(ceil(HEADROOM * size / resizing.crop), resize.TYPICAL_OVERSAMPLING * (resizing.sampled or 0))


@contextmanager
def _open_file(path: Path) -> Iterator[BinaryIO]:
    """Open an image file; raise an ImageError if it cannot be opened."""
    try:
        # Checked before opening, because opening a pipe waits for its writer.
        status = path.stat()
        if not os.access(path, os.R_OK):
            raise ImageError(
                ImageErrorKind.PERMISSION_DENIED, "expected a readable file, got one without read permission"
            )
        if not stat.S_ISREG(status.st_mode):
            got = SPECIAL_FILES.get(stat.S_IFMT(status.st_mode), "a device")
            raise ImageError(ImageErrorKind.NOT_A_FILE, f"expected an image file, got {got}")
        if status.st_size > readers.MAX_BYTES:
            raise ImageError(
                ImageErrorKind.TOO_LARGE,
                f"expected at most {readers.MAX_BYTES >> 30} GiB, got {status.st_size:,} bytes",
            )
        with path.open("rb") as file:
            yield file
    except PermissionError as error:
        raise ImageError(ImageErrorKind.PERMISSION_DENIED, f"cannot read the file: {error.strerror}") from error
    except (FileNotFoundError, NotADirectoryError, ValueError) as error:  # ValueError: a NUL in the name
        raise ImageError(ImageErrorKind.NOT_FOUND, "no file with this name") from error
    except OSError as error:
        raise ImageError(ImageErrorKind.UNREADABLE_IMAGE, f"cannot read the file: {error.strerror}") from error


@contextmanager
def _decoding_errors(file: BinaryIO | None = None) -> Iterator[None]:
    """Turn the errors of decoding into an ImageError."""
    try:
        yield
    except ImageError:
        raise
    except UnidentifiedImageError as error:
        raise _unidentified_error(file) if file else ImageError(ImageErrorKind.NOT_AN_IMAGE, str(error)) from error
    except Image.DecompressionBombError as error:
        pixels = re.search(r"Image size \((\d+) pixels\)", str(error))  # Pillow's own message
        message = readers.too_many(int(pixels[1])) if pixels else _one_line(error)
        raise ImageError(ImageErrorKind.TOO_LARGE, message) from error
    except tiff.UnsupportedVariantError as error:
        message = f"this TIFF variant is not supported: {error}"
        raise ImageError(ImageErrorKind.UNREADABLE_IMAGE, message) from error
    except MemoryError as error:
        raise ImageError(ImageErrorKind.TOO_LARGE, "the image does not fit in memory") from error
    except Exception as error:  # on damaged files, Pillow's plugins raise nearly any error, from OSError to KeyError
        message = f"the image is damaged: {_one_line(error)}"
        raise ImageError(ImageErrorKind.UNREADABLE_IMAGE, message) from error


def _load_upright(file: BinaryIO, min_side: int) -> tuple[Image.Image, Box]:
    """Return the first frame as upright 8-bit RGB, and the box of its pixels that it fills.

    Args:
        file: a file of one image.
        min_side: as for `load_image`.
    """
    try:
        return _load(file, min_side)
    except (ImageError, MemoryError, Image.DecompressionBombError, tiff.UnsupportedVariantError):
        raise
    except Exception:  # see _decoding_errors
        if not (repaired := _load_repaired(file, min_side)):
            raise
        _log.warning("%s is damaged, but none of its pixels", ascii(getattr(file, "name", "an image")))
        return repaired


def _load_repaired(file: BinaryIO, min_side: int) -> tuple[Image.Image, Box] | None:
    """Load an image that is damaged outside its pixels; return None if there is none, or pixels are missing."""
    file.seek(0)
    head = file.read(8)
    try:
        if head == repair.PNG_SIGNATURE:
            return _load(repair.repair_png(file), min_side)
        if head.startswith(readers.JPEG):
            for tails in repair.jpeg_tails(file):
                (image, box), *others = (_load(tail, min_side) for tail in tails)
                if all(image == other for other, _ in others):
                    return image, box
    except Image.DecompressionBombError:
        raise
    except Exception:  # see _decoding_errors; the first error counts
        return None
    return None


def _load(file: BinaryIO, min_side: int) -> tuple[Image.Image, Box]:
    image, grey_range = readers.open_image(file, min_side, _BUDGET.reserve)
    with image:
        pixels = image.width * image.height
        drafted = image.draft(None, (min_side, min_side))
        if image.info.get("progressive"):  # the decoder keeps all coefficients, and reads them in each scan
            _check_scans(file, pixels)
        else:
            pixels = image.width * image.height
        readers.check_size(image.size, pixels)
        with _BUDGET.reserve(pixels):
            image.load()
            rgb, factor = colours.to_rgb(image, min_side, grey_range)
            turned = orientation.of(image)
            left, top, right, bottom = drafted[1] if drafted else (0, 0, *image.size)
            if rgb is not image:
                image.close()  # frees its pixels before another image needs the memory
    box = (left / factor, top / factor, right / factor, bottom / factor)
    return orientation.apply(rgb, box, turned)


def _check_scans(file: BinaryIO, pixels: int) -> None:
    file.seek(0)
    scans = sum(chunk.count(b"\xff\xda") for chunk in iter(partial(file.read, 1 << 20), b""))
    if scans * pixels > MAX_SCAN_PIXELS:
        raise Image.DecompressionBombError(f"expected a progressive JPEG with fewer scans, got {scans:,}")


class _PixelBudget:
    """Lets threads decode large images in parallel within a budget; an image above it is decoded alone."""

    def __init__(self, pixels: int) -> None:
        self._all = self._left = pixels
        self._changed = threading.Condition()

    @contextmanager
    def reserve(self, pixels: int) -> Iterator[None]:
        """Wait until the pixels of an image fit into the budget, and reserve them."""
        share = min(pixels, self._all) if pixels > SMALL_PIXELS else 0
        with self._changed:
            self._changed.wait_for(lambda: self._left >= share)
            self._left -= share
        try:
            yield
        finally:
            with self._changed:
                self._left += share
                self._changed.notify_all()


_BUDGET = _PixelBudget(DECODE_BUDGET_PIXELS)


def _unidentified_error(file: BinaryIO) -> ImageError:
    """Return the error for a file that starts with an image's signature, or for one that does not."""
    file.seek(0)
    head = file.read(16)
    signatures = [accept for name in formats.pillow_formats("") if (accept := Image.OPEN[name][1])]
    if any(accept(head.ljust(16, b"\xff")) for accept in signatures):
        return ImageError(ImageErrorKind.UNREADABLE_IMAGE, "the image header is damaged or unsupported")
    got = f"a file that starts with {head!r}" if head else "an empty file"
    return ImageError(ImageErrorKind.NOT_AN_IMAGE, f"expected an image, got {got}")


def _one_line(error: Exception) -> str:
    text = re.sub(r"[^!-~]+", " ", str(error)).strip()
    return text if len(text) <= 200 else f"{text[:200]}..."
