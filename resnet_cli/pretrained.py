"""Published weights and what they want done to pixels, as data: a row a file (standard library only)."""

import sys
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal

from resnet_cli.errors import ModelError

Triple = tuple[float, float, float]


class Fit(StrEnum):
    """How an image of any shape becomes square."""

    CROP = "crop"
    STRETCH = "stretch"
    PAD = "pad"


@dataclass(frozen=True)
class Preprocessing:
    """What a network wants done to pixels of 0 to 255: (pixel - mean) / std.

    Args:
        channels: order of the channels, of the input and of the numbers below.
        mean: subtracted from each channel.
        std: what each channel is then divided by.
    """

    channels: Literal["RGB", "BGR"]
    mean: Triple
    std: Triple

    def to_dict(self) -> dict[str, Any]:
        """Return plain strings and tuples of numbers, ready for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, fields: Any) -> "Preprocessing":
        """Read what `to_dict` wrote.

        Args:
            fields: what came out of JSON.

        Returns:
            The preprocessing.

        Raises:
            ModelError: a field is missing, unknown or out of range.
        """
        names = ["channels", "mean", "std"]
        if not isinstance(fields, dict) or sorted(map(str, fields)) != names:
            raise ModelError(f"preprocessing must have the fields {', '.join(names)}, got {fields!r}")
        channels, mean, std = fields["channels"], _triple(fields["mean"], "mean"), _triple(fields["std"], "std")
        if channels not in ("RGB", "BGR"):
            raise ModelError(f"channels of preprocessing must be RGB or BGR, got {channels!r}")
        if min(std) <= 0:
            raise ModelError(f"std of preprocessing must be above zero, got {fields['std']!r}")
        return cls(channels, mean, std)


def _triple(numbers: Any, what: str) -> Triple:
    if (
        isinstance(numbers, list | tuple)
        and len(numbers) == 3
        and all(type(number) in (int, float) and abs(number) <= sys.float_info.max for number in numbers)
    ):
        first, second, third = map(float, numbers)
        return first, second, third
    raise ModelError(f"{what} of preprocessing must be three numbers, got {numbers!r}")


# keras.applications.imagenet_utils.preprocess_input, mode "caffe".
CAFFE = Preprocessing("BGR", (103.939, 116.779, 123.68), (1.0, 1.0, 1.0))

# What torchvision's networks, and ours, are trained with: means and deviations of the channels over ImageNet.
TORCHVISION = Preprocessing("RGB", (123.675, 116.28, 103.53), (58.395, 57.12, 57.375))


@dataclass(frozen=True)
class Pretrained:
    """One published file of weights.

    Args:
        name: what `--weights` calls it.
        depth, variant: the network it fits, as `architecture.resnet` takes them.
        file: its name at home and in the cache.
        url: its home.
        md5: the hash its publisher gives.
        size_mb: megabytes (10^6 bytes) of the file, None where unknown.
        preprocessing: what it was trained with.
        top1, top5: accuracy on the validation set of ImageNet in percent.
    """

    name: str
    depth: int
    variant: str
    file: str
    url: str
    md5: str
    size_mb: int | None
    preprocessing: Preprocessing
    top1: float
    top5: float


def _imagenet(depth: int, md5: str, size_mb: int | None, top1: float, top5: float) -> Pretrained:
    file = f"resnet{depth}_weights_tf_dim_ordering_tf_kernels.h5"
    home = "https://storage.googleapis.com/tensorflow/keras-applications/resnet/"
    return Pretrained("imagenet", depth, "v1", file, home + file, md5, size_mb, CAFFE, top1, top5)


# MD5: WEIGHTS_HASHES in keras/src/applications/resnet.py. Accuracy: ImageNet validation set, short side 256 bicubic,
# centre crop 224 (https://keras.io/api/applications gives them rounded).
IMAGENET: dict[int, Pretrained] = {
    row.depth: row
    for row in (
        _imagenet(50, "2cb95161c43110f7111970584f804107", 103, 74.93, 92.06),
        _imagenet(101, "f1aeb4b969a6efcfb50fad2f0c20cfc5", None, 76.42, 92.79),
        _imagenet(152, "100835be76be38e30d865e96f2aaae62", None, 76.60, 93.12),
    )
}


@dataclass(frozen=True)
class Embedded:
    """A file of weights inside the package.

    Args:
        name: what `--weights` calls it.
        path: the file.
        classes: how many it knows.
        top1, top5: accuracy in percent, on images that it was neither trained on nor chosen by.
    """

    name: str
    path: Path
    classes: int
    top1: float
    top5: float


# Accuracy: the 10,000 validation images of Tiny ImageNet, see docs/tiny.md.
TINY = Embedded("tiny", Path(__file__).with_name("data") / "tiny.safetensors", classes=200, top1=34.84, top5=61.62)
