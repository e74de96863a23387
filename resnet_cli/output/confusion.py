"""The confusion matrix as an image. Importing this module imports matplotlib."""

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

MAX_NAMES = 40  # more class names would overlap


def draw(matrix: NDArray[np.int64], names: list[str], path: Path) -> None:
    """Draw the confusion matrix, in percent of each true class.

    Args:
        matrix: images by true and predicted class, shape (classes, classes).
        names: one per class.
        path: the file to write; its suffix selects the format.
    """
    present = np.flatnonzero(matrix.sum(0) + matrix.sum(1))
    matrix = matrix[np.ix_(present, present)]
    percent = 100 * matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    side = float(np.clip(len(present) / 4, 5, 16))
    figure = Figure((side + 1, side), layout="constrained")
    axes = figure.add_subplot(xlabel="predicted", ylabel="true")
    figure.colorbar(axes.imshow(percent, cmap="viridis", vmin=0, vmax=100), label="% of the true class", shrink=0.8)
    if len(present) <= MAX_NAMES:
        shown = [names[i].encode(errors="backslashreplace").decode() for i in present]
        axes.set_xticks(range(len(present)), shown, rotation=90, parse_math=False)
        axes.set_yticks(range(len(present)), shown, parse_math=False)
    figure.savefig(path)
