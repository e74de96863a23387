"""Options that several commands share, and what turns their text into values."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import wraps
from typing import Annotated, Any, Literal, get_type_hints

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
Stem = Annotated[str | None, typer.Option(help="imagenet, deep, small or cifar.", rich_help_panel=NETWORK)]
InitialWeights = Annotated[
    str, typer.Option(metavar="NAME|FILE", help="none, imagenet, tiny, a name or file.", rich_help_panel=NETWORK)
]
Resume = Annotated[bool, typer.Option("--resume", help="Go on after a cut-off run.", rich_help_panel=OUTPUT)]
Force = Annotated[bool, typer.Option("--force", help="Replace existing files.", rich_help_panel=OUTPUT)]
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


@dataclass(frozen=True)
class Computing:
    """How images are decoded and computed: a field an option, as annotated."""

    fit: Annotated[Fit, typer.Option("--fit", help="How an image becomes square.", rich_help_panel=IMAGES)] = Fit.CROP
    engine: Annotated[
        Literal["auto", "openvino", "keras"],
        typer.Option("--engine", help="What computes; auto: the fastest here.", rich_help_panel=ENGINE),
    ] = "auto"
    precision: Annotated[
        Literal["f32", "bf16", "int8"],
        typer.Option("--precision", help="What it computes in.", rich_help_panel=ENGINE),
    ] = "f32"
    calibrate: Annotated[
        list[str] | None,
        typer.Option(metavar="IMAGE", help="Images that int8 is fitted to.", rich_help_panel=ENGINE),
    ] = None
    batch_size: Annotated[int, typer.Option(min=1, help="Images computed at once.", rich_help_panel=ENGINE)] = 32
    workers: Annotated[
        int | None, typer.Option(min=1, help="Threads that decode (default: cores).", rich_help_panel=ENGINE)
    ] = None

    @property
    def stream(self) -> dict[str, Any]:
        """Options of `predict.answers`."""
        return {"fit": self.fit, "batch_size": self.batch_size, "workers": self.workers}


COMPUTING_OPTIONS = tuple(field.name for field in fields(Computing))


def given(**options: Any) -> dict[str, Any]:
    """Return the options that were given."""
    return {name: value for name, value in options.items() if value is not None}


def _asked(**options: Any) -> dict[str, Any]:
    """Return the options of the network that were given."""
    asked = given(**options)
    if {"depth", "stages"} <= asked.keys():
        raise UsageError("--depth and --stages both say how many blocks there are; give one of them")
    if "name" in asked and (both := sorted(asked.keys() & {"depth", "stages", "variant", "block"})):
        raise UsageError(f"{asked['name']} says what --{both[0]} says, too; give one of them")
    return asked


def command(
    app: typer.Typer, *shared: str, examples: tuple[str, ...], called: str | None = None
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Register a command that takes options that others take as well, and those of verbosity.

    Args:
        app: where to.
        shared: keys of `NETWORK_OPTIONS`, given to it as `asked`, and fields of `Computing`, given as `computing`;
            they stand in the help where these stand among its parameters.
        examples: lines that end its help.
        called: its name, where it is not the function's.
    """
    network = [name for name in shared if name in NETWORK_OPTIONS]
    computing = [field for field in fields(Computing) if field.name in shared]
    hints = get_type_hints(Computing, include_extras=True)

    def option(name: str, annotation: Any, default: Any) -> inspect.Parameter:
        return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)

    groups = {
        "asked": [option(name, NETWORK_OPTIONS[name], None) for name in network],
        "computing": [option(field.name, hints[field.name], field.default) for field in computing],
    }
    makers: dict[str, Callable[..., Any]] = {"asked": _asked, "computing": Computing}

    def register(function: Callable[..., None]) -> Callable[..., None]:
        own = inspect.signature(function).parameters

        @wraps(function)
        def whole(verbose: bool, quiet: bool, **arguments: Any) -> None:
            for group in groups.keys() & own.keys():
                given = {each.name: arguments.pop(each.name) for each in groups[group]}
                arguments[group] = makers[group](**given)
            function(**arguments)

        parameters: list[inspect.Parameter] = []
        for name, parameter in own.items():
            parameters += groups.get(name, [parameter])
        parameters += [option("verbose", Verbose, False), option("quiet", Quiet, False)]
        whole.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        whole.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        return app.command(called, epilog=examples_text(*examples))(whole)

    return register
