"""The network, written once as a list of layers in order (standard library only).

The summary, Keras, OpenVINO and ONNX are all derived from `resnet(architecture)`; none of them knows what a ResNet is.
Layers have the names and the order of `keras.applications`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, wraps
from inspect import signature
from typing import NamedTuple, ParamSpec

from resnet_cli.errors import UsageError
from resnet_cli.network import variants
from resnet_cli.network.architecture import Architecture, Block, Stage
from resnet_cli.network.layers import (
    Add,
    AveragePooling2D,
    BatchNormalization,
    Conv2D,
    Dense,
    GlobalAveragePooling2D,
    InputLayer,
    MaxPooling2D,
    Op,
    Parameter,
    ReLU,
    Totals,
    ZeroPadding2D,
    totals,
)

P = ParamSpec("P")

MAX_OPS = 10_000


@dataclass(frozen=True)
class Graph:
    """A network as ops, each after its inputs."""

    architecture: Architecture
    ops: tuple[Op, ...]

    @cached_property
    def parameters(self) -> dict[str, Parameter]:
        """All arrays of the network by name, in order."""
        return {parameter.name: parameter for op in self.ops for parameter in op.parameters}

    @property
    def totals(self) -> Totals:
        """Parameters and MACs of the whole network."""
        return totals(self.ops)

    @property
    def features_op(self) -> str:
        """Name of the op that computes the features, the input of the final layer."""
        return self.ops[-1].inputs[0]


class _GraphBuilder:
    """Records the ops of the forward pass."""

    def __init__(self, architecture: Architecture) -> None:
        self.architecture = architecture
        self.stage = ""
        self.ops: list[Op] = []

    def apply(self, kind: type[Op], name: str, *inputs: Op, **fields: float) -> Op:
        """Append an op whose input shape is the output shape of its first input."""
        return self.append(kind(name, self.stage, tuple(x.name for x in inputs), inputs[0].output_shape, **fields))

    def append(self, op: Op) -> Op:
        """Append a complete op."""
        if len(self.ops) == MAX_OPS:
            raise UsageError(f"a network can have at most {MAX_OPS:,} layers, got more")
        self.ops.append(op)
        return op

    def window(self, kind: type[Op], x: Op, name: str, size: int, stride: int, **fields: float) -> Op:
        """Append a convolution or pooling; if strided, Keras pads in a separate layer."""
        padding = size // 2
        if padding and stride > 1:
            x = self.apply(ZeroPadding2D, name.rpartition("_")[0] + "_pad", x, padding=padding)
            padding = 0
        if kind is Conv2D:
            fields |= {"padding": padding}
        return self.apply(kind, name, x, stride=stride, **fields)

    def conv(
        self, x: Op, name: str, filters: int, size: int, stride: int = 1, groups: int = 1, use_bias: bool = True
    ) -> Op:
        """Append a convolution."""
        fields = {"filters": filters, "kernel_size": size, "groups": groups, "use_bias": use_bias}
        return self.window(Conv2D, x, f"{name}_conv", size, stride, **fields)

    def norm(self, x: Op, name: str) -> Op:
        """Append a batch norm."""
        return self.apply(BatchNormalization, f"{name}_bn", x, epsilon=self.architecture.epsilon)

    def relu(self, x: Op, name: str) -> Op:
        """Append a ReLU."""
        return self.apply(ReLU, f"{name}_relu", x)

    def conv_norm(self, x: Op, name: str, filters: int, size: int, stride: int = 1, groups: int = 1) -> Op:
        """Append a convolution and a batch norm."""
        return self.norm(self.conv(x, name, filters, size, stride, groups, self.architecture.conv_bias), name)

    def conv_norm_relu(self, x: Op, name: str, filters: int, size: int, stride: int = 1, groups: int = 1) -> Op:
        """Append a convolution, a batch norm and a ReLU."""
        return self.relu(self.conv_norm(x, name, filters, size, stride, groups), name)


def residual_block(builder: _GraphBuilder, x: Op, name: str, filters: int, stride: int) -> Op:
    """Append y = ReLU(F(x) + x), with a projection W x if F changes the shape (He et al. 2015, eq. 1 and 2)."""
    *inner, last = convolutions(builder.architecture.block, filters, stride)
    changes = stride > 1 or x.output_shape[-1] != last.filters
    shortcut = projection(builder, x, name, last.filters, stride) if changes else x
    y = x
    for i, convolution in enumerate(inner, 1):
        y = builder.conv_norm_relu(y, f"{name}_{i}", *convolution)
    y = builder.conv_norm(y, f"{name}_{len(inner) + 1}", *last)
    y = builder.apply(Add, f"{name}_add", shortcut, y)
    return builder.apply(ReLU, f"{name}_out", y)


def projection(builder: _GraphBuilder, x: Op, name: str, filters: int, stride: int) -> Op:
    """Append W x; the stride is in its 1x1 convolution or in an average pooling before it."""
    if stride > 1 and builder.architecture.block.pooled_shortcut:
        x = builder.apply(AveragePooling2D, f"{name}_0_pool", x, pool_size=stride, stride=stride)
        stride = 1
    return builder.conv_norm(x, f"{name}_0", filters, 1, stride)


def preactivated_block(builder: _GraphBuilder, x: Op, name: str, filters: int, stride: int) -> Op:
    """Append y = F(x) + x, with batch norm and ReLU first in F; a projection shares those (He et al. 2016, eq. 5)."""
    *inner, last = convolutions(builder.architecture.block, filters, stride)
    y = builder.relu(builder.norm(x, f"{name}_preact"), f"{name}_preact")
    if x.output_shape[-1] != last.filters:
        shortcut = builder.conv(y, f"{name}_0", last.filters, 1, stride)
    elif stride > 1:
        shortcut = builder.apply(MaxPooling2D, f"{name}_0_pool", x, pool_size=1, stride=stride)
    else:
        shortcut = x
    for i, convolution in enumerate(inner, 1):
        y = builder.conv_norm_relu(y, f"{name}_{i}", *convolution)
    y = builder.conv(y, f"{name}_{len(inner) + 1}", *last)
    return builder.apply(Add, f"{name}_out", shortcut, y)


class Convolution(NamedTuple):
    """A convolution of a block: output channels, kernel size, stride and groups."""

    filters: int
    size: int
    stride: int
    groups: int


def convolutions(block: Block, filters: int, stride: int) -> list[Convolution]:
    """Return the convolutions of a block: the last one widens, the inner ones may have groups.

    Args:
        block: the type of block.
        filters: the filters of its stage.
        stride: the stride of the block.
    """
    last = len(block.kernel_sizes)
    narrow = filters * block.group_width // 64 * block.groups
    return [
        Convolution(
            filters=filters * block.expansion if i == last else narrow,
            size=size,
            stride=stride if i == block.strided_conv else 1,
            groups=block.groups if 1 < i < last else 1,
        )
        for i, size in enumerate(block.kernel_sizes, 1)
    ]


def residual_stack(builder: _GraphBuilder, x: Op, name: str, stage: Stage) -> Op:
    """Append the blocks of a stage."""
    block = preactivated_block if builder.architecture.block.preactivation else residual_block
    for i, stride in enumerate(stage.strides, 1):
        x = block(builder, x, f"{name}_block{i}", stage.filters, stride)
    return x


def resnet(architecture: Architecture) -> Graph:
    """Return the network of an architecture: stem, stages, head (He et al. 2015, table 1).

    The ops have the order of `keras.Model.layers`.

    Raises:
        UsageError: the network has more than `MAX_OPS` layers.
    """
    builder = _GraphBuilder(architecture)
    stem, preactivation = architecture.stem, architecture.block.preactivation

    builder.stage = "stem"
    x = builder.append(InputLayer("input_layer", "stem", (), (architecture.image_size, architecture.image_size, 3)))
    stride = stem.stride
    for i in range(1, stem.convolutions):
        x = builder.conv_norm_relu(x, f"conv1_{i}", stem.filters // 2, stem.kernel_size, stride)
        stride = 1
    # A pre-activation block starts with its own batch norm.
    last = builder.conv if preactivation else builder.conv_norm_relu
    x = last(x, "conv1", stem.filters, stem.kernel_size, stride)
    if stem.pool:
        x = builder.window(MaxPooling2D, x, "pool1_pool", 3, 2, pool_size=3)

    for i, stage in enumerate(architecture.stages):
        builder.stage = f"conv{i + 2}"
        x = residual_stack(builder, x, builder.stage, stage)

    builder.stage = "head"
    if preactivation:
        x = builder.relu(builder.norm(x, "post"), "post")
    x = builder.apply(GlobalAveragePooling2D, "avg_pool", x)
    builder.apply(Dense, "predictions", x, units=architecture.head.classes)
    return Graph(architecture, _by_depth(builder.ops))


def _graph_of(describe: Callable[P, Architecture]) -> Callable[P, Graph]:
    @wraps(describe)
    def network(*args: P.args, **kwargs: P.kwargs) -> Graph:
        return resnet(describe(*args, **kwargs))

    network.__signature__ = signature(describe).replace(return_annotation=Graph)  # type: ignore[attr-defined]
    return network


network = _graph_of(variants.describe)  # in one call, with the same arguments


def _by_depth(ops: list[Op]) -> tuple[Op, ...]:
    """Sort ops by their distance from the output, as `keras.Model.layers` does (keras/src/ops/function.py)."""
    depth = dict.fromkeys((op.name for op in ops), 0)
    for op in reversed(ops):
        for name in op.inputs:
            depth[name] = max(depth[name], depth[op.name] + 1)
    return tuple(sorted(ops, key=lambda op: -depth[op.name]))
