"""The use case: a folder a class -> how good a model is, in constant memory an image."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from math import sqrt
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resnet_cli import files, inputs, metrics, predict
from resnet_cli.engines import Engine
from resnet_cli.errors import ImageError, UsageError
from resnet_cli.labels import Labels
from resnet_cli.models import Model

BINS = 15  # of the calibration error, as in Guo et al. 2017, "On Calibration of Modern Neural Networks"


@dataclass(frozen=True)
class Answer:
    """What a model said of one image.

    Args:
        image: its path.
        true: index of its class.
        predicted: index of the most probable class.
        rank: place of its class among all, from 1.
        confidence: probability of the predicted class.
        likelihood: probability of its class.
    """

    image: str
    true: int
    predicted: int
    rank: int
    confidence: float
    likelihood: float


@dataclass(frozen=True)
class Evaluation:
    """How good a model is on a set of images; shares are 0 to 1.

    Args:
        labels: of the model, in the order of the indices.
        answers: one an image that could be read.
        failures: images that could not, and why.
        seconds: wall time of it all.
    """

    labels: Labels
    answers: tuple[Answer, ...]
    failures: tuple[tuple[str, ImageError], ...]
    seconds: float

    def top(self, k: int) -> tuple[float, float, float]:
        """Return the share of images whose class is among the first k, with its 95 % interval."""
        hits = sum(answer.rank <= k for answer in self.answers)
        return hits / len(self.answers), *wilson(hits, len(self.answers))

    @property
    def loss(self) -> float:
        """Mean cross-entropy in nats."""
        likelihoods = np.array([answer.likelihood for answer in self.answers])
        return float(-np.log(np.maximum(likelihoods, metrics.FLOOR)).mean())

    @property
    def calibration_error(self) -> float:
        """Mean gap between confidence and accuracy over bins of confidence, weighted by their images."""
        confidence = np.array([answer.confidence for answer in self.answers])
        right = np.array([answer.rank == 1 for answer in self.answers], float)
        bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
        gaps = np.bincount(bins, confidence - right, BINS)
        return float(np.abs(gaps).sum() / len(self.answers))

    @property
    def images_per_second(self) -> float:
        """Images read and classified a second."""
        return (len(self.answers) + len(self.failures)) / self.seconds

    @property
    def confusion(self) -> NDArray[np.int64]:
        """Images by true and predicted class, shape (classes, classes)."""
        matrix = np.zeros((len(self.labels), len(self.labels)), np.int64)
        for answer in self.answers:
            matrix[answer.true, answer.predicted] += 1
        return matrix

    @property
    def mistakes(self) -> list[Answer]:
        """Wrong answers, the most certain first."""
        return sorted((answer for answer in self.answers if answer.rank > 1), key=lambda answer: -answer.confidence)


def wilson(hits: int, count: int) -> tuple[float, float]:
    """Return the 95 % interval of a share (Wilson 1927), which stays within 0 and 1."""
    z = 1.959964
    share, spread = hits / count, z * z / count
    middle, half = share + spread / 2, z * sqrt((share * (1 - share) + spread / 4) / count)
    return max(0.0, (middle - half) / (1 + spread)), min(1.0, (middle + half) / (1 + spread))


def class_indices(folders: list[str], labels: Labels, root: Path) -> dict[str, int]:
    """Find the class of each folder by its name: a label, a WordNet id or an index.

    Args:
        folders: their names.
        labels: of the model.
        root: what the folders stand in, for messages.

    Raises:
        UsageError: a name stands for no class, or for two.
    """
    by_name: dict[str, list[int]] = {}
    for index, label in enumerate(labels):
        for name in {label.name, label.display, label.wnid} - {None}:
            by_name.setdefault(str(name), []).append(index)
    for index in range(len(labels)):
        by_name.setdefault(str(index), [index])  # a label that is a number goes before an index
    unknown = [folder for folder in folders if folder not in by_name]
    if unknown:
        listed = ", ".join(unknown[:3]) + (f" and {len(unknown) - 3} more" if len(unknown) > 3 else "")
        raise UsageError(
            f"{root}: expected folders named by a class, a WordNet id or an index of the model, got {listed}"
        )
    for folder in folders:
        if len(by_name[folder]) > 1:
            raise UsageError(f"{root / folder}: two classes have this name; name the folder by WordNet id or index")
    return {folder: by_name[folder][0] for folder in folders}


def evaluate(
    root: Path,
    model: Model,
    engine: Engine,
    *,
    progress: Callable[[int, int], None] = lambda done, total: None,
    **options: Any,
) -> Evaluation:
    """Classify the images of a tree `root/CLASS/...` and compare.

    Args:
        root: the tree.
        model: what answers.
        engine: what computes it.
        progress: is called before the first image and after each with how many are done and how many there are.
        options: `fit`, `batch_size` and `workers` of `predict.answers`.

    Raises:
        UsageError: there are no folders, one names no class, or no image can be read.
    """
    if not root.is_dir():
        raise UsageError(f"{root}: expected a folder with a folder a class, found none")
    folders = sorted(path.name for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
    if not folders:
        raise UsageError(f"{root}: expected a folder a class in it, found none")
    indices = class_indices(folders, model.metadata.labels, root)

    started = time.monotonic()
    true = {path: indices[folder] for folder in folders for path in inputs.find([str(root / folder)])}
    progress(0, len(true))
    found, failures = [], []
    for done, (path, answer) in enumerate(predict.answers(true, model, engine, **options), 1):
        if isinstance(answer, ImageError):
            failures.append((path, answer))
        else:
            found.append(_answer(path, true[path], answer.probabilities))
        progress(done, len(true))
    if not found:
        raise UsageError(f"{root}: no image could be read")
    return Evaluation(model.metadata.labels, tuple(found), tuple(failures), time.monotonic() - started)


def _answer(path: str, true: int, probabilities: NDArray[np.float32]) -> Answer:
    order = np.argsort(-probabilities, kind="stable")
    rank = int(np.flatnonzero(order == true)[0]) + 1
    return Answer(path, true, int(order[0]), rank, float(probabilities[order[0]]), float(probabilities[true]))


def write_classes(evaluation: Evaluation, path: Path) -> None:
    """Write a CSV with a row a class that has images: how many, how many were found, how often it was said.

    Args:
        evaluation: what to write.
        path: the file; one of that name is replaced.
    """
    confusion = evaluation.confusion
    top5 = np.bincount([a.true for a in evaluation.answers if a.rank <= 5], minlength=len(evaluation.labels))
    rows = []
    for index in np.flatnonzero(confusion.sum(1)):
        label, hits, said = evaluation.labels[index], confusion[index, index], confusion[:, index].sum()
        count = confusion[index].sum()
        shares = [f"{hits / count:.4f}", f"{top5[index] / count:.4f}", f"{hits / said:.4f}" if said else ""]
        rows.append([index, label.wnid, label.name, count, *shares])
    files.write_csv(path, ["index", "wnid", "label", "images", "top1", "top5", "precision"], rows)


def write_mistakes(evaluation: Evaluation, path: Path) -> None:
    """Write a CSV of wrong answers, the most certain first.

    Args:
        evaluation: what to write.
        path: the file; one of that name is replaced.
    """
    names = [label.name for label in evaluation.labels]
    header = ["image", "true_index", "true_label", "predicted_index", "predicted_label", "probability", "rank_of_true"]
    rows = (
        (a.image, a.true, names[a.true], a.predicted, names[a.predicted], f"{a.confidence:.5g}", a.rank)
        for a in evaluation.mistakes
    )
    files.write_csv(path, header, rows)


def draw_confusion(evaluation: Evaluation, path: Path) -> None:
    """Draw which classes are taken for which.

    Args:
        evaluation: what to draw.
        path: the picture; a file of that name is replaced.
    """
    from resnet_cli import plots

    with files.replacing(path) as unfinished:
        plots.confusion(evaluation.confusion, [label.display for label in evaluation.labels], unfinished)
