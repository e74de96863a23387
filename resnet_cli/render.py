"""The only module that prints: results to stdout, everything else to stderr."""

import json
import logging
import os
import re
import sys
import time
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, astuple
from datetime import timedelta
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from rich.bar import Bar
from rich.console import Console
from rich.filesize import decimal
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn
from rich.table import Table
from rich.text import Text

from resnet_cli.graph import Graph, totals

if TYPE_CHECKING:
    from resnet_cli.datasets import Tree
    from resnet_cli.evaluate import Evaluation
    from resnet_cli.models import Model
    from resnet_cli.predict import Record
    from resnet_cli.recipe import Epoch
    from resnet_cli.train import Trained
    from resnet_cli.training import Run

QUIET, NORMAL, VERBOSE = -1, 0, 1
verbosity = NORMAL

if os.environ.get("COLUMNS") == "0":
    del os.environ["COLUMNS"]  # what shells without a terminal say; Rich would print nothing at all
out = Console(highlight=False)
err = Console(stderr=True, highlight=False)

# Control characters, lone surrogates (bytes that are not UTF-8) and marks that reorder or hide text.
UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff]")


def printable(text: str) -> str:
    r"""Return text that a terminal shows and never obeys: unsafe characters become `\uXXXX`."""
    return UNSAFE.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def _safe_json(value: object) -> str:
    """Return one line of JSON with unsafe characters escaped as JSON does."""
    return printable(json.dumps(value, ensure_ascii=False))


def _write(text: str) -> None:
    """Write JSON, which is UTF-8 whatever the locale."""
    sys.stdout.buffer.write(text.encode())
    sys.stdout.flush()


def error(message: str) -> None:
    """Print an error to stderr; its first line says what and which file."""
    err.print(Text.assemble(("error: ", "bold red"), _printable_lines(message)), soft_wrap=True)


def warning(message: str) -> None:
    """Print a warning to stderr, unless quiet."""
    if verbosity > QUIET:
        err.print(Text.assemble(("warning: ", "yellow"), _printable_lines(message)), soft_wrap=True)


def detail(message: str) -> None:
    """Print what only `--verbose` shows to stderr."""
    if verbosity >= VERBOSE:
        err.print(Text(_printable_lines(message), "dim"), soft_wrap=True)


def _printable_lines(message: str) -> str:
    return "\n".join(printable(line) for line in message.split("\n"))


class Activity:
    """Shows on a terminal that work goes on, and how far a download is.

    `total`, `update`, `reset` and `close` are what pooch calls while it downloads.
    """

    def __init__(self, text: str) -> None:
        self._started = time.monotonic()
        self._downloading = False
        self._shown = verbosity > QUIET and err.is_terminal
        columns = (TextColumn("{task.description}", markup=False), BarColumn(20), TextColumn("{task.fields[size]}"))
        self._bar = Progress(SpinnerColumn(), *columns, console=err, transient=True, disable=not self._shown)
        self._task = self._bar.add_task(text, total=None, size="")

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def report(self, text: str) -> None:
        """Say what goes on now."""
        detail(f"{time.monotonic() - self._started:.2f} s: {text}")
        self._bar.reset(self._task, total=None, description=printable(text), size="")

    @property
    def total(self) -> int:
        """Bytes to download, 0 where the server does not say."""
        return int(self._bar.tasks[0].total or 0)

    @total.setter
    def total(self, size: int) -> None:
        if verbosity > QUIET and not self._shown and not self._downloading:
            err.print(f"Downloading {decimal(size) + ' of ' if size else ''}weights")
        self._downloading = True
        self._bar.update(self._task, description="Downloading weights", total=size or None)

    def update(self, size: int) -> None:
        """Count bytes that have come."""
        self._bar.advance(self._task, size)
        done = decimal(int(self._bar.tasks[0].completed))
        self._bar.update(self._task, size=f"{done} of {decimal(self.total)}" if self.total else done)

    def reset(self) -> None:
        """Count from zero again."""
        self._bar.update(self._task, completed=0)

    def close(self) -> None:
        """End the download."""


@contextmanager
def libraries_muted() -> Iterator[None]:
    """Keep what libraries log away from the terminal, unless verbose.

    C libraries (TensorFlow, libtiff) write to descriptor 2; so Python's stderr moves to a copy of it meanwhile.
    """
    if verbosity >= VERBOSE or os.environ.get("RESNET_DEBUG") == "1":
        yield
        return
    warnings.simplefilter("ignore")
    logging.disable()
    real, python_stderr = os.dup(2), sys.stderr
    with os.fdopen(os.dup(real), "w", buffering=1, encoding=sys.stderr.encoding, errors="backslashreplace") as moved:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 2)
        os.close(null)
        if python_stderr is sys.__stderr__:
            sys.stderr = moved
        try:
            yield
        finally:
            sys.stderr = python_stderr
            os.dup2(real, 2)
            os.close(real)
            logging.disable(logging.NOTSET)


