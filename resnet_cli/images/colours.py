"""Pictures of any of Pillow's modes -> 8-bit RGB, in little more memory than they take themselves."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

LARGE = 1 << 24  # pixels beyond which a picture is converted by strips, and shrunk meanwhile
STRIP = 1 << 20  # pixels at once

GREY_RANGES = {"I": (255, 65535), "F": (1, 255, 65535)}  # full scales in use, by Pillow's mode


def shrunk(image: Image.Image, enough: int) -> tuple[Image.Image, int]:
    """Convert to 8-bit RGB; a large picture by strips to a fraction of its sides, as copies would take its size again.

    Args:
        image: a picture of any of Pillow's modes.
        enough: sides in pixels that are needed; a large picture keeps at least thrice as many.

    Returns:
        The picture, transparency laid over white, and the fraction's denominator, 1 for other than large ones.
    """
    scale = _grey_scale(image)
    if image.width * image.height <= LARGE:
        return _rgb(image, scale), 1
    # Thrice as many pixels as needed are left: then averages of squares and the resizing that follows do no harm.
    factor = max(1, min(image.size) // (3 * enough))
    picture = Image.new("RGB", (-(-image.width // factor), -(-image.height // factor)))
    for top, strip in _strips(image, factor):
        picture.paste(_rgb(strip, scale).reduce(factor), (0, top // factor))
    return picture, factor


def _strips(image: Image.Image, factor: int = 1) -> Iterator[tuple[int, Image.Image]]:
    """Cut into strips whose height is a multiple of the factor; yields each with its first row."""
    rows = factor * max(1, STRIP // (image.width * factor))
    for top in range(0, image.height, rows):
        yield top, image.crop((0, top, image.width, min(top + rows, image.height)))


def _rgb(image: Image.Image, scale: tuple[float, float] | None) -> Image.Image:
    """Any of Pillow's modes in 8-bit RGB, without loss of range, transparency laid over white."""
    if scale:
        image = _grey(image, scale)
    elif image.has_transparency_data:
        # By way of LA: Pillow has no direct way from La, grey with premultiplied alpha.
        layer = (image.convert("LA") if image.mode == "La" else image).convert("RGBA")
        image = Image.new("RGB", image.size, "white")
        image.paste(layer, mask=layer)
    return image if image.mode == "RGB" else image.convert("RGB")


def _grey_scale(image: Image.Image) -> tuple[float, float] | None:
    """Return the values of deep grey that become 0 and 255, None for other pictures.

    Of the full scales in use the smallest that holds all values, else their own range.
    """
    if image.mode.startswith("I;16"):
        return 0, 65535
    if image.mode not in GREY_RANGES:
        return None
    extrema = [(pixels.min(), pixels.max()) for pixels in (_finite(strip) for _, strip in _strips(image))]
    low, high = float(min(low for low, _ in extrema)), float(max(high for _, high in extrema))
    return next(((0, full) for full in GREY_RANGES[image.mode] if low >= 0 and high <= full), (low, high))


def _finite(image: Image.Image) -> NDArray[Any]:
    pixels: NDArray[Any] = np.nan_to_num(np.asarray(image), nan=0, posinf=0, neginf=0)
    return pixels


def _grey(image: Image.Image, scale: tuple[float, float]) -> Image.Image:
    pixels = _finite(image)
    grey = np.rint(np.interp(pixels, scale, (0, 255))).astype(np.uint8)
    if "transparency" in image.info:  # a PNG may declare one grey value transparent
        grey[pixels == image.info["transparency"]] = 255
    return Image.fromarray(grey)
