"""The command line of `resnet train`."""

from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from resnet_cli import interrupts, reports, terminal
from resnet_cli.options import (
    NETWORK_OPTIONS,
    OUTPUT,
    RECIPE,
    Force,
    Format,
    InitialWeights,
    Resume,
    command,
    given,
    parse_sizes,
)

app = typer.Typer()
_command = partial(command, app)


@_command(
    *(name for name in NETWORK_OPTIONS if name not in ("name", "classes")),
    examples=(
        "resnet train photos/ -o model.safetensors",
        "resnet train photos/ -o model.safetensors --resume",
        "resnet train photos/ -o fine.safetensors --weights imagenet --freeze-backbone",
    ),
)
def train(
    *,
    data: Annotated[Path, typer.Argument(metavar="DATA", help="A folder with train/CLASS/ and perhaps val/CLASS/.")],
    output: Annotated[
        Path, typer.Option("-o", "--output", help="The weights: .safetensors.", rich_help_panel=OUTPUT)
    ] = Path("model.safetensors"),
    asked: dict[str, Any],
    weights: InitialWeights = "none",
    freeze_backbone: Annotated[
        bool | None, typer.Option("--freeze-backbone", help="Only the last layer learns.", rich_help_panel=RECIPE)
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over images (default 90).", rich_help_panel=RECIPE)] = None,
    batch_size: Annotated[
        int | None, typer.Option(help="Images a step (default: 8 to 128).", rich_help_panel=RECIPE)
    ] = None,
    lr: Annotated[float | None, typer.Option(help="Learning rate (default: by batch).", rich_help_panel=RECIPE)] = None,
    warmup: Annotated[int | None, typer.Option(help="Epochs it rises (default 1).", rich_help_panel=RECIPE)] = None,
    cooldown: Annotated[
        int | None, typer.Option(help="Epochs it falls (default: rest).", rich_help_panel=RECIPE)
    ] = None,
    sizes: Annotated[
        Any,
        typer.Option(
            parser=parse_sizes, metavar="PxN,...", help="N epochs at P pixels at first.", rich_help_panel=RECIPE
        ),
    ] = None,
    crop: Annotated[
        float | None, typer.Option(help="Least share of the area a crop takes (default 0.35).", rich_help_panel=RECIPE)
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Of weights, order and crops.", rich_help_panel=RECIPE)] = None,
    precision: Annotated[
        Literal["auto", "f32", "bf16"] | None,
        typer.Option(help="Of computation (default auto).", rich_help_panel=RECIPE),
    ] = None,
    validation_share: Annotated[
        float | None, typer.Option(help="Where no val is (default 0.05).", rich_help_panel=RECIPE)
    ] = None,
    half: Annotated[bool, typer.Option("--half", help="Write 16-bit weights.", rich_help_panel=OUTPUT)] = False,
    resume: Resume = False,
    force: Force = False,
    output_format: Format = "table",
) -> None:
    """Train a network to tell the folders of images apart."""
    from resnet_cli import train

    recipe = given(
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=lr,
        warmup=warmup,
        cooldown=cooldown,
        sizes=sizes,
        freeze_backbone=freeze_backbone,
        seed=seed,
        crop=crop,
        precision=precision,
        validation_share=validation_share,
    )
    options = {"half": half, "resume": resume, "force": force}
    with terminal.libraries_muted(), terminal.Training() as progress:
        try:
            trained = train.train(data, output, weights, asked, recipe, progress, **options)
        except interrupts.INTERRUPTIONS:
            terminal.warning("interrupted; the same command with --resume goes on after the last whole epoch")
            raise
    reports.TRAININGS[output_format](trained)
    raise typer.Exit(1 if trained.bad else 0)
