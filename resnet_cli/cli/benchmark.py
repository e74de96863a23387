"""`resnet benchmark`."""

from typing import Annotated, Literal

import typer

from resnet_cli.cli.options import ENGINE, IMAGES, NETWORK, NETWORKS_PANEL, OUTPUT, Format, command, task, weights_names
from resnet_cli.network.architecture import NetworkOptions
from resnet_cli.output.progress import ProgressBar
from resnet_cli.tasks.options import InferenceOptions

app = typer.Typer()


@command(
    app,
    "depth",
    *("engine", "precision", "batch_size", "workers"),
    panel=NETWORKS_PANEL,
    examples=(
        "resnet benchmark",
        "resnet benchmark --weights none --against keras",
        "resnet benchmark --images photos/ --precision int8 --format json",
    ),
)
def benchmark(
    *,
    requested: NetworkOptions,
    weights: Annotated[
        str,
        typer.Option(
            metavar="NAME|FILE",
            help="As for predict, or none for random weights.",
            rich_help_panel=NETWORK,
            autocompletion=weights_names("auto", "none", "imagenet"),
        ),
    ] = "auto",
    photos: Annotated[
        str | None,
        typer.Option(
            "--images",
            metavar="FOLDER",
            help="Image or folder (default: generated noise).",
            rich_help_panel=IMAGES,
        ),
    ] = None,
    runs: Annotated[
        int, typer.Option(metavar="N", min=1, help="Number of measurement runs.", rich_help_panel=OUTPUT)
    ] = 5,
    output_format: Format = "table",
    inference: InferenceOptions,
    against: Annotated[
        Literal["openvino", "keras"] | None,
        typer.Option(help="Also measure this engine, in f32.", rich_help_panel=ENGINE),
    ] = None,
) -> None:
    """Measure inference speed and start-up time on this machine."""
    from resnet_cli.output.benchmark import BENCHMARK
    from resnet_cli.tasks.benchmark import run_benchmark

    with task(ProgressBar("Reading weights"), decodes=True) as progress:
        measured = run_benchmark(weights, requested, photos, inference, progress, against=against, runs=runs)
    BENCHMARK.show(measured, output_format)
