"""Published ResNets as rows of data, and the function that describes any other (standard library only)."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from resnet_cli.errors import UsageError
from resnet_cli.network.architecture import Architecture, Block, Head, NetworkOptions, Stage, Stem

K = TypeVar("K")
V = TypeVar("V")

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
        variant: the default key of `VARIANTS`.
    """

    stages: tuple[int, ...]
    block: str
    variant: str


DEPTHS = {
    18: Depth((2, 2, 2, 2), "basic", "v1.5"),  # not in Keras
    34: Depth((3, 4, 6, 3), "basic", "v1.5"),
    50: Depth((3, 4, 6, 3), "bottleneck", "v1"),
    101: Depth((3, 4, 23, 3), "bottleneck", "v1"),
    152: Depth((3, 8, 36, 3), "bottleneck", "v1"),
}


@dataclass(frozen=True)
class Variant:
    """The differences between published networks of the same depth.

    Args:
        name: name pattern with `{}` for the depth; a depth's default variant uses `DEFAULT_NAME` instead.
        depths: the published ones.
        block: fields of `Block` in addition to those of `BLOCKS`.
        stem: a key of `STEMS`.
        conv_bias, epsilon: as in `Architecture`.
        stride_in_first_conv: whether a block's stride is in its first convolution (He et al. 2015) or in its first 3x3.
        stride_in_first_block: whether the stride is in the first block of a stage (He et al. 2015) or in the last block
            of the stage before.
    """

    name: str
    depths: tuple[int, ...] = (50, 101, 152)
    block: Mapping[str, Any] = field(default_factory=dict)
    stem: str = "imagenet"
    conv_bias: bool = False
    epsilon: float = 1e-5
    stride_in_first_conv: bool = False
    stride_in_first_block: bool = True


DEFAULT_NAME = "resnet{}"

# v1, v2: keras.applications.resnet and resnet_v2; the others: torchvision and timm (timm/models/resnet.py).
VARIANTS = {
    "v1": Variant("resnet{}v1", conv_bias=True, epsilon=1.001e-5, stride_in_first_conv=True),
    "v1.5": Variant("resnet{}v1.5", depths=(18, 34, 50, 101, 152)),
    "v2": Variant("resnet{}v2", block={"preactivation": True}, epsilon=1.001e-5, stride_in_first_block=False),
    "c": Variant("resnet{}c", stem="deep"),
    "d": Variant("resnet{}d", depths=(18, 34, 50, 101, 152), block={"pooled_shortcut": True}, stem="deep"),
    "wide": Variant("wide_resnet{}_2", depths=(50, 101), block={"group_width": 128}),
    "32x4d": Variant("resnext{}_32x4d", depths=(50, 101), block={"groups": 32, "group_width": 4}),
    "32x8d": Variant("resnext{}_32x8d", depths=(101,), block={"groups": 32, "group_width": 8}),
    "64x4d": Variant("resnext{}_64x4d", depths=(101,), block={"groups": 64, "group_width": 4}),
}

# Stems by input size: He et al. 2015 and 2018 (224 pixels), and two for smaller images.
STEMS: dict[str, dict[str, Any]] = {
    "imagenet": {"kernel_size": 7, "stride": 2, "pool": True},
    "deep": {"kernel_size": 3, "stride": 2, "pool": True, "convolutions": 3},
    "small": {"kernel_size": 3, "stride": 2, "pool": True},
    "cifar": {"kernel_size": 3, "stride": 1, "pool": False},
}


def _name(depth: int, variant: str) -> str:
    return (DEFAULT_NAME if variant == DEPTHS[depth].variant else VARIANTS[variant].name).format(depth)


# Depth and variant of each published network, by its name.
NETWORKS = {_name(depth, key): (depth, key) for key, row in VARIANTS.items() for depth in row.depths}


def _lookup(table: Mapping[K, V], key: K, what: str) -> V:
    if key not in table:
        raise UsageError(f"{what} must be one of {', '.join(map(str, table))}, got {key!r}")
    return table[key]


