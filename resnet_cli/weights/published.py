"""Published weights, one row per file (standard library only)."""

from dataclasses import dataclass, replace
from difflib import get_close_matches
from importlib.resources import files
from pathlib import Path

from resnet_cli.network.preprocessing import PREPROCESSING, TORCHVISION, Preprocessing, Resizing


@dataclass(frozen=True)
class Pretrained:
    """A published weights file.

    Args:
        name: its name in `--weights`.
        network: a key of `variants.NETWORKS`.
        file: its name in the cache.
        url: where it is published.
        repository: its repository on the Hugging Face Hub; empty if it is published elsewhere.
        md5: its published hash; empty for files on the Hub, which states a hash itself.
        size_mb: size in megabytes (10^6 bytes), or None if unknown.
        image_size: input width and height in pixels, at which the accuracy was measured.
        preprocessing: what it was trained with.
        top1, top5: accuracy on ImageNet's validation set in percent, or None if unknown.
        source: URL of a page that states the accuracy.
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


_OLD, _NEW, _UNCROPPED = Resizing(0.875, "bilinear"), Resizing(0.965, "bilinear"), Resizing(1.0, "bicubic")

# Keras: hashes from WEIGHTS_HASHES in keras/src/applications/resnet.py; accuracy with the short side resized to 256
# (bicubic) and a centre crop of 224, v2 at 299 (rounded in the source); licences of the networks that the weights were
# ported from (Kaiming He's and Facebook's) from docs/templates/applications.md of Keras 2. timm: `pretrained_cfg` in
# timm/models/resnet.py; sizes and licences from the Hub (https://huggingface.co/timm/NAME).
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
        _timm("resnet50.a1_in1k", "resnet50v1.5", 102, 288, _UNCROPPED, 81.24, 95.11, "Apache-2.0"),
        _timm("resnet101.a1h_in1k", "resnet101v1.5", 179, 288, _UNCROPPED, 82.80, None, "Apache-2.0"),
        _timm("resnet152.a1h_in1k", "resnet152v1.5", 241, 288, _UNCROPPED, 83.49, None, "Apache-2.0"),
    )
}


def suggestion(name: str) -> str:
    """Return a hint that names the weights most similar to `name`; empty if there are none."""
    names = [*PRETRAINED, TINY.name]
    found = [longer for longer in names if longer.startswith(name)] or get_close_matches(name, names, n=1)
    return f"; did you mean {found[0]}?" if found else ""


@dataclass(frozen=True)
class Embedded:
    """A weights file inside the package.

    Args:
        name: its name in `--weights`.
        path: the file.
        classes: number of classes.
        top1, top5: accuracy in percent, on images that were used neither for training nor for any choice.
    """

    name: str
    path: Path
    classes: int
    top1: float
    top5: float


# Accuracy: the 10,000 validation images of Tiny ImageNet, see docs/tiny.md.
TINY = Embedded("tiny", Path(str(files("resnet_cli") / "data/tiny.safetensors")), classes=200, top1=50.26, top5=74.98)
