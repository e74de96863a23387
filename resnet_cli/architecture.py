"""What a ResNet is, as data: a row a network (standard library only)."""

import re
from dataclasses import asdict, dataclass
from typing import Any

from resnet_cli.errors import UsageError

MOST = 1_000_000  # of filters, classes and pixels: beyond what any machine computes


def _require(value: object, what: str) -> None:
    if type(value) is not int or not 1 <= value <= MOST:
        raise UsageError(f"{what} must be a whole number from 1 to {MOST:,}, got {value!r}")


@dataclass(frozen=True)
class Stem:
    """The first convolution and the max pooling after it.

    Args:
        filters: channels of the convolution.
        kernel_size: side of its kernel in pixels.
        stride: its step in pixels.
        pool: whether a 3x3 max pooling of stride 2 follows.
    """

    filters: int = 64
    kernel_size: int = 7
    stride: int = 2
    pool: bool = True

    def __post_init__(self) -> None:
        _require(self.filters, "width")
        _require(self.kernel_size, "the stem's kernel size")
        _require(self.stride, "the stem's stride")
        if type(self.pool) is not bool:
            raise UsageError(f"the stem's pool must be true or false, got {self.pool!r}")


@dataclass(frozen=True)
class Bottleneck:
    """The residual block of three convolutions: 1x1 narrows, 3x3 looks around, 1x1 widens.

    Args:
        expansion: output channels for each channel of the narrow convolutions.
        strided_conv: which convolution takes the block's stride: 1 (He et al., Keras) or 2 (v1.5).
    """

    expansion: int = 4
    strided_conv: int = 1

    def __post_init__(self) -> None:
        _require(self.expansion, "expansion")
        if self.strided_conv not in (1, 2):
            raise UsageError(f"the strided convolution must be 1 or 2, got {self.strided_conv!r}")


@dataclass(frozen=True)
class Stage:
    """Residual blocks that share a resolution and a width.

    Args:
        filters: channels of the narrow convolutions.
        blocks: number of ALL blocks, the one with the projection shortcut included.
        stride: step of the first block; the others have 1.
    """

    filters: int
    blocks: int
    stride: int

    def __post_init__(self) -> None:
        _require(self.filters, "width")
        _require(self.blocks, "the number of blocks of a stage")
        _require(self.stride, "the stride of a stage")


@dataclass(frozen=True)
class Head:
    """Global average pooling, one dense layer and softmax over `classes` classes."""

    classes: int = 1000

    def __post_init__(self) -> None:
        _require(self.classes, "the number of classes")


