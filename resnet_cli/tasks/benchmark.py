"""Measure decoding, inference, end-to-end and start-up speed in interleaved runs."""

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

import numpy as np
from numpy.typing import NDArray

from resnet_cli.engines.engine import Engine, EngineOptions, engine_name, start_engine
from resnet_cli.engines.precision import Precision
from resnet_cli.errors import ImageError, UsageError
from resnet_cli.images import decode, inputs
from resnet_cli.network import graph, variants
from resnet_cli.network.architecture import NetworkOptions
from resnet_cli.system.progress import Progress
from resnet_cli.tasks import processes, synthetic
from resnet_cli.tasks.classify import Model, classify_images, engine_options
from resnet_cli.tasks.options import InferenceOptions
from resnet_cli.tasks.processes import Cost
from resnet_cli.version import __version__
from resnet_cli.weights.model import ModelFile, load_model

PHOTOS = 64  # photos generated if none are given; fewer are repeated, because engines are fastest with full batches
MAX_PHOTOS = 256  # limit on the given photos, because their pixels stay in memory
MIN_SECONDS = 0.5  # shorter measurements are repeated, because they are inexact
LIBRARIES = ("openvino", "keras", "tensorflow", "pillow")


@dataclass(frozen=True)
class Run:
    """The measurements of one run.

    Args:
        engine: images/s of inference only, with pixels in memory.
        decode: images/s of decoding only, on all cores.
        end_to_end: images/s from file to labels.
        against: images/s of the other engine, like `engine`, or None.
        cold, warm: cost of a new process that classifies one image, without and with the compiled network in the cache.
    """

    engine: float
    decode: float
    end_to_end: float
    against: float | None
    cold: Cost
    warm: Cost

    @property
    def expected(self) -> float:
        """Images/s end to end if only decoding and inference took time, on the same cores."""
        return 1 / (1 / self.engine + 1 / self.decode)

    @property
    def figures(self) -> dict[str, float]:
        """The measurements, and figures derived from them, by name."""
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
    """A figure in all runs."""

    min: float
    median: float
    max: float


@dataclass(frozen=True)
class Machine:
    """The machine of a benchmark.

    Args:
        processor: its name.
        cores: number of cores that the system reports.
        versions: versions of Python, this package and the installed libraries, by name.
    """

    processor: str
    cores: int
    versions: dict[str, str]


