"""`resnet cache`."""

from typing import Annotated

import typer
from rich.filesize import decimal

from resnet_cli.cli.options import MACHINE_PANEL, Format, Group, command, set_verbosity
from resnet_cli.output import terminal

app = typer.Typer()
commands = typer.Typer(cls=Group, no_args_is_help=True, callback=set_verbosity)
app.add_typer(
    commands,
    name="cache",
    help="Show or clear the cache of weights and compiled networks.",
    rich_help_panel=MACHINE_PANEL,
)


def _parts() -> list[str]:
    from resnet_cli.system import cache_folder  # hashes and folders take milliseconds of each start

    return [*cache_folder.PARTS]


@command(commands, examples=("resnet cache info", "resnet cache info --format json"))
def info(*, output_format: Format = "table") -> None:
    """Show the folders of the cache and their sizes."""
    from resnet_cli.output import tables
    from resnet_cli.system import cache_folder

    tables.CACHE_PARTS.show(cache_folder.info(), output_format)


@command(commands, examples=("resnet cache clear", "resnet cache clear compiled"))
def clear(
    *,
    part: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="PART...",
            help="weights, compiled or remembered (default: all but weights).",
            autocompletion=_parts,
        ),
    ] = None,
) -> None:
    """Delete cached files that can be rebuilt; weights only if named."""
    from resnet_cli.system import cache_folder

    cleared = cache_folder.clear(tuple(part or cache_folder.REBUILT))
    size = decimal(sum(each.bytes for each in cleared))
    kept = "" if part else "; kept downloaded weights, which `resnet cache clear weights` deletes"
    terminal.note(f"deleted {sum(each.files for each in cleared):,} files ({size}){kept}")
