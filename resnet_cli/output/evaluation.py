"""What was measured to stdout: evaluations, trainings and benchmarks as Rich tables or JSON."""

from dataclasses import asdict
from datetime import timedelta
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from resnet_cli import terminal
from resnet_cli.records import safe_json
from resnet_cli.render import complain, count, write_json
from resnet_cli.terminal import printable

if TYPE_CHECKING:
    from resnet_cli.benchmark import Benchmark
    from resnet_cli.evaluate import Evaluation
    from resnet_cli.models import Model
    from resnet_cli.train import Trained


def evaluation_json(evaluation: "Evaluation", model: "Model") -> None:
    """Print an evaluation as one JSON object."""
    (top1, *interval1), (top5, *interval5) = evaluation.top(1), evaluation.top(5)
    fields = {
        "model": model.metadata.architecture.name,
        "weights": model.weights,
        "images": len(evaluation.answers),
        "failed": len(evaluation.failures),
        "top1": top1,
        "top1_interval": interval1,
        "top5": top5,
        "top5_interval": interval5,
        "loss": evaluation.loss,
        "calibration_error": evaluation.calibration_error,
        "images_per_second": evaluation.images_per_second,
    }
    _complain_of(evaluation)
    write_json(safe_json(fields) + "\n")


def evaluation_table(evaluation: "Evaluation", model: "Model") -> None:
    """Print an evaluation as a table."""
    _complain_of(evaluation)
    table = Table(title=Text(f"{model.metadata.architecture.name}, {printable(model.weights)}"), show_header=False)
    table.add_row("images", count(len(evaluation.answers)))
    table.add_row("failed", count(len(evaluation.failures)))
    for k in (1, 5):
        share, low, high = evaluation.top(k)
        table.add_row(f"top-{k}", f"{share:.2%}  (95 %: {low:.2%} to {high:.2%})")
    table.add_row("loss", f"{evaluation.loss:.4f}")
    table.add_row("calibration error", f"{evaluation.calibration_error:.2%}")
    table.add_row("images a second", f"{evaluation.images_per_second:.1f}")
    terminal.out.print(table)


def _complain_of(evaluation: "Evaluation") -> None:
    for path, reason in evaluation.failures:
        complain(path, reason)


EVALUATIONS = {"table": evaluation_table, "json": evaluation_json}


def trained_json(trained: "Trained") -> None:
    """Print what a training came to as one JSON object."""
    write_json(safe_json(asdict(trained)) + "\n")


def trained_table(trained: "Trained") -> None:
    """Print what a training came to as a table."""
    table = Table(title=Text(f"{trained.architecture}, {printable(trained.path)}"), show_header=False)
    table.add_row("classes", count(trained.classes))
    table.add_row("images", count(trained.images))
    table.add_row("images to validate with", count(trained.validation_images))
    table.add_row("bad images left out", count(len(trained.bad)))
    table.add_row("epochs", count(trained.epochs))
    table.add_row("top-1", f"{trained.val_accuracy:.2%}")
    table.add_row("top-5", f"{trained.val_top5:.2%}")
    table.add_row("loss", f"{trained.val_loss:.4f}  (untempered: {trained.val_loss_untempered:.4f})")
    table.add_row("temperature", f"{trained.temperature:.3f}")
    table.add_row("images a second", f"{trained.images_per_second:.1f}  ({trained.precision})")
    table.add_row("time", str(timedelta(seconds=round(trained.seconds))))
    terminal.out.print(table)


TRAININGS = {"table": trained_table, "json": trained_json}


# What a benchmark's figures are called, and how one is written.
FIGURES = {
    "engine_images_per_second": ("engine alone, images a second", "{:.1f}"),
    "decode_images_per_second": ("decoding alone, images a second", "{:.1f}"),
    "end_to_end_images_per_second": ("end to end, images a second", "{:.1f}"),
    "expected_images_per_second": ("expected of these two, images a second", "{:.1f}"),
    "share_of_expected": ("share of the expected", "{:.0%}"),
    "against_images_per_second": ("{against} alone, images a second", "{:.1f}"),
    "ratio": ("times as fast as {against}", "{:.2f}"),
    "cold_seconds": ("first answer ever, seconds", "{:.2f}"),
    "warm_seconds": ("first answer of a later process, seconds", "{:.2f}"),
    "cold_peak_bytes": ("memory of the first answer ever, MB", "{:.0f}"),
    "warm_peak_bytes": ("memory of a later process, MB", "{:.0f}"),
}


def benchmark_json(benchmark: "Benchmark") -> None:
    """Print a benchmark as one JSON object."""
    fields = asdict(benchmark) | {"runs": len(benchmark.runs)}
    write_json(safe_json(fields | {name: asdict(spread) for name, spread in benchmark.figures.items()}) + "\n")


def benchmark_table(benchmark: "Benchmark") -> None:
    """Print a benchmark as a table."""
    machine = benchmark.machine
    name = f"{benchmark.model}, {printable(benchmark.weights)}, {benchmark.engine} {benchmark.precision}"
    table = Table(
        title=Text(f"{name}, {benchmark.images} images", "bold"), title_justify="left", caption_justify="left"
    )
    versions = ", ".join(f"{library} {version}" for library, version in machine.versions.items())
    memory = f"{benchmark.peak_bytes / 1e6:.0f} MB in this process"
    table.caption = Text(f"{machine.processor}, {machine.cores} cores; {memory}; {versions}", "dim")
    table.add_column(f"runs: {len(benchmark.runs)}")
    for column in ("median", "min", "max"):
        table.add_column(column, justify="right")
    for figure, (title, form) in FIGURES.items():
        if spread := benchmark.figures.get(figure):
            scale = 1e6 if figure.endswith("bytes") else 1
            values = (spread.median, spread.min, spread.max)
            cells = (form.format(value / scale) for value in values)
            table.add_row(title.format(against=benchmark.against), *cells)
    terminal.out.print(table)


BENCHMARKS = {"table": benchmark_table, "json": benchmark_json}
