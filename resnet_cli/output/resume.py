"""What a run takes over from an earlier one: its records (`--resume`), or those of unchanged images (`--update`).

The settings of a run, and the state of each image when it was read, are in a hidden file next to the records: a line of
JSON for the settings, then one for each image.
"""

import json
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from resnet_cli.errors import UsageError
from resnet_cli.output import records, terminal
from resnet_cli.output.records import ExistingRecord
from resnet_cli.output.terminal import printable

if TYPE_CHECKING:
    from resnet_cli.tasks.results import Result

Settings = Mapping[str, object]
Stamp = tuple[int, int] | None  # size in bytes and time of modification in ns; None for what is not a file

START_OVER = "Run the command without --resume to start over."
CHANGED_IMAGES = "To keep the records of unchanged images, use --update instead of --resume."


@dataclass(frozen=True)
class ResumePoint:
    """The part of an earlier run's file that a resumed run keeps.

    Args:
        records: number of records.
        failed: number of failures among them.
        end: where the last record ends, in bytes from the start of the file.
    """

    records: int = 0
    failed: int = 0
    end: int = 0


@dataclass(frozen=True)
class Kept:
    """A record of an earlier run, as text, that a new file takes over; failures are not."""

    image: str
    text: str
    error: None = None


@dataclass(frozen=True)
class _Found:
    """A record of an earlier run: the state of its image, and where the record is in the file, in bytes."""

    stamp: Stamp
    start: int
    end: int


class Plan:
    """What a run takes over from an earlier one, and what is left to classify.

    Args:
        done: the part of the file that is continued.
        earlier: the file whose records are kept if their images are unchanged.
        found: these records, by image.
    """

    def __init__(
        self, done: ResumePoint | None = None, earlier: Path | None = None, found: Mapping[str, _Found] | None = None
    ) -> None:
        self.done = done or ResumePoint()
        self.earlier = earlier
        self.stamps: TextIO | None = None  # receives the state of each image
        self.kept = 0
        self._found = found or {}
        self._pending: deque[tuple[str, Stamp, _Found | None]] = deque()

    def unclassified(self, names: Iterable[str], stamp: Callable[[str], Stamp]) -> Iterator[str]:
        """Yield the names of images that have no record yet, or that have changed since.

        Args:
            names: the names of all images.
            stamp: returns the state of an image. It is called before the image is read, so that no change is missed.
        """
        for name in names:
            state, found = stamp(name), self._found.get(name)
            unchanged = found if found and state and found.stamp == state else None
            self._pending.append((name, state, unchanged))
            if not unchanged:
                yield name

    def merge(self, results: Iterable["Result"]) -> Iterator["Result | Kept"]:
        """Yield the results of the images that `unclassified` yielded and, in their places, the records kept."""
        with (self.earlier or Path(os.devnull)).open("rb") as file:
            for result in chain(results, [None]):
                while self._pending:
                    name, state, found = self._pending.popleft()
                    if self.stamps and state:
                        with suppress(OSError):  # if the disk is full, the record cannot be written either
                            self.stamps.write(json.dumps([name, *state]) + "\n")
                    if not found:
                        break
                    file.seek(found.start)
                    self.kept += 1
                    text = file.read(found.end - found.start).decode()
                    yield Kept(name, text.replace("\r\n", "\n"))
                if result:
                    yield result


def resume(path: Path, record_format: str, settings: Settings, names: Iterator[str]) -> Plan:
    """Find the complete records of an interrupted run, and take their images from the names.

    Args:
        path: the file, which need not exist yet.
        record_format: one of `records.RESUMABLE`.
        settings: what the records depend on, by name; `top-k` is the number of predictions per record.
        names: the names of all images; those that have records are taken.

    Raises:
        UsageError: the file was made with other settings or from other images, or has another format.
    """
    count = failed = end = 0
    try:
        for record, _ in _records(path, record_format, settings):
            count += 1
            if (image := next(names, None)) != record.image:
                now = "there are no more images" if image is None else f"image {count:,} is now {printable(image)}"
                image = printable(record.image)
                raise UsageError(f"record {count:,} is for {image}, but {now}\n{CHANGED_IMAGES}")
            failed += record.failed
            end = record.end
    except (OSError, UsageError) as error:
        raise UsageError(f"cannot resume {path}: {_reason(error)}\n{START_OVER}") from error
    return Plan(ResumePoint(count, failed, end))


