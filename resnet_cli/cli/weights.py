"""`resnet weights`."""

from pathlib import Path
from typing import Annotated

import typer
from rich.filesize import decimal

from resnet_cli.cli.options import (
    MACHINE_PANEL,
    OUTPUT,
    Force,
    Format,
    Group,
    command,
    quiet_libraries,
    set_verbosity,
    task,
    weights_names,
)
from resnet_cli.errors import ModelError
from resnet_cli.output import terminal
from resnet_cli.output.progress import ProgressBar

app = typer.Typer()
commands = typer.Typer(cls=Group, no_args_is_help=True, callback=set_verbosity)
app.add_typer(
    commands, name="weights", help="List, download, verify and bundle published weights.", rich_help_panel=MACHINE_PANEL
)

Names = Annotated[
    list[str],
    typer.Argument(metavar="NAME...", help="Names from `resnet weights list`.", autocompletion=weights_names()),
]


@command(commands, name="list", examples=("resnet weights list", "resnet weights list --format json"))
def list_weights(*, output_format: Format = "table") -> None:
    """List all weights that are available by name."""
    from resnet_cli.output import tables
    from resnet_cli.weights import inventory

    with task(ProgressBar("Looking for weights")) as progress:
        weights = list(inventory.list_weights(progress))
    tables.WEIGHTS_LIST.show(weights, output_format)


@command(
    commands,
    examples=("resnet weights download resnet50", "resnet weights download resnet18.tv_in1k resnet50.a1_in1k"),
)
def download(*, name: Names) -> None:
    """Download weights into the cache and print their paths."""
    from resnet_cli.weights import inventory
    from resnet_cli.weights.download import fetch

    failed = False
    for each in name:
        try:
            with task(ProgressBar("Looking for weights")) as progress:
                path = fetch(inventory.find(each), progress, retry=True)
        except ModelError as error:
            terminal.error(str(error))
            failed = True
        else:
            terminal.line(str(path))
    raise typer.Exit(ModelError.exit_code if failed else 0)


@command(commands, examples=("resnet weights verify", "resnet weights verify resnet50"))
def verify(
    *,
    name: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="NAME...",
            help="Names from `resnet weights list` (default: all cached).",
            autocompletion=weights_names(),
        ),
    ] = None,
) -> None:
    """Verify the hashes of cached weights."""
    from resnet_cli.weights import inventory

    verified = []
    with quiet_libraries():
        for each in inventory.verify(name or ()):
            terminal.line(f"{each.name}: {each.fault or 'ok'}, {each.path}")
            verified.append(each)
    terminal.note(f"files checked: {len(verified)}")
    if damaged := " ".join(each.name for each in verified if each.fault):
        raise ModelError(f"damaged: {damaged}\nRun `resnet weights download {damaged}` to replace them.")


@command(commands, examples=("resnet weights path resnet50",))
def path(
    *,
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="Name from `resnet weights list`.", autocompletion=weights_names())
    ],
) -> None:
    """Print the path of cached weights, without downloading."""
    from resnet_cli.weights import inventory

    with quiet_libraries():
        terminal.line(str(inventory.path(name)))


@command(commands, examples=("resnet weights remove resnet50",))
def remove(*, name: Names) -> None:
    """Delete weights from the cache and the Hugging Face cache."""
    from resnet_cli.weights import inventory, local

    with quiet_libraries():
        for row in inventory.find_all(name):
            terminal.note(f"{row.name}: deleted {decimal(local.remove_cached(row))}")


@command(commands, examples=("resnet weights bundle -o weights.zip resnet50 resnet50.a1_in1k",))
def bundle(
    *,
    name: Names,
    output: Annotated[Path, typer.Option("-o", "--output", help="Output file (zip).", rich_help_panel=OUTPUT)],
    force: Force = False,
) -> None:
    """Pack weights into one file for offline machines."""
    from resnet_cli.weights.bundle import pack

    with task(ProgressBar("Looking for weights")) as progress:
        packed = pack(output, name, progress, force=force)
    terminal.note(f"{output}: {', '.join(each.name for each in packed)}, {decimal(output.stat().st_size)}")


@command(commands, examples=("resnet weights install weights.zip",))
def install(
    *, file: Annotated[Path, typer.Argument(metavar="FILE", help="Bundle made by `resnet weights bundle`.")]
) -> None:
    """Install weights from a bundle and print their paths."""
    from resnet_cli.weights.bundle import install_bundle

    with task(ProgressBar("Reading the bundle")) as progress:
        installed = install_bundle(file, progress)
    for path in installed:
        terminal.line(str(path))
