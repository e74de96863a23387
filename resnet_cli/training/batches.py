"""Images -> batches for Keras. Importing this module imports Keras."""

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache

import keras
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from resnet_cli import images
from resnet_cli.datasets import Split
from resnet_cli.errors import UsageError
from resnet_cli.keras_model import preprocess
from resnet_cli.pretrained import Fit, Preprocessing

AHEAD = 4  # batches that are made while the network computes
WORKERS = 2  # threads that make them; Pillow computes without Python's lock

ASPECT = (3 / 4, 4 / 3)  # of random crops (Szegedy et al. 2014, "Going deeper with convolutions", section 6)

Batch = tuple[NDArray[np.float32], NDArray[np.float32]]


def steps_per_epoch(split: Split, batch_size: int) -> int:
    """Return the number of whole batches; the images left over wait for another epoch's order."""
    return max(1, len(split) // batch_size)


class TrainingBatches(keras.utils.PyDataset):  # type: ignore[misc]
    """Shuffled batches of random crops, without end, the same ones in each run of the same seed.

    Args:
        split: the images.
        preprocessing: what the network wants.
        classes: number of classes.
        batch_size: images at once.
        size: side of the crops in pixels.
        crop: the smallest part of an image's area that a crop takes, 0 to 1.
        seed: of order and crops.
        first_epoch: the epoch, from 0, that the first batch begins.
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
        self._pool = ThreadPoolExecutor(WORKERS)
        self._coming: dict[int, Future[Batch]] = {}
        self._order: Callable[[int], NDArray[np.int64]] = lru_cache(2)(self._shuffled)

    @property
    def num_batches(self) -> None:
        """Keras's word for no end."""
        return None

    def __getitem__(self, index: int) -> Batch:
        """Return images (batch, size, size, 3) and one-hot classes (batch, classes); the next ones are on their way."""
        for coming in range(index, index + 1 + AHEAD):
            if coming not in self._coming:
                self._coming[coming] = self._pool.submit(self._batch, coming)
        return self._coming.pop(index).result()

    def _batch(self, index: int) -> Batch:
        steps = steps_per_epoch(self.split, self.batch_size)
        epoch, batch = self.first_epoch + index // steps, index % steps
        order = self._order(epoch)
        rng = np.random.default_rng((self.seed, epoch, batch + 1))
        pixels, classes = [], []
        for position in range(batch * self.batch_size, min(len(self.split), (batch + 1) * self.batch_size)):
            at, image = self._readable(order, position)
            pixels.append(random_crop(image, self.size, self.crop, rng))
            classes.append(self.split.classes[at])
        return preprocess(np.stack(pixels), self.preprocessing), np.eye(self.classes, dtype=np.float32)[classes]

    def _shuffled(self, epoch: int) -> NDArray[np.int64]:
        return np.random.default_rng((self.seed, epoch)).permutation(len(self.split))

    def _readable(self, order: NDArray[np.int64], position: int) -> tuple[int, Image.Image]:
        """Return the image at a position, or where it is bad the next good one."""
        for step in range(len(order)):
            index = int(order[(position + step) % len(order)])
            if (image := self.split.open(index, self.size)) is not None:
                return index, image
        raise UsageError(f"{self.split.folder}: no image can be read; {next(iter(self.split.bad.values()))}")


def random_crop(image: Image.Image, size: int, crop: float, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Resize a random part of a picture, mirrored every second time.

    Args:
        image: RGB.
        size: side of the result in pixels.
        crop: the smallest part of the area, 0 to 1.
        rng: where the randomness comes from.

    Returns:
        RGB, shape (size, size, 3).
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
    """Yield preprocessed images (batch, size, size, 3), fitted as `predict` fits them, and their classes.

    Args:
        split: the images; bad ones are left out.
        preprocessing: what the network wants.
        batch_size: images at once.
        size: side in pixels.
    """

    def fitted(index: int) -> NDArray[np.uint8] | None:
        image = split.open(index, size)
        return None if image is None else np.asarray(images.fitted(image, size, Fit.CROP, preprocessing.resizing))

    with ThreadPoolExecutor(WORKERS) as pool:
        for start in range(0, len(split), batch_size):
            indices = range(start, min(start + batch_size, len(split)))
            pairs = zip(indices, pool.map(fitted, indices), strict=True)
            read = {index: pixels for index, pixels in pairs if pixels is not None}
            if read:
                yield preprocess(np.stack(list(read.values())), preprocessing), split.classes[list(read)]