def describe(
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
    """Describe a ResNet; without arguments, Keras's ResNet-50 v1.

    Args:
        depth: a key of `DEPTHS`; sets the blocks per stage and, by default, the block type and the variant.
        name: a key of `NETWORKS`, instead of depth and variant.
        variant: a key of `VARIANTS`.
        stages: blocks per stage, instead of those of `depth`.
        block: a key of `BLOCKS`.
        width: filters in the stem and the first stage; each later stage doubles them.
        stem: a key of `STEMS`; by default, the variant's.
        classes: number of classes.
        image_size: width and height of the input in pixels.

    Raises:
        UsageError: a value is out of range, or the image is too small for the network's strides.
    """
    if name is not None:
        depth, variant = _lookup(NETWORKS, name, "the network's name")
    published = _lookup(DEPTHS, depth, "depth")
    variant = variant or published.variant
    row = _lookup(VARIANTS, variant, "variant")
    block = block or published.block
    shape = _lookup(BLOCKS, block, "block")
    first_layers = _lookup(STEMS, stem or row.stem, "stem")
    stages = tuple(stages) if stages else published.stages

    strided_conv = 1 if row.stride_in_first_conv else shape["kernel_sizes"].index(3) + 1
    strides = [1] + [2] * (len(stages) - 1)
    if not row.stride_in_first_block:
        strides = [*strides[1:], 1]
    return Architecture(
        name=_full_name(stages, block, variant)
        + ("" if width == 64 else f"_w{width}")
        + ("" if stem in (None, row.stem) else f"_{stem}"),
        stem=Stem(width, **first_layers),
        block=Block(**shape, strided_conv=strided_conv, **row.block),
        stages=tuple(
            Stage(width * 2**i, blocks, stride, strided_block=1 if row.stride_in_first_block else blocks)
            for i, (blocks, stride) in enumerate(zip(stages, strides, strict=True))
        ),
        head=Head(classes),
        conv_bias=row.conv_bias,
        epsilon=row.epsilon,
        image_size=image_size,
        options=NetworkOptions(
            variant=variant,
            stages=stages,
            block=block,
            width=width,
            stem=stem or row.stem,
            classes=classes,
            image_size=image_size,
        ),
    )


def _full_name(stages: tuple[int, ...], block: str, variant: str) -> str:
    """Return the published name of a network, or one that lists its stages."""
    for depth, published in DEPTHS.items():
        if (published.stages, published.block) == (stages, block):
            return _name(depth, variant)
    listed = "_".join(("", *([] if block == "bottleneck" else [block]), *map(str, stages)))
    return (DEFAULT_NAME if variant == DEPTHS[50].variant else VARIANTS[variant].name).format(listed)


def options_of(architecture: Architecture) -> NetworkOptions:
    """Return the options that `describe` needs to build an architecture again, as far as rows of this module match it.

    Files do not contain the options, so the rows that match an architecture from a file are looked up.
    """
    if architecture.options:
        return architecture.options
    sizes = NetworkOptions(
        stages=tuple(stage.blocks for stage in architecture.stages),
        width=architecture.stem.filters,
        classes=architecture.head.classes,
        image_size=architecture.image_size,
    )
    block = next((key for key, row in BLOCKS.items() if row["kernel_sizes"] == architecture.block.kernel_sizes), None)
    stem = next(
        (key for key, row in STEMS.items() if Stem(architecture.stem.filters, **row) == architecture.stem), None
    )
    matching = []
    for variant in VARIANTS:
        with suppress(UsageError):  # the variant has no such block
            candidate = describe(**replace(sizes, variant=variant, block=block, stem=stem).chosen)
            if replace(candidate, name=architecture.name) == architecture:
                matching.append(candidate)
    best = min(matching, key=lambda candidate: candidate.name != architecture.name, default=None)
    return best.options or sizes if best else sizes
