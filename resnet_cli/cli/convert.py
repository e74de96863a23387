"""`resnet convert`."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from resnet_cli.cli.options import (
    NETWORKS_PANEL,
    OUTPUT,
    Force,
    Format,
    LabelsFile,
    command,
    task,
    weights_names,
)
from resnet_cli.network.architecture import NetworkOptions
from resnet_cli.output.progress import ProgressBar

app = typer.Typer()


@command(
    app,
    "depth",
    panel=NETWORKS_PANEL,
    examples=(
        "resnet convert tiny tiny.onnx",
        "resnet convert published.keras published.xml",
        "resnet convert --names pytorch model.keras model.safetensors",
    ),
)
def convert(
    *,
    source: Annotated[
        str,
        typer.Argument(
            metavar="IN", help="Weights to convert: a name or a file.", autocompletion=weights_names("imagenet")
        ),
    ],
    output: Annotated[Path, typer.Argument(metavar="OUT", help="File to write; its suffix selects the format.")],
    requested: NetworkOptions,
    names: Annotated[
        Literal["keras", "pytorch"],
        typer.Option(help="Naming of the arrays in .safetensors.", rich_help_panel=OUTPUT),
    ] = "keras",
    image: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Image to compare on (default: a cat photo).", rich_help_panel=OUTPUT),
    ] = None,
    labels: LabelsFile = None,
    force: Force = False,
    output_format: Format = "table",
) -> None:
    """Convert a model to another format and verify its predictions.

    The suffix of OUT selects the format: .keras, .weights.h5, .h5 (Keras 2),
    .safetensors, .xml (OpenVINO IR, with a .bin next to it) or .onnx. The last two
    include preprocessing and map RGB values from 0 to 255 to probabilities: .xml
    takes uint8 (1, size, size, 3), .onnx float32 (batch, 3, size, size). OUT is not
    kept if its predictions differ.
    """
    from resnet_cli.images import inputs
    from resnet_cli.output.summary import CONVERSION
    from resnet_cli.tasks.convert import convert_model

    inputs.check_outputs([output], [str(path) for path in (image, labels) if path])
    with task(ProgressBar("Reading weights"), decodes=True) as progress:
        converted = convert_model(
            source, output, requested, progress, names=names, image=image, labels=labels, force=force
        )
    CONVERSION.show(converted, output_format)
