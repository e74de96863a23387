"""From any of Pillow's modes to 8-bit RGB, in little more memory than the image itself takes."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from resnet_cli.images import profiles

LARGE_PIXELS = 1 << 24  # larger images are converted in strips and reduced
STRIP_PIXELS = 1 << 20  # pixels per strip

GREY_RANGES = {"I": (255, 65535), "F": (1, 255, 65535)}  # usual maximum values, by Pillow's mode
SAMPLED_PIXELS = 1 << 20  # of these the usual maximum is guessed
MAX_NEGATIVE = 0.01  # share of values; of more, the range is that of the values

Range = tuple[float, float]  # the values that become 0 and 255; the larger one may come first


def to_rgb(image: Image.Image, min_side: int, grey_range: Range | None = None) -> tuple[Image.Image, int]:
    """Convert to 8-bit sRGB; large images are converted in strips and reduced, to save memory.

    Args:
        image: an image of any mode.
        min_side: side in pixels that is needed; a large image keeps at least three times as many.
        grey_range: the range of 16-bit or float grey, if the file says it.

    Returns:
        The image, with transparent areas on white, and the factor by which it was reduced.
    """
    if has_empty_alpha(image):
        image = image.convert("RGB")
    grey_range = grey_range or _grey_range(image)
    profile = image.info.get("icc_profile")
    if image.width * image.height <= LARGE_PIXELS:
        return _rgb(image, grey_range, profile), 1
    # Keep three times the needed pixels, so that the box average does not affect the final resize.
    factor = max(1, min(image.size) // (3 * min_side))
    rgb = Image.new("RGB", (-(-image.width // factor), -(-image.height // factor)))
    for top, strip in _strips(image, factor):
        rgb.paste(_rgb(strip, grey_range, profile).reduce(factor), (0, top // factor))
    return rgb, factor


def has_empty_alpha(image: Image.Image) -> bool:
    """Return whether an image is a bitmap of Windows whose alpha was never filled in, so that it is opaque."""
    return image.format in ("BMP", "DIB") and image.mode == "RGBA" and image.getchannel("A").getextrema() == (0, 0)


def _strips(image: Image.Image, factor: int = 1) -> Iterator[tuple[int, Image.Image]]:
    """Yield strips whose height is a multiple of `factor`, each with its first row."""
    rows = factor * max(1, STRIP_PIXELS // (image.width * factor))
    for top in range(0, image.height, rows):
        yield top, image.crop((0, top, image.width, min(top + rows, image.height)))


def _rgb(image: Image.Image, grey_range: Range | None, profile: object) -> Image.Image:
    """Convert an image to 8-bit sRGB with its full range, and transparent areas on white."""
    if grey_range:
        image = _grey(image, grey_range)
    mask = None
    if image.has_transparency_data:
        grey = image.mode in ("L", "LA", "La")  # which is converted by a profile for grey
        image = image.convert("LA" if grey else "RGBA")
        mask = image.getchannel("A")
        image = image.getchannel("L") if grey else image
    colours = image if image.mode in ("RGB", "L", "CMYK") else image.convert("RGB")
    rgb = profiles.to_srgb(colours, profile).convert("RGB")
    if mask:
        white = Image.new("RGB", image.size, "white")
        white.paste(rgb, mask=mask)
        return white
    return rgb


def _grey_range(image: Image.Image) -> Range | None:
    """Return the values of 16-bit or float grey that become 0 and 255, where the file does not say; None for others."""
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PPM"):  # scaled by the file's maximum
        return 0, 65535
    if image.mode not in GREY_RANGES:
        return None
    step = max(1, round((image.width * image.height / SAMPLED_PIXELS) ** 0.5))
    sample = np.concatenate([finite(np.asarray(strip))[::step, ::step].ravel() for _, strip in _strips(image)])
    return usual_range(sample, GREY_RANGES[image.mode])


def usual_range(values: NDArray[Any], maxima: tuple[float, ...]) -> Range:
    """Return the values that become 0 and 255, where the file does not say.

    The maximum is the smallest usual one that covers half of what is not black: single values may be higher, such as
    highlights or the overshoot of resampling. Without one, or with negative values, the range is that of the values.

    Args:
        values: finite values.
        maxima: the usual maxima, in ascending order.
    """
    low, high = float(values.min()), float(values.max())
    bright = values[values > (maxima[0] / 255)]
    typical = float(np.median(bright)) if bright.size else 0
    if float(np.mean(values < 0)) > MAX_NEGATIVE:
        return low, high
    return next(((0, full) for full in maxima if typical <= full), (low, high))


def finite(values: NDArray[Any]) -> NDArray[Any]:
    """Return values with zeros in place of NaN and infinity."""
    replaced: NDArray[Any] = np.nan_to_num(values, nan=0, posinf=0, neginf=0)
    return replaced


def _grey(image: Image.Image, grey_range: Range) -> Image.Image:
    pixels = finite(np.asarray(image))
    grey = to_levels(pixels, grey_range)
    if "transparency" in image.info:  # a PNG can have one transparent grey value
        grey[pixels == image.info["transparency"]] = 255
    return Image.fromarray(grey)


def to_levels(values: NDArray[Any], value_range: Range) -> NDArray[np.uint8]:
    """Convert values of any type to levels from 0 to 255, and those outside the range to its nearest end.

    Args:
        values: finite values.
        value_range: the values that become 0 and 255; if the first is larger, the levels are inverted.
    """
    (low, high), ends = value_range, (0.0, 255.0)
    if low > high:
        low, high, ends = high, low, (255.0, 0.0)
    levels: NDArray[np.uint8] = np.rint(np.interp(values, (low, high), ends)).astype(np.uint8)
    return levels
