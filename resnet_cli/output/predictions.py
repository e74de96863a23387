"""Results of images as text, written as they come."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from rich.bar import Bar
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from resnet_cli.output import terminal
from resnet_cli.output.records import RECORD_FORMATS, RecordFormat
from resnet_cli.output.resume import Kept
from resnet_cli.output.tables import fitting
from resnet_cli.output.terminal import printable
from resnet_cli.system import interrupts
from resnet_cli.system.prefetch import Prefetcher
from resnet_cli.system.progress import Progress

if TYPE_CHECKING:
    from resnet_cli.tasks.results import Result


WIDE = 72  # columns of a terminal that has room for all columns; labels are folded if they are longer


@dataclass
class RecordCount:
    """The number of records that were written, of failures among them, and whether they replace a file at the end."""

    done: int = 0
    failed: int = 0
    replaces: bool = False


def write_records(
    results: Iterable["Result | Kept"],
    record_format: RecordFormat,
    write: Callable[[str], None],
    count: RecordCount,
    progress: Progress,
    listed: Prefetcher[str] | None = None,
) -> None:
    """Write records as results come, and print failures to stderr.

    Args:
        results: the results, and records of an earlier run.
        record_format: how to write them.
        write: writes a text completely or not at all.
        count: updated in place; starts with the records of an earlier run.
        progress: receives the number of records.
        listed: the images, if they are listed in advance; their number is reported as soon as it is known.
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
            progress.count(count.done, listed.total if listed else None)
    finally:
        with interrupts.defer_signals():
            write(("" if count.done else separator) + record_format.footer)


def prediction_table(result: "Result") -> RenderableType:
    """Return the table of a classified image; on a narrow terminal, fewer columns or only lines."""
    title = Text(printable(result.image), "bold")
    width = terminal.out.width
    labels = [Text(printable(each.label.display), "bold" if each.rank == 1 else "") for each in result.predictions]
    shares = [f"{each.probability:.1%}" for each in result.predictions]
    widths = {
        "rank": len(str(len(labels))),
        "label": max((label.cell_len for label in labels), default=0),
        "bar": 20 if width >= WIDE else 10,
        "probability": 7,
        "wnid": 9,
    }
    kept = [*widths] if width >= WIDE else fitting(widths, ("wnid", "bar", "rank", "label"))
    if "label" not in kept:
        return Group(
            title, *(Text(f"{share} ").append_text(label) for share, label in zip(shares, labels, strict=True))
        )
    table = Table(title=title, title_justify="left", show_header=False, width=min(width, 88))
    for column in kept:
        if column == "label":
            table.add_column(ratio=1, overflow="fold")
        else:
            style = "dim" if column in ("rank", "wnid") else ""
            justify: Literal["left", "right"] = "right" if column in ("rank", "probability") else "left"
            table.add_column(width=widths[column], style=style, justify=justify)
    for each, label, share in zip(result.predictions, labels, shares, strict=True):
        cells: dict[str, RenderableType] = {
            "rank": str(each.rank),
            "label": label,
            "bar": Bar(1, 0, each.probability, color="green"),
            "probability": share,
            "wnid": each.label.wnid or "",
        }
        table.add_row(*(cells[column] for column in kept))
    return table


def table_text(result: "Result") -> str:
    """Return the table of a classified image as `terminal.out` shows it; empty for a failed image."""
    if result.error:
        return ""
    with terminal.out.capture() as table:
        terminal.out.print(prediction_table(result))
    return table.get()


OUTPUT_FORMATS = {"table": RecordFormat(table_text), **RECORD_FORMATS}
