"""How a network is trained and what came of it, as data (standard library only)."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from math import log2
from typing import Any

from resnet_cli.errors import UsageError

Sizes = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Recipe:
    """How a network is trained; the defaults are a good modern start from random weights.

    Args:
        epochs: passes over the training images.
        batch_size: images a step.
        learning_rate: its highest value.
        warmup: epochs in which it rises from zero; at most all but the last.
        cooldown: epochs at the end in which it falls to zero along a cosine; None for all after the warm-up. In
            between it stays at its highest, so that until the cool-down nothing depends on when the training ends.
        sizes: (side in pixels, epochs) of the first epochs, smallest first; the others see the network's own size.
        crop: the smallest part of an image's area that a random crop takes, 0 to 1.
        momentum: Nesterov's, 0 to 1.
        weight_decay: part of each kernel that a step at learning rate 1 takes away.
        label_smoothing: probability that is spread over all classes.
        freeze_backbone: whether only the last layer learns.
        precision: `f32` or `bf16`, of the computation; weights are always f32.
        seed: of weights, order and crops.
        validation_share: part of the images, 0 to 1, that validates where the tree has no images for that.
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

    def __post_init__(self) -> None:
        for name, least in (("epochs", 1), ("batch_size", 1), ("warmup", 0), ("cooldown", 0), ("seed", 0)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise UsageError(f"{name.replace('_', ' ')} must be at least {least}, got {value}")
        if not 0 < self.learning_rate < float("inf"):
            raise UsageError(f"learning rate must be above zero, got {self.learning_rate}")
        if any(size < 1 or epochs < 1 for size, epochs in self.sizes):
            raise UsageError(f"sizes must be sides and epochs of at least 1, got {self.sizes}")
        if self.seed >= 2**32:
            raise UsageError(f"seed must be below {2**32}, got {self.seed}")
        if not 0 < self.validation_share < 1:
            raise UsageError(f"validation share must be between 0 and 1, got {self.validation_share}")
        if not 0 < self.crop <= 1:
            raise UsageError(f"crop must be above 0 and at most 1, got {self.crop}")

    @classmethod
    def begin(cls, images: int, given: Mapping[str, Any]) -> "Recipe":
        """Return a recipe for a training that begins.

        The batch is 128 images, of few images an eighth (a power of two, at least 8), so that an epoch has several
        steps; the learning rate is 0.2 for 128 images and follows the batch in proportion (Goyal et al. 2017,
        "Accurate, Large Minibatch SGD", section 2.1).

        Args:
            images: how many there are to learn from.
            given: fields that the user chose.
        """
        batch_size = given.get("batch_size", min(128, max(8, 2 ** int(log2(images / 8)))))
        return cls(**{"batch_size": batch_size, "learning_rate": 0.2 * batch_size / 128, **given})

    @property
    def rise(self) -> int:
        """Epochs in which the learning rate rises."""
        return min(self.warmup, self.epochs - 1)

    @property
    def hold(self) -> int:
        """Epochs in which the learning rate stays at its highest."""
        return 0 if self.cooldown is None else max(0, self.epochs - self.rise - self.cooldown)

    def phases(self, full: int) -> Iterator[tuple[int, int, int]]:
        """Say how large the images are when.

        Args:
            full: the network's own size in pixels.

        Yields:
            Side in pixels, first epoch and the epoch after the last, counted from 0.
        """
        first = 0
        for size, epochs in (*self.sizes, (full, self.epochs)):
            last = min(first + epochs, self.epochs)
            if first < last:
                yield size, first, last
            first = last

    def work(self, full: int, done: float = 0) -> float:
        """Return the pixels an image side by side that are still to come after `done` epochs, for estimates of time."""
        return sum(size**2 * max(0, last - max(first, done)) for size, first, last in self.phases(full))

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, ready for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> "Recipe":
        """Read what `to_dict` wrote."""
        return cls(**fields | {"sizes": tuple((size, epochs) for size, epochs in fields["sizes"])})


@dataclass(frozen=True)
class Epoch:
    """What one epoch came to.

    Args:
        epoch: counted from 1.
        image_size: side in pixels of what it saw and was validated with.
        learning_rate: at its end.
        loss, accuracy: mean over the training crops while the network learned; nats and 0 to 1.
        val_loss, val_accuracy, val_top5: over the validation images after it.
        images_per_second: training alone.
        seconds: wall time, validation included.
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
