"""Where records go: standard output or a file, and how a cut-off file is gone on with."""

import json
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from resnet_cli import files, interrupts, records
from resnet_cli.errors import UsageError
from resnet_cli.records import Written

Write = Callable[[str], None]
Settings = Mapping[str, Any]

STANDARD_OUTPUT = 1  # the descriptor


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
        layout: one of `records.RESUMABLE`.
        settings: what the answers depend on, by name; `top-k` says how many predictions an answer has.
        names: of all images; those that have records are taken.

    Raises:
        UsageError: the file was made with other settings or of other images, or is no file of this format.
    """
    if not path.exists() or not path.stat().st_size:
        return Kept()
    read = records.LAYOUTS[layout].read
    assert read
    count = failed = end = 0
    try:
        _compare(_read_settings(path), settings)
        with path.open("rb") as file:
            for record in _whole(read(file), settings):
                _compare(record.made_by, settings)
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


def _compare(earlier: Settings, settings: Settings) -> None:
    for name, value in earlier.items():
        if value != settings.get(name):
            raise UsageError(f"made with {name} {value}, now asked for is {settings.get(name)}")


def _whole(written: Iterable[Written], settings: Settings) -> Iterator[Written]:
    """Leave out a last record that lacks predictions; elsewhere they show that another number was asked for."""
    asked = settings["top-k"]
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
    _compare({"top-k": short.predictions}, settings)


def _settings_file(path: Path) -> Path:
    path = Path(os.path.realpath(path))
    return path.with_name(f".{path.name}.settings.json")


def _read_settings(path: Path) -> dict[str, Any]:
    with suppress(OSError, ValueError):
        return dict(json.loads(_settings_file(path).read_text("utf-8")))
    return {}


def is_file(path: Path) -> bool:
    """Tell whether a name stands for a file that can be replaced, or for none yet; not so a device or a pipe."""
    return not path.exists() or stat.S_ISREG(path.stat().st_mode)


def is_standard(path: Path) -> bool:
    """Tell whether a name stands for standard output, as `/dev/stdout` does."""
    with suppress(OSError):
        return os.path.samestat(path.stat(), os.fstat(STANDARD_OUTPUT))
    return False


@contextmanager
def standard() -> Iterator[Write]:
    """Write to standard output, as UTF-8 whatever the locale."""
    yield lambda text: _write(STANDARD_OUTPUT, text, "standard output")


@contextmanager
def complete(path: Path) -> Iterator[Write]:
    """Write to a file that appears under its name when all is written.

    Raises:
        UsageError: the file cannot be written.
    """
    path = Path(os.path.realpath(path))  # a link stays one
    files.remove_unfinished(path)
    with ExitStack() as stack:
        with interrupts.whole():  # a signal between making the temporary folder and knowing of it would leave it there
            unfinished = stack.enter_context(files.replacing(path))
            file = stack.enter_context(unfinished.open("wb"))
        yield lambda text: _write(file.fileno(), text, str(path))


@contextmanager
def special(path: Path) -> Iterator[Write]:
    """Write to a device or a pipe.

    Raises:
        UsageError: it cannot be written.
    """
    try:
        file = path.open("wb")
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}") from error
    with file:
        yield lambda text: _write(file.fileno(), text, str(path))


@contextmanager
def growing(path: Path, settings: Settings, kept: Kept) -> Iterator[Write]:
    """Write to a file record by record, after those that are kept.

    Args:
        path: the file; what is not kept of it is replaced.
        settings: what the answers depend on; they are noted in a hidden file beside it for a run that goes on.
        kept: what `keep` found.

    Raises:
        UsageError: the file cannot be written.
    """
    try:
        file = path.open("ab" if kept.records else "wb")
        file.truncate(kept.end)
        if not kept.records:
            _settings_file(path).write_text(json.dumps(settings), "utf-8")  # now, as they are not of what was there
    except OSError as error:
        raise UsageError(f"cannot write {error.filename or path}: {error.strerror}") from error
    advice = "\nWhat is there already stays; with room for the rest, --resume goes on."
    with file:
        yield lambda text: _write(file.fileno(), text, str(path), advice)


def _write(descriptor: int, text: str, name: str, advice: str = "") -> None:
    """Write a record as a whole or, on a full disk, not at all."""
    content = memoryview(text.encode())
    done = 0
    try:
        while done < len(content):
            done += os.write(descriptor, content[done:])
    except BaseException as error:
        with suppress(OSError):  # a pipe or a device keeps what it got
            os.ftruncate(descriptor, os.lseek(descriptor, -done, os.SEEK_END))
        if isinstance(error, OSError) and not isinstance(error, BrokenPipeError):
            raise UsageError(f"cannot write {name}: {error.strerror}{advice}") from error
        raise
