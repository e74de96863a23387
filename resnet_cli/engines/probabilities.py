"""From probabilities to predictions, accuracy and calibration."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from resnet_cli.network.labels import Label, Labels

FLOOR = np.float32(1e-12)  # avoids log(0)
MIN_IMAGES = 500  # with fewer, a fitted temperature says more about these images than about the network
PRIOR_IMAGES = 100  # weight of temperature 1 when one is fitted
TEMPERATURES = [round(float(value), 4) for value in np.geomspace(0.1, 10, 201)]  # 2.3 % apart, 1 among them


@dataclass(frozen=True)
class Prediction:
    """One of the most probable classes of an image.

    Args:
        rank: position among them, from 1.
        index: position among the network's classes, or None for `labels.UNKNOWN`.
        label: the class.
        probability: from 0 to 1.
    """

    rank: int
    index: int | None
    label: Label
    probability: float


def top_k_predictions(probabilities: NDArray[np.float32], labels: Labels, k: int) -> tuple[Prediction, ...]:
    """Return the most probable classes of an image, most probable first; if equal, the lower index first.

    Args:
        probabilities: shape (classes,), each from 0 to 1.
        labels: one per class.
        k: number of predictions; at most one per class is returned.
    """
    best = np.argsort(-probabilities, kind="stable")[:k]
    return tuple(Prediction(rank, int(i), labels[i], float(probabilities[i])) for rank, i in enumerate(best, start=1))


def accuracy(probabilities: NDArray[np.float32], classes: NDArray[np.int32], k: int = 1) -> float:
    """Return the share of images, from 0 to 1, whose class is among the `k` most probable.

    Args:
        probabilities: shape (images, classes).
        classes: true classes, shape (images,).
        k: number of classes that count.
    """
    true = np.take_along_axis(probabilities, classes[:, None], axis=1)
    return float(np.mean((probabilities > true).sum(axis=1) < k))


def cross_entropy(probabilities: NDArray[np.float32], classes: NDArray[np.int32]) -> float:
    """Return the mean negative log-likelihood in nats.

    Args:
        probabilities: shape (images, classes).
        classes: true classes, shape (images,).
    """
    true = np.take_along_axis(probabilities, classes[:, None], axis=1)
    return float(-np.log(np.maximum(true, FLOOR)).mean())


def apply_temperature(probabilities: NDArray[np.float32], temperature: float) -> NDArray[np.float32]:
    """Return softmax(logits / temperature), given softmax(logits).

    Args:
        probabilities: shape (images, classes).
        temperature: above 1, probabilities become less certain; below 1, more certain.
    """
    if temperature == 1:
        return probabilities
    logits = np.log(np.maximum(probabilities, FLOOR)) / np.float32(temperature)
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True), np.float32)


@dataclass(frozen=True)
class Scores:
    """Accuracy and loss on many images.

    Args:
        images: number of images.
        accuracy, top5: share of images, from 0 to 1, whose class is the most probable one, or among the first five.
        losses: cross-entropy in nats by temperature.
    """

    images: int
    accuracy: float
    top5: float
    losses: dict[float, float]

    @property
    def temperature(self) -> float:
        """The temperature with the lowest loss (Guo et al. 2017, "On Calibration of Modern Neural Networks").

        It is 1 if there are too few images, or the lowest loss is at an end of the grid. It shrinks towards 1 for few
        images, to the next temperature of the grid.
        """
        if self.why_untempered or self._best == 1:
            return 1
        wanted = self._best ** (self.images / (self.images + PRIOR_IMAGES))
        return min(self.losses, key=lambda temperature: abs(np.log(temperature / wanted)))

    @property
    def why_untempered(self) -> str:
        """Why no temperature is fitted, or an empty text."""
        if self.images < MIN_IMAGES:
            return f"{self.images:,} validation images, at least {MIN_IMAGES} needed"
        at_limit = self._best in (min(self.losses), max(self.losses))
        return f"the loss is lowest at the limit of {self._best:g}" if at_limit else ""

    @property
    def _best(self) -> float:
        return min(self.losses, key=self.losses.__getitem__)


def score(
    batches: Iterable[tuple[NDArray[np.float32], NDArray[np.int32]]], temperatures: Sequence[float] = (1.0,)
) -> Scores:
    """Return the accuracy and loss over all batches, in memory that one batch takes.

    Args:
        batches: at least one pair of probabilities (images, classes) and true classes (images,).
        temperatures: the temperatures at which to compute the loss.
    """
    images, sums = 0, np.zeros(2 + len(temperatures))
    for probabilities, classes in batches:
        losses = [cross_entropy(apply_temperature(probabilities, temperature), classes) for temperature in temperatures]
        shares = [accuracy(probabilities, classes), accuracy(probabilities, classes, k=5)]
        images += len(classes)
        sums += len(classes) * np.array(shares + losses)
    top1, top5, *means = (sums / images).tolist()
    return Scores(images, top1, top5, dict(zip(temperatures, means, strict=True)))
