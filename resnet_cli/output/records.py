"""Records as text: lines of JSON and rows of CSV, written and read back."""

import csv
import io
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO

from resnet_cli.errors import UsageError
from resnet_cli.terminal import printable

if TYPE_CHECKING:
    from resnet_cli.predict import Record

CSV_COLUMNS = ("image", "rank", "index", "wnid", "label", "probability", "error")


def fields(record: "Record") -> dict[str, Any]:
    """Return a record as the JSON object that docs/record.schema.json describes."""
    common: dict[str, Any] = {"image": record.image, "model": record.model, "weights": record.weights}
    if record.error:
        return common | {"error": {"kind": record.error.kind, "message": str(record.error)}}
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
    return common | {"predictions": predictions}


def safe_json(value: object) -> str:
    """Return one line of JSON with unsafe characters escaped as JSON does."""
    return printable(json.dumps(value, ensure_ascii=False))


def json_line(record: "Record") -> str:
    """Return a record as a line of JSON."""
    return safe_json(fields(record)) + "\n"


def json_item(record: "Record") -> str:
    """Return a record as an item of a JSON array."""
    return "\n" + safe_json(fields(record))


def csv_rows(record: "Record") -> str:
    r"""Return a record as rows of CSV, one a prediction or one for the failure.

    Text is escaped as in JSON, without the quotes around it: `\uXXXX`, and `\\` for a backslash.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    if record.error:
        error = f"{record.error.kind}: {record.error}"
        writer.writerow([_escaped(record.image), *[""] * (len(CSV_COLUMNS) - 2), _escaped(error)])
    for prediction in fields(record).get("predictions", ()):
        cells = [_escaped(value) if isinstance(value, str) else value for value in prediction.values()]
        writer.writerow([_escaped(record.image), *cells, ""])
    return text.getvalue()


def _escaped(text: str) -> str:
    return printable(text.replace("\\", "\\\\"))


def _unescaped(cell: str) -> str:
    return str(json.loads('"' + cell.replace('"', '\\"') + '"'))


@dataclass(frozen=True)
class Written:
    """A whole record that an earlier run has written.

    Args:
        image: its name.
        failed: whether it is the record of a failure.
        predictions: how many it has; None for a failure and for an unknown, which have one form.
        end: where it ends, in bytes from the start of the file.
        made_by: what the record says of its making, by name.
    """

    image: str
    failed: bool
    predictions: int | None
    end: int
    made_by: dict[str, str]


def read_json_lines(file: BinaryIO) -> Iterator[Written]:
    """Read whole records of JSON lines.

    Args:
        file: at its start.

    Yields:
        The records, up to the end or to a torn last line.

    Raises:
        UsageError: a line is no record.
    """
    end = 0
    for number, line in enumerate(file, 1):
        if not line.endswith(b"\n"):
            return
        end += len(line)
        try:
            record = json.loads(line)
            made_by = {name: str(record[name]) for name in ("model", "weights")}
            predictions = record.get("predictions")
            fixed = "error" in record or predictions[0]["index"] is None
            yield Written(record["image"], "error" in record, None if fixed else len(predictions), end, made_by)
        except (ValueError, TypeError, LookupError) as error:
            raise UsageError(f"line {number} is not a record") from error


def read_csv(file: BinaryIO) -> Iterator[Written]:
    """Read whole records of CSV.

    Args:
        file: at its start.

    Yields:
        The records, up to the end or to a torn last row. Whether the last one has all its rows, only who knows how
        many predictions there are can tell.

    Raises:
        UsageError: a row is no part of a record.
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
    record: Written | None = None
    try:
        if (header := next(rows, None)) and tuple(header) != CSV_COLUMNS:
            raise UsageError(f"expected the columns {','.join(CSV_COLUMNS)}")
        for name, rank, index, *_, error in rows:
            if error or rank == "1":
                if record:
                    yield record
                record = Written(_unescaped(name), bool(error), None if error or not index else 1, end, {})
            elif record and record.predictions and int(rank) == record.predictions + 1:
                record = Written(record.image, False, int(rank), end, {})
            else:
                raise ValueError
    except (ValueError, csv.Error) as error:
        raise UsageError(f"row {rows.line_num} is not a record") from error
    if record:
        yield record


@dataclass(frozen=True)
class Layout:
    """How records become text, and how they are read back where a cut-off run can be gone on with.

    Args:
        text: writes a record.
        begin: stands before all records.
        between: stands between two records.
        end: stands after all records.
        read: reads the whole records of a file; None where a record does not stand for itself.
    """

    text: Callable[["Record"], str]
    begin: str = ""
    between: str = ""
    end: str = ""
    read: Callable[[BinaryIO], Iterator[Written]] | None = None


LAYOUTS = {
    "json": Layout(json_item, "[", ",", "\n]\n"),
    "jsonl": Layout(json_line, read=read_json_lines),
    "csv": Layout(csv_rows, ",".join(CSV_COLUMNS) + "\n", read=read_csv),
}
RESUMABLE = tuple(name for name, layout in LAYOUTS.items() if layout.read)
