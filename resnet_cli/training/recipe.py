"""How a network is trained, and the results per epoch, as data (standard library only)."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from math import log2
from typing import Any

from resnet_cli.errors import UsageError
from resnet_cli.network.architecture import Choices

Sizes = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class RecipeOptions(Choices):
    """The parts of a recipe that the user chose; see `Recipe`. `precision` may be `auto`."""

    freeze_backbone: bool | None = None
    epochs: int | None = None
    batch_size: int | None = None
    learning_rate: float | None = None
    warmup: int | None = None
    cooldown: int | None = None
    sizes: Sizes | None = None
    crop: float | None = None
    seed: int | None = None
    precision: str | None = None
    validation_share: float | None = None
    keep: str | None = None


@dataclass(frozen=True)
class Recipe:
    """How a network is trained; the defaults are a good modern start from random weights.

    Args:
        epochs: passes over the training images.
        batch_size: images per step.
        learning_rate: its peak.
        warmup: epochs in which the rate rises from zero; at most all but the last.
        cooldown: final epochs of cosine decay to zero; None for all after the warm-up. In between the rate stays at its
            peak, so nothing before the cool-down depends on when training ends.
        sizes: (pixels, epochs) of the first epochs, smallest first; the others use the network's own size.
        crop: the smallest random crop, as a share of the image's area, from 0 to 1.
        momentum: Nesterov momentum, from 0 to 1.
        weight_decay: share of each kernel that is subtracted per step at learning rate 1.
        label_smoothing: probability that is spread over all classes.
        freeze_backbone: whether only the final layer is trained.
        precision: `f32` or `bf16`, for the computation; weights are always f32.
        seed: for weights, order and crops.
        validation_share: share of the images, from 0 to 1, to validate on if the dataset has no validation images.
        keep: which weights are saved: `best` for those with the lowest validation loss at full image size, or `last`.
    """

    epochs: int = 90
    batch_size: int = 128
    learning_rate: float = 0.2
    warmup: int = 1
    cooldown: int | None = None
    sizes: Sizes = ()
    crop: float = 0.35
    momentum: float = 0.9
    weight_decay: float = 5e-4
    label_smoothing: float = 0.1
    freeze_backbone: bool = False
    precision: str = "f32"
    seed: int = 0
    validation_share: float = 0.05
    keep: str = "best"

    def __post_init__(self) -> None:
        for name, minimum in (("epochs", 1), ("batch_size", 1), ("warmup", 0), ("cooldown", 0), ("seed", 0)):
            value = getattr(self, name)
            if value is not None and value < minimum:
                raise UsageError(f"{name.replace('_', ' ')} must be at least {minimum}, got {value}")
        if not 0 < self.learning_rate < float("inf"):
            raise UsageError(f"learning rate must be above zero, got {self.learning_rate}")
        if any(size < 1 or epochs < 1 for size, epochs in self.sizes):
            raise UsageError(f"sizes must be pairs of pixels and epochs, both at least 1, got {self.sizes}")
        if self.seed >= 2**32:
            raise UsageError(f"seed must be below {2**32}, got {self.seed}")
        if not 0 < self.validation_share < 1:
            raise UsageError(f"validation share must be between 0 and 1, got {self.validation_share}")
        if not 0 < self.crop <= 1:
            raise UsageError(f"crop must be above 0 and at most 1, got {self.crop}")

    @classmethod
    def for_images(cls, images: int, options: RecipeOptions) -> "Recipe":
        """Return a recipe for a number of training images.

        The batch is 128 images, or an eighth of a small dataset (a power of two, at least 8), so that an epoch has
        several steps. The learning rate is 0.2 for 128 images and proportional to the batch (Goyal et al. 2017,
        "Accurate, Large Minibatch SGD", section 2.1). By default, the precision is `auto`.
        """
        batch_size = options.batch_size or min(128, max(8, 2 ** int(log2(images / 8))))
        defaults = cls(batch_size=batch_size, learning_rate=0.2 * batch_size / 128, precision="auto")
        return replace(defaults, **options.chosen)

    @property
    def warmup_epochs(self) -> int:
        """Number of epochs in which the learning rate rises."""
        return min(self.warmup, self.epochs - 1)

    @property
    def hold_epochs(self) -> int:
        """Number of epochs in which the learning rate stays at its peak."""
        return 0 if self.cooldown is None else max(0, self.epochs - self.warmup_epochs - self.cooldown)

    def phases(self, full: int) -> Iterator[tuple[int, int, int]]:
        """Yield the phases of the training: image size in pixels, first epoch, and last epoch + 1, counted from 0.

        Args:
            full: the network's own image size in pixels.
        """
        first = 0
        for size, epochs in (*self.sizes, (full, self.epochs)):
            last = min(first + epochs, self.epochs)
            if first < last:
                yield size, first, last
            first = last

    def remaining_work(self, full: int, done: float = 0) -> float:
        """Return the work left after `done` epochs, in pixels per image summed over epochs, to estimate time."""
        return sum(size**2 * max(0, last - max(first, done)) for size, first, last in self.phases(full))

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, ready for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> "Recipe":
        """Read the result of `to_dict`."""
        return cls(**fields | {"sizes": tuple((size, epochs) for size, epochs in fields["sizes"])})


@dataclass(frozen=True)
class Epoch:
    """The results of an epoch.

    Args:
        epoch: counted from 1.
        image_size: width and height of the training and validation images in pixels.
        learning_rate: at the end of the epoch.
        loss, accuracy: mean over the training crops, during the epoch; nats, and from 0 to 1.
        val_loss, val_accuracy, val_top5: on the validation images, after the epoch.
        images_per_second: of training only.
        seconds: wall time, including validation.
    """

    epoch: int
    image_size: int
    learning_rate: float
    loss: float
    accuracy: float
    val_loss: float
    val_accuracy: float
    val_top5: float
    images_per_second: float
    seconds: float
