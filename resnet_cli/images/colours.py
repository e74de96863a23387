"""From any of Pillow's modes to 8-bit RGB, in little more memory than the image itself takes."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

LARGE_PIXELS = 1 << 24  # larger images are converted in strips and reduced
STRIP_PIXELS = 1 << 20  # pixels per strip

GREY_RANGES = {"I": (255, 65535), "F": (1, 255, 65535)}  # usual maximum values, by Pillow's mode


def to_rgb(image: Image.Image, min_side: int) -> tuple[Image.Image, int]:
    """Convert to 8-bit RGB; large images are converted in strips and reduced, to save memory.

    Args:
        image: an image of any mode.
        min_side: side in pixels that is needed; a large image keeps at least three times as many.

    Returns:
        The image, with transparent areas on white, and the factor by which it was reduced.
    """
    grey_range = _grey_range(image)
    if image.width * image.height <= LARGE_PIXELS:
        return _rgb(image, grey_range), 1
    # Keep three times the needed pixels, so that the box average does not affect the final resize.
    factor = max(1, min(image.size) // (3 * min_side))
    rgb = Image.new("RGB", (-(-image.width // factor), -(-image.height // factor)))
    for top, strip in _strips(image, factor):
        rgb.paste(_rgb(strip, grey_range).reduce(factor), (0, top // factor))
    return rgb, factor


def _strips(image: Image.Image, factor: int = 1) -> Iterator[tuple[int, Image.Image]]:
    """Yield strips whose height is a multiple of `factor`, each with its first row."""
    rows = factor * max(1, STRIP_PIXELS // (image.width * factor))
    for top in range(0, image.height, rows):
        yield top, image.crop((0, top, image.width, min(top + rows, image.height)))


def _rgb(image: Image.Image, grey_range: tuple[float, float] | None) -> Image.Image:
    """Convert an image to 8-bit RGB with its full range, and transparent areas on white."""
    if grey_range:
        image = _grey(image, grey_range)
    elif image.has_transparency_data:
        # Via LA, because Pillow cannot convert La (grey with premultiplied alpha) directly.
        layer = (image.convert("LA") if image.mode == "La" else image).convert("RGBA")
        image = Image.new("RGB", image.size, "white")
        image.paste(layer, mask=layer)
    return image if image.mode == "RGB" else image.convert("RGB")


def _grey_range(image: Image.Image) -> tuple[float, float] | None:
    """Return the values of 16-bit or float grey that become 0 and 255; None for other modes.

    The maximum is the smallest usual one that covers all values; if there is none, the range is that of the values.
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


def _grey(image: Image.Image, grey_range: tuple[float, float]) -> Image.Image:
    pixels = _finite(image)
    grey = np.rint(np.interp(pixels, grey_range, (0, 255))).astype(np.uint8)
    if "transparency" in image.info:  # a PNG can have one transparent grey value
        grey[pixels == image.info["transparency"]] = 255
    return Image.fromarray(grey)
