"""Options that several commands share, and how commands are registered and run."""

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import fields
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

import typer
from rich.text import Text
from typer import _click
from typer.core import TyperCommand, TyperGroup

from resnet_cli.engines.precision import Precision
from resnet_cli.errors import UsageError
from resnet_cli.network.architecture import NetworkOptions
from resnet_cli.network.preprocessing import Fit
from resnet_cli.output import terminal
from resnet_cli.output.progress import ProgressBar
from resnet_cli.output.tables import ReportFormat
from resnet_cli.system import interrupts
from resnet_cli.tasks.options import InferenceOptions
from resnet_cli.training.recipe import RecipeOptions

if TYPE_CHECKING:
    from resnet_cli.tasks.classify import Model

Bar = TypeVar("Bar", bound=ProgressBar)

CLASSIFY_PANEL, NETWORKS_PANEL, MACHINE_PANEL = "Classify", "Networks", "This machine"  # panels of commands
HELP_WIDTH = 80  # columns of the terminal that tables of options need
NETWORK, IMAGES, OUTPUT, ENGINE, RECIPE = "Network", "Images", "Output", "Engine", "Recipe"  # panels of options


def examples_text(*lines: str) -> str:
    """Return the examples at the end of a command's help."""
    return "\n".join(["[bold]Examples[/bold]", *(f"  [cyan]{line}[/cyan]" for line in lines)])


class _PlainHelp(_click.Command):
    """Help in plain lines on a narrow terminal, where tables would cut the names of options."""

    rich_markup_mode: Literal["markdown", "rich"] | None

    def format_help(self, ctx: _click.Context, formatter: _click.HelpFormatter) -> None:
        """Write the help."""
        self.rich_markup_mode = "rich" if terminal.out.width >= HELP_WIDTH else None
        super().format_help(ctx, formatter)

    def format_epilog(self, ctx: _click.Context, formatter: _click.HelpFormatter) -> None:
        """Write the examples of plain help."""
        formatter.write(f"\n{Text.from_markup(self.epilog or '').plain}\n")


class Command(_PlainHelp, TyperCommand):
    """A command."""


class Group(_PlainHelp, TyperGroup):
    """A group of commands."""


def weights_names(*others: str) -> Callable[[], list[str]]:
    """Return a function that lists the names of weights, to complete them in a shell, after other values."""

    def names() -> list[str]:
        from resnet_cli.weights.published import PRETRAINED, TINY

        return [*others, TINY.name, *PRETRAINED]

    return names


def network_names() -> list[str]:
    """List the names of networks, to complete them in a shell."""
    from resnet_cli.network import variants

    return [*variants.NETWORKS]


def _verbosity(level: int) -> Callable[[bool], bool]:
    def set_level(given: bool) -> bool:
        if given:
            terminal.verbosity = level
        return given

    return set_level


Verbose = Annotated[
    bool,
    typer.Option("-v", "--verbose", help="Show details and library logs.", callback=_verbosity(terminal.VERBOSE)),
]
Quiet = Annotated[
    bool, typer.Option("-q", "--quiet", help="Print only results and errors.", callback=_verbosity(terminal.QUIET))
]


def set_verbosity(verbose: Verbose = False, quiet: Quiet = False) -> None:
    """Take the verbosity options of a group of commands; their callbacks do the rest."""


def parse_stages(text: str) -> tuple[int, ...]:
    """Parse blocks per stage, such as 3,4,6,3."""
    try:
        return tuple(int(count) for count in text.split(","))
    except ValueError as error:
        raise UsageError(f"--stages must be comma-separated integers such as 3,4,6,3, got {text!r}") from error


def parse_sizes(text: str) -> tuple[tuple[int, int], ...]:
    """Parse image sizes with epochs, such as 32x10,48x10."""
    try:
        phases = [part.split("x") for part in text.split(",")]
        return tuple((int(size), int(epochs)) for size, epochs in phases)
    except ValueError as error:
        expected = "comma-separated PIXELSxEPOCHS pairs such as 32x10,48x10"
        raise UsageError(f"--sizes must be {expected}, got {text!r}") from error


def parse_shard(text: str) -> tuple[int, int]:
    """Parse K/N, such as 2/8."""
    from resnet_cli.images import inputs

    return inputs.parse_shard(text)


