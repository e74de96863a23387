"""The command line: parse, call one function, render."""

import os
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from resnet_cli import __version__, cli_cache, cli_train, cli_weights, interrupts, render, reports, terminal
from resnet_cli.errors import ResnetError, UsageError
from resnet_cli.options import (
    COMPUTING_OPTIONS,
    ENGINE,
    IMAGES,
    NETWORK,
    NETWORK_OPTIONS,
    OUTPUT,
    Computing,
    Force,
    Format,
    InitialWeights,
    Quiet,
    Resume,
    Verbose,
    Weights,
    command,
    examples_text,
    parse_shard,
)

if TYPE_CHECKING:
    from resnet_cli.engines import Engine, Setup
    from resnet_cli.models import Model

app = typer.Typer(
    name="resnet",
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)


_command = partial(command, app)


@app.callback(
    invoke_without_command=True,
    epilog=examples_text("resnet predict dog.png", "resnet summary --depth 50", "resnet build -o resnet50.keras"),
)
def _resnet(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> None:
    """Classify images with a ResNet, from the command line."""
    if version:
        typer.echo(f"resnet {__version__}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


@_command(
    *NETWORK_OPTIONS,
    examples=(
        "resnet summary",
        "resnet summary resnet50v2 --expand",
        "resnet summary --stages 2,2,2,2 --width 32 --image-size 64 --format json",
    ),
)
def summary(
    *,
    asked: dict[str, Any],
    expand: Annotated[bool, typer.Option("--expand", help="A row a layer.", rich_help_panel=OUTPUT)] = False,
    output_format: Format = "table",
) -> None:
    """Show a network without building it: shapes, parameters and multiply-accumulates."""
    from resnet_cli import architecture, graph

    network = graph.resnet(architecture.resnet(**asked))
    if output_format == "json":
        render.summary_json(network)
    else:
        render.summary_table(network, expand=expand)


@_command(called="models", examples=("resnet models", "resnet models --format json"))
def list_models(*, output_format: Format = "table") -> None:
    """List the published networks: what they cost, how good they are, what weights there are."""
    from resnet_cli import catalogue

    render.MODELS[output_format](catalogue.networks())


@_command(
    *NETWORK_OPTIONS,
    examples=(
        "resnet build -o resnet50.keras",
        "resnet build resnet34 -o resnet34.keras",
        "resnet build --stages 2,2,2,2 --width 32 --classes 10 -o small.keras",
    ),
)
def build(
    *,
    asked: dict[str, Any],
    weights: InitialWeights = "none",
    output: Annotated[
        Path,
        typer.Option("-o", "--output", help="The file: .keras, .safetensors, .h5, .onnx...", rich_help_panel=OUTPUT),
    ] = Path("model.keras"),
    force: Force = False,
) -> None:
    """Build a ResNet from scratch with Keras and write it to a file."""
    from resnet_cli import build

    with terminal.libraries_muted(), terminal.Activity("Describing the network") as activity:
        network, size = build.build(output, weights, asked, force=force, activity=activity)
    render.built(network, output, size)


@_command(
    "depth",
    examples=(
        "resnet convert tiny tiny.onnx",
        "resnet convert published.keras published.xml",
        "resnet convert --names pytorch model.keras model.safetensors",
    ),
)
def convert(
    *,
    source: Annotated[str, typer.Argument(metavar="IN", help="A file of weights, or a name.")],
    output: Annotated[Path, typer.Argument(metavar="OUT", help="The file; its suffix is its format.")],
    asked: dict[str, Any],
    names: Annotated[
        Literal["keras", "pytorch"],
        typer.Option(help="Whose names arrays get in .safetensors.", rich_help_panel=OUTPUT),
    ] = "keras",
    image: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="What to compare on (default: a cat).", rich_help_panel=OUTPUT),
    ] = None,
    force: Force = False,
    output_format: Format = "table",
) -> None:
    """Write a model in another format; the file is kept only if it answers alike.

    OUT ends with .keras, .weights.h5, .h5 (Keras 2), .safetensors, .xml (OpenVINO
    IR; a .bin comes with it) or .onnx. The last two turn RGB from 0 to 255 into
    probabilities: .xml takes uint8 (1, size, size, 3), .onnx takes float32
    (batch, 3, size, size).
    """
    from resnet_cli import convert

    with terminal.libraries_muted(), terminal.Activity("Reading weights") as activity:
        converted = convert.convert(source, output, asked, activity, names=names, image=image, force=force)
    render.CONVERSIONS[output_format](converted)


