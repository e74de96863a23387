"""The command line of `resnet cache`."""

from typing import Annotated

import typer
from rich.filesize import decimal

from resnet_cli import render, terminal
from resnet_cli.options import Format, examples_text

app = typer.Typer(name="cache", help="What is kept between runs: weights, compiled networks.", no_args_is_help=True)


@app.command("info", epilog=examples_text("resnet cache info", "resnet cache info --format json"))
def cache_info(output_format: Format = "table") -> None:
    """Show what is kept, where, and what it takes."""
    from resnet_cli import store

    render.CACHES[output_format](store.info())


@app.command("clear", epilog=examples_text("resnet cache clear", "resnet cache clear compiled"))
def cache_clear(
    part: Annotated[
        list[str] | None, typer.Argument(metavar="PART...", help="weights, compiled, remembered; default: all.")
    ] = None,
) -> None:
    """Delete what is kept; all of it is downloaded, compiled or computed anew when it is needed."""
    from resnet_cli import store

    cleared = store.clear(tuple(part or store.PARTS))
    size = decimal(sum(each.bytes for each in cleared))
    terminal.note(f"deleted {sum(each.files for each in cleared):,} files, {size}")
