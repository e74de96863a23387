"""Results of images as text, written as they come."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.bar import Bar
from rich.table import Table
from rich.text import Text

from resnet_cli.output import terminal
from resnet_cli.output.records import RECORD_FORMATS, RecordFormat
from resnet_cli.output.resume import Kept
from resnet_cli.output.terminal import printable
from resnet_cli.system import interrupts
from resnet_cli.system.progress import Progress

if TYPE_CHECKING:
    from resnet_cli.tasks.results import Result


@dataclass
class RecordCount:
    """The number of records that have been written, and of failures among them."""

    done: int = 0
    failed: int = 0


def write_records(
    results: Iterable["Result | Kept"],
    record_format: RecordFormat,
    write: Callable[[str], None],
    count: RecordCount,
    progress: Progress,
) -> None:
    """Write records as results come, and print failures to stderr.

    Args:
        results: the results, and records of an earlier run.
        record_format: how to write them.
        write: writes a text completely or not at all.
        count: updated in place; starts with the records of an earlier run.
        progress: receives the number of records.
    """
    separator = "" if count.done else record_format.header
    try:
        for result in results:
            if result.error:
                terminal.print_failure(result.image, result.error)
            text = separator + (result.text if isinstance(result, Kept) else record_format.text(result))
            with interrupts.defer_signals():
                write(text)
                count.done += 1
                count.failed += result.error is not None
                separator = record_format.separator
            progress.count(count.done)
    finally:
        with interrupts.defer_signals():
            write(("" if count.done else separator) + record_format.footer)


def prediction_table(result: "Result") -> Table:
    """Return the table of a classified image."""
    wide = terminal.out.width >= 72
    table = Table(
        title=Text(printable(result.image), "bold"),
        title_justify="left",
        show_header=False,
        width=min(terminal.out.width, 88),
    )
    table.add_column(justify="right", style="dim", width=len(str(len(result.predictions))))
    table.add_column(ratio=1)
    table.add_column(width=20 if wide else 10)
    table.add_column(justify="right", width=7)
    if wide:
        table.add_column(style="dim", width=9)
    for prediction in result.predictions:
        probability = prediction.probability
        label = Text(printable(prediction.label.display), "bold" if prediction.rank == 1 else "")
        wnid = [prediction.label.wnid or ""] if wide else []
        table.add_row(str(prediction.rank), label, Bar(1, 0, probability, color="green"), f"{probability:.1%}", *wnid)
    return table


def table_text(result: "Result") -> str:
    """Return the table of a classified image as `terminal.out` shows it; empty for a failed image."""
    if result.error:
        return ""
    with terminal.out.capture() as table:
        terminal.out.print(prediction_table(result))
    return table.get()


OUTPUT_FORMATS = {"table": RecordFormat(table_text), **RECORD_FORMATS}
