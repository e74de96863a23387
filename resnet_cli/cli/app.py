"""The command line: the app, its commands, and exit codes."""

import os
import sys
from typing import Annotated, Literal

import typer
from typer import _click
from typer._completion_classes import completion_init
from typer._completion_shared import _get_shell_name, get_completion_script, install

from resnet_cli.cli import benchmark, build, cache, convert, evaluate, models, predict, summary, train, weights
from resnet_cli.cli.options import Group, Quiet, Verbose, examples_text
from resnet_cli.errors import ResnetError
from resnet_cli.output import terminal
from resnet_cli.version import __version__

Shell = Literal["bash", "zsh", "fish", "powershell", "pwsh"]
COMPLETION_OPTIONS = ("--install-completion", "--show-completion")
COMPLETION = {"prog_name": "resnet", "complete_var": "_RESNET_COMPLETE"}


class _Root(Group):
    """All commands; an option for completion may leave out the shell, which is then the one that runs the command."""

    def parse_args(self, ctx: _click.Context, args: list[str]) -> list[str]:
        if args and args[-1] in COMPLETION_OPTIONS:
            args = [*args, _get_shell_name() or ""]
        return super().parse_args(ctx, args)


completion_init()
app = typer.Typer(
    name="resnet",
    cls=_Root,
    add_completion=False,
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
    install_completion: Annotated[
        Shell | None, typer.Option(metavar="[SHELL]", help="Install completion for a shell (default: this one).")
    ] = None,
    show_completion: Annotated[
        Shell | None, typer.Option(metavar="[SHELL]", help="Show completion for bash, zsh, fish, ...")
    ] = None,
) -> None:
    """Classify images with a ResNet from the command line."""
    if install_completion:
        shell, path = install(shell=install_completion, **COMPLETION)
        terminal.note(f"{path}: completion for {shell}; it works in the next shell")
        raise typer.Exit
    if show_completion:
        typer.echo(get_completion_script(shell=show_completion, **COMPLETION))
        raise typer.Exit
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
