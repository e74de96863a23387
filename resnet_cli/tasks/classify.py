"""Classify images: find -> decode -> batch -> run inference -> decode labels, in parallel and in bounded memory."""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from resnet_cli.engines.engine import ENGINES, Engine, EngineOptions, start_engine
from resnet_cli.engines.precision import Precision
from resnet_cli.engines.probabilities import Prediction, top_k_predictions
from resnet_cli.errors import ImageError, ModelError, UsageError
from resnet_cli.images import inputs
from resnet_cli.images.inputs import MemoryImage, Source
from resnet_cli.network.architecture import NetworkOptions
from resnet_cli.network.labels import UNKNOWN, Labels
from resnet_cli.network.metadata import Metadata
from resnet_cli.network.preprocessing import Fit
from resnet_cli.system.prefetch import Prefetcher
from resnet_cli.system.progress import SILENT, Progress
from resnet_cli.tasks.options import InferenceOptions
from resnet_cli.tasks.results import NamedOutput, Output, Result
from resnet_cli.weights.model import ModelFile, load_model

E = TypeVar("E", bound=StrEnum)

PREFETCH_BATCHES = 2  # batches to decode, and batches to compute, in advance
DEFAULT_OPTIONS = InferenceOptions()
CALIBRATION_IMAGES = 300  # NNCF's default


