"""Measure a model's accuracy on images sorted into class folders, in constant memory per image."""

import time
from dataclasses import dataclass
from math import sqrt
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from resnet_cli.engines import probabilities
from resnet_cli.errors import ImageError, UsageError
from resnet_cli.images import inputs
from resnet_cli.network.labels import Labels, folder_labels
from resnet_cli.system.progress import SILENT, Progress
from resnet_cli.tasks.classify import Model, infer

BINS = 15  # for the calibration error, as in Guo et al. 2017, "On Calibration of Modern Neural Networks"


@dataclass(frozen=True)
class Outcome:
    """The prediction for one image, and its true class.

    Args:
        image: its path.
        true_index: index of its class.
        predicted_index: index of the most probable class.
        rank: position of its class among the predictions, from 1.
        confidence: probability of the predicted class.
        true_probability: probability of its class.
    """

    image: str
    true_index: int
    predicted_index: int
    rank: int
    confidence: float
    true_probability: float


@dataclass(frozen=True)
class Evaluation:
    """A model's accuracy on a set of images.

    Args:
        model, weights: names of the network and its weights.
        labels: the model's classes, in the order of the indices.
        outcomes: one per readable image.
        failures: images that cannot be read, and why.
        seconds: wall time of the evaluation.
    """

    model: str
    weights: str
    labels: Labels
    outcomes: tuple[Outcome, ...]
    failures: tuple[tuple[str, ImageError], ...]
    seconds: float

    def top(self, k: int) -> tuple[float, float, float]:
        """Return the share of images, from 0 to 1, whose class is among the first k, and its 95 % interval."""
        hits = sum(outcome.rank <= k for outcome in self.outcomes)
        return hits / len(self.outcomes), *wilson_interval(hits, len(self.outcomes))

    @property
    def loss(self) -> float:
        """Mean cross-entropy in nats."""
        true_probabilities = np.array([outcome.true_probability for outcome in self.outcomes])
        return float(-np.log(np.maximum(true_probabilities, probabilities.FLOOR)).mean())

    @property
    def calibration_error(self) -> float:
        """Mean gap between confidence and accuracy over bins of confidence, weighted by their images."""
        confidence = np.array([outcome.confidence for outcome in self.outcomes])
        right = np.array([outcome.rank == 1 for outcome in self.outcomes], float)
        bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
        gaps = np.bincount(bins, confidence - right, BINS)
        return float(np.abs(gaps).sum() / len(self.outcomes))

    @property
    def images_per_second(self) -> float:
        """Images read and classified per second."""
        return (len(self.outcomes) + len(self.failures)) / self.seconds

    @property
    def confusion(self) -> NDArray[np.int64]:
        """Images by true and predicted class, shape (classes, classes)."""
        matrix = np.zeros((len(self.labels), len(self.labels)), np.int64)
        for outcome in self.outcomes:
            matrix[outcome.true_index, outcome.predicted_index] += 1
        return matrix

    @property
    def mistakes(self) -> list[Outcome]:
        """Misclassified images, most confident first."""
        return sorted(
            (outcome for outcome in self.outcomes if outcome.rank > 1), key=lambda outcome: -outcome.confidence
        )


def wilson_interval(hits: int, count: int) -> tuple[float, float]:
    """Return the 95 % interval of a share (Wilson 1927), which stays within 0 and 1."""
    z = 1.959964
    share, spread = hits / count, z * z / count
    middle, half = share + spread / 2, z * sqrt((share * (1 - share) + spread / 4) / count)
    return max(0.0, (middle - half) / (1 + spread)), min(1.0, (middle + half) / (1 + spread))


def class_indices(folders: list[str], labels: Labels, root: Path) -> dict[str, int]:
    """Return the class index of each folder: by its label, its label as shown, or its WordNet ID.

    If no folder is named so, all may be indices from 0, unless labels are numbers, too: then they would be ambiguous.

    Args:
        folders: their names.
        labels: the model's classes.
        root: their parent folder, for error messages.

    Raises:
        UsageError: a name matches no class, or two; or two folders are for one class.
    """
    names = dict(zip(folders, folder_labels(tuple(folders)), strict=True))
    tables: list[dict[str | None, list[int]]] = [{}, {}, {}]
    for index, label in enumerate(labels):
        for table, key in zip(tables, (label.name, label.display, label.wnid), strict=True):
            table.setdefault(key, []).append(index)
    found: dict[str, int] = {}
    for folder, label in names.items():
        indices = tables[2].get(label.wnid or folder) or tables[0].get(label.name) or tables[1].get(label.name) or []
        if len(indices) > 1:
            advice = "rename the folder to the WordNet ID"
            raise UsageError(f"{root / folder}: two classes have this name; {advice}")
        if indices:
            found[folder] = indices[0]
    numbered = all(folder.isascii() and folder.isdecimal() and int(folder) < len(labels) for folder in folders)
    if not found and numbered and not any(label.name.isdecimal() for label in labels):
        found = {folder: int(folder) for folder in folders}
    if unknown := [folder for folder in folders if folder not in found]:
        listed = ", ".join(unknown[:3]) + (f" and {len(unknown) - 3} more" if len(unknown) > 3 else "")
        expected = "folders named after a class or a WordNet ID of the model, or all after class indices from 0"
        raise UsageError(f"{root}: expected {expected}, got {listed}")
    by_index: dict[int, str] = {}
    for folder, index in found.items():
        if (other := by_index.setdefault(index, folder)) != folder:
            raise UsageError(f"{root}: the folders {other} and {folder} are for the same class; merge them")
    return found


def evaluate(root: str | Path, model: Model, progress: Progress = SILENT) -> Evaluation:
    """Classify the images in `root/CLASS/...` and compare predictions with classes.

    Args:
        root: folder with one subfolder per class, named after a label, a WordNet ID or a class index.
        model: the model.
        progress: receives the number of images.

    Raises:
        UsageError: there are no folders, one of them matches no class, or no image can be read.
    """
    root = Path(root)
    if not root.is_dir():
        raise UsageError(f"{root}: expected a folder with one subfolder per class, found none")
    folders = sorted(path.name for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
    if not folders:
        raise UsageError(f"{root}: expected one subfolder per class, found none")
    indices = class_indices(folders, model.labels, root)

    started = time.monotonic()
    classes = {path: indices[folder] for folder in folders for path in inputs.find([str(root / folder)])}
    progress.count(0, len(classes))
    found, failures = [], []
    for done, (path, output) in enumerate(infer(classes, model), 1):
        if isinstance(output, ImageError):
            failures.append((path, output))
        else:
            found.append(_outcome(path, classes[path], output.probabilities))
        progress.count(done, len(classes))
    if not found:
        raise UsageError(f"{root}: none of the images can be read")
    return Evaluation(
        model.name, model.weights, model.labels, tuple(found), tuple(failures), time.monotonic() - started
    )


def _outcome(path: str, true_index: int, probabilities: NDArray[np.float32]) -> Outcome:
    order = np.argsort(-probabilities, kind="stable")
    rank = int(np.flatnonzero(order == true_index)[0]) + 1
    return Outcome(
        path, true_index, int(order[0]), rank, float(probabilities[order[0]]), float(probabilities[true_index])
    )