def _count(number: int) -> str:
    return f"{number:,}"


def summary_json(network: Graph) -> None:
    """Print a network's layers and totals as one JSON object."""
    architecture = network.architecture
    layers = [
        {"name": op.name, "stage": op.stage, "kind": op.kind, "output_shape": op.output_shape, **asdict(totals([op]))}
        for op in network.ops
    ]
    fields = {
        "model": architecture.name,
        "image_size": architecture.image_size,
        "classes": architecture.head.classes,
        "totals": asdict(totals(network.ops)),
    }
    rows = ",\n".join(f"  {_safe_json(layer)}" for layer in layers)
    _write(f'{_safe_json(fields)[:-1]}, "layers": [\n{rows}\n]}}\n')


def summary_table(network: Graph, *, expand: bool) -> None:
    """Print a network as a table, a row a stage or a row a layer, with totals."""
    architecture = network.architecture
    table = Table(title=f"{architecture.name}, {architecture.image_size} x {architecture.image_size}", show_footer=True)
    columns = ["layer", "kind"] if expand else ["stage", "blocks"]
    columns += ["output", "parameters", "trainable", "MACs"]
    footers = dict(zip(columns[3:], map(_count, astuple(totals(network.ops))), strict=True))
    for width, dropped in {110 if expand else 78: ("kind", "trainable"), 66: ("blocks",), 57: ("output",)}.items():
        if out.width < width:
            columns = [column for column in columns if column not in dropped]
    for column in columns:
        left = column in ("layer", "stage", "kind")
        footer = "total" if column == columns[0] else footers.get(column, "")
        table.add_column(column, footer, justify="left" if left else "right", overflow="fold")

    for stage, group in groupby(network.ops, key=lambda op: op.stage):
        members = list(group)
        for op in members if expand else members[-1:]:
            counts = totals([op] if expand else members)
            blocks = sum(member.kind == "Add" for member in members)
            cells = {
                "layer": op.name,
                "kind": op.kind,
                "stage": stage,
                "blocks": str(blocks or ""),
                "output": " x ".join(map(str, op.output_shape)),
                "parameters": _count(counts.parameters),
                "trainable": _count(counts.trainable),
                "MACs": _count(counts.macs),
            }
            table.add_row(*(cells[column] for column in columns), end_section=expand and op is members[-1])
    out.print(table)


def record_fields(record: "Record") -> dict[str, Any]:
    """Return a record as the JSON object that scripts read."""
    fields: dict[str, Any] = {"image": record.image, "model": record.model, "weights": record.weights}
    if record.error:
        return fields | {"error": {"kind": record.error.kind, "message": str(record.error)}}
    predictions = [
        {
            "rank": prediction.rank,
            "index": prediction.index,
            "wnid": prediction.label.wnid,
            "label": prediction.label.name,
            "probability": float(f"{prediction.probability:.5g}"),
        }
        for prediction in record.predictions
    ]
    return fields | {"predictions": predictions}


def _complain(record: "Record") -> None:
    if record.error:
        error(f"{printable(record.image)}: {record.error}")


def records_json(records: Iterable["Record"]) -> bool:
    """Print records as a JSON array and failures to stderr; return whether all images were answered."""
    answered = True
    separator = "[\n"
    try:
        for record in records:
            _complain(record)
            answered &= record.error is None
            _write(separator + _safe_json(record_fields(record)))
            separator = ",\n"
    finally:
        _write("[]\n" if separator == "[\n" else "\n]\n")
    return answered


def records_table(records: Iterable["Record"]) -> bool:
    """Print a table an image and failures to stderr; return whether all images were answered."""
    answered = True
    for record in records:
        _complain(record)
        answered &= record.error is None
        if record.error is None:
            out.print(_prediction_table(record))
    return answered


def _prediction_table(record: "Record") -> Table:
    wide = out.width >= 72
    table = Table(
        title=Text(printable(record.image), "bold"), title_justify="left", show_header=False, width=min(out.width, 88)
    )
    table.add_column(justify="right", style="dim", width=len(str(len(record.predictions))))
    table.add_column(ratio=1)
    table.add_column(width=20 if wide else 10)
    table.add_column(justify="right", width=7)
    if wide:
        table.add_column(style="dim", width=9)
    for prediction in record.predictions:
        probability = prediction.probability
        label = Text(printable(prediction.label.display), "bold" if prediction.rank == 1 else "")
        wnid = [prediction.label.wnid or ""] if wide else []
        table.add_row(str(prediction.rank), label, Bar(1, 0, probability, color="green"), f"{probability:.1%}", *wnid)
    return table


RECORDS = {"table": records_table, "json": records_json}