@dataclass(frozen=True)
class Model:
    """A network with its weights and a running engine, ready to classify images.

    Args:
        file: the network and its weights.
        engine: the engine that runs it.
        options: how to decode images and run inference.
    """

    file: ModelFile
    engine: Engine
    options: InferenceOptions = DEFAULT_OPTIONS

    @property
    def name(self) -> str:
        """Name of the network."""
        return self.file.metadata.architecture.name

    @property
    def weights(self) -> str:
        """Name of the weights, or their file."""
        return self.file.weights

    @property
    def labels(self) -> Labels:
        """The classes, in the order of the network's output."""
        return self.file.metadata.labels

    @property
    def image_size(self) -> int:
        """Width and height of the network's input in pixels."""
        return self.file.metadata.architecture.image_size

    def classify(
        self, images: Source | Iterable[Source], *, top_k: int = 3, min_probability: float = 0
    ) -> Iterator[Result]:
        """Classify images, and yield one result per image in input order; failed images have an `error`.

        Args:
            images: one or several of: paths, folders, patterns, URLs; encoded images as bytes; Pillow images; uint8
                arrays (height, width, 3) in RGB.
            top_k: predictions per image.
            min_probability: from 0 to 1; if the best prediction is below it, the only prediction is `unknown`.

        Raises:
            UsageError: an option is out of range, or an image has another type, shape or dtype.
        """
        _require_count("top_k", top_k)
        if not isinstance(min_probability, int | float) or not 0 <= min_probability <= 1:
            raise UsageError(f"min_probability must be from 0 to 1, got {min_probability!r}")
        names = inputs.find_sources(images)
        return classify_images(names, self, top_k=top_k, min_probability=min_probability)

    def embed(self, pixels: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Run inference on pixels.

        Args:
            pixels: RGB uint8 (n, size, size, 3), with `image_size` as size.

        Returns:
            Probabilities (n, classes), and features (n, channels), the input of the final layer.

        Raises:
            UsageError: the array has another shape or dtype.
        """
        size = self.image_size
        received = f"{getattr(pixels, 'dtype', type(pixels).__name__)} {getattr(pixels, 'shape', '')}".strip()
        if not isinstance(pixels, np.ndarray) or pixels.dtype != np.uint8 or pixels.shape[1:] != (size, size, 3):
            raise UsageError(f"expected uint8 (n, {size}, {size}, 3), got {received}")
        if not len(pixels):
            raise UsageError(f"expected at least one image, got {received}")
        return self.engine.embed(pixels)


def load(
    weights: str | os.PathLike[str] = "auto",
    *,
    depth: int | None = None,
    engine: str = "auto",
    precision: str = "f32",
    fit: str = "crop",
    calibrate: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | None = None,
    batch_size: int = 32,
    workers: int | None = None,
    labels: str | os.PathLike[str] | None = None,
    progress: Progress = SILENT,
) -> Model:
    """Load a model.

    Args:
        weights: `auto`, `imagenet`, `tiny`, a name from `resnet weights list`, or a file.
        depth: depth of the network for `imagenet`: 18, 34, 50, 101 or 152.
        engine: `auto`, `openvino` or `keras`.
        precision: `f32`, `bf16` or `int8`.
        fit: how to make images square: `crop`, `stretch` or `pad`.
        calibrate: images to calibrate `int8` on: one or several files, folders or patterns.
        batch_size: images per batch.
        workers: decoding threads; None for one per processor core.
        labels: a file with one label per line, instead of those of the weights.
        progress: receives the progress of a download; the default shows only warnings.

    Raises:
        UsageError: an option is invalid.
        ModelError: the weights are unavailable, or the engine cannot run here.
    """
    if not isinstance(weights, str | os.PathLike):
        raise UsageError(f"weights must be a name or a path, got {weights!r}")
    _require_count("batch_size", batch_size)
    if workers is not None:
        _require_count("workers", workers)
    if engine not in ("auto", *ENGINES):
        raise UsageError(f"engine must be auto, {' or '.join(ENGINES)}, got {engine!r}")
    if isinstance(calibrate, str | os.PathLike):
        calibrate = [calibrate]
    images = None if calibrate is None else [os.fspath(name) for name in calibrate]
    options = InferenceOptions(
        _choice(Fit, fit, "fit"),
        engine,
        _choice(Precision, precision, "precision"),
        images,
        batch_size,
        workers,
        None if labels is None else Path(labels),
    )
    return start_model(os.fspath(weights), NetworkOptions(depth=depth), options, progress, throughput=True)


def _require_count(option: str, value: object) -> None:
    if not isinstance(value, int) or value < 1:
        raise UsageError(f"{option} must be an integer of at least 1, got {value!r}")


def _choice(kind: type[E], value: str, option: str) -> E:
    try:
        return kind(value)
    except ValueError as error:
        raise UsageError(f"{option} must be one of {', '.join(kind)}, got {value!r}") from error


def classify(
    images: Source | Iterable[Source],
    weights: str | os.PathLike[str] = "auto",
    *,
    top_k: int = 3,
    min_probability: float = 0,
) -> Iterator[Result]:
    """Load a model and classify images: the same as `load(weights).classify(images, ...)`."""
    return load(weights).classify(images, top_k=top_k, min_probability=min_probability)


def start_model(
    weights: str,
    requested: NetworkOptions,
    options: InferenceOptions,
    progress: Progress = SILENT,
    *,
    sources: Iterable[str] = (),
    throughput: bool,
) -> Model:
    """Load a model and start its engine.

    Args:
        weights: as for `load_model`.
        requested: options of the network.
        options: how to run inference.
        progress: receives the progress.
        sources: files and folders to classify.
        throughput: whether there are many images.

    Raises:
        UsageError: the requested network is invalid.
        ModelError: the weights are unavailable, or the engine cannot run here.
    """
    file = load_model(weights, requested, progress, labels_file=options.labels)
    engine = start_engine(options.engine, file, engine_options(options, sources, throughput=throughput), progress)
    return Model(file, engine, options)


def engine_options(options: InferenceOptions, sources: Iterable[str], *, throughput: bool) -> EngineOptions:
    """Return how to start an engine.

    Args:
        options: how to run inference.
        sources: files and folders to classify, to calibrate `int8` on if no others are given.
        throughput: whether there are many images.
    """
    files = [name for name in options.calibrate or sources if name != "-"]  # standard input can be read only once
    loader = calibration_loader(files, options.fit)
    return EngineOptions(options.precision, throughput, loader, options.calibration_key)


def classify_images(
    names: Iterable[str | MemoryImage], model: Model, *, top_k: int = 3, min_probability: float = 0
) -> Iterator[Result]:
    """Yield one result per image, in order.

    Args:
        names: what `inputs.find` or `inputs.find_sources` yields.
        model: the model.
        top_k: predictions per image.
        min_probability: from 0 to 1; if the best prediction is below it, the only prediction is `labels.UNKNOWN`.

    Raises:
        ModelError: the network returned NaN or infinite values.
    """
    for name, output in infer(names, model):
        if isinstance(output, ImageError):
            yield Result(name, model.name, model.weights, error=output)
            continue
        predictions = top_k_predictions(output.probabilities, model.labels, top_k)
        if (best := predictions[0].probability) < min_probability:
            predictions = (Prediction(1, None, UNKNOWN, best),)
        yield Result(name, model.name, model.weights, predictions, features=output.features)


def infer(names: Iterable[str | MemoryImage], model: Model) -> Iterator[NamedOutput]:
    """Run inference on images; finding, decoding and inference run in parallel, in bounded memory.

    Args:
        names: what `inputs.find` or `inputs.find_sources` yields.
        model: the model.

    Yields:
        Each name with its output, or with the reason why there is none, in order.

    Raises:
        ModelError: the network returned NaN or infinite values.
    """
    decoding, batch_size = model.file.metadata.decoding(model.options.fit), model.options.batch_size

    def decode(name: str | MemoryImage) -> NDArray[np.uint8] | ImageError:
        try:
            return inputs.read_pixels(name, decoding)
        except ImageError as error:
            return error

    pool = ThreadPoolExecutor(model.options.workers or os.cpu_count())
    try:
        pending = ((str(name), pool.submit(decode, name)) for name in names)
        with (
            closing(Prefetcher(pending, PREFETCH_BATCHES * batch_size)) as decoded,
            closing(Prefetcher(_infer_batches(decoded, model, batch_size), PREFETCH_BATCHES)) as batches,
        ):
            for batch in batches:
                yield from batch
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _infer_batches(
    decoded: Prefetcher[tuple[str, Future[NDArray[np.uint8] | ImageError]]], model: Model, batch_size: int
) -> Iterator[list[NamedOutput]]:
    while taken := decoded.take(batch_size):
        images = [(name, image.result()) for name, image in taken]
        pixels = [image for _, image in images if not isinstance(image, ImageError)]
        probabilities, features = model.engine.embed(np.stack(pixels)) if pixels else (np.empty(0), np.empty(0))
        if not np.isfinite(probabilities).all():
            raise ModelError(f"{model.weights}: the network returned NaN or infinite values; the weights are damaged")
        outputs = map(Output, probabilities, features)
        yield [(name, image if isinstance(image, ImageError) else next(outputs)) for name, image in images]


def calibration_loader(names: Iterable[str], fit: Fit) -> Callable[[Metadata], NDArray[np.uint8]]:
    """Return a function that decodes the first `CALIBRATION_IMAGES` readable images, for `EngineOptions`.

    Args:
        names: files and folders.
        fit: how to make images square.
    """

    def load_images(metadata: Metadata) -> NDArray[np.uint8]:
        images = []
        for name in inputs.find(names):
            with suppress(ImageError):
                images.append(inputs.read_pixels(name, metadata.decoding(fit)))
            if len(images) == CALIBRATION_IMAGES:
                break
        return np.array(images)

    return load_images
