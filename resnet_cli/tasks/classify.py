"""The use case: find -> decode -> batch -> infer -> decode labels -> records."""

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resnet_cli import inputs, labels
from resnet_cli.ahead import Ahead
from resnet_cli.engines import Engine
from resnet_cli.errors import ImageError, ModelError
from resnet_cli.labels import Prediction
from resnet_cli.metadata import Metadata
from resnet_cli.models import Model
from resnet_cli.pretrained import Fit

BATCHES_AHEAD = 2  # batches decoded, and batches computed, before they are asked for

CALIBRATION_IMAGES = 300  # NNCF's default number


@dataclass(frozen=True)
class Answer:
    """What a network says of one image.

    Args:
        probabilities: shape (classes,).
        features: what the head sees, shape (channels,).
    """

    probabilities: NDArray[np.float32]
    features: NDArray[np.float32]


Answered = tuple[str, Answer | ImageError]


@dataclass(frozen=True)
class Record:
    """What became of one image.

    Args:
        image: its name as it was given or found.
        model, weights: what answered.
        predictions: the most probable classes, best first; empty for a failed image.
        error: why it failed, or None.
        features: what the head saw, shape (channels,); None for a failed image.
    """

    image: str
    model: str
    weights: str
    predictions: tuple[Prediction, ...] = ()
    error: ImageError | None = None
    features: NDArray[np.float32] | None = field(default=None, repr=False, compare=False)


def classify(
    names: Iterable[str],
    model: Model,
    engine: Engine,
    *,
    top_k: int = 3,
    min_probability: float = 0,
    **options: Any,
) -> Iterator[Record]:
    """Classify images in memory bounded by the batch.

    Args:
        names: what `inputs.find` yields.
        model: what answers.
        engine: what computes it.
        top_k: predictions an image.
        min_probability: 0 to 1; if the best prediction is below it, the answer is `labels.UNKNOWN`.
        options: `fit`, `batch_size` and `workers` of `answers`.

    Yields:
        One record an image, in the order of the names, failed images included.

    Raises:
        ModelError: the network's output is not a probability.
    """
    name = model.metadata.architecture.name
    for path, answer in answers(names, model, engine, **options):
        if isinstance(answer, ImageError):
            yield Record(path, name, model.weights, error=answer)
            continue
        predictions = labels.top_k(answer.probabilities, model.metadata.labels, top_k)
        if (best := predictions[0].probability) < min_probability:
            predictions = (Prediction(1, None, labels.UNKNOWN, best),)
        yield Record(path, name, model.weights, predictions, features=answer.features)


def answers(
    paths: Iterable[str],
    model: Model,
    engine: Engine,
    *,
    fit: Fit = Fit.CROP,
    batch_size: int = 32,
    workers: int | None = None,
) -> Iterator[Answered]:
    """Compute the probabilities of images: finding, decoding and computing go on side by side, in bounded memory.

    Args:
        paths: files.
        model: what answers.
        engine: what computes it.
        fit: how an image becomes square.
        batch_size: images given to the engine at once, at most; it gets fewer where more are not there yet.
        workers: threads that decode; where None, one a processor core.

    Yields:
        Each path with its answer, or with the reason why there are none; in order.

    Raises:
        ModelError: the network's output is not a probability.
    """
    size, resizing = model.metadata.architecture.image_size, model.metadata.preprocessing.resizing

    def decode(path: str) -> NDArray[np.uint8] | ImageError:
        try:
            return inputs.decode(path, size, fit, resizing)
        except ImageError as error:
            return error

    pool = ThreadPoolExecutor(workers or os.cpu_count())
    try:
        coming = ((path, pool.submit(decode, path)) for path in paths)
        with (
            closing(Ahead(coming, BATCHES_AHEAD * batch_size)) as decoding,
            closing(Ahead(_computed(decoding, model, engine, batch_size), BATCHES_AHEAD)) as batches,
        ):
            for batch in batches:
                yield from batch
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def calibration(names: Iterable[str], fit: Fit) -> Callable[[Metadata], NDArray[np.uint8]]:
    """Return what decodes the first images that can be read, up to `CALIBRATION_IMAGES`, for `engines.Setup`.

    Args:
        names: files and folders.
        fit: how an image becomes square.
    """

    def decode(wanted: Metadata) -> NDArray[np.uint8]:
        size, resizing = wanted.architecture.image_size, wanted.preprocessing.resizing
        decoded = []
        for path in inputs.find(names):
            with suppress(ImageError):
                decoded.append(inputs.decode(path, size, fit, resizing))
            if len(decoded) == CALIBRATION_IMAGES:
                break
        return np.array(decoded)

    return decode


def _computed(
    decoding: Ahead[tuple[str, Future[NDArray[np.uint8] | ImageError]]], model: Model, engine: Engine, batch_size: int
) -> Iterator[list[Answered]]:
    while taken := decoding.take(batch_size):
        decoded = [(path, image.result()) for path, image in taken]
        pixels = [image for _, image in decoded if not isinstance(image, ImageError)]
        probabilities, features = engine.embed(np.stack(pixels)) if pixels else (np.empty(0), np.empty(0))
        if not np.isfinite(probabilities).all():
            raise ModelError(f"{model.weights}: the network's output is not a number; the weights are damaged")
        computed = map(Answer, probabilities, features)
        yield [(path, image if isinstance(image, ImageError) else next(computed)) for path, image in decoded]
