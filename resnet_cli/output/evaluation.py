"""Evaluations: a summary on stdout, and files with the results per class and the mistakes."""

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
    for k in (1, 5):
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
    atomic.write_csv(path, ["index", "wnid", "label", "images", "top1", "top5", "precision"], rows)


def write_mistakes(evaluation: Evaluation, path: Path) -> None:
    """Write a CSV file of misclassified images, most confident first."""
    names = [label.name for label in evaluation.labels]
    header = ["image", "true_index", "true_label", "predicted_index", "predicted_label", "probability", "rank_of_true"]
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
    atomic.write_csv(path, header, rows)


def write_confusion(evaluation: Evaluation, path: Path) -> None:
    """Draw the confusion matrix as a PNG file."""
    from resnet_cli.output import confusion  # matplotlib takes half a second

    with atomic.atomic_write(path) as temporary:
        confusion.draw(evaluation.confusion, [label.display for label in evaluation.labels], temporary)
