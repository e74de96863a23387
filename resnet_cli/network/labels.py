"""Class labels: names and WordNet IDs (standard library only)."""

import os
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path

from resnet_cli.errors import ModelError, UsageError

# Two ImageNet names each stand for two classes; the additions are from WordNet 3.0's synonyms and hypernyms.
AMBIGUOUS = {
    "n02012849": "crane (bird)",
    "n03126707": "crane (machine)",
    "n03710637": "maillot (tights)",
    "n03710721": "maillot (swimsuit)",
}


@dataclass(frozen=True)
class Label:
    """A class.

    Args:
        name: its name in the training data, such as `Labrador_retriever`.
        wnid: its WordNet ID, or None if it has none.
    """

    name: str
    wnid: str | None = None

    @property
    def display(self) -> str:
        """The name as shown to people."""
        return AMBIGUOUS.get(self.wnid or "", self.name.replace("_", " "))


UNKNOWN = Label("unknown")  # the prediction if no class is probable enough

Labels = tuple[Label, ...]


@cache
def imagenet() -> Labels:
    """Return the 1000 classes of ImageNet in the order of the published networks' outputs.

    Source: Keras's `imagenet_class_index.json` (MD5 c2c37ea517e94d9795004a39431a14cb).
    """
    table = files("resnet_cli").joinpath("data/imagenet_classes.tsv").read_text(encoding="utf-8")
    rows = (line.split("\t") for line in table.splitlines()[1:])
    return tuple(Label(name, wnid) for _, wnid, name in rows)


def default_labels(classes: int) -> Labels:
    """Return ImageNet's labels for 1000 classes, otherwise `class_0`, `class_1`, ..."""
    return imagenet() if classes == 1000 else tuple(Label(f"class_{i}") for i in range(classes))


def folder_labels(folders: tuple[str, ...]) -> Labels:
    """Return labels named after folders, in UTF-8 whatever the locale; WordNet IDs get ImageNet's names."""
    names = {label.wnid: label.name for label in imagenet()}
    texts = (os.fsencode(folder).decode("utf-8", "surrogateescape") for folder in folders)
    return tuple(Label(names[text], text) if text in names else Label(text) for text in texts)


def read_labels(path: Path, classes: int) -> Labels:
    """Read the names of classes from a text file, one per line; WordNet IDs get ImageNet's names.

    Raises:
        UsageError: the file cannot be read, or has another number of lines than there are classes.
    """
    try:
        lines = [line.strip() for line in path.read_text("utf-8-sig").rstrip().split("\n")]
    except (OSError, UnicodeError) as error:
        raise UsageError(f"{path}: cannot read the labels: {getattr(error, 'strerror', error)}") from error
    if len(lines) != classes or not all(lines):
        found = f"line {lines.index('') + 1} empty" if "" in lines[:classes] else f"{len(lines)} lines"
        raise UsageError(f"{path}: expected {classes} labels, one per line, got {found}")
    return folder_labels(tuple(lines))


def to_list(labels: Labels) -> list[list[str | None]]:
    """Return `[name, wnid]` pairs, ready for JSON."""
    return [[label.name, label.wnid] for label in labels]


def from_list(pairs: object) -> Labels:
    """Read the result of `to_list`.

    Raises:
        ModelError: `pairs` is anything else.
    """
    try:
        labels = tuple(Label(name, wnid) for name, wnid in pairs)  # type: ignore[attr-defined]
    except (TypeError, ValueError) as error:
        raise ModelError("labels must be a list of [name, wnid] pairs") from error
    if not all(isinstance(label.name, str) and isinstance(label.wnid, str | None) for label in labels):
        raise ModelError("labels must be a list of [name, wnid] pairs of text")
    return labels