def update(path: Path, record_format: str, settings: Settings) -> Plan:
    """Find the records of an earlier run, of any images, that can be kept if their images are unchanged.

    Args:
        path: the file, which need not exist yet.
        record_format: one of `records.RESUMABLE`.
        settings: what the records depend on, by name.

    Raises:
        UsageError: the file was made with other settings, or has another format.
    """
    if not path.exists() or not path.stat().st_size:
        return Plan()
    found = {}
    stamps = dict(_read_stamps(path))
    try:
        for record, start in _records(path, record_format, settings):
            if not record.failed:
                found[record.image] = _Found(stamps.get(record.image), start, record.end)
    except (OSError, UsageError) as error:
        advice = "Run the command without --update to start over."
        raise UsageError(f"cannot update {path}: {_reason(error)}\n{advice}") from error
    return Plan(earlier=path, found=found)


def _reason(error: OSError | UsageError) -> object:
    return getattr(error, "strerror", None) or error


def _records(path: Path, record_format: str, settings: Settings) -> Iterator[tuple[ExistingRecord, int]]:
    """Yield the complete records of a file and where each starts; check that they were made with the settings."""
    if not path.exists() or not path.stat().st_size:
        return
    row = records.RECORD_FORMATS[record_format]
    assert row.read
    _check_settings(_read_settings(path), settings)
    with path.open("rb") as file:
        start = len(file.readline()) if row.header else 0
        file.seek(0)
        for record in _complete_records(row.read(file), settings):
            _check_settings(record.provenance, settings)
            yield record, start
            start = record.end


def _check_settings(earlier: Settings, settings: Settings) -> None:
    for name, value in earlier.items():
        if value != settings.get(name):
            raise UsageError(f"it was written with {name} {value}, but this run uses {settings.get(name)}")


def _complete_records(existing: Iterable[ExistingRecord], settings: Settings) -> Iterator[ExistingRecord]:
    """Drop an incomplete last record; an incomplete record elsewhere means another top-k."""
    top_k = settings["top-k"]
    assert isinstance(top_k, int)
    short: ExistingRecord | None = None
    for record in existing:
        if short:
            break
        if record.predictions in (None, top_k):
            yield record
        else:
            short = record
    else:
        if short is None or (short.predictions or 0) < top_k:
            return
    _check_settings({"top-k": short.predictions}, settings)


# The settings file


def settings_file(path: Path) -> Path:
    """Return the settings file of an output, next to the file that links lead to."""
    path = Path(os.path.realpath(path))
    return path.with_name(f".{path.name}.settings.json")


def can_save_settings(path: Path) -> bool:
    """Return whether the settings file of an output can be written; if another program's is there, warn."""
    file = settings_file(path)
    try:
        known = not file.exists() or not file.stat().st_size or bool(_read_settings(path))
        ours = known and not file.is_symlink()  # what it leads to could be anything
    except OSError as error:
        return _warn(path, error)
    if not ours:
        terminal.warning(f"{file}: not written by this command, so it is kept, and {path} has no settings file")
    return ours


def _warn(path: Path, error: OSError) -> bool:
    terminal.warning(f"cannot write {settings_file(path)}: {error.strerror}; {path} has no settings file")
    return False


def open_settings(path: Path, settings: Settings, *, more: bool) -> TextIO | None:
    """Open the settings file of an output to append the states of images; if it cannot be written, warn.

    Args:
        path: the output.
        settings: the settings, written first unless there is more of an earlier run's.
        more: whether an earlier run is continued.
    """
    try:
        if not can_save_settings(path):
            return None
        file = settings_file(path).open("a+" if more else "w", encoding="utf-8")
        if more:
            file.seek(max(0, file.tell() - 1))
            file.write("" if file.read() == "\n" else "\n")  # an earlier version's, or of a run that was killed
        else:
            file.write(json.dumps(settings) + "\n")
        file.flush()
    except OSError as error:
        _warn(path, error)
        return None
    return file


def _read_settings(path: Path) -> Settings:
    with suppress(OSError, ValueError, TypeError), settings_file(path).open(encoding="utf-8") as file:
        settings = json.loads(file.readline())
        if {"model", "weights", "top-k"} <= settings.keys():
            return dict(settings)
    return {}


def _read_stamps(path: Path) -> Iterator[tuple[str, Stamp]]:
    """Yield the states of images; of an image that was read again, the last one counts."""
    with suppress(OSError, UnicodeDecodeError), settings_file(path).open(encoding="utf-8") as file:
        for line in file:
            with suppress(ValueError):  # an incomplete line
                match json.loads(line):
                    case [str(name), int(size), int(modified)]:
                        yield name, (size, modified)
