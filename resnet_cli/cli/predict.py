"""`resnet predict`: any number of images -> records, on standard output or in a file that a later run can resume."""

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from resnet_cli.cli.options import (
    CLASSIFY_PANEL,
    IMAGES,
    INFERENCE_OPTIONS,
    OUTPUT,
    Force,
    Resume,
    Weights,
    command,
    parse_shard,
    quiet_libraries,
    start,
)
from resnet_cli.errors import UsageError
from resnet_cli.network.architecture import NetworkOptions
from resnet_cli.output import terminal
from resnet_cli.output.progress import ProgressBar
from resnet_cli.system import interrupts
from resnet_cli.system.progress import SILENT
from resnet_cli.tasks.options import InferenceOptions

if TYPE_CHECKING:
    from resnet_cli.output.destination import Destination
    from resnet_cli.output.predictions import RecordCount
    from resnet_cli.output.resume import Plan, Settings
    from resnet_cli.system.prefetch import Prefetcher
    from resnet_cli.tasks.classify import Model
    from resnet_cli.tasks.results import Result

app = typer.Typer()

NAMES_AHEAD = 100_000  # names listed in advance, of about 100 bytes each; the total is known if fewer are left
COUNT_SECONDS = 0.5  # to wait for the end of the list before the first image is shown as done


@command(
    app,
    "depth",
    *INFERENCE_OPTIONS,
    panel=CLASSIFY_PANEL,
    examples=(
        "resnet predict dog.png",
        "resnet predict --top-k 5 --depth 101 photos/",
        "resnet predict --format jsonl -o answers.jsonl --resume photos/",
    ),
)
def predict(
    *,
    image: Annotated[
        list[str] | None,
        typer.Argument(metavar="IMAGE...", help="Files, folders, 'patterns', URLs, or - (stdin)."),
    ] = None,
    files_from: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Read image names from FILE or -, one per line.", rich_help_panel=IMAGES),
    ] = None,
    nul: Annotated[
        bool, typer.Option("-0", "--null", help="--files-from is NUL-separated.", rich_help_panel=IMAGES)
    ] = False,
    exclude: Annotated[
        list[str] | None,
        typer.Option(metavar="PATTERN", help="Leave out of folders (repeatable).", rich_help_panel=IMAGES),
    ] = None,
    shard: Annotated[
        Any,
        typer.Option(parser=parse_shard, metavar="K/N", help="Classify only shard K of N.", rich_help_panel=IMAGES),
    ] = None,
    top_k: Annotated[
        int, typer.Option("-k", "--top-k", metavar="N", min=1, help="Labels per image.", rich_help_panel=OUTPUT)
    ] = 3,
    min_probability: Annotated[
        float, typer.Option(metavar="P", min=0, max=1, help="Report unknown below it.", rich_help_panel=OUTPUT)
    ] = 0,
    requested: NetworkOptions,
    weights: Weights = "auto",
    output_format: Annotated[
        Literal["table", "json", "jsonl", "csv"] | None,
        typer.Option("--format", help="Output format (default: by the suffix of -o).", rich_help_panel=OUTPUT),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Output file (default: stdout).", rich_help_panel=OUTPUT)
    ] = None,
    resume: Resume = False,
    update: Annotated[
        bool, typer.Option("--update", help="Classify only new and changed images.", rich_help_panel=OUTPUT)
    ] = False,
    force: Force = False,
    features: Annotated[
        Path | None, typer.Option(help="Save features (embeddings) as NPZ.", rich_help_panel=OUTPUT)
    ] = None,
    inference: InferenceOptions,
) -> None:
    """Classify images and print the most probable labels."""
    from resnet_cli.images import folders, inputs
    from resnet_cli.output import records
    from resnet_cli.output.destination import Destination
    from resnet_cli.system.prefetch import Prefetcher
    from resnet_cli.tasks.classify import classify_images

    interrupts.start_watchdog()
    if not 0 <= min_probability <= 1:  # also false for NaN
        raise UsageError(f"--min-probability must be from 0 to 1, got {min_probability}")
    arguments = image or []
    for path in (output, features):  # `-o *.jpg` makes the first photo the output
        if path and folders.is_image(str(path)):
            raise UsageError(f"{path}: expected a name for results, such as answers.jsonl, got an image")
    chosen_format = records.format_of(output, output_format)
    destination = Destination(chosen_format, output, resume, update, force, features)
    read = [*arguments, weights, *inference.files]
    inputs.check_outputs(destination.files, read, files_from, null_separated=nul)
    names = inputs.all_names(arguments, files_from, null_separated=nul)
    many = files_from is not None or not inputs.is_single_image(arguments)
    skipped = folders.Skipped()
    found = inputs.find(names, skipped, exclude or ())
    chosen = inputs.shard(found, *shard) if shard else found
    with destination.lock(), quiet_libraries(decodes=True), count_records(destination) as count:
        # Names are only listed in advance if their number is shown.
        bar = ProgressBar("Classifying") if output or not sys.stdout.isatty() else None
        listed = Prefetcher(chosen, NAMES_AHEAD) if bar and bar.visible else None
        remaining = iter(listed or chosen)
        model = start(weights, requested, inference, arguments, throughput=many)
        settings = record_settings(model, chosen_format, top_k, min_probability, shard or (1, 1))
        plan = destination.plan(settings, remaining)
        unclassified = plan.unclassified(remaining, inputs.stamp)
        results = classify_images(unclassified, model, top_k=top_k, min_probability=min_probability)
        try:
            write_results(results, destination, settings, plan, count, bar, listed)
        finally:
            if skipped.kinds:
                kinds = ", ".join(f"{count:,} {kind}" for kind, count in skipped.kinds.most_common())
                total = skipped.kinds.total()
                terminal.note(f"{total:,} {'file' if total == 1 else 'files'} left out: {kinds}")
            terminal.detail(f"skipped in folders: {skipped.hidden:,} hidden, {skipped.not_images:,} not images")
    raise typer.Exit(1 if count.failed else 0)


