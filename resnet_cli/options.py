"""Options that several commands share, and what turns their text into values."""

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Annotated, Any, Literal

import typer

from resnet_cli import terminal
from resnet_cli.errors import UsageError
from resnet_cli.pretrained import Fit


def examples_text(*lines: str) -> str:
    """Return the lines that end a command's help."""
    return "\n".join(["[bold]Examples[/bold]", *(f"  [cyan]{line}[/cyan]" for line in lines)])


def _verbosity(level: int) -> Any:
    def set_level(given: bool) -> bool:
        if given:
            terminal.verbosity = level
        return given

    return set_level


def parse_stages(text: str) -> tuple[int, ...]:
    """Read blocks of each stage, as in 3,4,6,3."""
    try:
        return tuple(int(count) for count in text.split(","))
    except ValueError as error:
        raise UsageError(f"--stages takes whole numbers with commas between, as in 3,4,6,3, got {text!r}") from error


def parse_sizes(text: str) -> tuple[tuple[int, int], ...]:
    """Read sides in pixels with epochs, as in 32x10,48x10."""
    try:
        phases = [part.split("x") for part in text.split(",")]
        return tuple((int(size), int(epochs)) for size, epochs in phases)
    except ValueError as error:
        raise UsageError(f"--sizes takes SIDExEPOCHS with commas between, as in 32x10,48x10, got {text!r}") from error


def parse_shard(text: str) -> tuple[int, int]:
    """Read K/N, as in 2/8."""
    from resnet_cli import inputs

    return inputs.parse_shard(text)


TextFormat = Literal["table", "json"]
NETWORK, IMAGES, OUTPUT, ENGINE, RECIPE = "Network", "Images", "Output", "Engine", "Recipe"

Depth = Annotated[int | None, typer.Option(help="18, 34, 50, 101 or 152 (default 50).", rich_help_panel=NETWORK)]
Stages = Annotated[
    Any,
    typer.Option(parser=parse_stages, metavar="N,N,...", help="Blocks of each stage.", rich_help_panel=NETWORK),
]
Width = Annotated[int | None, typer.Option(help="Filters of the first stage.", rich_help_panel=NETWORK)]
Classes = Annotated[int | None, typer.Option(help="Number of classes.", rich_help_panel=NETWORK)]
ImageSize = Annotated[int | None, typer.Option(help="Side of the image in pixels.", rich_help_panel=NETWORK)]
Name = Annotated[str | None, typer.Argument(metavar="[NAME]", help="A network of `resnet models`.")]
VariantName = Annotated[
    str | None,
    typer.Option("--variant", help="v1 (Keras), v1.5 (PyTorch), v2, c, d, wide...", rich_help_panel=NETWORK),
]
BlockKind = Annotated[str | None, typer.Option("--block", help="basic or bottleneck.", rich_help_panel=NETWORK)]
Weights = Annotated[
    str, typer.Option(metavar="NAME|FILE", help="auto, imagenet, tiny, a name or file.", rich_help_panel=NETWORK)
]
EngineName = Annotated[
    Literal["auto", "openvino", "keras"],
    typer.Option("--engine", help="What computes; auto: the fastest here.", rich_help_panel=ENGINE),
]
PrecisionName = Annotated[
    Literal["f32", "bf16", "int8"],
    typer.Option("--precision", help="What it computes in.", rich_help_panel=ENGINE),
]
Calibrate = Annotated[
    list[str] | None,
    typer.Option(metavar="IMAGE", help="Images that int8 is fitted to.", rich_help_panel=ENGINE),
]
BatchSize = Annotated[int, typer.Option(min=1, help="Images computed at once.", rich_help_panel=ENGINE)]
Workers = Annotated[
    int | None, typer.Option(min=1, help="Threads that decode (default: cores).", rich_help_panel=ENGINE)
]
FitOption = Annotated[Fit, typer.Option("--fit", help="How an image becomes square.", rich_help_panel=IMAGES)]
Stem = Annotated[str | None, typer.Option(help="imagenet, deep, small or cifar.", rich_help_panel=NETWORK)]
Format = Annotated[TextFormat, typer.Option("--format", help="How results are printed.", rich_help_panel=OUTPUT)]
Verbose = Annotated[
    bool,
    typer.Option("-v", "--verbose", help="Say more.", callback=_verbosity(terminal.VERBOSE)),
]
Quiet = Annotated[
    bool,
    typer.Option("--quiet", help="Only results and errors.", callback=_verbosity(terminal.QUIET)),
]


NETWORK_OPTIONS = {
    "name": Name,
    "depth": Depth,
    "variant": VariantName,
    "stages": Stages,
    "block": BlockKind,
    "width": Width,
    "stem": Stem,
    "classes": Classes,
    "image_size": ImageSize,
}


def given(**options: Any) -> dict[str, Any]:
    """Return the options that were given."""
    return {name: value for name, value in options.items() if value is not None}


def _asked(options: dict[str, Any]) -> dict[str, Any]:
    """Return the options of the network that were given."""
    asked = given(**options)
    if {"depth", "stages"} <= asked.keys():
        raise UsageError("--depth and --stages both say how many blocks there are; give one of them")
    if "name" in asked and (both := sorted(asked.keys() & {"depth", "stages", "variant", "block"})):
        raise UsageError(f"{asked['name']} says what --{both[0]} says, too; give one of them")
    return asked


def command(
    app: typer.Typer, *network: str, examples: tuple[str, ...], called: str | None = None
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Register a command that takes options of the network, given to it as `asked`, and those of verbosity.

    Args:
        app: where to.
        network: keys of `NETWORK_OPTIONS`; they stand in the help where `asked` stands among the parameters.
        examples: lines that end its help.
        called: its name, where it is not the function's.
    """

    def register(function: Callable[..., None]) -> Callable[..., None]:
        @wraps(function)
        def whole(verbose: bool, quiet: bool, **arguments: Any) -> None:
            if network:
                arguments["asked"] = _asked({name: arguments.pop(name) for name in network})
            function(**arguments)

        def option(name: str, annotation: Any, default: bool | None) -> inspect.Parameter:
            return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)

        parameters: list[inspect.Parameter] = []
        for name, parameter in inspect.signature(function).parameters.items():
            if name == "asked":
                parameters += [option(key, NETWORK_OPTIONS[key], None) for key in network]
            else:
                parameters.append(parameter)
        parameters += [option("verbose", Verbose, False), option("quiet", Quiet, False)]
        whole.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        whole.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        return app.command(called, epilog=examples_text(*examples))(whole)

    return register
