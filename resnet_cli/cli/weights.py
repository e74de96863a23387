"""The command line of `resnet weights`."""

from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.filesize import decimal

from resnet_cli import render, terminal
from resnet_cli.errors import ModelError
from resnet_cli.options import OUTPUT, Force, Format, command

app = typer.Typer(
    name="weights", help="Published weights: what there is, and what is kept on this machine.", no_args_is_help=True
)
_command = partial(command, app)

Names = Annotated[list[str], typer.Argument(metavar="NAME...", help="Names of `resnet weights list`.")]


@_command(called="list", examples=("resnet weights list", "resnet weights list --format json"))
def list_(*, output_format: Format = "table") -> None:
    """Show all weights that have a name."""
    from resnet_cli import weights

    with terminal.libraries_muted(), terminal.Activity("Looking for weights") as activity:
        listed = list(weights.listed(activity))
    render.WEIGHTS[output_format](listed)


@_command(examples=("resnet weights download resnet50", "resnet weights download resnet18.tv_in1k resnet50.a1_in1k"))
def download(*, name: Names) -> None:
    """Download weights into the cache, and print their files."""
    from resnet_cli import cache, weights

    failed = False
    for each in name:
        try:
            with terminal.libraries_muted(), terminal.Activity("Looking for weights") as activity:
                path = cache.fetch(weights.row(each), activity, retry=True)
        except ModelError as error:
            terminal.error(str(error))
            failed = True
        else:
            render.path(path)
    raise typer.Exit(ModelError.exit_code if failed else 0)


@_command(examples=("resnet weights verify", "resnet weights verify resnet50"))
def verify(
    *, name: Annotated[list[str] | None, typer.Argument(metavar="NAME...", help="Default: all in the cache.")] = None
) -> None:
    """Read weights in the cache and compare their hashes."""
    from resnet_cli import weights

    checked = []
    with terminal.libraries_muted():
        for each in weights.verify(name or ()):
            render.checked(each)
            checked.append(each)
    terminal.note(f"files checked: {len(checked)}")
    if damaged := " ".join(each.name for each in checked if each.fault):
        raise ModelError(f"damaged: {damaged}\n`resnet weights download {damaged}` replaces what is damaged")


@_command(examples=("resnet weights path resnet50",))
def path(*, name: Annotated[str, typer.Argument(metavar="NAME", help="A name of `resnet weights list`.")]) -> None:
    """Print the file of weights in the cache; never downloads."""
    from resnet_cli import weights

    with terminal.libraries_muted():
        render.path(weights.path(name))


@_command(examples=("resnet weights remove resnet50",))
def remove(*, name: Names) -> None:
    """Delete weights from the cache, and from that of the Hugging Face hub."""
    from resnet_cli import cache, weights

    with terminal.libraries_muted():
        for row in weights.rows(name):
            terminal.note(f"{row.name}: deleted {decimal(cache.remove(row))}")


@_command(examples=("resnet weights bundle -o weights.zip resnet50 resnet50.a1_in1k",))
def bundle(
    *,
    name: Names,
    output: Annotated[Path, typer.Option("-o", "--output", help="The file: a zip.", rich_help_panel=OUTPUT)],
    force: Force = False,
) -> None:
    """Pack weights into one file, for machines without internet."""
    from resnet_cli import bundles

    with terminal.libraries_muted(), terminal.Activity("Looking for weights") as activity:
        packed = bundles.pack(output, name, activity, force=force)
    terminal.note(f"{output}: {', '.join(each.name for each in packed)}, {decimal(output.stat().st_size)}")


@_command(examples=("resnet weights install weights.zip",))
def install(*, file: Annotated[Path, typer.Argument(metavar="FILE", help="Made by `resnet weights bundle`.")]) -> None:
    """Put the weights of a bundle into the cache, and print their files."""
    from resnet_cli import bundles

    with terminal.libraries_muted(), terminal.Activity("Reading the bundle") as activity:
        installed = bundles.install(file, activity)
    for path in installed:
        render.path(path)