@contextmanager
def count_records(destination: "Destination") -> "Iterator[RecordCount]":
    """Count records; if a signal interrupts, report the count and how to resume."""
    from resnet_cli.output.predictions import RecordCount

    count = RecordCount()
    try:
        yield count
    except interrupts.INTERRUPTIONS:
        advice = "with --format jsonl -o FILE the run could be resumed"
        if destination.resumable:
            option = "--update" if destination.update else "--resume"
            advice = f"run the same command with {option} to continue"
        if count.replaces:
            advice = f"{destination.path} is as it was; run the same command again"
        terminal.warning(f"interrupted after {count.done:,} images; {advice}")
        raise


def record_settings(
    model: "Model", output_format: str, top_k: int, min_probability: float, shard: tuple[int, int]
) -> "Settings":
    """Return everything but the images that determines the records, by user-facing name."""
    from resnet_cli.engines.engine import engine_name

    settings = {
        "format": output_format,
        "model": model.name,
        "weights": model.weights,
        "content of the weights": model.file.digest,
        "engine": engine_name(model.engine),
        "precision": model.engine.precision,
        "calibrate": model.options.calibration_key,
        "fit": model.options.fit,
        "top-k": min(top_k, len(model.labels)),
        "min-probability": min_probability,
        "shard": "{}/{}".format(*shard),
    }
    if model.options.labels:
        settings["labels"] = [label.name for label in model.labels]
    return settings


def write_results(
    results: "Iterator[Result]",
    destination: "Destination",
    settings: "Settings",
    plan: "Plan",
    count: "RecordCount",
    bar: ProgressBar | None,
    listed: "Prefetcher[str] | None",
) -> None:
    """Write the records of results, and their features if requested.

    Args:
        results: the results.
        destination: where to write them.
        settings: what the records depend on, by name.
        plan: what is taken over from an earlier run.
        count: updated in place, also with the records of the earlier run.
        bar: shows the number of records; None if the results on a terminal are their own progress.
        listed: the images, which are counted first if that is quick.

    Raises:
        UsageError: something cannot be written.
    """
    from resnet_cli.output import predictions

    count.done, count.failed = plan.done.records, plan.done.failed
    count.replaces = plan.earlier is not None
    if count.done:
        terminal.note(f"{destination.path}: resuming after {count.done:,} images")
    with ExitStack() as stack:
        write = stack.enter_context(destination.open(settings, plan))
        if destination.features:
            from resnet_cli.output import features

            results = map(stack.enter_context(features.open_features(destination.features)), results)
        progress = stack.enter_context(bar) if bar else SILENT
        if listed:
            listed.wait(COUNT_SECONDS)
        progress.count(count.done, listed.total if listed else None)
        row = predictions.OUTPUT_FORMATS[destination.format]
        predictions.write_records(plan.merge(results), row, write, count, progress, listed)
    if plan.earlier:
        terminal.note(f"{destination.path}: images classified: {count.done - plan.kept:,}, records kept: {plan.kept:,}")
