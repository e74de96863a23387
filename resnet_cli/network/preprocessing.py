"""How an image becomes the input of a network, as data (standard library only)."""

from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any, Literal

from resnet_cli.errors import ModelError

LIMIT = 1e6  # of means and deviations; far beyond, 32-bit pixels become zero or infinite
Triple = tuple[float, float, float]


class Fit(StrEnum):
    """How to make an image square."""

    CROP = "crop"
    STRETCH = "stretch"
    PAD = "pad"


@dataclass(frozen=True)
class Resizing:
    """How to resize the short side of an image before its centre is cropped.

    Args:
        crop: the share of the resized short side that is kept, from 0.1 to 1; 0.875 keeps 224 of 256 pixels.
        interpolation: the filter; it antialiases.
        sampled: short side in pixels to which the image is first subsampled, without antialiasing and with colour at
            half resolution, as its training images were; None for no such step.
    """

    crop: float = 0.875
    interpolation: Literal["bicubic", "bilinear"] = "bicubic"
    sampled: int | None = None


DEFAULT_RESIZING = Resizing()


@dataclass(frozen=True)
class Decoding:
    """How to turn an image into the pixels of a network.

    Args:
        size: width and height of the result in pixels.
        fit: how to make the image square.
        resizing: how to resize it.
    """

    size: int
    fit: Fit = Fit.CROP
    resizing: Resizing = DEFAULT_RESIZING


@dataclass(frozen=True)
class Preprocessing:
    """The input that a network expects: a resized image, then (pixel - mean) / std, with pixels from 0 to 255.

    Args:
        channels: order of the channels, in the input and in `mean` and `std`.
        mean: subtracted from each channel.
        std: divides each channel.
        resizing: how to resize the image.
    """

    channels: Literal["RGB", "BGR"]
    mean: Triple
    std: Triple
    resizing: Resizing = DEFAULT_RESIZING

    def to_dict(self) -> dict[str, Any]:
        """Return plain dicts, strings and tuples of numbers, ready for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, fields: object) -> "Preprocessing":
        """Read the result of `to_dict`, in which `resizing` is optional.

        Raises:
            ModelError: a field is missing, unknown or out of range.
        """
        names = ["channels", "mean", "resizing", "std"]
        if not isinstance(fields, dict) or sorted({"resizing", *map(str, fields)}) != names:
            raise ModelError(f"preprocessing must have the fields {', '.join(names)}, got {fields!r}")
        channels, mean, std = fields["channels"], _triple(fields["mean"], "mean"), _triple(fields["std"], "std")
        if channels not in ("RGB", "BGR"):
            raise ModelError(f"preprocessing.channels must be RGB or BGR, got {channels!r}")
        if min(std) < 1 / LIMIT:
            raise ModelError(f"preprocessing.std must be at least {1 / LIMIT:g}, got {fields['std']!r}")
        return cls(channels, mean, std, _resizing(fields.get("resizing", asdict(DEFAULT_RESIZING))))


def _resizing(fields: object) -> Resizing:
    names = ["crop", "interpolation", "sampled"]
    if not isinstance(fields, dict) or sorted({"sampled", *map(str, fields)}) != names:
        raise ModelError(f"resizing must have the fields {', '.join(names)}, got {fields!r}")
    crop, interpolation = fields["crop"], fields["interpolation"]
    if type(crop) not in (int, float) or not 0.1 <= crop <= 1:
        raise ModelError(f"resizing.crop must be from 0.1 to 1, got {crop!r}")
    if interpolation not in ("bicubic", "bilinear"):
        raise ModelError(f"resizing.interpolation must be bicubic or bilinear, got {interpolation!r}")
    sampled = fields.get("sampled")
    if sampled is not None and (type(sampled) is not int or not 1 <= sampled <= 10_000):
        raise ModelError(f"resizing.sampled must be from 1 to 10,000 pixels, or null, got {sampled!r}")
    return Resizing(float(crop), interpolation, sampled)


def _triple(numbers: object, what: str) -> Triple:
    if (
        isinstance(numbers, list | tuple)
        and len(numbers) == 3
        and all(type(number) in (int, float) and abs(number) <= LIMIT for number in numbers)
    ):
        first, second, third = map(float, numbers)
        return first, second, third
    raise ModelError(f"preprocessing.{what} must be three numbers of at most {LIMIT:g}, got {numbers!r}")


# keras.applications.imagenet_utils.preprocess_input, modes "caffe" and "tf".
CAFFE = Preprocessing("BGR", (103.939, 116.779, 123.68), (1.0, 1.0, 1.0))
INCEPTION = Preprocessing("RGB", (127.5, 127.5, 127.5), (127.5, 127.5, 127.5))

# Of torchvision's networks and of ours: mean and standard deviation of each channel over ImageNet.
TORCHVISION = Preprocessing("RGB", (123.675, 116.28, 103.53), (58.395, 57.12, 57.375))

# By variant of the published networks; all others use TORCHVISION.
PREPROCESSING = {"v1": CAFFE, "v2": INCEPTION}
