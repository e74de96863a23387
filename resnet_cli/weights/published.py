"""Published weights and what they want done to pixels, as data: a row a file (standard library only)."""

import sys
from dataclasses import asdict, dataclass, replace
from difflib import get_close_matches
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
class Resizing:
    """How the short side of an image is resized before its middle is cut out.

    Args:
        crop: the share of the resized short side that is kept, 0.1 to 1: 0.875 is 224 pixels of 256.
        interpolation: between pixels, with antialiasing.
        sampled: pixels of the short side of a picture that is made first of every so many pixels, with colours at half
            that resolution, as training images were that were made smaller without antialiasing and kept as JPEG; None
            where there is no such step.
    """

    crop: float = 0.875
    interpolation: Literal["bicubic", "bilinear"] = "bicubic"
    sampled: int | None = None


@dataclass(frozen=True)
class Preprocessing:
    """What a network wants done to pixels of 0 to 255: resizing, then (pixel - mean) / std.

    Args:
        channels: order of the channels, of the input and of the numbers below.
        mean: subtracted from each channel.
        std: what each channel is then divided by.
        resizing: of the whole image.
    """

    channels: Literal["RGB", "BGR"]
    mean: Triple
    std: Triple
    resizing: Resizing = Resizing()

    def to_dict(self) -> dict[str, Any]:
        """Return plain dicts, strings and tuples of numbers, ready for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, fields: Any) -> "Preprocessing":
        """Read what `to_dict` wrote.

        Args:
            fields: what came out of JSON; `resizing` may be left out.

        Returns:
            The preprocessing.

        Raises:
            ModelError: a field is missing, unknown or out of range.
        """
        names = ["channels", "mean", "resizing", "std"]
        if not isinstance(fields, dict) or sorted({"resizing", *map(str, fields)}) != names:
            raise ModelError(f"preprocessing must have the fields {', '.join(names)}, got {fields!r}")
        channels, mean, std = fields["channels"], _triple(fields["mean"], "mean"), _triple(fields["std"], "std")
        if channels not in ("RGB", "BGR"):
            raise ModelError(f"channels of preprocessing must be RGB or BGR, got {channels!r}")
        if min(std) <= 0:
            raise ModelError(f"std of preprocessing must be above zero, got {fields['std']!r}")
        return cls(channels, mean, std, _resizing(fields.get("resizing", asdict(Resizing()))))


def _resizing(fields: Any) -> Resizing:
    names = ["crop", "interpolation", "sampled"]
    if not isinstance(fields, dict) or sorted({"sampled", *map(str, fields)}) != names:
        raise ModelError(f"resizing must have the fields {', '.join(names)}, got {fields!r}")
    crop, interpolation = fields["crop"], fields["interpolation"]
    if type(crop) not in (int, float) or not 0.1 <= crop <= 1:
        raise ModelError(f"crop of resizing must be from 0.1 to 1, got {crop!r}")
    if interpolation not in ("bicubic", "bilinear"):
        raise ModelError(f"interpolation of resizing must be bicubic or bilinear, got {interpolation!r}")
    sampled = fields.get("sampled")
    if sampled is not None and (type(sampled) is not int or not 1 <= sampled <= 10_000):
        raise ModelError(f"sampled of resizing must be pixels from 1 to 10,000 or null, got {sampled!r}")
    return Resizing(float(crop), interpolation, sampled)


def _triple(numbers: Any, what: str) -> Triple:
    if (
        isinstance(numbers, list | tuple)
        and len(numbers) == 3
        and all(type(number) in (int, float) and abs(number) <= sys.float_info.max for number in numbers)
    ):
        first, second, third = map(float, numbers)
        return first, second, third
    raise ModelError(f"{what} of preprocessing must be three numbers, got {numbers!r}")


# keras.applications.imagenet_utils.preprocess_input, modes "caffe" and "tf".
CAFFE = Preprocessing("BGR", (103.939, 116.779, 123.68), (1.0, 1.0, 1.0))
INCEPTION = Preprocessing("RGB", (127.5, 127.5, 127.5), (127.5, 127.5, 127.5))

# What torchvision's networks, and ours, are trained with: means and deviations of the channels over ImageNet.
TORCHVISION = Preprocessing("RGB", (123.675, 116.28, 103.53), (58.395, 57.12, 57.375))

# What the published networks of a variant are trained with; all others with TORCHVISION.
PREPROCESSING = {"v1": CAFFE, "v2": INCEPTION}


@dataclass(frozen=True)
class Pretrained:
    """One published file of weights.

    Args:
        name: what `--weights` calls it.
        network: a key of `architecture.NETWORKS`.
        file: its name in the cache.
        url: its home.
        repository: on the Hugging Face hub, which then has the file; else empty.
        md5: the hash its publisher gives; empty for files of the hub, which names the hash itself.
        size_mb: megabytes (10^6 bytes) of the file, None where unknown.
        image_size: side in pixels of the images that its accuracy was measured on.
        preprocessing: what it was trained with.
        top1, top5: accuracy on the validation set of ImageNet in percent; None where unknown.
        source: address of a page that has the accuracy.
        licence: SPDX identifier.
    """

    name: str
    network: str
    file: str
    url: str
    repository: str
    md5: str
    size_mb: int | None
    image_size: int
    preprocessing: Preprocessing
    top1: float
    top5: float | None
    source: str
    licence: str


def _keras(
    network: str, variant: str, md5: str, top1: float, top5: float, licence: str, *, size_mb: int | None = None
) -> Pretrained:
    file = f"{network}_weights_tf_dim_ordering_tf_kernels.h5"
    return Pretrained(
        name=network,
        network=network,
        file=file,
        url=f"https://storage.googleapis.com/tensorflow/keras-applications/resnet/{file}",
        repository="",
        md5=md5,
        size_mb=size_mb,
        image_size=299 if variant == "v2" else 224,
        preprocessing=PREPROCESSING[variant],
        top1=top1,
        top5=top5,
        source="https://keras.io/api/applications",
        licence=licence,
    )


def _timm(
    name: str,
    network: str,
    size_mb: int,
    image_size: int,
    resizing: Resizing,
    top1: float,
    top5: float | None,
    licence: str,
) -> Pretrained:
    repository = f"timm/{name}"
    return Pretrained(
        name=name,
        network=network,
        file=f"{name}.safetensors",
        url=f"https://huggingface.co/{repository}/resolve/main/model.safetensors",
        repository=repository,
        md5="",
        size_mb=size_mb,
        image_size=image_size,
        preprocessing=replace(TORCHVISION, resizing=resizing),
        top1=top1,
        top5=top5,
        source="https://github.com/huggingface/pytorch-image-models/blob/main/results/results-imagenet.csv",
        licence=licence,
    )


_OLD, _NEW, _WHOLE = Resizing(0.875, "bilinear"), Resizing(0.965, "bilinear"), Resizing(1.0, "bicubic")

# Of Keras: hashes are WEIGHTS_HASHES in keras/src/applications/resnet.py; accuracy with the short side 256 bicubic and
# a centre crop of 224, v2 at 299 (the source has it rounded); licences, those of Kaiming He's and of Facebook's
# networks, which the weights were ported from, docs/templates/applications.md of Keras 2. Of timm: `pretrained_cfg` in
# timm/models/resnet.py, sizes and licences on the hub (https://huggingface.co/timm/NAME).
PRETRAINED: dict[str, Pretrained] = {
    row.name: row
    for row in (
        _keras("resnet50", "v1", "2cb95161c43110f7111970584f804107", 74.93, 92.06, "MIT", size_mb=103),
        _keras("resnet101", "v1", "f1aeb4b969a6efcfb50fad2f0c20cfc5", 76.42, 92.79, "MIT"),
        _keras("resnet152", "v1", "100835be76be38e30d865e96f2aaae62", 76.60, 93.12, "MIT"),
        _keras("resnet50v2", "v2", "3ef43a0b657b3be2300d5770ece849e0", 75.96, 93.03, "BSD-3-Clause"),
        _keras("resnet101v2", "v2", "6343647c601c52e1368623803854d971", 77.23, 93.82, "BSD-3-Clause"),
        _keras("resnet152v2", "v2", "a49b44d1979771252814e80f8ec446f9", 78.03, 94.16, "BSD-3-Clause"),
        _timm("resnet18.tv_in1k", "resnet18", 47, 224, _OLD, 69.76, 89.08, "BSD-3-Clause"),
        _timm("resnet34.tv_in1k", "resnet34", 87, 224, _OLD, 73.31, 91.42, "BSD-3-Clause"),
        _timm("resnet50.tv_in1k", "resnet50v1.5", 102, 224, _OLD, 76.13, 92.86, "BSD-3-Clause"),
        _timm("resnet50.tv2_in1k", "resnet50v1.5", 102, 224, _NEW, 80.86, 95.43, "BSD-3-Clause"),
        _timm("resnet50.a1_in1k", "resnet50v1.5", 102, 288, _WHOLE, 81.24, 95.11, "Apache-2.0"),
        _timm("resnet101.a1h_in1k", "resnet101v1.5", 179, 288, _WHOLE, 82.80, None, "Apache-2.0"),
        _timm("resnet152.a1h_in1k", "resnet152v1.5", 241, 288, _WHOLE, 83.49, None, "Apache-2.0"),
    )
}


def similar(name: str) -> str:
    """Return words that name the weights whose name is like `name`, nothing where none is."""
    names = [*PRETRAINED, TINY.name]
    found = [longer for longer in names if longer.startswith(name)] or get_close_matches(name, names, n=1)
    return f"; did you mean {found[0]}?" if found else ""


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
TINY = Embedded("tiny", Path(__file__).with_name("data") / "tiny.safetensors", classes=200, top1=50.26, top5=74.98)
