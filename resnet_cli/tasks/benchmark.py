"""The use case: measure by turns how fast images are decoded, computed and classified, and how soon one is answered."""

import os
import platform
import re
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from importlib import metadata
from itertools import islice
from math import ceil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resnet_cli import __version__, architecture, engines, graph, images, inputs, models, predict, processes, synthetic
from resnet_cli.engines import Engine, Precision, Setup
from resnet_cli.errors import ImageError, UsageError
from resnet_cli.models import Activity, Model
from resnet_cli.pretrained import Fit
from resnet_cli.processes import Cost

PHOTOS = 64  # made where none are given; few are taken several times, as engines are fastest with whole batches
MOST_PHOTOS = 256  # taken of those given, as their pixels stay in memory
LEAST_SECONDS = 0.5  # what takes less is done again: a short measurement is an inexact one
LIBRARIES = ("openvino", "keras", "tensorflow", "pillow")


@dataclass(frozen=True)
class Options:
    """How to measure.

    Args:
        engine: a key of `engines.ENGINES`, or `auto`.
        precision: what it computes in.
        against: another engine, which computes in f32 in turn with it; None for none.
        batch_size: images given to an engine at once.
        workers: threads that decode; where None, one a processor core.
        runs: how often everything is measured.
    """

    engine: str = "auto"
    precision: Precision = Precision.F32
    against: str | None = None
    batch_size: int = 32
    workers: int | None = None
    runs: int = 5


@dataclass(frozen=True)
class Run:
    """One turn of everything.

    Args:
        engine: images a second, their pixels in memory already.
        decode: images a second from file to pixels, on all cores.
        end_to_end: images a second from file to labels.
        against: images a second of the other engine, as `engine`, or None.
        cold, warm: a fresh process that answers one image, without and with the compiled network in the cache.
    """

    engine: float
    decode: float
    end_to_end: float
    against: float | None
    cold: Cost
    warm: Cost

    @property
    def expected(self) -> float:
        """Images a second end to end if decoding and computing were all that takes time, and shared the cores."""
        return 1 / (1 / self.engine + 1 / self.decode)

    @property
    def figures(self) -> dict[str, float]:
        """What was measured, and what follows from it, by name."""
        figures = {
            "engine_images_per_second": self.engine,
            "decode_images_per_second": self.decode,
            "end_to_end_images_per_second": self.end_to_end,
            "expected_images_per_second": self.expected,
            "share_of_expected": self.end_to_end / self.expected,
            "cold_seconds": self.cold.seconds,
            "warm_seconds": self.warm.seconds,
            "cold_peak_bytes": self.cold.peak_bytes,
            "warm_peak_bytes": self.warm.peak_bytes,
        }
        if self.against is not None:
            figures |= {"against_images_per_second": self.against, "ratio": self.engine / self.against}
        return figures


@dataclass(frozen=True)
class Spread:
    """A figure over all runs."""

    min: float
    median: float
    max: float


@dataclass(frozen=True)
class Machine:
    """What was measured on.

    Args:
        processor: its name.
        cores: how many the system shows.
        versions: of Python, of this package and of the libraries that are installed, by name.
    """

    processor: str
    cores: int
    versions: dict[str, str]


@dataclass(frozen=True)
class Benchmark:
    """How fast a model answers on a machine.

    Args:
        model, weights: what was measured.
        engine, precision: what computed it, and in what; it may not be what was asked.
        against: the other engine, or None.
        machine: what was measured on.
        images: how many a turn takes, those counted that it takes again.
        image_size: side of the network's input in pixels.
        batch_size: images given to the engine at once.
        peak_bytes: the most memory this process has had, that of the other engine included.
        runs: what was measured.
    """

    model: str
    weights: str
    engine: str
    precision: Precision
    against: str | None
    machine: Machine
    images: int
    image_size: int
    batch_size: int
    peak_bytes: int
    runs: tuple[Run, ...]

    @property
    def figures(self) -> dict[str, Spread]:
        """The figures of `Run.figures` over all runs."""
        listed = {name: [run.figures[name] for run in self.runs] for name in self.runs[0].figures}
        return {name: Spread(min(each), statistics.median(each), max(each)) for name, each in listed.items()}


def benchmark(
    weights: str, asked: dict[str, Any], photos: str | None, options: Options, activity: Activity
) -> Benchmark:
    """Measure a model by turns, so that a busy minute of the machine touches all figures alike.

    Args:
        weights: `none` for random ones, or what `models.load` takes.
        asked: arguments of `architecture.resnet` that the user gave.
        photos: an image or a folder of images; where None, some are made.
        options: how to measure.
        activity: is told what goes on.

    Raises:
        UsageError: no image can be read, or no network can be made of what was asked.
        ModelError: the weights are not to be had, or an engine cannot run here.
        ResnetError: `resnet predict` failed.
    """
    with TemporaryDirectory(prefix="resnet-") as folder:
        scratch = Path(folder)
        if weights == "none":
            model, asked = _random(scratch, asked, activity), {}  # the file says itself what network it is of
        else:
            model = models.load(weights, asked, activity)
        if photos is None:
            activity.report("Making photos")
            synthetic.write_photos(scratch / "photos", PHOTOS)
            photos = str(scratch / "photos")
        bench = _prepared(model, asked, photos, options, scratch, activity)
        runs = []
        for number in range(1, options.runs + 1):
            activity.report(f"Run {number} of {options.runs}")
            runs.append(bench.run(scratch))
    return Benchmark(
        model=model.metadata.architecture.name,
        weights=model.weights,
        engine=engines.name_of(bench.engine),
        precision=bench.engine.precision,
        against=options.against,
        machine=machine(),
        images=len(bench.paths),
        image_size=model.metadata.architecture.image_size,
        batch_size=options.batch_size,
        peak_bytes=processes.peak_bytes(),
        runs=tuple(runs),
    )