InitialWeights = Annotated[
    str,
    typer.Option(
        metavar="NAME|FILE",
        help="none, imagenet, tiny, a name or a file.",
        rich_help_panel=NETWORK,
        autocompletion=weights_names("none", "imagenet"),
    ),
]
Weights = Annotated[
    str,
    typer.Option(
        metavar="NAME|FILE",
        help="auto, imagenet, tiny, a name or a file.",
        rich_help_panel=NETWORK,
        autocompletion=weights_names("auto", "imagenet"),
    ),
]
LabelsFile = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Labels of the classes, one per line.", rich_help_panel=NETWORK)
]
Resume = Annotated[bool, typer.Option("--resume", help="Resume an earlier run.", rich_help_panel=OUTPUT)]
Force = Annotated[bool, typer.Option("--force", help="Replace existing files.", rich_help_panel=OUTPUT)]
Format = Annotated[ReportFormat, typer.Option("--format", help="Output format.", rich_help_panel=OUTPUT)]
# By options class, the annotation of each field.
GROUPS: dict[type, dict[str, Any]] = {
    NetworkOptions: {
        "name": Annotated[
            str | None,
            typer.Argument(metavar="[NAME]", help="Network name from `resnet models`.", autocompletion=network_names),
        ],
        "depth": Annotated[
            int | None,
            typer.Option(metavar="N", help="Depth: 18, 34, 50, 101 or 152 (default: 50).", rich_help_panel=NETWORK),
        ],
        "variant": Annotated[
            str | None, typer.Option(help="v1 (Keras), v1.5 (PyTorch), v2, c, d, wide...", rich_help_panel=NETWORK)
        ],
        "stages": Annotated[
            Any,
            typer.Option(
                parser=parse_stages,
                metavar="N,N,...",
                help="Blocks per stage, such as 3,4,6,3.",
                rich_help_panel=NETWORK,
            ),
        ],
        "block": Annotated[str | None, typer.Option(help="Block type: basic or bottleneck.", rich_help_panel=NETWORK)],
        "width": Annotated[
            int | None, typer.Option(metavar="N", help="Filters in the first stage.", rich_help_panel=NETWORK)
        ],
        "stem": Annotated[
            str | None, typer.Option(help="Stem type: imagenet, deep, small or cifar.", rich_help_panel=NETWORK)
        ],
        "classes": Annotated[int | None, typer.Option(metavar="N", help="Number of classes.", rich_help_panel=NETWORK)],
        "image_size": Annotated[
            int | None, typer.Option(metavar="N", help="Input width and height in pixels.", rich_help_panel=NETWORK)
        ],
    },
    InferenceOptions: {
        "fit": Annotated[Fit, typer.Option(help="How to make images square.", rich_help_panel=IMAGES)],
        "engine": Annotated[
            Literal["auto", "openvino", "keras"],
            typer.Option(help="Inference engine; auto picks the fastest.", rich_help_panel=ENGINE),
        ],
        "precision": Annotated[Precision, typer.Option(help="Numeric precision.", rich_help_panel=ENGINE)],
        "calibrate": Annotated[
            list[str] | None,
            typer.Option(metavar="IMAGE", help="Images to calibrate int8 on.", rich_help_panel=ENGINE),
        ],
        "batch_size": Annotated[
            int, typer.Option(metavar="N", min=1, help="Images per batch.", rich_help_panel=ENGINE)
        ],
        "workers": Annotated[
            int | None,
            typer.Option(metavar="N", min=1, help="Decoding threads (default: one per core).", rich_help_panel=ENGINE),
        ],
        "labels": LabelsFile,
    },
    RecipeOptions: {
        "epochs": Annotated[
            int | None, typer.Option(metavar="N", help="Training epochs (default: 90).", rich_help_panel=RECIPE)
        ],
        "batch_size": Annotated[
            int | None, typer.Option(metavar="N", help="Images per step (default: 8-128).", rich_help_panel=RECIPE)
        ],
        "learning_rate": Annotated[
            float | None,
            typer.Option(
                "--lr", metavar="R", help="Peak learning rate (default: by batch size).", rich_help_panel=RECIPE
            ),
        ],
        "warmup": Annotated[
            int | None, typer.Option(metavar="N", help="Warm-up epochs (default: 1).", rich_help_panel=RECIPE)
        ],
        "cooldown": Annotated[
            int | None, typer.Option(metavar="N", help="Decay epochs (default: the rest).", rich_help_panel=RECIPE)
        ],
        "sizes": Annotated[
            Any,
            typer.Option(
                parser=parse_sizes,
                metavar="PxN,...",
                help="First train N epochs at P pixels.",
                rich_help_panel=RECIPE,
            ),
        ],
        "crop": Annotated[
            float | None,
            typer.Option(
                metavar="S", help="Smallest crop, as a share of the area (default: 0.35).", rich_help_panel=RECIPE
            ),
        ],
        "freeze_backbone": Annotated[
            bool | None,
            typer.Option("--freeze-backbone", help="Train only the final layer.", rich_help_panel=RECIPE),
        ],
        "precision": Annotated[
            Literal["auto", "f32", "bf16"] | None,
            typer.Option(help="Precision (default: auto).", rich_help_panel=RECIPE),
        ],
        "seed": Annotated[
            int | None, typer.Option(metavar="N", help="Random seed (default: 0).", rich_help_panel=RECIPE)
        ],
        "keep": Annotated[
            Literal["best", "last"] | None,
            typer.Option(help="Epoch whose weights are saved (default: best).", rich_help_panel=RECIPE),
        ],
        "validation_share": Annotated[
            float | None,
            typer.Option(metavar="S", help="Share to hold out without val/ (default: 0.05).", rich_help_panel=RECIPE),
        ],
    },
}
NETWORK_OPTIONS, INFERENCE_OPTIONS, RECIPE_OPTIONS = (tuple(annotations) for annotations in GROUPS.values())


