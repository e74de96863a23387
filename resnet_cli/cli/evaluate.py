"""`resnet evaluate`."""

from pathlib import Path
from typing import Annotated

import typer

from resnet_cli.cli.options import (
    INFERENCE_OPTIONS,
    NETWORKS_PANEL,
    OUTPUT,
    Force,
    Format,
    Weights,
    command,
    quiet_libraries,
    start,
)
from resnet_cli.errors import UsageError
from resnet_cli.network.architecture import NetworkOptions
from resnet_cli.output import terminal
from resnet_cli.output.progress import ProgressBar
from resnet_cli.tasks.options import InferenceOptions

app = typer.Typer()


@command(
    app,
    "depth",
    *INFERENCE_OPTIONS,
    name="evaluate",
    panel=NETWORKS_PANEL,
    examples=(
        "resnet evaluate val/",
        "resnet evaluate --weights my.safetensors --mistakes mistakes.csv val/",
        "resnet evaluate --confusion confusion.png --format json val/",
    ),
)
def evaluate_folder(
    *,
    data: Annotated[Path, typer.Argument(metavar="DATA", help="Folder with one subfolder per class.")],
    requested: NetworkOptions,
    weights: Weights = "auto",
    per_class: Annotated[
        Path | None, typer.Option(help="Write per-class results to a CSV file.", rich_help_panel=OUTPUT)
    ] = None,
    confusion: Annotated[
        Path | None, typer.Option(help="Save the confusion matrix as a PNG.", rich_help_panel=OUTPUT)
    ] = None,
    mistakes: Annotated[
        Path | None, typer.Option(help="Write misclassified images to a CSV file.", rich_help_panel=OUTPUT)
    ] = None,
    force: Force = False,
    output_format: Format = "table",
    inference: InferenceOptions,
) -> None:
    """Measure a model's accuracy on images sorted into class folders."""
    from resnet_cli.images import folders, inputs
    from resnet_cli.output import evaluation as view
    from resnet_cli.system import atomic
    from resnet_cli.tasks.evaluate import evaluate

    if confusion and confusion.suffix != ".png":
        raise UsageError(f"{confusion}: the name must end with .png")
    chosen = ((per_class, view.CLASSES), (mistakes, view.MISTAKES), (confusion, view.CONFUSION))
    reports = [(path, report) for path, report in chosen if path]
    for path, report in reports:
        atomic.check_replaceable(path, report.is_ours, force=force)
    inputs.check_outputs([path for path, _ in reports], [*folders.subfolders(data), weights, *inference.files])
    with quiet_libraries(decodes=True):
        model = start(weights, requested, inference, [str(data)], throughput=True)
        with ProgressBar("Classifying") as progress:
            evaluation = evaluate(data, model, progress)
        for image, reason in evaluation.failures:
            terminal.print_failure(image, reason)
        view.EVALUATION.show(evaluation, output_format)
        for path, report in reports:
            report.write(evaluation, path)
    raise typer.Exit(1 if evaluation.failures else 0)
