"""Where records go: standard output or a file, and how a cut-off file is gone on with."""

import json
import os
import stat
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from resnet_cli import files, interrupts, records
from resnet_cli.errors import ResnetError, UsageError
from resnet_cli.records import Written

Write = Callable[[str], None]
Settings = Mapping[str, Any]


@dataclass(frozen=True)
class Kept:
    """What of an earlier run's file is gone on with.

    Args:
        records: how many there are.
        failed: how many of them are of failures.
        end: where the last one ends, in bytes.
    """

    records: int = 0
    failed: int = 0
    end: int = 0


def keep(path: Path, layout: str, settings: Settings, names: Iterator[str]) -> Kept:
    """Find the whole records of a cut-off run, and take their images from the names.

    Args:
        path: the file; there may be none yet.
        layout: a key of `records.LINES`.
        settings: what the answers depend on, by name; `predictions` says how many an answer has.
        names: of all images; those that have records are taken.

    Raises:
        UsageError: the file was made with other settings or of other images, or is no file of this format.
    """
    if not path.exists():
        return Kept()
    earlier = _read_settings(path)
    count = failed = end = 0
    try:
        with path.open("rb") as file:
            for record in _whole(records.LINES[layout].read(file), settings):
                for name, value in {**earlier, **record.made_by}.items():
                    if value != settings.get(name):
                        raise UsageError(f"made with {name} {value}, now asked for is {settings.get(name)}")
                count += 1
                if (image := next(names, None)) != record.image:
                    now = "there are no more images" if image is None else f"image {count:,} now is {image}"
                    raise UsageError(f"record {count:,} is of {record.image}, but {now}")
                failed += record.failed
                end = record.end
    except (OSError, UsageError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"cannot go on with {path}: {reason}\nWithout --resume it is begun anew.") from error
    return Kept(count, failed, end)


def _whole(written: Iterable[Written], settings: Settings) -> Iterator[Written]:
    """Leave out a last record that lacks predictions; elsewhere they show that another number was asked for."""
    asked = settings["predictions"]
    short: Written | None = None
    for record in written:
        if short:
            break
        if record.predictions in (None, asked):
            yield record
        else:
            short = record
    else:
        if short is None or short.predictions < asked:
            return
    raise UsageError(f"made with {short.predictions} predictions an image, now asked for are {asked}")


def _settings_file(path: Path) -> Path:
    return path.with_name(f".{path.name}.settings.json")


def _read_settings(path: Path) -> dict[str, Any]:
    with suppress(OSError, ValueError):
        return dict(json.loads(_settings_file(path).read_text("utf-8")))
    return {}


@contextmanager
def standard(head: str) -> Iterator[Write]:
    """Write to standard output, as UTF-8 whatever the locale, and `head` at first."""

    def write(text: str) -> None:
        with interrupts.whole():
            sys.stdout.buffer.write(text.encode())
            sys.stdout.buffer.flush()

    write(head)
    yield write


@contextmanager
def complete(path: Path) -> Iterator[Write]:
    """Write to a file that appears under its name when all is written."""
    with files.replacing(path) as unfinished, unfinished.open("wb") as file:
        yield lambda text: _write(file, text, path)


@contextmanager
def growing(path: Path, head: str, settings: Settings, kept: Kept) -> Iterator[Write]:
    """Write to a file record by record, after those that are kept.

    Args:
        path: the file; what is not kept of it is replaced.
        head: what a new file begins with.
        settings: what the answers depend on; they are noted in a hidden file beside it for a run that goes on.
        kept: what `keep` found.

    Raises:
        UsageError: the file cannot be written.
    """
    regular = not path.exists() or stat.S_ISREG(path.stat().st_mode)
    if regular:
        with files.replacing(_settings_file(path)) as unfinished:
            unfinished.write_text(json.dumps(settings), "utf-8")
    try:
        file = path.open("ab" if kept.end else "wb")
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}") from error
    with file:
        if kept.end:
            file.truncate(kept.end)
        else:
            _write(file, head, path)
        yield lambda text: _write(file, text, path)


def _write(file: BinaryIO, text: str, path: Path) -> None:
    """Write a record as a whole or, on a full disk, not at all."""
    content = text.encode()
    start = file.seek(0, os.SEEK_END) if file.seekable() else None
    with interrupts.whole():
        try:
            while content:
                content = content[os.write(file.fileno(), content) :]
        except BrokenPipeError:
            raise
        except OSError as error:
            if start is not None:
                file.truncate(start)
            raise ResnetError(
                f"cannot write {path}: {error.strerror}\n"
                "What is there already stays; with room for the rest, --resume goes on."
            ) from error