@dataclass(frozen=True)
class Architecture:
    """One whole network.

    Args:
        name: short name, as records and metadata give it.
        stem, block, stages, head: its parts, in the order of the forward pass.
        conv_bias: whether convolutions have biases beside batch norm's own.
        epsilon: what batch norm adds to the variance.
        image_size: side of the square input in pixels.
    """

    name: str
    stem: Stem
    block: Bottleneck
    stages: tuple[Stage, ...]
    head: Head
    conv_bias: bool
    epsilon: float
    image_size: int

    def __post_init__(self) -> None:
        _require(self.image_size, "image size")
        _require(len(self.stages), "the number of stages")
        if not re.fullmatch(r"[A-Za-z0-9][\w.-]*", str(self.name)):
            raise UsageError(f"a network's name must be letters, digits, dots and dashes, got {self.name!r}")
        if type(self.conv_bias) is not bool:
            raise UsageError(f"conv_bias must be true or false, got {self.conv_bias!r}")
        if type(self.epsilon) is not float or not 0 < self.epsilon < 1:
            raise UsageError(f"epsilon must be between 0 and 1, got {self.epsilon!r}")
        shrink = self.stem.stride * (2 if self.stem.pool else 1)
        for stage in self.stages:
            shrink *= stage.stride
        if self.image_size < shrink:
            raise UsageError(f"image size must be at least {shrink} for this network, got {self.image_size}")

    def to_dict(self) -> dict[str, Any]:
        """Return plain dicts, lists, numbers and strings, ready for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> "Architecture":
        """Read what `to_dict` wrote.

        Raises:
            UsageError: a field is missing, unknown or out of range.
        """
        try:
            return cls(
                **fields
                | {
                    "stem": Stem(**fields["stem"]),
                    "block": Bottleneck(**fields["block"]),
                    "stages": tuple(Stage(**stage) for stage in fields["stages"]),
                    "head": Head(**fields["head"]),
                }
            )
        except (KeyError, TypeError) as error:
            raise UsageError(f"not a description of a ResNet: {error}") from error


# Blocks of each stage: He et al. 2015, "Deep Residual Learning for Image Recognition", table 1.
BLOCKS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}

# Where published networks of the same depth differ. v1: keras.applications.resnet; v1.5: torchvision.
VARIANTS: dict[str, dict[str, Any]] = {
    "v1": {"block": Bottleneck(strided_conv=1), "conv_bias": True, "epsilon": 1.001e-5},
    "v1.5": {"block": Bottleneck(strided_conv=2), "conv_bias": False, "epsilon": 1e-5},
}

# First layers by the size of the images they are made for: He et al. 2015 (224 pixels), and two that see more of less.
STEMS: dict[str, dict[str, Any]] = {
    "imagenet": {"kernel_size": 7, "stride": 2, "pool": True},
    "small": {"kernel_size": 3, "stride": 2, "pool": True},
    "cifar": {"kernel_size": 3, "stride": 1, "pool": False},
}


def resnet(
    depth: int = 50,
    *,
    variant: str = "v1",
    stages: tuple[int, ...] | None = None,
    width: int = 64,
    stem: str = "imagenet",
    classes: int = 1000,
    image_size: int = 224,
) -> Architecture:
    """Describe a bottleneck ResNet.

    Args:
        depth: 50, 101 or 152; says the blocks of each stage.
        variant: a key of `VARIANTS`.
        stages: blocks of each stage, in place of those of `depth`.
        width: filters of the stem and of the first stage; each later stage doubles them.
        stem: a key of `STEMS`.
        classes: number of classes.
        image_size: side of the square input in pixels.

    Returns:
        The description; Keras's v1 network where nothing else is said.

    Raises:
        UsageError: a value is out of range, or the image is too small to be halved that often.
    """
    if depth not in BLOCKS:
        raise UsageError(f"depth must be one of {', '.join(map(str, BLOCKS))}, got {depth}")
    if variant not in VARIANTS:
        raise UsageError(f"variant must be one of {', '.join(VARIANTS)}, got {variant!r}")
    if stem not in STEMS:
        raise UsageError(f"stem must be one of {', '.join(STEMS)}, got {stem!r}")
    blocks = stages or BLOCKS[depth]
    depth_of = {known: depth for depth, known in BLOCKS.items()}
    name = f"resnet{depth_of[blocks]}" if blocks in depth_of else "resnet_" + "_".join(map(str, blocks))
    return Architecture(
        name=name + ("" if variant == "v1" else variant) + ("" if width == 64 else f"_w{width}"),
        stem=Stem(width, **STEMS[stem]),
        stages=tuple(Stage(width * 2**i, count, stride=1 if i == 0 else 2) for i, count in enumerate(blocks)),
        head=Head(classes),
        image_size=image_size,
        **VARIANTS[variant],
    )


def options(described: Architecture) -> dict[str, Any]:
    """Return the arguments of `resnet` that describe a network again.

    Args:
        described: a network that `resnet` made.
    """
    variant = {"block": described.block, "conv_bias": described.conv_bias, "epsilon": described.epsilon}
    stem = {key: value for key, value in asdict(described.stem).items() if key != "filters"}
    return {
        "variant": next((name for name, row in VARIANTS.items() if row == variant), "v1"),
        "stages": tuple(stage.blocks for stage in described.stages),
        "width": described.stem.filters,
        "stem": next((name for name, row in STEMS.items() if row == stem), "imagenet"),
        "classes": described.head.classes,
        "image_size": described.image_size,
    }
