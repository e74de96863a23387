"""How good probabilities are, and how to make them honest (numpy)."""

import numpy as np
from numpy.typing import NDArray

FLOOR = np.float32(1e-12)  # log of less would not be a number


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


def fit_temperature(probabilities: NDArray[np.float32], classes: NDArray[np.int32]) -> float:
    """Find the temperature of the lowest cross-entropy (Guo et al. 2017, "On Calibration of Modern Neural Networks").

    Args:
        probabilities: of images that the network has not learned from, shape (images, classes).
        classes: the true ones, shape (images,).

    Returns:
        A number from 0.1 to 10.
    """
    # Cross-entropy is convex in 1 / temperature, so that a golden-section search on its logarithm finds the least.
    low, high, golden = np.log(0.1), np.log(10), (np.sqrt(5) - 1) / 2
    while high - low > 1e-3:
        left, right = high - golden * (high - low), low + golden * (high - low)
        losses = [cross_entropy(tempered(probabilities, float(np.exp(at))), classes) for at in (left, right)]
        low, high = (low, right) if losses[0] <= losses[1] else (left, high)
    return round(float(np.exp((low + high) / 2)), 4)
