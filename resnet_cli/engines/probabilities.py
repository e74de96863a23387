"""How good probabilities are, and how to make them honest (numpy)."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FLOOR = np.float32(1e-12)  # log of less would not be a number
TEMPERATURES = [round(float(value), 4) for value in np.geomspace(0.1, 10, 201)]  # 2.3 % apart, 1 among them


def accuracy(probabilities: NDArray[np.float32], classes: NDArray[np.int32], k: int = 1) -> float:
    """Return the share of images, 0 to 1, whose class is among the `k` most probable.

    Args:
        probabilities: shape (images, classes).
        classes: the true ones, shape (images,).
        k: how many count.
    """
    true = np.take_along_axis(probabilities, classes[:, None], axis=1)
    return float(np.mean((probabilities > true).sum(axis=1) < k))


def cross_entropy(probabilities: NDArray[np.float32], classes: NDArray[np.int32]) -> float:
    """Return the mean negative log-likelihood in nats.

    Args:
        probabilities: shape (images, classes).
        classes: the true ones, shape (images,).
    """
    true = np.take_along_axis(probabilities, classes[:, None], axis=1)
    return float(-np.log(np.maximum(true, FLOOR)).mean())


def tempered(probabilities: NDArray[np.float32], temperature: float) -> NDArray[np.float32]:
    """Return softmax(logits / temperature) for probabilities that are softmax(logits).

    Args:
        probabilities: shape (images, classes).
        temperature: above 1 makes them less certain, below 1 more.
    """
    if temperature == 1:
        return probabilities
    logits = np.log(np.maximum(probabilities, FLOOR)) / np.float32(temperature)
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True), np.float32)


@dataclass(frozen=True)
class Scores:
    """How good probabilities are on many images; shares are 0 to 1.

    Args:
        images: their number.
        accuracy, top5: the share whose class is the most probable one, and among the first five.
        losses: cross-entropy in nats by temperature.
    """

    images: int
    accuracy: float
    top5: float
    losses: dict[float, float]

    @property
    def temperature(self) -> float:
        """The one of the lowest loss (Guo et al. 2017, "On Calibration of Modern Neural Networks")."""
        return min(self.losses, key=self.losses.__getitem__)


def score(
    batches: Iterable[tuple[NDArray[np.float32], NDArray[np.int32]]], temperatures: Sequence[float] = (1.0,)
) -> Scores:
    """Score one batch after the other; memory grows with a batch's images x classes, not with all images.

    Args:
        batches: at least one pair of probabilities (images, classes) and true classes (images,).
        temperatures: at which the loss is computed.
    """
    images, sums = 0, np.zeros(2 + len(temperatures))
    for probabilities, classes in batches:
        losses = [cross_entropy(tempered(probabilities, temperature), classes) for temperature in temperatures]
        shares = [accuracy(probabilities, classes), accuracy(probabilities, classes, k=5)]
        images += len(classes)
        sums += len(classes) * np.array(shares + losses)
    top1, top5, *means = (sums / images).tolist()
    return Scores(images, top1, top5, dict(zip(temperatures, means, strict=True)))
