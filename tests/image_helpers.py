"""Image files with known pixels, and their decoding, for several tests."""

from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from encoders import png
from PIL import Image

from resnet_cli.errors import ImageError
from resnet_cli.images.decode import decode_file, decode_stream
from resnet_cli.network.preprocessing import DEFAULT_RESIZING, Decoding, Fit, Resizing

SAMPLES = Path(__file__).parents[1] / "sample_images"

# By EXIF orientation: how the standard stores an upright image.
STORED = {
    1: lambda upright: upright,
    2: lambda upright: upright[:, ::-1],
    3: lambda upright: upright[::-1, ::-1],
    4: lambda upright: upright[::-1],
    5: lambda upright: upright.swapaxes(0, 1),
    6: lambda upright: upright[:, ::-1].swapaxes(0, 1),
    7: lambda upright: upright[::-1, ::-1].swapaxes(0, 1),
    8: lambda upright: upright[::-1].swapaxes(0, 1),
}


def encoded(image: Image.Image, image_format: str = "PNG", **options: object) -> bytes:
    """Return an image file written by Pillow."""
    file = BytesIO()
    image.save(file, image_format, **options)
    return file.getvalue()


def exif(orientation: int) -> bytes:
    """Return EXIF data with only the orientation."""
    tags = Image.Exif()
    tags[274] = orientation
    return tags.tobytes()


def grey(values: np.ndarray) -> np.ndarray:
    """Repeat grey values as RGB."""
    return values[..., None].repeat(3, axis=2)


def over_white(colours: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Blend RGB colours with white, by an alpha from 0 to 255."""
    share = alpha[..., None] / 255
    return colours * share + 255 * (1 - share)


def noise(width: int, height: int) -> Image.Image:
    """Return an RGB image of random pixels."""
    return Image.fromarray(np.random.default_rng(20240229).integers(0, 256, (height, width, 3), np.uint8))


def gradients(width: int, height: int) -> Image.Image:
    """Return an RGB image with a different gradient in each channel."""
    y, x = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j]
    return Image.fromarray((np.stack([x, y, x * y], axis=2) * 255).round().astype(np.uint8))


def decode_bytes(content: bytes, size: int, fit: Fit = Fit.CROP, resizing: Resizing = DEFAULT_RESIZING) -> np.ndarray:
    """Return the pixels of an encoded image."""
    return decode_stream(BytesIO(content), Decoding(size, fit, resizing))


def decoding_error(path: Path) -> str:
    """Return the kind of error; its message must be one line without the file's name, which the caller adds."""
    with pytest.raises(ImageError) as caught:
        decode_file(path, Decoding(8))
    message = str(caught.value)
    assert message.isprintable()
    assert path.name not in message
    return caught.value.kind


IMAGE = encoded(noise(32, 32))  # too noisy for a compressor to shrink, so that each byte counts
EPS = encoded(noise(4, 4), "EPS")
BOMB = png(60_000, 60_000, 8, 2, b"")  # announces more pixels than Pillow decodes


def populate(folder: Path, *names: str, content: bytes = IMAGE) -> None:
    """Write the same file under several names, with their folders."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
