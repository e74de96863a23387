"""The use case: find -> decode -> batch -> infer -> decode labels -> records."""

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from resnet_cli import inputs, labels, metrics
from resnet_cli.errors import ImageError, ModelError
from resnet_cli.inputs import find
from resnet_cli.labels import Prediction
from resnet_cli.models import Model
from resnet_cli.pretrained import Fit


class Engine(Protocol):
    """Computes a model's probabilities."""

    def predict(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Turn RGB images (batch, size, size, 3) into probabilities (batch, classes)."""


@dataclass(frozen=True)
class Record:
    """What became of one image.

    Args:
        image: its name as it was given or found.
        model, weights: what answered.
        predictions: the most probable classes, best first; empty for a failed image.
        error: why it failed, or None.
    """

    image: str
    model: str
    weights: str
    predictions: tuple[Prediction, ...] = ()
    error: ImageError | None = None


def classify(
    inputs: Iterable[str], model: Model, engine: Engine, *, top_k: int = 3, fit: Fit = Fit.CROP
) -> Iterator[Record]:
    """Classify images one batch at a time, in memory bounded by the batch.

    Args:
        inputs: files and folders.
        model: what answers.
        engine: what computes it.
        top_k: predictions an image.
        fit: how an image becomes square.

    Yields:
        One record an image, in the order of the inputs, failed images included.

    Raises:
        ModelError: the network's output is not a probability.
    """
    name = model.metadata.architecture.name
    for path, answer in answers(find(inputs), model, engine, fit=fit):
        if isinstance(answer, ImageError):
            yield Record(path, name, model.weights, error=answer)
        else:
            yield Record(path, name, model.weights, labels.top_k(answer, model.metadata.labels, top_k))


def answers(
    paths: Iterable[str], model: Model, engine: Engine, *, fit: Fit = Fit.CROP, batch_size: int = 32
) -> Iterator[tuple[str, NDArray[np.float32] | ImageError]]:
    """Compute the probabilities of images.

    Args:
        paths: files.
        model: what answers.
        engine: what computes it.
        fit: how an image becomes square.
        batch_size: images decoded and computed at once.

    Yields:
        Each path with its probabilities (classes,), or with the reason why there are none; in order.

    Raises:
        ModelError: the network's output is not a probability.
    """
    size = model.metadata.architecture.image_size

    def decode(path: str) -> NDArray[np.uint8] | ImageError:
        try:
            return inputs.decode(path, size, fit)
        except ImageError as error:
            return error

    remaining = iter(paths)
    with ThreadPoolExecutor() as pool:
        while batch := list(islice(remaining, batch_size)):
            decoded = list(pool.map(decode, batch))
            pixels = [image for image in decoded if not isinstance(image, ImageError)]
            probabilities = iter(_probabilities(engine, pixels, model))
            for path, image in zip(batch, decoded, strict=True):
                yield path, image if isinstance(image, ImageError) else next(probabilities)


def _probabilities(engine: Engine, pixels: list[NDArray[np.uint8]], model: Model) -> NDArray[np.float32]:
    if not pixels:
        return np.empty((0, 0), np.float32)
    probabilities = engine.predict(np.stack(pixels))
    if not np.isfinite(probabilities).all():
        raise ModelError(f"{model.weights}: the network's output is not a number; the weights are damaged")
    temperature = model.metadata.temperature
    return probabilities if temperature == 1 else metrics.tempered(probabilities, temperature)
