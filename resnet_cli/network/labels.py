"""Class tables, and the decoding of probabilities into labels."""

from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resnet_cli.errors import ModelError

# Two ImageNet names stand for two classes each; WordNet 3.0's synonyms and hypernyms tell them apart.
AMBIGUOUS = {
    "n02012849": "crane (bird)",
    "n03126707": "crane (machine)",
    "n03710637": "maillot (tights)",
    "n03710721": "maillot (swimsuit)",
}


@dataclass(frozen=True)
class Label:
    """One class.

    Args:
        name: its name as the training data gives it, such as `Labrador_retriever`.
        wnid: its WordNet id, or None for a class that has none.
    """

    name: str
    wnid: str | None = None

    @property
    def display(self) -> str:
        """The name as shown to people."""
        return AMBIGUOUS.get(self.wnid or "", self.name.replace("_", " "))


UNKNOWN = Label("unknown")  # the answer where none is probable enough

Labels = tuple[Label, ...]


@dataclass(frozen=True)
class Prediction:
    """One of the most probable classes of an image; `rank` counts from 1, `probability` is 0 to 1.

    `index` is None for `UNKNOWN`, which is no class.
    """

    rank: int
    index: int | None
    label: Label
    probability: float


@cache
def imagenet() -> Labels:
    """Return the 1000 classes of ImageNet in the order of the published networks' outputs.

    Source: Keras's `imagenet_class_index.json` (MD5 c2c37ea517e94d9795004a39431a14cb).
    """
    table = files("resnet_cli").joinpath("data/imagenet_classes.tsv").read_text(encoding="utf-8")
    rows = (line.split("\t") for line in table.splitlines()[1:])
    return tuple(Label(name, wnid) for _, wnid, name in rows)


def default_labels(classes: int) -> Labels:
    """Return ImageNet's labels for 1000 classes, else `class_0`, `class_1`, ..."""
    return imagenet() if classes == 1000 else tuple(Label(f"class_{i}") for i in range(classes))


def folder_labels(folders: tuple[str, ...]) -> Labels:
    """Return the labels of classes named by folders; ImageNet's WordNet ids get ImageNet's names."""
    names = {label.wnid: label.name for label in imagenet()}
    return tuple(Label(names[folder], folder) if folder in names else Label(folder) for folder in folders)


def to_list(labels: Labels) -> list[list[str | None]]:
    """Return `[name, wnid]` pairs, ready for JSON."""
    return [[label.name, label.wnid] for label in labels]


def from_list(pairs: Any) -> Labels:
    """Read what `to_list` wrote.

    Raises:
        ModelError: it is something else.
    """
    try:
        labels = tuple(Label(name, wnid) for name, wnid in pairs)
    except (TypeError, ValueError) as error:
        raise ModelError("labels must be a list of [name, wnid] pairs") from error
    if not all(isinstance(label.name, str) and isinstance(label.wnid, str | None) for label in labels):
        raise ModelError("labels must be a list of [name, wnid] pairs of text")
    return labels


def top_k(probabilities: NDArray[np.float32], labels: Labels, k: int) -> tuple[Prediction, ...]:
    """Name the most probable classes of one image.

    Args:
        probabilities: shape (classes,), each 0 to 1.
        labels: one a class.
        k: how many; no more than there are classes are returned.

    Returns:
        The predictions, most probable first; of equal ones the lower index first.
    """
    best = np.argsort(-probabilities, kind="stable")[:k]
    return tuple(Prediction(rank, int(i), labels[i], float(probabilities[i])) for rank, i in enumerate(best, start=1))