def built(network: Graph, path: Path) -> None:
    """Say on stderr what was written."""
    if verbosity > QUIET:
        parameters = _count(totals(network.ops).parameters)
        size = decimal(path.stat().st_size)
        text = f"{printable(str(path))}: {network.architecture.name}, {parameters} parameters, {size}"
        err.print(Text(text), soft_wrap=True)


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
    _write(_safe_json(fields) + "\n")


def evaluation_table(evaluation: "Evaluation", model: "Model") -> None:
    """Print an evaluation as a table."""
    _complain_of(evaluation)
    table = Table(title=f"{model.metadata.architecture.name}, {printable(model.weights)}", show_header=False)
    table.add_row("images", _count(len(evaluation.answers)))
    table.add_row("failed", _count(len(evaluation.failures)))
    for k in (1, 5):
        share, low, high = evaluation.top(k)
        table.add_row(f"top-{k}", f"{share:.2%}  (95 %: {low:.2%} to {high:.2%})")
    table.add_row("loss", f"{evaluation.loss:.4f}")
    table.add_row("calibration error", f"{evaluation.calibration_error:.2%}")
    table.add_row("images a second", f"{evaluation.images_per_second:.1f}")
    out.print(table)


def _complain_of(evaluation: "Evaluation") -> None:
    for path, reason in evaluation.failures:
        error(f"{printable(path)}: {reason}")


EVALUATIONS = {"table": evaluation_table, "json": evaluation_json}


class Training(Activity):
    """Shows how far a training is: on a terminal in one line that changes; a line an epoch stays."""

    def __init__(self) -> None:
        super().__init__("Reading the tree")

    def start(self, run: "Run", tree: "Tree") -> None:
        """Say what is trained."""
        self._run = run
        text = f"{run.architecture.name}: {_count(len(tree.classes))} classes, {_count(len(tree.train))} images"
        self._line(f"{text}, {_count(len(tree.validation))} to validate with, {run.recipe.precision}")
        if run.history:
            self._line(f"going on after epoch {len(run.history)} of {run.recipe.epochs}")

    def step(self, done: float, loss: float, accuracy: float, images_per_second: float, seconds_left: float) -> None:
        """Show a step."""
        epochs = self._run.recipe.epochs
        text = f"epoch {int(done) + 1 if done % 1 else int(done)} of {epochs}, loss {loss:.3f}, accuracy {accuracy:.1%}"
        speed = f"{images_per_second:.0f} images/s, {timedelta(seconds=round(seconds_left))} left"
        self._bar.update(self._task, total=epochs, completed=done, description=text, size=speed)

    def epoch(self, epoch: "Epoch") -> None:
        """Print a line for an epoch."""
        learned = f"loss {epoch.loss:.3f}, accuracy {epoch.accuracy:.1%}"
        validated = f"validation {epoch.val_loss:.3f}, {epoch.val_accuracy:.1%}, top 5 {epoch.val_top5:.1%}"
        number = f"epoch {epoch.epoch} of {self._run.recipe.epochs} ({epoch.image_size} pixels)"
        left = self._run.recipe.work(self._run.architecture.image_size, epoch.epoch)
        left_seconds = timedelta(seconds=round(left * epoch.seconds / epoch.image_size**2))
        self._line(f"{number}: {learned}; {validated}; {epoch.images_per_second:.0f} images/s, {left_seconds} left")

    def bad_image(self, name: str, reason: str) -> None:
        """Warn of an image that is left out."""
        warning(f"{printable(name)}: left out; {reason}")

    def _line(self, text: str) -> None:
        if verbosity > QUIET:
            err.print(Text(printable(text)), soft_wrap=True)


def trained_json(trained: "Trained") -> None:
    """Print what a training came to as one JSON object."""
    _write(_safe_json(asdict(trained)) + "\n")


def trained_table(trained: "Trained") -> None:
    """Print what a training came to as a table."""
    table = Table(title=f"{trained.architecture}, {printable(trained.path)}", show_header=False)
    table.add_row("classes", _count(trained.classes))
    table.add_row("images", _count(trained.images))
    table.add_row("images to validate with", _count(trained.validation_images))
    table.add_row("bad images left out", _count(len(trained.bad)))
    table.add_row("epochs", _count(trained.epochs))
    table.add_row("top-1", f"{trained.val_accuracy:.2%}")
    table.add_row("top-5", f"{trained.val_top5:.2%}")
    table.add_row("loss", f"{trained.val_loss:.4f}  (untempered: {trained.val_loss_untempered:.4f})")
    table.add_row("temperature", f"{trained.temperature:.3f}")
    table.add_row("images a second", f"{trained.images_per_second:.1f}  ({trained.precision})")
    table.add_row("time", str(timedelta(seconds=round(trained.seconds))))
    out.print(table)


TRAININGS = {"table": trained_table, "json": trained_json}
