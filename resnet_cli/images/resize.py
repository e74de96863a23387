"""From RGB images of any shape to squares."""

import numpy as np
from PIL import Image

from resnet_cli.network.preprocessing import Decoding, Fit

MAX_ASPECT = 16  # longer strips are cropped to their centre, or 1 x 20,000 would be resized to 256 x 5,120,000
PAD_COLOUR = (124, 116, 104)  # ImageNet's mean colour: about zero for the network
TYPICAL_OVERSAMPLING = 6  # typical ratio of an ImageNet photo's short side to the 64-pixel tile sampled from it

Box = tuple[float, float, float, float]  # left, top, right, bottom


def fit_square(image: Image.Image, decoding: Decoding, box: Box | None = None) -> Image.Image:
    """Make an RGB image square; an image of exactly the right size is not resampled.

    `crop` resizes the short side to size / crop and keeps the centre, as the evaluation transforms of torchvision and
    timm do; `stretch` resizes both sides; `pad` resizes the long side and centres the image on ImageNet's mean colour.
    All resizing antialiases, except for subsampling.

    Args:
        image: the image.
        decoding: how to make it square.
        box: the part of the image to use, or None for all of it.
    """
    size, fit, resizing = decoding.size, decoding.fit, decoding.resizing
    if image.size == (size, size):
        return image
    box = box or (0, 0, *image.size)
    if resizing.sampled:
        image, box = _subsample(image, _centre_square(box) if fit is Fit.CROP else box, resizing.sampled)
    method = Image.Resampling[resizing.interpolation.upper()]
    match fit:
        case Fit.CROP:
            return _resize_and_crop(image, box, size, int(size / resizing.crop), method)
        case Fit.STRETCH:
            return image.resize((size, size), method, box)
        case Fit.PAD:
            return _resize_and_pad(image, box, size, method)


def _subsample(image: Image.Image, box: Box, short: int) -> tuple[Image.Image, Box]:
    """Subsample the short side to `short` pixels, with colour at half resolution as in JPEG.

    Images much larger than that are averaged down first.
    """
    left, top, right, bottom = box
    step = min(right - left, bottom - top) / short
    if step <= 1:
        return image, box
    if step > TYPICAL_OVERSAMPLING:
        width, height = (
            round((end - start) * TYPICAL_OVERSAMPLING / step) for start, end in ((left, right), (top, bottom))
        )
        return _subsample(image.resize((width, height), Image.Resampling.BILINEAR, box), (0, 0, width, height), short)
    columns, rows = (
        (start + np.arange(round((end - start) / step)) * step).astype(int)
        for start, end in ((left, right), (top, bottom))
    )
    luma, *chroma = Image.fromarray(np.asarray(image)[rows[:, None], columns]).convert("YCbCr").split()
    halved = [plane.reduce(2).resize(luma.size, Image.Resampling.BILINEAR) for plane in chroma]
    return Image.merge("YCbCr", (luma, *halved)).convert("RGB"), (0, 0, *luma.size)


def _centre_square(box: Box) -> Box:
    """Return the centre square of a box, at whole pixels."""
    left, top, right, bottom = box
    side = min(right - left, bottom - top)
    left, top = left + (right - left - side) // 2, top + (bottom - top - side) // 2
    return left, top, left + side, top + side


def _resize_and_crop(image: Image.Image, box: Box, size: int, short: int, method: Image.Resampling) -> Image.Image:
    """Resize and crop with exactly the rounding of torchvision's Resize and CenterCrop."""
    left, top, right, bottom = box
    longest = MAX_ASPECT * min(right - left, bottom - top)
    beyond_x, beyond_y = max(0, right - left - longest) / 2, max(0, bottom - top - longest) / 2
    left, top, right, bottom = box = (left + beyond_x, top + beyond_y, right - beyond_x, bottom - beyond_y)
    width, height = right - left, bottom - top
    # The long side is rounded down.
    scaled = (short, int(short * height / width)) if width <= height else (int(short * width / height), short)
    x, y = round((scaled[0] - size) / 2), round((scaled[1] - size) / 2)
    return image.resize(scaled, method, box).crop((x, y, x + size, y + size))


def _resize_and_pad(image: Image.Image, box: Box, size: int, method: Image.Resampling) -> Image.Image:
    # ImageOps.pad rounds the short side of a thin image down to zero.
    left, top, right, bottom = box
    scale = size / max(right - left, bottom - top)
    width, height = max(1, round((right - left) * scale)), max(1, round((bottom - top) * scale))
    square = Image.new("RGB", (size, size), PAD_COLOUR)
    resized = image.resize((width, height), method, box)
    square.paste(resized, ((size - width) // 2, (size - height) // 2))
    return square
