"""The parts that make up any ResNet, as data with checked values (standard library only)."""

import re
from dataclasses import asdict, dataclass, field
from math import ceil
from typing import Any

from resnet_cli.errors import UsageError

MAX_VALUE = 1_000_000  # filters or classes; no machine can run more
MAX_IMAGE_SIZE = 4096  # pixels; the first layer of a ResNet-50 then takes a gigabyte


def _require(value: object, what: str, limit: int = MAX_VALUE) -> None:
    if type(value) is not int or not 1 <= value <= limit:
        raise UsageError(f"{what} must be a whole number from 1 to {limit:,}, got {value!r}")


def _require_flag(value: object, what: str) -> None:
    if type(value) is not bool:
        raise UsageError(f"{what} must be true or false, got {value!r}")


@dataclass(frozen=True)
class Stem:
    """The first convolutions and the max pooling after them.

    Args:
        filters: output channels of the last convolution; the others have half as many.
        kernel_size: kernel width and height in pixels.
        stride: stride of the first convolution.
        pool: whether a 3x3 max pooling with stride 2 follows.
        convolutions: number of convolutions; a deep stem has three 3x3 instead of one 7x7 (He et al. 2018, "Bag of
            Tricks for Image Classification", section 4).
    """

    filters: int = 64
    kernel_size: int = 7
    stride: int = 2
    pool: bool = True
    convolutions: int = 1

    def __post_init__(self) -> None:
        _require(self.filters, "width")
        _require(self.kernel_size, "the stem's kernel size")
        _require(self.stride, "the stem's stride")
        _require_flag(self.pool, "the stem's pool")
        _require(self.convolutions, "the number of stem convolutions")
        if self.convolutions > 1:
            _require(self.filters // 2, "half the width (the first filters of a deep stem)")


@dataclass(frozen=True)
class Block:
    """The residual block: convolutions beside a shortcut.

    Args:
        kernel_sizes: kernel size of each convolution in pixels; 1, 3, 1 is the bottleneck.
        expansion: output channels per filter of the stage.
        strided_conv: the convolution that has the block's stride, counted from 1.
        groups: groups of the inner convolutions (Xie et al. 2017, "Aggregated Residual Transformations for Deep Neural
            Networks").
        group_width: channels per group for each 64 filters of the stage.
        preactivation: whether batch norm and ReLU come before each convolution instead of after it (He et al. 2016,
            "Identity Mappings in Deep Residual Networks").
        pooled_shortcut: whether the projection averages 2x2 pixels instead of skipping some (He et al. 2018, fig. 2c).
    """

    kernel_sizes: tuple[int, ...] = (1, 3, 1)
    expansion: int = 4
    strided_conv: int = 1
    groups: int = 1
    group_width: int = 64
    preactivation: bool = False
    pooled_shortcut: bool = False

    def __post_init__(self) -> None:
        convolutions = len(self.kernel_sizes)
        if not 2 <= convolutions <= 8 or not all(size in (1, 3, 5, 7) for size in self.kernel_sizes):
            raise UsageError(
                f"a block must have 2 to 8 convolutions with kernel sizes 1, 3, 5 or 7, got {self.kernel_sizes!r}"
            )
        _require(self.expansion, "expansion")
        if self.strided_conv not in range(1, convolutions + 1):
            raise UsageError(f"strided_conv must be from 1 to {convolutions}, got {self.strided_conv!r}")
        _require(self.groups, "the number of groups")
        _require(self.group_width, "the group width")
        if convolutions == 2 and (self.groups, self.group_width) != (1, 64):
            raise UsageError("groups apply to the inner convolutions; a basic block has none")
        _require_flag(self.preactivation, "preactivation")
        _require_flag(self.pooled_shortcut, "pooled_shortcut")
        if self.preactivation and self.pooled_shortcut:
            raise UsageError("a pre-activation block cannot have a pooled shortcut")


@dataclass(frozen=True)
class Stage:
    """Residual blocks that share a resolution and a width.

    Args:
        filters: channels of the narrow convolutions.
        blocks: number of all blocks, including the one with the projection shortcut.
        stride: stride of one block; the others have 1.
        strided_block: the block that has the stride, counted from 1.
    """

    filters: int
    blocks: int
    stride: int
    strided_block: int = 1

    def __post_init__(self) -> None:
        _require(self.filters, "width")
        _require(self.blocks, "the number of blocks in a stage")
        _require(self.stride, "a stage's stride")
        if self.strided_block not in range(1, self.blocks + 1):
            raise UsageError(f"strided_block must be from 1 to {self.blocks}, got {self.strided_block!r}")

    @property
    def strides(self) -> tuple[int, ...]:
        """The stride of each block."""
        return tuple(self.stride if i == self.strided_block else 1 for i in range(1, self.blocks + 1))


@dataclass(frozen=True)
class Head:
    """Global average pooling, one dense layer and softmax over `classes` classes."""

    classes: int = 1000

    def __post_init__(self) -> None:
        _require(self.classes, "the number of classes")


class Choices:
    """Base of dataclasses in which None means that nothing was chosen."""

    @property
    def chosen(self) -> dict[str, Any]:
        """The choices that are not None, by name."""
        return {name: value for name, value in vars(self).items() if value is not None}

    def __bool__(self) -> bool:
        return bool(self.chosen)


@dataclass(frozen=True)
class NetworkOptions(Choices):
    """The choices that describe a network; None leaves a choice to the weights or to its default.

    Args:
        name: a key of `variants.NETWORKS`, instead of depth and variant.
        depth: a key of `variants.DEPTHS`.
        variant: a key of `variants.VARIANTS`.
        stages: blocks per stage, instead of those of the depth.
        block: a key of `variants.BLOCKS`.
        width: filters in the stem and the first stage.
        stem: a key of `variants.STEMS`.
        classes: number of classes.
        image_size: width and height of the input in pixels.
    """

    name: str | None = None
    depth: int | None = None
    variant: str | None = None
    stages: tuple[int, ...] | None = None
    block: str | None = None
    width: int | None = None
    stem: str | None = None
    classes: int | None = None
    image_size: int | None = None

    def __post_init__(self) -> None:
        chosen = self.chosen
        if {"depth", "stages"} <= chosen.keys():
            raise UsageError("--depth and --stages both set the number of blocks; use only one of them")
        if self.name and (both := sorted(chosen.keys() & {"depth", "stages", "variant", "block"})):
            raise UsageError(f"{self.name} already sets --{both[0]}; use only one of them")


@dataclass(frozen=True)
class Architecture:
    """A complete network.

    Args:
        name: short name, for records and metadata.
        stem, block, stages, head: its parts, in the order of the forward pass.
        conv_bias: whether convolutions that are followed by batch norm have a bias; all others have one.
        epsilon: added to the variance by batch norm.
        image_size: width and height of the input in pixels.
        options: the choices it was built from; None if it was read from a file.
    """

    name: str
    stem: Stem
    block: Block
    stages: tuple[Stage, ...]
    head: Head
    conv_bias: bool
    epsilon: float
    image_size: int
    options: NetworkOptions | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        _require(self.image_size, "image size", MAX_IMAGE_SIZE)
        _require(len(self.stages), "the number of stages")
        if not re.fullmatch(r"[A-Za-z0-9][\w.-]*", str(self.name)):
            raise UsageError(
                f"a network's name may contain only letters, digits, dots, dashes and underscores, got {self.name!r}"
            )
        _require_flag(self.conv_bias, "conv_bias")
        if type(self.epsilon) is not float or not 0 < self.epsilon < 1:
            raise UsageError(f"epsilon must be between 0 and 1, got {self.epsilon!r}")
        for stage in self.stages:
            if stage.filters * self.block.group_width < 64:
                minimum = ceil(64 / self.block.group_width)
                raise UsageError(
                    f"width must be at least {minimum} so that each group has a channel, got {stage.filters}"
                )
        shrink = self.stem.stride * (2 if self.stem.pool else 1)
        for stage in self.stages:
            shrink *= stage.stride
        if self.image_size < shrink:
            raise UsageError(f"image size must be at least {shrink} for this network, got {self.image_size}")

    def to_dict(self) -> dict[str, Any]:
        """Return plain dicts, lists, numbers and strings, ready for JSON; without `options`."""
        fields = asdict(self)
        del fields["options"]
        return fields

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> "Architecture":
        """Read the result of `to_dict`.

        Raises:
            UsageError: a field is missing, unknown or out of range.
        """
        try:
            if "options" in fields:
                raise TypeError("unexpected field 'options'")
            return cls(
                **fields
                | {
                    "stem": Stem(**fields["stem"]),
                    "block": Block(**fields["block"] | _tuple(fields["block"], "kernel_sizes")),
                    "stages": tuple(Stage(**stage) for stage in fields["stages"]),
                    "head": Head(**fields["head"]),
                }
            )
        except (KeyError, TypeError) as error:
            raise UsageError(f"not a valid ResNet description: {error}") from error


def _tuple(fields: dict[str, Any], name: str) -> dict[str, Any]:
    """Return a field, if present, as a tuple, because JSON has only lists."""
    return {name: tuple(fields[name])} if name in fields else {}
