"""Evaluations: a summary on stdout, and files with the results per class and the mistakes."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.table import Table
from rich.text import Text

from resnet_cli.output.tables import View
from resnet_cli.output.terminal import printable, thousands
from resnet_cli.system import atomic
from resnet_cli.tasks.evaluate import Evaluation


def evaluation_table(evaluation: Evaluation) -> Table:
    """Return an evaluation as a table."""
    table = Table(title=Text(f"{evaluation.model}, {printable(evaluation.weights)}"), show_header=False)
    table.add_row("images", thousands(len(evaluation.outcomes)))
    table.add_row("failed", thousands(len(evaluation.failures)))
    for k in (1, 5) if len(evaluation.labels) > 5 else (1,):
        share, low, high = evaluation.top(k)
        table.add_row(f"top-{k}", f"{share:.2%}  (95 % interval: {low:.2%} to {high:.2%})")
    table.add_row("loss", f"{evaluation.loss:.4f}")
    table.add_row("calibration error", f"{evaluation.calibration_error:.2%}")
    table.add_row("images/s", f"{evaluation.images_per_second:.1f}")
    return table


def evaluation_json(evaluation: Evaluation) -> dict[str, object]:
    """Return an evaluation as one JSON object."""
    (top1, *interval1), (top5, *interval5) = evaluation.top(1), evaluation.top(5)
    return {
        "model": evaluation.model,
        "weights": evaluation.weights,
        "images": len(evaluation.outcomes),
        "failed": len(evaluation.failures),
        "top1": top1,
        "top1_interval": interval1,
        "top5": top5,
        "top5_interval": interval5,
        "loss": evaluation.loss,
        "calibration_error": evaluation.calibration_error,
        "images_per_second": evaluation.images_per_second,
    }


MAX_NAMES = 40  # more class names on a figure would overlap
CLASS_COLUMNS = ("index", "wnid", "label", "images", "top1", "top5", "precision")
MISTAKE_COLUMNS = (
    *("image", "true_index", "true_label"),
    *("predicted_index", "predicted_label", "probability", "rank_of_true"),
)
EVALUATION = View(evaluation_table, evaluation_json)


def write_classes(evaluation: Evaluation, path: Path) -> None:
    """Write a CSV file with one row per class that has images: count, top-1, top-5 and precision."""
    confusion = evaluation.confusion
    top5 = np.bincount([each.true_index for each in evaluation.outcomes if each.rank <= 5], minlength=len(confusion))
    rows = []
    for index in np.flatnonzero(confusion.sum(1)):
        label, hits, predicted = evaluation.labels[index], confusion[index, index], confusion[:, index].sum()
        count = confusion[index].sum()
        precision = f"{hits / predicted:.4f}" if predicted else ""
        rows.append(
            [index, label.wnid, label.name, count, f"{hits / count:.4f}", f"{top5[index] / count:.4f}", precision]
        )
    atomic.write_csv(path, CLASS_COLUMNS, rows)


def write_mistakes(evaluation: Evaluation, path: Path) -> None:
    """Write a CSV file of misclassified images, most confident first."""
    names = [label.name for label in evaluation.labels]
    rows = (
        (
            each.image,
            each.true_index,
            names[each.true_index],
            each.predicted_index,
            names[each.predicted_index],
            f"{each.confidence:.5g}",
            each.rank,
        )
        for each in evaluation.mistakes
    )
    atomic.write_csv(path, MISTAKE_COLUMNS, rows)


def write_confusion(evaluation: Evaluation, path: Path) -> None:
    """Draw the confusion matrix, in percent of each true class, as a PNG file."""
    from matplotlib.figure import Figure  # takes half a second

    matrix = evaluation.confusion
    present = np.flatnonzero(matrix.sum(0) + matrix.sum(1))
    matrix = matrix[np.ix_(present, present)]
    percent = 100 * matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    side = float(np.clip(len(present) / 4, 5, 16))
    figure = Figure((side + 1, side), layout="constrained")
    axes = figure.add_subplot(xlabel="predicted", ylabel="true")
    figure.colorbar(axes.imshow(percent, cmap="viridis", vmin=0, vmax=100), label="% of the true class", shrink=0.8)
    if len(present) <= MAX_NAMES:
        shown = [evaluation.labels[i].display.encode(errors="backslashreplace").decode() for i in present]
        axes.set_xticks(range(len(present)), shown, rotation=90, parse_math=False)
        axes.set_yticks(range(len(present)), shown, parse_math=False)
    with atomic.atomic_write(path) as temporary:
        figure.savefig(temporary, metadata=atomic.PNG_METADATA)


@dataclass(frozen=True)
class Report:
    """A file that an evaluation can be written to.

    Args:
        write: writes it.
        is_ours: whether the first bytes of a file are those of such a report.
    """

    write: Callable[[Evaluation, Path], None]
    is_ours: Callable[[bytes], bool]


CLASSES = Report(write_classes, atomic.has_header(CLASS_COLUMNS))
MISTAKES = Report(write_mistakes, atomic.has_header(MISTAKE_COLUMNS))
CONFUSION = Report(write_confusion, atomic.is_our_png)
