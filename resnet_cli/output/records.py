"""Records as text: lines of JSON and rows of CSV, written and read back."""

import csv
import io
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from rich.cells import cell_len

from resnet_cli.errors import UsageError
from resnet_cli.output.terminal import PLAIN_WIDTH, printable, safe_json
from resnet_cli.system import atomic

if TYPE_CHECKING:
    from resnet_cli.tasks.results import Result

# What the first bytes of our files look like, to tell them from other programs'.
_JSON_RECORD = rb'\{"image": "[^\n]*", "model": "[^\n]*", "weights": "[^\n]*", "(predictions|error)": '
CSV_COLUMNS = ("image", "rank", "index", "wnid", "label", "probability", "error")


def json_line(result: "Result") -> str:
    """Return a result as a line of JSON."""
    return safe_json(result.to_dict()) + "\n"


def json_item(result: "Result") -> str:
    """Return a result as an item of a JSON array."""
    return "\n" + safe_json(result.to_dict())


def csv_rows(result: "Result") -> str:
    r"""Return a result as rows of CSV: one per prediction, or one for a failure.

    Text is escaped as in JSON, but without quotes: `\uXXXX`, and `\\` for a backslash.
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, CSV_COLUMNS, extrasaction="ignore", lineterminator="\n")
    if result.error:
        writer.writerow({"image": _escaped(result.image), "error": _escaped(f"{result.error.kind}: {result.error}")})
    for prediction in result.to_dict().get("predictions", ()):
        cells = {name: _escaped(value) if isinstance(value, str) else value for name, value in prediction.items()}
        writer.writerow({"image": _escaped(result.image), **cells})
    return text.getvalue()


def _escaped(text: str) -> str:
    return printable(text.replace("\\", "\\\\"))


def _unescaped(cell: str) -> str:
    return str(json.loads('"' + cell.replace('"', '\\"') + '"'))


@dataclass(frozen=True)
class ExistingRecord:
    """A complete record from an earlier run.

    Args:
        image: name of the image.
        failed: whether it is the record of a failure.
        predictions: number of predictions; None for a failure and for `unknown`, which always have one.
        end: where the record ends, in bytes from the start of the file.
        provenance: the model and the weights that the record names.
    """

    image: str
    failed: bool
    predictions: int | None
    end: int
    provenance: dict[str, str]


def read_json_lines(file: BinaryIO) -> Iterator[ExistingRecord]:
    """Yield the complete records of a JSON Lines file, up to its end or to an incomplete last line.

    Raises:
        UsageError: a line is not a record.
    """
    end = 0
    for number, line in enumerate(file, 1):
        if not line.endswith(b"\n"):
            return
        end += len(line)
        try:
            record = json.loads(line)
            provenance = {name: str(record[name]) for name in ("model", "weights")}
            predictions = record.get("predictions")
            fixed = "error" in record or predictions[0]["index"] is None
            yield ExistingRecord(
                record["image"], "error" in record, None if fixed else len(predictions), end, provenance
            )
        except (ValueError, TypeError, LookupError) as error:
            raise UsageError(f"line {number} is not a record") from error


def read_csv(file: BinaryIO) -> Iterator[ExistingRecord]:
    """Yield the complete records of a CSV file, up to its end or to an incomplete last row.

    The last record may lack rows, because only the caller knows the number of predictions.

    Raises:
        UsageError: a row is not part of a record.
    """
    end = 0

    def lines() -> Iterator[str]:
        nonlocal end
        for line in file:
            if not line.endswith(b"\n"):
                return
            end += len(line)
            yield line.decode()

    rows = csv.reader(lines(), strict=True)
    record: ExistingRecord | None = None
    try:
        if (header := next(rows, None)) and tuple(header) != CSV_COLUMNS:
            raise UsageError(f"expected the columns {','.join(CSV_COLUMNS)}")
        for name, rank, index, *_, error in rows:
            if error or rank == "1":
                if record:
                    yield record
                record = ExistingRecord(_unescaped(name), bool(error), None if error or not index else 1, end, {})
            elif record and record.predictions and int(rank) == record.predictions + 1:
                record = ExistingRecord(record.image, False, int(rank), end, {})
            else:
                raise ValueError
    except (ValueError, csv.Error) as error:
        raise UsageError(f"row {rows.line_num} is not a record") from error
    if record:
        yield record


@dataclass(frozen=True)
class RecordFormat:
    """How to write records as text, and how to read them back to resume a run.

    Args:
        text: returns a result as text.
        header: written before all records.
        separator: written between two records.
        footer: written after all records.
        read: yields the complete records of a file; None if a run in this format cannot be resumed.
    """

    text: Callable[["Result"], str]
    header: str = ""
    separator: str = ""
    footer: str = ""
    read: Callable[[BinaryIO], Iterator[ExistingRecord]] | None = None


RECORD_FORMATS = {
    "json": RecordFormat(json_item, "[", ",", "\n]\n"),
    "jsonl": RecordFormat(json_line, read=read_json_lines),
    "csv": RecordFormat(csv_rows, ",".join(CSV_COLUMNS) + "\n", read=read_csv),
}
_HEADS = [re.compile(head) for head in (_JSON_RECORD, rb"\[\n(\]|" + _JSON_RECORD + rb")")]
RESUMABLE = tuple(name for name, record_format in RECORD_FORMATS.items() if record_format.read)


def is_ours(head: bytes) -> bool:
    """Return whether the first bytes of a file are those of records or tables that were written here."""
    return atomic.has_header(CSV_COLUMNS)(head) or any(each.match(head) for each in _HEADS) or _is_table(head)


def _is_table(head: bytes) -> bool:
    """Return whether all lines are frames or rows of tables, or titles, which are as wide as their tables."""
    lines = head.decode(errors="ignore").split("\n")[:-1]
    frames = [line for line in lines if line.startswith(("┌", "│", "└"))]
    return len(frames) > 2 and all(line in frames or cell_len(line) == PLAIN_WIDTH for line in lines)


def format_of(path: Path | None, chosen: str | None) -> str:
    """Return the format of an output: the one chosen, else that of the file's suffix, else `table`.

    Raises:
        UsageError: the suffix means another format.
    """
    suffix = path.suffix.lower().removeprefix(".") if path else ""
    by_suffix = suffix if suffix in RECORD_FORMATS else None
    if chosen and by_suffix not in (None, chosen):
        raise UsageError(f"{path}: the suffix means --format {by_suffix}, got --format {chosen}")
    return chosen or by_suffix or "table"
