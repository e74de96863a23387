"""What a ResNet is, as data: a row a network (standard library only)."""

import itertools
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from math import ceil
from typing import Any

from resnet_cli.errors import UsageError

MOST = 1_000_000  # of filters, classes and pixels: beyond what any machine computes


def _require(value: object, what: str) -> None:
    if type(value) is not int or not 1 <= value <= MOST:
        raise UsageError(f"{what} must be a whole number from 1 to {MOST:,}, got {value!r}")


def _require_flag(value: object, what: str) -> None:
    if type(value) is not bool:
        raise UsageError(f"{what} must be true or false, got {value!r}")


@dataclass(frozen=True)
class Stem:
    """The first convolutions and the max pooling after them.

    Args:
        filters: channels of the last convolution; those before it have half of them.
        kernel_size: side of their kernels in pixels.
        stride: step of the first of them in pixels.
        pool: whether a 3x3 max pooling of stride 2 follows.
        convolutions: how many there are; three 3x3 in place of one 7x7 are "deep" (He et al. 2018, "Bag of Tricks for
            Image Classification", section 4).
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
        _require(self.convolutions, "the number of convolutions of the stem")
        if self.convolutions > 1:
            _require(self.filters // 2, "half the width, which a deep stem begins with,")


@dataclass(frozen=True)
class Block:
    """The residual block: convolutions beside a shortcut.

    Args:
        kernel_sizes: of its convolutions in pixels: 1, 3, 1 is the bottleneck, which narrows, looks around and widens.
        expansion: output channels for each filter of the stage.
        strided_conv: which convolution takes the block's stride, counted from 1.
        groups: into which the channels of the inner convolutions are divided (Xie et al. 2017, "Aggregated Residual
            Transformations for Deep Neural Networks").
        group_width: channels of a group for 64 filters of the stage.
        preactivation: whether batch norm and ReLU come before each convolution (He et al. 2016, "Identity Mappings in
            Deep Residual Networks") in place of after it.
        pooled_shortcut: whether the projection averages 2x2 pixels in place of skipping them (He et al. 2018, fig. 2c).
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
            raise UsageError(f"a block has 2 to 8 convolutions of 1, 3, 5 or 7 pixels, got {self.kernel_sizes!r}")
        _require(self.expansion, "expansion")
        if self.strided_conv not in range(1, convolutions + 1):
            raise UsageError(f"the strided convolution must be one of {convolutions}, got {self.strided_conv!r}")
        _require(self.groups, "the number of groups")
        _require(self.group_width, "the width of a group")
        if convolutions == 2 and (self.groups, self.group_width) != (1, 64):
            raise UsageError("groups divide the inner convolutions; a basic block has none")
        _require_flag(self.preactivation, "preactivation")
        _require_flag(self.pooled_shortcut, "pooled_shortcut")
        if self.preactivation and self.pooled_shortcut:
            raise UsageError("a pre-activated block has no pooled shortcut")


@dataclass(frozen=True)
class Stage:
    """Residual blocks that share a resolution and a width.

    Args:
        filters: channels of the narrow convolutions.
        blocks: number of ALL blocks, the one with the projection shortcut included.
        stride: step of one block; the others have 1.
        strided_block: which block that is, counted from 1.
    """

    filters: int
    blocks: int
    stride: int
    strided_block: int = 1

    def __post_init__(self) -> None:
        _require(self.filters, "width")
        _require(self.blocks, "the number of blocks of a stage")
        _require(self.stride, "the stride of a stage")
        if self.strided_block not in range(1, self.blocks + 1):
            raise UsageError(f"the strided block must be one of {self.blocks}, got {self.strided_block!r}")

    @property
    def strides(self) -> tuple[int, ...]:
        """Step of each block."""
        return tuple(self.stride if i == self.strided_block else 1 for i in range(1, self.blocks + 1))


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
        conv_bias: whether convolutions that batch norm follows have biases beside its own; all others have them.
        epsilon: what batch norm adds to the variance.
        image_size: side of the square input in pixels.
    """

    name: str
    stem: Stem
    block: Block
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
        _require_flag(self.conv_bias, "conv_bias")
        if type(self.epsilon) is not float or not 0 < self.epsilon < 1:
            raise UsageError(f"epsilon must be between 0 and 1, got {self.epsilon!r}")
        for stage in self.stages:
            if stage.filters * self.block.group_width < 64:
                least = ceil(64 / self.block.group_width)
                raise UsageError(f"width must be at least {least} for a group to have a channel, got {stage.filters}")
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
                    "block": Block(**fields["block"] | _tuple(fields["block"], "kernel_sizes")),
                    "stages": tuple(Stage(**stage) for stage in fields["stages"]),
                    "head": Head(**fields["head"]),
                }
            )
        except (KeyError, TypeError) as error:
            raise UsageError(f"not a description of a ResNet: {error}") from error


def _tuple(fields: dict[str, Any], name: str) -> dict[str, Any]:
    """Return a field, if it is there, as a tuple, which JSON does not know."""
    return {name: tuple(fields[name])} if name in fields else {}


# The convolutions of a block: He et al. 2015, "Deep Residual Learning for Image Recognition", figure 5.
BLOCKS: dict[str, dict[str, Any]] = {
    "basic": {"kernel_sizes": (3, 3), "expansion": 1},
    "bottleneck": {"kernel_sizes": (1, 3, 1), "expansion": 4},
}


@dataclass(frozen=True)
class Depth:
    """A row of table 1 of He et al. 2015.

    Args:
        stages: blocks of each stage.
        block: a key of `BLOCKS`.
        variant: the key of `VARIANTS` that is meant where none is named.
    """

    stages: tuple[int, ...]
    block: str
    variant: str


DEPTHS = {
    18: Depth((2, 2, 2, 2), "basic", "v1.5"),  # which Keras does not have
    34: Depth((3, 4, 6, 3), "basic", "v1.5"),
    50: Depth((3, 4, 6, 3), "bottleneck", "v1"),
    101: Depth((3, 4, 23, 3), "bottleneck", "v1"),
    152: Depth((3, 8, 36, 3), "bottleneck", "v1"),
}


@dataclass(frozen=True)
class Variant:
    """What sets published networks of the same depth apart.

    Args:
        name: of its networks, with `{}` for their depth; where a depth means this variant anyway, `PLAIN` is theirs.
        depths: those that are published.
        block: fields of `Block` beside those of `BLOCKS`.
        stem: a key of `STEMS`.
        conv_bias, epsilon: as in `Architecture`.
        strides_first: whether a block's first convolution takes its stride (He et al. 2015), else its first 3x3.
        strides_early: whether a stage's first block takes the stride that leads into the stage (He et al. 2015), else
            its last block that which leads out of it.
    """

    name: str
    depths: tuple[int, ...] = (50, 101, 152)
    block: Mapping[str, Any] = field(default_factory=dict)
    stem: str = "imagenet"
    conv_bias: bool = False
    epsilon: float = 1e-5
    strides_first: bool = False
    strides_early: bool = True


PLAIN = "resnet{}"

# v1, v2: keras.applications.resnet and resnet_v2; the others: torchvision and timm (timm/models/resnet.py).
VARIANTS = {
    "v1": Variant("resnet{}v1", conv_bias=True, epsilon=1.001e-5, strides_first=True),
    "v1.5": Variant("resnet{}v1.5", depths=(18, 34, 50, 101, 152)),
    "v2": Variant("resnet{}v2", block={"preactivation": True}, epsilon=1.001e-5, strides_early=False),
    "c": Variant("resnet{}c", stem="deep"),
    "d": Variant("resnet{}d", depths=(18, 34, 50, 101, 152), block={"pooled_shortcut": True}, stem="deep"),
    "wide": Variant("wide_resnet{}_2", depths=(50, 101), block={"group_width": 128}),
    "32x4d": Variant("resnext{}_32x4d", depths=(50, 101), block={"groups": 32, "group_width": 4}),
    "32x8d": Variant("resnext{}_32x8d", depths=(101,), block={"groups": 32, "group_width": 8}),
    "64x4d": Variant("resnext{}_64x4d", depths=(101,), block={"groups": 64, "group_width": 4}),
}

# First layers by the size of the images they are made for: He et al. 2015 and 2018 (224 pixels), and two that see more
# of less.
STEMS: dict[str, dict[str, Any]] = {
    "imagenet": {"kernel_size": 7, "stride": 2, "pool": True},
    "deep": {"kernel_size": 3, "stride": 2, "pool": True, "convolutions": 3},
    "small": {"kernel_size": 3, "stride": 2, "pool": True},
    "cifar": {"kernel_size": 3, "stride": 1, "pool": False},
}


def _name(depth: int, variant: str) -> str:
    return (PLAIN if variant == DEPTHS[depth].variant else VARIANTS[variant].name).format(depth)


# Depth and variant of each published network, by its name.
NETWORKS = {_name(depth, key): (depth, key) for key, row in VARIANTS.items() for depth in row.depths}


def _known(value: Any, table: Mapping[Any, Any], what: str) -> Any:
    if value not in table:
        raise UsageError(f"{what} must be one of {', '.join(map(str, table))}, got {value!r}")
    return table[value]


def resnet(
    depth: int = 50,
    *,
    name: str | None = None,
    variant: str | None = None,
    stages: tuple[int, ...] | None = None,
    block: str | None = None,
    width: int = 64,
    stem: str | None = None,
    classes: int = 1000,
    image_size: int = 224,
) -> Architecture:
    """Describe a ResNet.

    Args:
        depth: a key of `DEPTHS`; says the blocks of each stage and, where nothing else is said, their kind.
        name: a key of `NETWORKS`, in place of depth and variant.
        variant: a key of `VARIANTS`; where None, that of the depth.
        stages: blocks of each stage, in place of those of `depth`.
        block: a key of `BLOCKS`.
        width: filters of the stem and of the first stage; each later stage doubles them.
        stem: a key of `STEMS`; where None, that of the variant.
        classes: number of classes.
        image_size: side of the square input in pixels.

    Returns:
        The description; Keras's ResNet-50 v1 where nothing else is said.

    Raises:
        UsageError: a value is out of range, or the image is too small to be halved that often.
    """
    if name is not None:
        depth, variant = _known(name, NETWORKS, "the network's name")
    published: Depth = _known(depth, DEPTHS, "depth")
    variant = variant or published.variant
    row: Variant = _known(variant, VARIANTS, "variant")
    kind = block or published.block
    shape = _known(kind, BLOCKS, "block")
    first_layers = _known(stem or row.stem, STEMS, "stem")
    blocks = stages or published.stages

    strided_conv = 1 if row.strides_first else shape["kernel_sizes"].index(3) + 1
    strides = [1] + [2] * (len(blocks) - 1)
    if not row.strides_early:
        strides = [*strides[1:], 1]
    return Architecture(
        name=_described(blocks, kind, variant)
        + ("" if width == 64 else f"_w{width}")
        + ("" if stem in (None, row.stem) else f"_{stem}"),
        stem=Stem(width, **first_layers),
        block=Block(**shape, strided_conv=strided_conv, **row.block),
        stages=tuple(
            Stage(width * 2**i, count, stride, strided_block=1 if row.strides_early else count)
            for i, (count, stride) in enumerate(zip(blocks, strides, strict=True))
        ),
        head=Head(classes),
        conv_bias=row.conv_bias,
        epsilon=row.epsilon,
        image_size=image_size,
    )


def _described(blocks: tuple[int, ...], kind: str, variant: str) -> str:
    """Return the published name of a network, or one that says its stages."""
    for depth, published in DEPTHS.items():
        if (published.stages, published.block) == (blocks, kind):
            return _name(depth, variant)
    stages = "_".join(("", *([] if kind == "bottleneck" else [kind]), *map(str, blocks)))
    return (PLAIN if variant == DEPTHS[50].variant else VARIANTS[variant].name).format(stages)


def options(described: Architecture) -> dict[str, Any]:
    """Return the arguments of `resnet` that describe a network again.

    Args:
        described: a network that `resnet` made.
    """
    sizes: dict[str, Any] = {
        "stages": tuple(stage.blocks for stage in described.stages),
        "width": described.stem.filters,
        "classes": described.head.classes,
        "image_size": described.image_size,
    }
    fitting: list[dict[str, Any]] = []
    for variant, block, stem in itertools.product(VARIANTS, BLOCKS, STEMS):
        asked: dict[str, Any] = {**sizes, "variant": variant, "block": block, "stem": stem}
        with suppress(UsageError):  # no such combination
            again = resnet(**asked)
            if again == described:
                return asked
            if replace(again, name=described.name) == described:
                fitting.append(asked)
    return fitting[0] if fitting else sizes
