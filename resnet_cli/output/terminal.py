"""The terminal: what goes to stderr, progress, and nothing that a name or a library could do to it."""

import io
import logging
import os
import re
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Self

from rich.console import Console
from rich.filesize import decimal
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn
from rich.text import Text

if TYPE_CHECKING:
    from resnet_cli.datasets import Tree
    from resnet_cli.recipe import Epoch
    from resnet_cli.training import Run

QUIET, NORMAL, VERBOSE = -1, 0, 1
PLAIN_WIDTH = 88  # columns of tables in files
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


def error(message: str) -> None:
    """Print an error to stderr; its first line says what and which file."""
    err.print(Text.assemble(("error: ", "bold red"), _printable_lines(message)), soft_wrap=True)


def warning(message: str) -> None:
    """Print a warning to stderr, unless quiet."""
    if verbosity > QUIET:
        err.print(Text.assemble(("warning: ", "yellow"), _printable_lines(message)), soft_wrap=True)


def note(message: str) -> None:
    """Print what the user may want to know to stderr, unless quiet."""
    if verbosity > QUIET:
        err.print(Text(_printable_lines(message)), soft_wrap=True)


def plain() -> Console:
    """Return a console for text in files: no colours, no terminal's width."""
    return Console(file=io.StringIO(), width=PLAIN_WIDTH, highlight=False)


def detail(message: str) -> None:
    """Print what only `--verbose` shows to stderr."""
    if verbosity >= VERBOSE:
        err.print(Text(_printable_lines(message), "dim"), soft_wrap=True)


def _printable_lines(message: str) -> str:
    return "\n".join(printable(line) for line in message.split("\n"))


def open_standard_streams() -> None:
    """Give a stream that the shell closed (`>&-`) a place to go, and let none fail over a character."""
    for descriptor, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            os.dup2(os.open(os.devnull, os.O_RDWR), descriptor)
            setattr(sys, name, open(descriptor, "r" if descriptor == 0 else "w"))  # noqa: PTH123, SIM115
        getattr(sys, name).reconfigure(errors="backslashreplace")


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

    def warn(self, text: str) -> None:
        """Print a warning beside the progress."""
        warning(text)

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


class Counting(Activity):
    """Shows how many images are done, how fast, and how long the rest takes."""

    _before: int | None = None  # how many were done before the clock started

    def count(self, done: int, total: int | None = None) -> None:
        """Show it; the clock starts with the first call. Where `total` is None, nobody knows how many there are."""
        task = self._bar.tasks[0]
        if self._before is None or done == 0:
            self._bar.reset(self._task)
            self._before = done
        seconds = task.elapsed or 0.0
        text = f"{done:,} of {total:,} images" if total else f"{done:,} images"
        if (since := done - self._before) and seconds:
            text += f", {since / seconds:.0f} images/s"
            if total:
                text += f", {timedelta(seconds=round(seconds / since * (total - done)))} left"
        self._bar.update(self._task, total=total, completed=done, size=text)


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


class Training(Activity):
    """Shows how far a training is: on a terminal in one line that changes; a line an epoch stays."""

    def __init__(self) -> None:
        super().__init__("Reading the tree")

    def start(self, run: "Run", tree: "Tree") -> None:
        """Say what is trained."""
        self._run = run
        text = f"{run.architecture.name}: {len(tree.classes):,} classes, {len(tree.train):,} images"
        self._line(f"{text}, {len(tree.validation):,} to validate with, {run.recipe.precision}")
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