def command(
    app: typer.Typer, *shared: str, examples: tuple[str, ...], name: str | None = None, panel: str | None = None
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Register a command with shared options and the verbosity options.

    Args:
        app: the app to register it with.
        shared: fields of the classes in `GROUPS`. They become options in place of the parameter that is annotated with
            their class, which receives an object of it.
        examples: lines for the end of its help.
        name: its name, if it is not the function's.
        panel: its panel in the help of the app.
    """

    def option(name: str, annotation: Any, default: object) -> inspect.Parameter:
        return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)

    def register(function: Callable[..., None]) -> Callable[..., None]:
        parameters: list[inspect.Parameter] = []
        groups: dict[str, tuple[type, list[str]]] = {}
        for parameter in inspect.signature(function).parameters.values():
            kind = parameter.annotation
            if kind not in GROUPS:
                parameters.append(parameter)
                continue
            used = [field for field in fields(kind) if field.name in shared]
            parameters += [option(field.name, GROUPS[kind][field.name], field.default) for field in used]
            groups[parameter.name] = kind, [field.name for field in used]
        parameters += [option("verbose", Verbose, False), option("quiet", Quiet, False)]

        @wraps(function)
        def wrapper(verbose: bool, quiet: bool, **arguments: Any) -> None:
            for name, (kind, used) in groups.items():
                arguments[name] = kind(**{field: arguments.pop(field) for field in used})
            function(**arguments)

        wrapper.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        wrapper.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        return app.command(name, cls=Command, epilog=examples_text(*examples), rich_help_panel=panel)(wrapper)

    return register


@contextmanager
def task(bar: Bar, *, decodes: bool = False) -> Iterator[Bar]:
    """Show the progress of a task, and hide the messages of libraries.

    Args:
        bar: the progress.
        decodes: whether the task decodes images, for which the command line sets Pillow up.
    """
    with quiet_libraries(decodes=decodes), bar:
        yield bar


@contextmanager
def quiet_libraries(*, decodes: bool = False) -> Iterator[None]:
    """Hide the messages of libraries, and set Pillow up if images are decoded."""
    if decodes:
        from resnet_cli.images import decode

        decode.configure_pillow()
    with terminal.mute_libraries():
        yield


def start(
    weights: str, requested: NetworkOptions, inference: InferenceOptions, inputs: list[str], *, throughput: bool
) -> "Model":
    """Load a model and start its engine, in a thread, so that Ctrl-C ends it at once."""
    from resnet_cli.tasks.classify import start_model

    with ProgressBar("Reading weights") as progress:
        return interrupts.run_in_thread(
            lambda: start_model(weights, requested, inference, progress, sources=inputs, throughput=throughput)
        )
