"""Where records go: standard output, or a file that an interrupted run can resume."""

import json
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from resnet_cli.errors import UsageError
from resnet_cli.output import features, records, resume, terminal
from resnet_cli.output.resume import Plan, Settings
from resnet_cli.system import atomic, interrupts, lock

Write = Callable[[str], None]

STANDARD_OUTPUT = 1  # the descriptor


@dataclass(frozen=True)
class Destination:
    """Where records go, and in which format.

    Args:
        format: a key of `predictions.OUTPUT_FORMATS`.
        path: the file to write; None for standard output.
        resume: whether to continue that file.
        update: whether to keep the records of unchanged images in that file.
        force: whether to replace a file that was not written here.
        features: the file for the features, or None.

    Raises:
        UsageError: a file cannot be written, or such a file cannot be continued.
    """

    format: str
    path: Path | None = None
    resume: bool = False
    update: bool = False
    force: bool = False
    features: Path | None = None

    def __post_init__(self) -> None:
        option = "--resume" if self.resume else "--update" if self.update else None
        if self.resume and self.update:
            raise UsageError("--update also continues an interrupted run; leave out --resume")
        if option and self.path is None:
            raise UsageError(f"{option} needs an output file; add -o FILE")
        if option and not self.resumable:
            raise UsageError(f"{option} needs --format {' or '.join(records.RESUMABLE)}, got {self.format}")
        if self.features:
            if self.features.suffix != ".npz":
                raise UsageError(f"{self.features}: the name must end with .npz")
            if option:
                raise UsageError(f"--features writes one file for all images; leave out {option}")
            atomic.check_replaceable(self.features, features.is_ours, force=self.force)
        if not self.path:
            return
        try:
            atomic.check_writable(self.path)
            regular = is_file(self.path) and not is_standard(self.path)
        except OSError as error:
            raise UsageError(f"cannot write {self.path}: {error.strerror}") from error
        if option and not regular:
            raise UsageError(f"{self.path}: {option} needs a regular file, got standard output, a device or a pipe")
        if regular:
            atomic.check_replaceable(self.path, records.is_ours, force=self.force)

    @property
    def files(self) -> tuple[Path, ...]:
        """The files that are written."""
        return tuple(path for path in (self.path, self.features) if path)

    @property
    def resumable(self) -> bool:
        """Whether an interrupted run can be resumed."""
        return self.path is not None and self.format in records.RESUMABLE

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Keep other runs from writing the same files.

        Raises:
            UsageError: another run is writing one of them.
        """
        with ExitStack() as stack:
            for path in self.files:
                if is_file(path) and not is_standard(path):
                    stack.enter_context(lock.only_writer(path))
            yield

    def plan(self, settings: Settings, names: Iterator[str]) -> Plan:
        """Return what is taken over from an earlier run; the images of a resumed one are taken from the names."""
        if self.path and self.resume:
            return resume.resume(self.path, self.format, settings, names)
        if self.path and self.update:
            return resume.update(self.path, self.format, settings)
        return Plan()

    def open(self, settings: Settings, plan: Plan) -> AbstractContextManager[Write]:
        """Open the destination; the result is a function that writes a text completely or not at all.

        Args:
            settings: what the records depend on, by name.
            plan: what is taken over from an earlier run.
        """
        if self.path is None:
            return open_stdout()
        terminal.out = terminal.plain_console()
        if is_standard(self.path):
            return open_stdout()
        if not is_file(self.path):
            return open_device(self.path)
        if not self.resumable:
            return open_atomic(self.path)
        return (open_updated if plan.earlier else open_resumable)(self.path, settings, plan)


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
def open_resumable(path: Path, settings: Settings, plan: Plan) -> Iterator[Write]:
    """Yield a function that writes to a file record by record, after those that are kept.

    Args:
        path: the file; anything in it after the resume point is replaced.
        settings: what the records depend on; they are saved in a hidden file next to it, for later runs.
        plan: what is taken over from an earlier run; notes the states of images in the hidden file.

    Raises:
        UsageError: the file cannot be written, or another run is writing it.
    """
    with ExitStack() as stack:
        try:
            file = stack.enter_context(path.open("ab"))
            lock.lock_file(file.fileno(), path)  # hard links have other names
            file.truncate(plan.done.end)
        except OSError as error:
            raise UsageError(f"cannot write {path}: {error.strerror}") from error
        # Only now, because the settings do not apply to the old content.
        if stamps := resume.open_settings(path, settings, more=bool(plan.done.records)):
            plan.stamps = stack.enter_context(stamps)
        advice = "\nFinished records are kept. Free some space, then run the same command with --resume."
        yield lambda text: _write(file.fileno(), text, str(path), advice)


@contextmanager
def open_updated(path: Path, settings: Settings, plan: Plan) -> Iterator[Write]:
    """Yield a function that writes to a new file, which replaces the old one when it is complete.

    Args:
        path: the file.
        settings: as for `open_resumable`.
        plan: what is taken over from the old file.

    Raises:
        UsageError: the file cannot be written.
    """
    hidden = resume.settings_file(path)
    atomic.remove_leftovers(hidden)
    with ExitStack() as stack:
        with interrupts.defer_signals():
            if resume.can_save_settings(path):  # replaced last: old states never hide a change of an image
                temporary = stack.enter_context(atomic.atomic_write(hidden))
                plan.stamps = stack.enter_context(temporary.open("w", encoding="utf-8"))
                plan.stamps.write(json.dumps(settings) + "\n")
            write = stack.enter_context(open_atomic(path))
        yield write


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
