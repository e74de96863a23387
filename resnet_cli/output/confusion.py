"""Pictures for reports. Importing this module imports matplotlib."""

from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from resnet_cli.recipe import Epoch

matplotlib.use("agg")  # draws without a screen

MOST_NAMES = 40  # more class names than this would overlap


def confusion(matrix: NDArray[np.int64], names: list[str], path: Path) -> None:
    """Draw which classes are taken for which, in percent of each true class.

    Args:
        matrix: images by true and predicted class, shape (classes, classes).
        names: one a class.
        path: the picture to write; its suffix is its format.
    """
    present = np.flatnonzero(matrix.sum(0) + matrix.sum(1))
    matrix = matrix[np.ix_(present, present)]
    percent = 100 * matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    side = float(np.clip(len(present) / 4, 5, 16))
    figure = Figure((side + 1, side), layout="constrained")
    axes = figure.add_subplot(xlabel="predicted", ylabel="true")
    figure.colorbar(axes.imshow(percent, cmap="viridis", vmin=0, vmax=100), label="% of the true class", shrink=0.8)
    if len(present) <= MOST_NAMES:
        shown = [names[i].encode(errors="backslashreplace").decode() for i in present]
        axes.set_xticks(range(len(present)), shown, rotation=90, parse_math=False)
        axes.set_yticks(range(len(present)), shown, parse_math=False)
    figure.savefig(path)


def curves(epochs: list[Epoch], path: Path) -> None:
    """Draw loss and accuracy by epoch.

    Args:
        epochs: what came of each.
        path: the picture to write; its suffix is its format.
    """
    numbers = [epoch.epoch for epoch in epochs]
    figure = Figure((10, 4), layout="constrained")
    loss = figure.add_subplot(1, 2, 1, xlabel="epoch", ylabel="loss (nats)")
    loss.plot(numbers, [epoch.loss for epoch in epochs], label="training crops, smoothed labels")
    loss.plot(numbers, [epoch.val_loss for epoch in epochs], label="validation")
    share = figure.add_subplot(1, 2, 2, xlabel="epoch", ylabel="accuracy (%)")
    share.plot(numbers, [100 * epoch.accuracy for epoch in epochs], label="training crops")
    share.plot(numbers, [100 * epoch.val_accuracy for epoch in epochs], label="validation")
    share.plot(numbers, [100 * epoch.val_top5 for epoch in epochs], label="validation, top 5")
    for axes in (loss, share):
        axes.legend()
        axes.grid(alpha=0.3)
    figure.savefig(path)
