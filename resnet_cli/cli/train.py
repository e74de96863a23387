"""`resnet train`."""

from pathlib import Path
from typing import Annotated

import typer

from resnet_cli.cli.options import (
    NETWORK_OPTIONS,
    NETWORKS_PANEL,
    OUTPUT,
    RECIPE_OPTIONS,
    Force,
    Format,
    InitialWeights,
    Resume,
    command,
    task,
)
from resnet_cli.network.architecture import NetworkOptions
from resnet_cli.output import terminal
from resnet_cli.system import interrupts, lock
from resnet_cli.training.recipe import RecipeOptions

app = typer.Typer()


@command(
    app,
    *(name for name in NETWORK_OPTIONS if name not in ("name", "classes")),
    *RECIPE_OPTIONS,
    panel=NETWORKS_PANEL,
    examples=(
        "resnet train photos/ -o model.safetensors",
        "resnet train photos/ -o model.safetensors --resume",
        "resnet train photos/ -o fine.safetensors --weights imagenet --freeze-backbone",
    ),
)
def train(
    *,
    data: Annotated[
        Path, typer.Argument(metavar="DATA", help="Folder with train/CLASS/ and val/CLASS/, or with CLASS/.")
    ],
    output: Annotated[
        Path, typer.Option("-o", "--output", help="Output file for the weights (.safetensors).", rich_help_panel=OUTPUT)
    ] = Path("model.safetensors"),
    requested: NetworkOptions,
    weights: InitialWeights = "none",
    recipe: RecipeOptions,
    half: Annotated[bool, typer.Option("--half", help="Save 16-bit weights.", rich_help_panel=OUTPUT)] = False,
    resume: Resume = False,
    force: Force = False,
    output_format: Format = "table",
) -> None:
    """Train a network on images sorted into class folders."""
    from resnet_cli.output.training import TRAINING, TrainingBar
    from resnet_cli.training.train import train_model

    with lock.only_writer(output), task(TrainingBar(), decodes=True) as progress:
        try:
            result = train_model(
                data, output, weights, requested, recipe, progress, half=half, resume=resume, force=force
            )
        except interrupts.INTERRUPTIONS:
            advice = "run the same command with --resume to continue after the last completed epoch"
            terminal.warning(f"interrupted; {advice}")
            raise
    TRAINING.show(result, output_format)
    if result.bad:
        terminal.warning(f"images that could not be read and were left out: {len(result.bad):,}")
