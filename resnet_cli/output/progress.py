"""The progress of a task on stderr: a line that changes and goes away at the end."""

import time
from datetime import timedelta
from typing import Self

from rich.filesize import decimal
from rich.progress import BarColumn, SpinnerColumn, TextColumn
from rich.progress import Progress as RichProgress

from resnet_cli.output import terminal
from resnet_cli.output.terminal import printable
from resnet_cli.system.progress import Progress


class ProgressBar(Progress):
    """Shows on a terminal what a task does; otherwise only prints warnings and that a download has started."""

    def __init__(self, text: str) -> None:
        self._started = time.monotonic()
        self._downloading = False
        self._before: int | None = None  # items that were done before the clock started
        self.visible = terminal.verbosity > terminal.QUIET and terminal.err.is_terminal
        columns = (TextColumn("{task.description}", markup=False), BarColumn(20), TextColumn("{task.fields[size]}"))
        self._bar = RichProgress(
            SpinnerColumn(), *columns, console=terminal.err, transient=True, disable=not self.visible
        )
        self._task = self._bar.add_task(text, total=None, size="")

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def report(self, text: str) -> None:
        """Show the current step; with `--verbose`, also the time since the start."""
        terminal.detail(f"{time.monotonic() - self._started:.2f} s: {text}")
        self._bar.reset(self._task, total=None, description=printable(text), size="")

    def warn(self, text: str) -> None:
        """Print a warning above the progress."""
        terminal.warning(text)

    def note(self, text: str) -> None:
        """Print a note above the progress."""
        terminal.note(text)

    def download(self, done: int, total: int | None) -> None:
        """Show the progress of a download."""
        if not self._downloading and not self.visible and terminal.verbosity > terminal.QUIET:
            terminal.err.print(f"Downloading {decimal(total) + ' of ' if total else ''}weights")
        self._downloading = True
        size = f"{decimal(done)} of {decimal(total)}" if total else decimal(done)
        self._bar.update(self._task, description="Downloading weights", completed=done, total=total, size=size)

    def count(self, done: int, total: int | None = None) -> None:
        """Show the number of images, their rate and the time left; the clock starts with the first call."""
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