@_command(
    "depth",
    *COMPUTING_OPTIONS,
    examples=(
        "resnet predict dog.png",
        "resnet predict --top-k 5 --depth 101 photos/",
        "resnet predict --format jsonl -o answers.jsonl --resume photos/",
    ),
)
def predict(
    *,
    image: Annotated[
        list[str] | None, typer.Argument(metavar="IMAGE...", help="Files, folders, 'patterns', addresses, or -.")
    ] = None,
    files_from: Annotated[
        str | None, typer.Option(metavar="FILE", help="Read names from FILE or -, one a line.", rich_help_panel=IMAGES)
    ] = None,
    nul: Annotated[bool, typer.Option("-0", "--null", help="There, NUL ends a name.", rich_help_panel=IMAGES)] = False,
    shard: Annotated[
        Any, typer.Option(parser=parse_shard, metavar="K/N", help="Every N-th image only.", rich_help_panel=IMAGES)
    ] = None,
    top_k: Annotated[int, typer.Option("-k", "--top-k", min=1, help="Labels an image.", rich_help_panel=OUTPUT)] = 3,
    min_probability: Annotated[
        float, typer.Option(min=0, max=1, help="Below it: unknown.", rich_help_panel=OUTPUT)
    ] = 0,
    asked: dict[str, Any],
    weights: Weights = "auto",
    output_format: Annotated[
        Literal["table", "json", "jsonl", "csv"],
        typer.Option("--format", help="How results are printed.", rich_help_panel=OUTPUT),
    ] = "table",
    output: Annotated[Path | None, typer.Option("-o", "--output", help="A file.", rich_help_panel=OUTPUT)] = None,
    resume: Resume = False,
    features: Annotated[
        Path | None, typer.Option(help="Write what the last layer sees: NPZ.", rich_help_panel=OUTPUT)
    ] = None,
    computing: Computing,
) -> None:
    """Name what is in each image: the most probable labels."""
    from resnet_cli import bulk, inputs

    interrupts.watch()
    given = image or []
    wanted = bulk.Wanted(output_format, output, resume, top_k, min_probability, shard, features)
    names = bulk.names(given, files_from, nul)
    many = files_from is not None or not inputs.is_one(given)
    with terminal.libraries_muted(), bulk.counted(wanted) as count:
        setup = _setup(computing, many, given)
        model, engine = _ready(weights, asked, computing.engine, setup)
        bulk.run(names, model, engine, setup, wanted, computing.stream, count)
    raise typer.Exit(1 if count.failed else 0)


@_command(
    "depth",
    *COMPUTING_OPTIONS,
    examples=(
        "resnet evaluate val/",
        "resnet evaluate --weights my.safetensors --mistakes mistakes.csv val/",
        "resnet evaluate --confusion confusion.png --format json val/",
    ),
)
def evaluate(
    *,
    data: Annotated[Path, typer.Argument(metavar="DATA", help="A folder with a folder a class.")],
    asked: dict[str, Any],
    weights: Weights = "auto",
    per_class: Annotated[Path | None, typer.Option(help="Write a row a class: CSV.", rich_help_panel=OUTPUT)] = None,
    confusion: Annotated[Path | None, typer.Option(help="Draw the confusion: PNG.", rich_help_panel=OUTPUT)] = None,
    mistakes: Annotated[Path | None, typer.Option(help="Write wrong answers: CSV.", rich_help_panel=OUTPUT)] = None,
    output_format: Format = "table",
    computing: Computing,
) -> None:
    """Measure how good a model is on images whose class their folder names."""
    from resnet_cli import evaluate, files

    if confusion and confusion.suffix != ".png":
        raise UsageError(f"{confusion}: the name must end with .png")
    writers = (evaluate.write_classes, evaluate.write_mistakes, evaluate.draw_confusion)
    besides = [(path, write) for path, write in zip((per_class, mistakes, confusion), writers, strict=True) if path]
    for path, _ in besides:
        files.check(path)
    with terminal.libraries_muted():
        setup = _setup(computing, True, [str(data)])
        model, engine = _ready(weights, asked, computing.engine, setup)
        with terminal.Counting("Classifying") as progress:
            evaluation = evaluate.evaluate(data, model, engine, progress=progress.count, **computing.stream)
        reports.EVALUATIONS[output_format](evaluation, model)
        for path, write in besides:
            write(evaluation, path)
    raise typer.Exit(1 if evaluation.failures else 0)


