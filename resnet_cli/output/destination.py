"""Where records go: standard output, or a file that an interrupted run can resume."""

import json
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from resnet_cli.errors import UsageError
from resnet_cli.output import records, terminal
from resnet_cli.output.records import ExistingRecord
from resnet_cli.system import atomic, interrupts

Write = Callable[[str], None]
Settings = Mapping[str, object]

STANDARD_OUTPUT = 1  # the descriptor


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


def find_resume_point(path: Path, record_format: str, settings: Settings, names: Iterator[str]) -> ResumePoint:
    """Find the complete records of an interrupted run, and take their images from the names.

    Args:
        path: the file, which need not exist yet.
        record_format: one of `records.RESUMABLE`.
        settings: what the records depend on, by name; `top-k` is the number of predictions per record.
        names: the names of all images; those that have records are taken.

    Raises:
        UsageError: the file was made with other settings or from other images, or has another format.
    """
    if not path.exists() or not path.stat().st_size:
        return ResumePoint()
    read = records.RECORD_FORMATS[record_format].read
    assert read
    count = failed = end = 0
    try:
        _check_settings(_read_settings(path), settings)
        with path.open("rb") as file:
            for record in _complete_records(read(file), settings):
                _check_settings(record.provenance, settings)
                count += 1
                if (image := next(names, None)) != record.image:
                    now = "there are no more images" if image is None else f"image {count:,} is now {image}"
                    raise UsageError(f"record {count:,} is for {record.image}, but {now}")
                failed += record.failed
                end = record.end
    except (OSError, UsageError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"cannot resume {path}: {reason}\nRun the command without --resume to start over.") from error
    return ResumePoint(count, failed, end)


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


def _settings_file(path: Path) -> Path:
    path = Path(os.path.realpath(path))
    return path.with_name(f".{path.name}.settings.json")


def _read_settings(path: Path) -> Settings:
    with suppress(OSError, ValueError):
        return dict(json.loads(_settings_file(path).read_text("utf-8")))
    return {}


@dataclass(frozen=True)
class Destination:
    """Where records go, and in which format.

    Args:
        format: a key of `predictions.OUTPUT_FORMATS`.
        path: the file to write; None for standard output.
        resume: whether to continue that file.
        features: the file for the features, or None.

    Raises:
        UsageError: a file cannot be written, or such a file cannot be resumed.
    """

    format: str
    path: Path | None = None
    resume: bool = False
    features: Path | None = None

    def __post_init__(self) -> None:
        if self.resume and self.path is None:
            raise UsageError("--resume needs an output file; add -o FILE")
        if self.resume and not self.resumable:
            raise UsageError(f"--resume needs --format {' or '.join(records.RESUMABLE)}, got {self.format}")
        if self.features:
            if self.features.suffix != ".npz":
                raise UsageError(f"{self.features}: the name must end with .npz")
            if self.resume:
                raise UsageError("--features writes one file for all images and cannot be resumed; leave out --resume")
            atomic.check_writable(self.features)
        if not self.path:
            return
        try:
            atomic.check_writable(self.path)
            regular = is_file(self.path) and not is_standard(self.path)
        except OSError as error:
            raise UsageError(f"cannot write {self.path}: {error.strerror}") from error
        if self.resume and not regular:
            raise UsageError(f"{self.path}: --resume needs a regular file, got standard output, a device or a pipe")

    @property
    def resumable(self) -> bool:
        """Whether an interrupted run can be resumed."""
        return self.path is not None and self.format in records.RESUMABLE

    def find_resume_point(self, settings: Settings, names: Iterator[str]) -> ResumePoint:
        """Return the part of the file to keep, and take its images from the names; see `find_resume_point`."""
        if not (self.path and self.resume):
            return ResumePoint()
        return find_resume_point(self.path, self.format, settings, names)

    def open(self, settings: Settings, done: ResumePoint) -> AbstractContextManager[Write]:
        """Open the destination; the result is a function that writes a text completely or not at all.

        Args:
            settings: what the records depend on, by name.
            done: the resume point.
        """
        if self.path is None:
            return open_stdout()
        terminal.out = terminal.plain_console()
        if is_standard(self.path):
            return open_stdout()
        if not is_file(self.path):
            return open_device(self.path)
        return open_resumable(self.path, settings, done) if self.resumable else open_atomic(self.path)


def is_file(path: Path) -> bool:
    """Return whether a path is a regular file or does not exist yet, and so is neither a device nor a pipe."""
    return not path.exists() or stat.S_ISREG(path.stat().st_mode)


def is_standard(path: Path) -> bool:
    """Return whether a path is standard output, such as `/dev/stdout`."""
    with suppress(OSError):
        return os.path.samestat(path.stat(), os.fstat(STANDARD_OUTPUT))
    return False


@contextmanager
def open_stdout() -> Iterator[Write]:
    """Yield a function that writes to standard output, as UTF-8 whatever the locale."""
    yield lambda text: _write(STANDARD_OUTPUT, text, "standard output")


@contextmanager
def open_atomic(path: Path) -> Iterator[Write]:
    """Yield a function that writes to a file, which appears when it is complete.

    Raises:
        UsageError: the file cannot be written.
    """
    path = Path(os.path.realpath(path))  # so that a link remains a link
    atomic.remove_leftovers(path)
    with ExitStack() as stack:
        with interrupts.defer_signals():  # or a signal could leave the temporary folder behind
            temporary = stack.enter_context(atomic.atomic_write(path))
            file = stack.enter_context(temporary.open("wb"))
        yield lambda text: _write(file.fileno(), text, str(path))


@contextmanager
def open_device(path: Path) -> Iterator[Write]:
    """Yield a function that writes to a device or a pipe.

    Raises:
        UsageError: it cannot be written to.
    """
    try:
        file = path.open("wb")
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}") from error
    with file:
        yield lambda text: _write(file.fileno(), text, str(path))


@contextmanager
def open_resumable(path: Path, settings: Settings, done: ResumePoint) -> Iterator[Write]:
    """Yield a function that writes to a file record by record, after those that are kept.

    Args:
        path: the file; anything in it after the resume point is replaced.
        settings: what the records depend on; they are saved in a hidden file next to it, for a later `--resume`.
        done: the resume point.

    Raises:
        UsageError: the file cannot be written.
    """
    try:
        file = path.open("ab" if done.records else "wb")
        file.truncate(done.end)
        if not done.records:  # only now, because the settings do not apply to the old content
            _settings_file(path).write_text(json.dumps(settings), "utf-8")
    except OSError as error:
        raise UsageError(f"cannot write {error.filename or path}: {error.strerror}") from error
    advice = "\nFinished records are kept. Free some space, then run the same command with --resume."
    with file:
        yield lambda text: _write(file.fileno(), text, str(path), advice)


def _write(descriptor: int, text: str, name: str, advice: str = "") -> None:
    """Write a record completely or, if the disk is full, not at all."""
    content = memoryview(text.encode())
    written = 0
    try:
        while written < len(content):
            written += os.write(descriptor, content[written:])
    except BaseException as error:
        with suppress(OSError):  # impossible for a pipe or a device
            os.ftruncate(descriptor, os.lseek(descriptor, -written, os.SEEK_END))
        if isinstance(error, OSError) and not isinstance(error, BrokenPipeError):
            raise UsageError(f"cannot write {name}: {error.strerror}{advice}") from error
        raise