def machine() -> Machine:
    """Name this machine and what is installed on it."""
    processor = platform.processor() or platform.machine()
    with suppress(OSError):  # only Linux has it
        if found := re.search(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text("utf-8"), re.MULTILINE):
            processor = found[1]
    versions = {"python": platform.python_version(), "resnet-cli": __version__}
    for library in LIBRARIES:
        with suppress(metadata.PackageNotFoundError):
            versions[library] = metadata.version(library)
    return Machine(processor, os.cpu_count() or 1, versions)


def _random(scratch: Path, asked: dict[str, Any], activity: Activity) -> Model:
    activity.report("Drawing random weights")
    path = scratch / "random.safetensors"
    synthetic.write_weights(path, graph.resnet(architecture.resnet(**asked)))
    with _cache(scratch / "cache"):
        return replace(models.load(str(path), {}, activity), weights="none")


def _prepared(
    model: Model, asked: dict[str, Any], photos: str, options: Options, scratch: Path, activity: Activity
) -> "_Bench":
    setup = Setup(options.precision, True, predict.calibration([photos], Fit.CROP))
    size, resizing = model.metadata.architecture.image_size, model.metadata.preprocessing.resizing
    paths, pixels = [], []
    for path in islice(inputs.find([photos]), MOST_PHOTOS):
        try:
            pixels.append(images.decode(path, size, Fit.CROP, resizing))
            paths.append(path)
        except ImageError as error:
            activity.warn(f"{path}: left out; {error}")
    if not paths:
        raise UsageError(f"{photos}: expected images, found none that can be read")
    with _cache(scratch / "cache"):
        engine = engines.start(options.engine, model, setup, activity)
        other = engines.start(options.against, model, Setup(many=True), activity) if options.against else None
    again = [index % len(paths) for index in range(ceil(len(paths) / PHOTOS) * PHOTOS)]
    bench = _Bench(
        model, asked, engine, other, photos, [paths[index] for index in again], np.array(pixels)[again], options
    )
    activity.report("Warming up")
    for each in filter(None, (engine, other)):
        each.predict(bench.pixels)
    return bench


@contextmanager
def _cache(folder: Path) -> Iterator[None]:
    """Keep compiled networks in another folder meanwhile: what is measured once is nothing to keep."""
    before = os.environ.get("RESNET_CACHE_DIR")
    os.environ["RESNET_CACHE_DIR"] = str(folder)
    try:
        yield
    finally:
        if before is None:
            del os.environ["RESNET_CACHE_DIR"]
        else:
            os.environ["RESNET_CACHE_DIR"] = before


@dataclass(frozen=True)
class _Bench:
    """What a run needs; `pixels` are the images of `paths`, found in `photos`: RGB uint8 (images, size, size, 3)."""

    model: Model
    asked: dict[str, Any]
    engine: Engine
    other: Engine | None
    photos: str
    paths: list[str]
    pixels: NDArray[np.uint8]
    options: Options

    def run(self, scratch: Path) -> Run:
        command = self.command()
        with TemporaryDirectory(dir=scratch) as cache:
            environment = os.environ | {"RESNET_CACHE_DIR": cache}
            cold = processes.run(command, environment)
            warm = processes.run(command, environment)
        other = self.other
        return Run(
            engine=self.rate(self.compute),
            against=self.rate(lambda: other.predict(self.pixels)) if other else None,
            decode=self.rate(self.decode),
            end_to_end=self.rate(self.classify),
            cold=cold,
            warm=warm,
        )

    def rate(self, work: Callable[[], object]) -> float:
        """Return the images a second of what works through all of them once."""
        times, started = 0, time.perf_counter()
        while (seconds := time.perf_counter() - started) < LEAST_SECONDS:
            work()
            times += 1
        return times * len(self.paths) / seconds

    def compute(self) -> None:
        for start in range(0, len(self.pixels), self.options.batch_size):
            self.engine.predict(self.pixels[start : start + self.options.batch_size])

    def decode(self) -> None:
        wanted = self.model.metadata
        size, resizing = wanted.architecture.image_size, wanted.preprocessing.resizing
        with ThreadPoolExecutor(self.options.workers or os.cpu_count()) as pool:
            for _ in pool.map(lambda path: images.decode(path, size, Fit.CROP, resizing), self.paths):
                pass

    def classify(self) -> None:
        batch_size, workers = self.options.batch_size, self.options.workers
        for _ in predict.classify(self.paths, self.model, self.engine, batch_size=batch_size, workers=workers):
            pass

    def command(self) -> list[str]:
        """Return what answers the first image in a process of its own."""
        given = {
            **self.asked,
            "weights": self.model.path.absolute(),
            "engine": self.options.engine,
            "precision": self.options.precision,
            "calibrate": self.photos,
        }
        options = [f"--{name}={value}" for name, value in given.items()]
        return [sys.executable, "-P", "-m", "resnet_cli", "predict", "--quiet", *options, "--", self.paths[0]]
