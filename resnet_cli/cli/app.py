"""The command line: the app, its commands, and exit codes."""

import os
import sys
from typing import Annotated

import typer

from resnet_cli.cli import benchmark, build, cache, convert, evaluate, models, predict, summary, train, weights
from resnet_cli.cli.options import Quiet, Verbose, examples_text
from resnet_cli.errors import ResnetError
from resnet_cli.output import terminal
from resnet_cli.version import __version__

app = typer.Typer(
    name="resnet",
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)

for module in (predict, summary, build, models, convert, train, evaluate, benchmark, weights, cache):
    app.add_typer(module.app)


@app.callback(
    invoke_without_command=True,
    epilog=examples_text("resnet predict dog.png", "resnet summary --depth 50", "resnet build -o resnet50.keras"),
)
def _resnet(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Show the version and exit.")] = False,
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> None:
    """Classify images with a ResNet from the command line."""
    if version:
        typer.echo(f"resnet {__version__}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


def main() -> int:
    """Run the command line and return its exit code."""
    terminal.open_standard_streams()
    try:
        code = app(prog_name="resnet", standalone_mode=False) or 0
        sys.stdout.flush()
    except ResnetError as error:
        terminal.error(str(error))
        code = error.exit_code
    except typer.TyperException as error:
        if message := error.format_message():  # empty if the help was shown instead of a missing command
            terminal.error(message)
        code = error.exit_code
    except SystemExit as error:  # raised by Rich and Typer if the reader of a pipe is gone
        if not isinstance(error.__context__, BrokenPipeError):
            raise
        code = 0
    except OSError as error:
        terminal.error(f"{error.filename or 'the results'}: {error.strerror or error}")
        code = 1
    except Exception as error:
        if os.environ.get("RESNET_DEBUG") == "1":
            raise
        terminal.error(f"{type(error).__name__}: {error}\nSet RESNET_DEBUG=1 to see the traceback.")
        code = 1
    return code
