"""Embedded colour profiles: from the colours of a camera or a printer to those of the web (sRGB)."""

from functools import lru_cache
from io import BytesIO

import numpy as np
from PIL import Image, ImageCms

SPACES = {"RGB": "RGB ", "L": "GRAY", "CMYK": "CMYK"}  # the colour space of a profile, by Pillow's mode
SAME = 2  # levels of 255; sRGB profiles differ by as much in how they round


def to_srgb(image: Image.Image, profile: object) -> Image.Image:
    """Convert an image to sRGB; without a usable profile it is returned as it is.

    Args:
        image: an image of mode RGB, L or CMYK.
        profile: the content of an ICC profile, if there is one.
    """
    if not isinstance(profile, bytes) or not profile:
        return image
    transform = _transform(profile, image.mode)
    if not transform and image.mode == "L" and (transform := _transform(profile, "RGB")):
        image = image.convert("RGB")
    return ImageCms.applyTransform(image, transform) or image if transform else image


@lru_cache(maxsize=32)
def _transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """Return the conversion to sRGB; None if it would change nothing, or the profile is damaged or for another mode."""
    try:
        source = ImageCms.ImageCmsProfile(BytesIO(profile))
        if source.profile.xcolor_space != SPACES.get(mode):
            return None
        intent = ImageCms.Intent(source.profile.rendering_intent)  # as viewers choose it
        transform = ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), mode, "RGB", intent)
        sample = _sample(mode)
        shown = ImageCms.applyTransform(sample, transform)
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):  # junk in place of a profile
        return None
    if mode != "CMYK" and shown:
        difference = np.asarray(shown, int) - np.asarray(sample.convert("RGB"), int)
        if np.abs(difference).max() <= SAME:
            return None
    return transform


def _sample(mode: str) -> Image.Image:
    """Return an image with colours from the whole range of a mode."""
    bands = len(mode) if mode != "L" else 1
    steps = np.linspace(0, 255, 256 if bands == 1 else 9).astype(np.uint8)
    grid = np.stack(np.meshgrid(*[steps] * bands, indexing="ij"), -1).reshape(1, -1, bands)
    return Image.frombytes(mode, (grid.shape[1], 1), grid.tobytes())