@dataclass(frozen=True)
class Benchmark:
    """The speed of a model on a machine.

    Args:
        model, weights: names of the network and its weights.
        engine, precision: the engine and the precision in use, which may differ from the requested one.
        against: the other engine, or None.
        machine: the machine.
        images: images per run, including repeated ones.
        image_size: width and height of the network's input in pixels.
        batch_size: images per batch.
        peak_bytes: peak memory of this process, including the other engine's.
        runs: the runs.
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
        """The figures of `Run.figures` in all runs."""
        listed = {name: [run.figures[name] for run in self.runs] for name in self.runs[0].figures}
        return {name: Spread(min(each), statistics.median(each), max(each)) for name, each in listed.items()}


def run_benchmark(
    weights: str,
    requested: NetworkOptions,
    photos: str | None,
    options: InferenceOptions,
    progress: Progress,
    *,
    against: str | None = None,
    runs: int = 5,
) -> Benchmark:
    """Measure a model in interleaved runs, so that load on the machine affects all figures equally.

    Args:
        weights: `none` for random ones, a name, or a file.
        requested: options of the network.
        photos: an image or a folder of images; None to generate some.
        options: how to run inference.
        progress: receives the progress.
        against: another engine to measure, in f32; None for none.
        runs: number of runs.

    Raises:
        UsageError: no image can be read, or the requested network is invalid.
        ModelError: the weights are unavailable, or an engine cannot run here.
        ResnetError: `resnet predict` failed.
    """
    with TemporaryDirectory(prefix="resnet-") as folder:
        scratch = Path(folder)
        if weights == "none":  # the file describes its network
            file, requested = _random_model(scratch, requested, progress), NetworkOptions()
        else:
            file = load_model(weights, requested, progress)
        if photos is None:
            progress.report("Generating images")
            synthetic.write_photos(scratch / "photos", PHOTOS)
            photos = str(scratch / "photos")
        harness = _prepare(file, requested, photos, options, against, scratch, progress)
        measured = []
        for number in range(1, runs + 1):
            progress.report(f"Run {number} of {runs}")
            measured.append(harness.run(scratch))
    model = harness.model
    return Benchmark(
        model=model.name,
        weights=model.weights,
        engine=engine_name(model.engine),
        precision=model.engine.precision,
        against=against,
        machine=machine(),
        images=len(harness.paths),
        image_size=model.image_size,
        batch_size=options.batch_size,
        peak_bytes=processes.peak_bytes(),
        runs=tuple(measured),
    )


def machine() -> Machine:
    """Return this machine and its libraries."""
    processor = platform.processor() or platform.machine()
    with suppress(OSError):  # only Linux has this file
        if found := re.search(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text("utf-8"), re.MULTILINE):
            processor = found[1]
    versions = {"python": platform.python_version(), "resnet-cli": __version__}
    for library in LIBRARIES:
        with suppress(metadata.PackageNotFoundError):
            versions[library] = metadata.version(library)
    return Machine(processor, os.cpu_count() or 1, versions)


def _random_model(scratch: Path, requested: NetworkOptions, progress: Progress) -> ModelFile:
    progress.report("Generating random weights")
    path = scratch / "random.safetensors"
    synthetic.write_weights(path, graph.resnet(variants.describe(**requested.chosen)))
    with _temporary_cache(scratch / "cache"):
        return replace(load_model(str(path), progress=progress), weights="none")


def _prepare(
    file: ModelFile,
    requested: NetworkOptions,
    photos: str,
    options: InferenceOptions,
    against: str | None,
    scratch: Path,
    progress: Progress,
) -> "_Harness":
    paths, pixels = [], []
    for path in islice(inputs.find([photos]), MAX_PHOTOS):
        try:
            pixels.append(decode.decode_file(path, file.metadata.decoding(options.fit)))
            paths.append(path)
        except ImageError as error:
            progress.warn(f"{path}: skipped: {error}")
    if not paths:
        raise UsageError(f"{photos}: found no readable images")
    with _temporary_cache(scratch / "cache"):
        engine = start_engine(options.engine, file, engine_options(options, [photos], throughput=True), progress)
        other = start_engine(against, file, EngineOptions(throughput=True), progress) if against else None
    repeated = [index % len(paths) for index in range(ceil(len(paths) / PHOTOS) * PHOTOS)]
    model = Model(file, engine, options)
    harness = _Harness(
        model, requested, other, photos, [paths[index] for index in repeated], np.array(pixels)[repeated]
    )
    progress.report("Warming up")
    for each in filter(None, (engine, other)):
        each.predict(harness.pixels)
    return harness


@contextmanager
def _temporary_cache(folder: Path) -> Iterator[None]:
    """Use a temporary cache, so that networks compiled for the benchmark do not stay in the user's."""
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
class _Harness:
    """The inputs of a run; `pixels` are the images of `paths`, found in `photos`: RGB uint8 (images, size, size, 3)."""

    model: Model
    requested: NetworkOptions
    other: Engine | None
    photos: str
    paths: list[str]
    pixels: NDArray[np.uint8]

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
        """Return the images/s of a function that processes all images once."""
        times, started = 0, time.perf_counter()
        while (seconds := time.perf_counter() - started) < MIN_SECONDS:
            work()
            times += 1
        return times * len(self.paths) / seconds

    def compute(self) -> None:
        batch_size = self.model.options.batch_size
        for start in range(0, len(self.pixels), batch_size):
            self.model.engine.predict(self.pixels[start : start + batch_size])

    def decode(self) -> None:
        decoding = self.model.file.metadata.decoding(self.model.options.fit)
        with ThreadPoolExecutor(self.model.options.workers or os.cpu_count()) as pool:
            for _ in pool.map(lambda path: decode.decode_file(path, decoding), self.paths):
                pass

    def classify(self) -> None:
        for _ in classify_images(self.paths, self.model):
            pass

    def command(self) -> list[str]:
        """Return the command that classifies the first image in a process of its own."""
        options = {
            **self.requested.chosen,
            "weights": self.model.file.path.absolute(),
            "engine": self.model.options.engine,
            "precision": self.model.options.precision,
            "calibrate": self.photos,
        }
        arguments = [f"--{name}={value}" for name, value in options.items()]
        return [sys.executable, "-P", "-m", "resnet_cli", "predict", "--quiet", *arguments, "--", self.paths[0]]
