"""Any number of images -> records, to standard output or to a file that a later run can go on with."""

import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from io import BufferedReader
from itertools import chain
from pathlib import Path
from typing import Any

from resnet_cli import engines, files, folders, inputs, interrupts, output, predict, render, store, terminal
from resnet_cli.engines import Engine, Setup
from resnet_cli.errors import UsageError
from resnet_cli.models import Model
from resnet_cli.output import Kept, Write
from resnet_cli.records import RESUMABLE


@dataclass(frozen=True)
class Wanted:
    """What the user wants of a run.

    Args:
        layout: a key of `render.RECORDS`.
        path: the file to write; None for standard output.
        resume: whether to go on with that file.
        top_k: predictions an image.
        min_probability: below it the answer is unknown.
        shard: which of how many shares of the images.
        features: the file of features to write besides, or None.
    """

    layout: str
    path: Path | None
    resume: bool
    top_k: int
    min_probability: float
    shard: tuple[int, int] | None
    features: Path | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.min_probability <= 1:  # not a number is neither
            raise UsageError(f"--min-probability must be from 0 to 1, got {self.min_probability}")
        if self.resume and self.path is None:
            raise UsageError("--resume goes on with a file; name it with -o")
        if self.resume and not self.resumable:
            raise UsageError(f"--resume goes on with {' or '.join(RESUMABLE)}, not with {self.layout}")
        if self.features:
            if self.features.suffix != ".npz":
                raise UsageError(f"{self.features}: the name must end with .npz")
            if self.resume:
                raise UsageError("--features writes a file of all images at once; leave out --resume")
            files.check(self.features)
        if not self.path:
            return
        try:
            files.check(self.path)
            ordinary = output.is_file(self.path) and not output.is_standard(self.path)
        except OSError as error:
            raise UsageError(f"cannot write {self.path}: {error.strerror}") from error
        if self.resume and not ordinary:
            raise UsageError(f"{self.path}: --resume goes on with a file, got something else")

    @property
    def resumable(self) -> bool:
        """Whether a cut-off run can be gone on with."""
        return self.path is not None and self.layout in RESUMABLE


def names(given: list[str], files_from: str | None, nul: bool) -> Iterator[str]:
    """Return the names on the command line, then those of a list.

    Args:
        given: names on the command line.
        files_from: the list: a file, or `-` for standard input; None for none.
        nul: whether names of the list end with NUL; else each is a line.

    Raises:
        UsageError: there are none, the list cannot be read, or standard input is wanted twice.
    """
    if files_from is None:
        if nul:
            raise UsageError("-0 says how names end in the list of --files-from; give that, too")
        if not given:
            raise UsageError("expected an image, a folder, a pattern, an address or -, got nothing")
        if given.count(inputs.STANDARD_INPUT) > 1:
            raise UsageError("standard input (-) holds one image; it is given more than once")
        return iter(given)
    if files_from == inputs.STANDARD_INPUT:
        if inputs.STANDARD_INPUT in given:
            raise UsageError("standard input is the list of names (--files-from -), it cannot be an image (-) as well")
        return chain(given, _listed(open(0, "rb", closefd=False), nul))
    try:
        file = open(files_from, "rb")  # noqa: SIM115, PTH123 - it is read as long as the run lasts
    except (OSError, ValueError) as error:
        raise UsageError(f"{files_from}: expected a list of names, got {getattr(error, 'strerror', error)}") from error
    return chain(given, _listed(file, nul))


def _listed(file: BufferedReader, nul: bool) -> Iterator[str]:
    """Return the names of a list, in which `-` is a file as any other."""
    return (f"./{name}" if name == inputs.STANDARD_INPUT else name for name in inputs.listed(file, nul))


@contextmanager
def counted(wanted: Wanted) -> Iterator[render.Count]:
    """Count records, and say how many there were and how to go on where a signal ends what is done here."""
    count = render.Count()
    try:
        yield count
    except interrupts.INTERRUPTIONS:
        way = (
            "the same command with --resume goes on"
            if wanted.resumable
            else "--format jsonl -o FILE could be gone on with"
        )
        terminal.warning(f"interrupted after {count.done:,} images; {way}")
        raise


def run(
    given: Iterator[str],
    model: Model,
    engine: Engine,
    setup: Setup,
    wanted: Wanted,
    options: dict[str, Any],
    count: render.Count,
) -> None:
    """Classify images and write their records.

    Args:
        given: files, folders, patterns, addresses and `-`.
        model: what answers.
        engine: what computes it.
        setup: what was asked of the engine.
        wanted: what is wanted of the run.
        options: of `predict.answers`.
        count: is kept up to date; records that an earlier run has written count, too.

    Raises:
        UsageError: the file to go on with was made in another way, or something cannot be written.
    """
    left_out = folders.LeftOut()
    found = inputs.find(given, left_out)
    coming = inputs.shard(found, *wanted.shard) if wanted.shard else found
    settings = _settings(model, engine, setup, wanted, options)
    kept = Kept()
    if wanted.path and wanted.resume:
        kept = output.keep(wanted.path, wanted.layout, settings, coming)
        count.done, count.failed = kept.records, kept.failed
        if kept.records:
            terminal.note(f"{wanted.path}: going on after {kept.records:,} images")
    answered = predict.classify(
        coming, model, engine, top_k=wanted.top_k, min_probability=wanted.min_probability, **options
    )
    try:
        with ExitStack() as stack:
            write = stack.enter_context(_opened(wanted, settings, kept))
            if wanted.features:
                from resnet_cli import features

                answered = map(stack.enter_context(features.writing(wanted.features)), answered)
            # Where the results are shown themselves, they are the progress.
            shown = wanted.path or not sys.stdout.isatty()
            progress = stack.enter_context(terminal.Counting("Classifying")).count if shown else lambda done: None
            progress(count.done)
            render.write_records(answered, render.RECORDS[wanted.layout], write, count, progress)
    finally:
        terminal.detail(f"left out of folders: {left_out.hidden:,} hidden, {left_out.others:,} that are no images")


def _opened(wanted: Wanted, settings: output.Settings, kept: Kept) -> AbstractContextManager[Write]:
    if wanted.path is None:
        return output.standard()
    terminal.out = terminal.plain()
    if output.is_standard(wanted.path):
        return output.standard()
    if not output.is_file(wanted.path):
        return output.special(wanted.path)
    return output.growing(wanted.path, settings, kept) if wanted.resumable else output.complete(wanted.path)


def _settings(model: Model, engine: Engine, setup: Setup, wanted: Wanted, options: dict[str, Any]) -> output.Settings:
    """Return all that the records depend on besides the images, under the names that users know."""
    return {
        "format": wanted.layout,
        "model": model.metadata.architecture.name,
        "weights": model.weights,
        "content of the weights": store.digest(model.path),
        "engine": engines.name_of(engine),
        "precision": engine.precision,
        "calibrate": setup.calibrated_on,
        "fit": options["fit"],
        "top-k": min(wanted.top_k, len(model.metadata.labels)),
        "min-probability": wanted.min_probability,
        "shard": "{}/{}".format(*wanted.shard or (1, 1)),
    }
