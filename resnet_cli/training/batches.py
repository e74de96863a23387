"""From images to batches for Keras. Importing this module imports Keras."""

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache

import keras
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from resnet_cli.engines.keras_engine import preprocess
from resnet_cli.errors import UsageError
from resnet_cli.images.resize import fit_square
from resnet_cli.network.preprocessing import Decoding, Fit, Preprocessing
from resnet_cli.training.dataset import Split

PREFETCH_BATCHES = 4  # batches to prepare in advance
LOADER_THREADS = 2  # Pillow releases the interpreter lock

ASPECT = (3 / 4, 4 / 3)  # of random crops (Szegedy et al. 2014, "Going deeper with convolutions", section 6)

Batch = tuple[NDArray[np.float32], NDArray[np.float32]]


def steps_per_epoch(split: Split, batch_size: int) -> int:
    """Return the number of full batches; leftover images are skipped in this epoch."""
    return max(1, len(split) // batch_size)


class TrainingBatches(keras.utils.PyDataset):  # type: ignore[misc]
    """Endless shuffled batches of random crops, reproducible for a seed.

    Args:
        split: the images.
        preprocessing: the input that the network expects.
        classes: number of classes.
        batch_size: images per batch.
        size: width and height of the crops in pixels.
        crop: the smallest crop, as a share of the image's area, from 0 to 1.
        seed: for order and crops.
        first_epoch: epoch of the first batch, counted from 0.
    """

    def __init__(
        self,
        split: Split,
        preprocessing: Preprocessing,
        *,
        classes: int,
        batch_size: int,
        size: int,
        crop: float,
        seed: int,
        first_epoch: int,
    ) -> None:
        super().__init__()
        self.split, self.preprocessing, self.classes, self.batch_size = split, preprocessing, classes, batch_size
        self.size, self.crop, self.seed, self.first_epoch = size, crop, seed, first_epoch
        self._pool = ThreadPoolExecutor(LOADER_THREADS)
        self._pending: dict[int, Future[Batch]] = {}
        self._order: Callable[[int], NDArray[np.int64]] = lru_cache(2)(self._shuffled)

    @property
    def num_batches(self) -> None:
        """None, which means endless in Keras."""
        return None

    def __getitem__(self, index: int) -> Batch:
        """Return images (batch, size, size, 3) and one-hot classes (batch, classes); prefetch the next."""
        for upcoming in range(index, index + 1 + PREFETCH_BATCHES):
            if upcoming not in self._pending:
                self._pending[upcoming] = self._pool.submit(self._batch, upcoming)
        return self._pending.pop(index).result()

    def _batch(self, index: int) -> Batch:
        steps = steps_per_epoch(self.split, self.batch_size)
        epoch, batch = self.first_epoch + index // steps, index % steps
        order = self._order(epoch)
        rng = np.random.default_rng((self.seed, epoch, batch + 1))
        pixels, classes = [], []
        for position in range(batch * self.batch_size, min(len(self.split), (batch + 1) * self.batch_size)):
            at, image = self._next_readable(order, position)
            pixels.append(random_crop(image, self.size, self.crop, rng))
            classes.append(self.split.classes[at])
        return preprocess(np.stack(pixels), self.preprocessing), np.eye(self.classes, dtype=np.float32)[classes]

    def _shuffled(self, epoch: int) -> NDArray[np.int64]:
        return np.random.default_rng((self.seed, epoch)).permutation(len(self.split))

    def _next_readable(self, order: NDArray[np.int64], position: int) -> tuple[int, Image.Image]:
        """Return the image at a position, or the next readable one."""
        for step in range(len(order)):
            index = int(order[(position + step) % len(order)])
            if (image := self.split.open(index, self.size)) is not None:
                return index, image
        error = next(iter(self.split.unreadable.values()))
        raise UsageError(f"{self.split.folder}: none of the images can be read; first error: {error}")


def random_crop(image: Image.Image, size: int, crop: float, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Return a random crop of an RGB image, mirrored half of the time, as (size, size, 3) uint8.

    Args:
        image: the image.
        size: width and height of the result in pixels.
        crop: the smallest crop, as a share of the image's area, from 0 to 1.
        rng: the source of randomness.
    """
    area = image.width * image.height * rng.uniform(crop, 1)
    aspect = np.exp(rng.uniform(*np.log(ASPECT)))
    width, height = min(image.width, np.sqrt(area * aspect)), min(image.height, np.sqrt(area / aspect))
    left, top = rng.uniform(0, image.width - width), rng.uniform(0, image.height - height)
    box = (left, top, left + width, top + height)
    pixels = np.asarray(image.resize((size, size), Image.Resampling.BICUBIC, box=box))
    return pixels[:, ::-1] if rng.random() < 0.5 else pixels


def validation_batches(
    split: Split, preprocessing: Preprocessing, batch_size: int, size: int
) -> Iterator[tuple[NDArray[np.float32], NDArray[np.int32]]]:
    """Yield preprocessed images (batch, size, size, 3), resized as in `predict`, and their classes.

    Args:
        split: the images; unreadable ones are skipped.
        preprocessing: the input that the network expects.
        batch_size: images per batch.
        size: width and height in pixels.
    """
    decoding = Decoding(size, Fit.CROP, preprocessing.resizing)

    def read(index: int) -> NDArray[np.uint8] | None:
        image = split.open(index, size)
        return None if image is None else np.asarray(fit_square(image, decoding))

    with ThreadPoolExecutor(LOADER_THREADS) as pool:
        for start in range(0, len(split), batch_size):
            indices = range(start, min(start + batch_size, len(split)))
            pairs = zip(indices, pool.map(read, indices), strict=True)
            readable = {index: pixels for index, pixels in pairs if pixels is not None}
            if readable:
                yield preprocess(np.stack(list(readable.values())), preprocessing), split.classes[list(readable)]
