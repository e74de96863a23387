"""`resnet build`."""

from pathlib import Path
from typing import Annotated

import typer
from rich.filesize import decimal

from resnet_cli.cli.options import NETWORK_OPTIONS, NETWORKS_PANEL, OUTPUT, Force, InitialWeights, command, task
from resnet_cli.network.architecture import NetworkOptions
from resnet_cli.output import terminal
from resnet_cli.output.progress import ProgressBar
from resnet_cli.output.terminal import thousands

app = typer.Typer()


@command(
    app,
    *NETWORK_OPTIONS,
    panel=NETWORKS_PANEL,
    examples=(
        "resnet build -o resnet50.keras",
        "resnet build resnet34 -o resnet34.keras",
        "resnet build --stages 2,2,2,2 --width 32 --classes 10 -o small.keras",
    ),
)
def build(
    *,
    requested: NetworkOptions,
    weights: InitialWeights = "none",
    output: Annotated[
        Path,
        typer.Option(
            "-o", "--output", help="Output file: .keras, .safetensors, .h5, .onnx, ...", rich_help_panel=OUTPUT
        ),
    ] = Path("model.keras"),
    force: Force = False,
) -> None:
    """Build a ResNet from scratch with Keras and write it to a file."""
    from resnet_cli.images import inputs
    from resnet_cli.tasks.build import build_model

    inputs.check_outputs([output], [weights])
    with task(ProgressBar("Preparing the network")) as progress:
        network, size = build_model(output, weights, requested, progress, force=force)
    parameters = thousands(network.totals.parameters)
    terminal.note(f"{output}: {network.architecture.name}, {parameters} parameters, {decimal(size)}")