@_command(
    "depth",
    *("engine", "precision", "batch_size", "workers"),
    examples=(
        "resnet benchmark",
        "resnet benchmark --weights none --against keras",
        "resnet benchmark --images photos/ --precision int8 --format json",
    ),
)
def benchmark(
    *,
    asked: dict[str, Any],
    weights: Annotated[
        str, typer.Option(metavar="NAME|FILE", help="As predict; none: random ones.", rich_help_panel=NETWORK)
    ] = "auto",
    photos: Annotated[
        str | None,
        typer.Option("--images", metavar="FOLDER", help="Default: some of noise.", rich_help_panel=IMAGES),
    ] = None,
    runs: Annotated[int, typer.Option(min=1, help="How often to measure.", rich_help_panel=OUTPUT)] = 5,
    output_format: Format = "table",
    computing: Computing,
    against: Annotated[
        Literal["openvino", "keras"] | None,
        typer.Option(help="Another engine, in f32, in turn.", rich_help_panel=ENGINE),
    ] = None,
) -> None:
    """Measure how fast a model answers on this machine."""
    from resnet_cli import benchmark
    from resnet_cli.engines import Precision

    options = benchmark.Options(
        engine=computing.engine,
        precision=Precision(computing.precision),
        against=against,
        batch_size=computing.batch_size,
        workers=computing.workers,
        runs=runs,
    )
    with terminal.libraries_muted(), terminal.Activity("Reading weights") as activity:
        measured = benchmark.benchmark(weights, asked, photos, options, activity)
    reports.BENCHMARKS[output_format](measured)


for further in (cli_train.app, cli_weights.app, cli_cache.app):
    app.add_typer(further)


def _setup(computing: Computing, many: bool, inputs: list[str]) -> "Setup":
    from resnet_cli import predict
    from resnet_cli.engines import Precision, Setup

    calibrated_on = computing.calibrate and [os.path.realpath(name) for name in computing.calibrate]
    files = [name for name in computing.calibrate or inputs if name != "-"]  # standard input can be read only once
    return Setup(Precision(computing.precision), many, predict.calibration(files, computing.fit), calibrated_on)


def _ready(weights: str, asked: dict[str, Any], engine: str, setup: "Setup") -> "tuple[Model, Engine]":
    """Load a model and the engine that computes it, and show that work goes on."""
    from resnet_cli import engines, models

    def load() -> "tuple[Model, Engine]":
        model = models.load(weights, asked, activity)
        return model, engines.start(engine, model, setup, activity)

    with terminal.Activity("Reading weights") as activity:
        return interrupts.apart(load)


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
        if message := error.format_message():  # none where the help was shown in place of a missing command
            terminal.error(message)
        code = error.exit_code
    except SystemExit as error:  # Rich and Typer end so when the reader of a pipe has gone
        if not isinstance(error.__context__, BrokenPipeError):
            raise
        code = 0
    except OSError as error:
        terminal.error(f"{error.filename or 'the results'}: {error.strerror or error}")
        code = 1
    except Exception as error:
        if os.environ.get("RESNET_DEBUG") == "1":
            raise
        terminal.error(f"{type(error).__name__}: {error}\nSet RESNET_DEBUG=1 to see where.")
        code = 1
    return code
