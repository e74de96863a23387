"""The network written once, as ordered ops (standard library only).

Keras, the summary and every other engine read `resnet(architecture)`; none of them knows what a ResNet is.
Layers are named and ordered as `keras.applications` names and orders them.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from resnet_cli.architecture import Architecture, Block, Stage
from resnet_cli.errors import UsageError
from resnet_cli.ops import (
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

MAX_OPS = 10_000


@dataclass(frozen=True)
class Graph:
    """A network as ops in an order in which each comes after its inputs."""

    architecture: Architecture
    ops: tuple[Op, ...]

    @cached_property
    def parameters(self) -> dict[str, Parameter]:
        """All arrays of the network by name, in order."""
        return {parameter.name: parameter for op in self.ops for parameter in op.parameters}

    @property
    def totals(self) -> Totals:
        """What it costs."""
        return totals(self.ops)

    @property
    def features(self) -> str:
        """Name of the op whose output the head sees."""
        return self.ops[-1].inputs[0]


class _Tape:
    """Writes down each op that the forward pass applies, and what all layers of a network share."""

    def __init__(self, architecture: Architecture) -> None:
        self.architecture = architecture
        self.stage = ""
        self.ops: list[Op] = []

    def apply(self, kind: type[Op], name: str, *inputs: Op, **fields: float) -> Op:
        """Append an op; its input shape is the output shape of its first input."""
        return self.append(kind(name, self.stage, tuple(x.name for x in inputs), inputs[0].output_shape, **fields))

    def append(self, op: Op) -> Op:
        """Append a finished op."""
        if len(self.ops) == MAX_OPS:
            raise UsageError(f"a network may have at most {MAX_OPS:,} layers, got more")
        self.ops.append(op)
        return op

    def window(self, kind: type[Op], x: Op, name: str, size: int, stride: int, **fields: float) -> Op:
        """Slide a window; with a stride, Keras wants the padding as a layer of its own."""
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
        """Convolution."""
        fields = {"filters": filters, "kernel_size": size, "groups": groups, "use_bias": use_bias}
        return self.window(Conv2D, x, f"{name}_conv", size, stride, **fields)

    def norm(self, x: Op, name: str) -> Op:
        """Batch norm."""
        return self.apply(BatchNormalization, f"{name}_bn", x, epsilon=self.architecture.epsilon)

    def relu(self, x: Op, name: str) -> Op:
        """ReLU."""
        return self.apply(ReLU, f"{name}_relu", x)

    def conv_norm(self, x: Op, name: str, filters: int, size: int, stride: int = 1, groups: int = 1) -> Op:
        """Convolution and batch norm."""
        return self.norm(self.conv(x, name, filters, size, stride, groups, self.architecture.conv_bias), name)

    def conv_norm_relu(self, x: Op, name: str, filters: int, size: int, stride: int = 1, groups: int = 1) -> Op:
        """Convolution, batch norm and ReLU."""
        return self.relu(self.conv_norm(x, name, filters, size, stride, groups), name)


def residual_block(tape: _Tape, x: Op, name: str, filters: int, stride: int) -> Op:
    """Write y = ReLU(F(x) + x), with a projection W x where F changes the shape (He et al. 2015, eq. 1 and 2)."""
    *inner, last = convolutions(tape.architecture.block, filters, stride)
    changes = stride > 1 or x.output_shape[-1] != last["filters"]
    shortcut = projection(tape, x, name, last["filters"], stride) if changes else x
    y = x
    for i, convolution in enumerate(inner, 1):
        y = tape.conv_norm_relu(y, f"{name}_{i}", **convolution)
    y = tape.conv_norm(y, f"{name}_{len(inner) + 1}", **last)
    y = tape.apply(Add, f"{name}_add", shortcut, y)
    return tape.apply(ReLU, f"{name}_out", y)


def projection(tape: _Tape, x: Op, name: str, filters: int, stride: int) -> Op:
    """Write W x, whose 1x1 convolution takes the stride, or else an average pooling before it."""
    if stride > 1 and tape.architecture.block.pooled_shortcut:
        x = tape.apply(AveragePooling2D, f"{name}_0_pool", x, pool_size=stride, stride=stride)
        stride = 1
    return tape.conv_norm(x, f"{name}_0", filters, 1, stride)


def preactivated_block(tape: _Tape, x: Op, name: str, filters: int, stride: int) -> Op:
    """Write y = F(x) + x with batch norm and ReLU first in F; a projection shares those (He et al. 2016, eq. 5)."""
    *inner, last = convolutions(tape.architecture.block, filters, stride)
    y = tape.relu(tape.norm(x, f"{name}_preact"), f"{name}_preact")
    if x.output_shape[-1] != last["filters"]:
        shortcut = tape.conv(y, f"{name}_0", last["filters"], 1, stride)
    elif stride > 1:
        shortcut = tape.apply(MaxPooling2D, f"{name}_0_pool", x, pool_size=1, stride=stride)
    else:
        shortcut = x
    for i, convolution in enumerate(inner, 1):
        y = tape.conv_norm_relu(y, f"{name}_{i}", **convolution)
    y = tape.conv(y, f"{name}_{len(inner) + 1}", **last)
    return tape.apply(Add, f"{name}_out", shortcut, y)


def convolutions(block: Block, filters: int, stride: int) -> list[dict[str, Any]]:
    """Return the fields of a block's convolutions: the last one widens, those between the ends may have groups.

    Args:
        block: the kind of block.
        filters: those of its stage.
        stride: its step in pixels.
    """
    last = len(block.kernel_sizes)
    narrow = filters * block.group_width // 64 * block.groups
    return [
        {
            "filters": filters * block.expansion if i == last else narrow,
            "size": size,
            "stride": stride if i == block.strided_conv else 1,
            "groups": block.groups if 1 < i < last else 1,
        }
        for i, size in enumerate(block.kernel_sizes, 1)
    ]


def residual_stack(tape: _Tape, x: Op, name: str, stage: Stage) -> Op:
    """The blocks of a stage."""
    block = preactivated_block if tape.architecture.block.preactivation else residual_block
    for i, stride in enumerate(stage.strides, 1):
        x = block(tape, x, f"{name}_block{i}", stage.filters, stride)
    return x


def resnet(architecture: Architecture) -> Graph:
    """Write out the network: stem, stages, head (He et al. 2015, table 1).

    Args:
        architecture: what to write out.

    Returns:
        The ops, ordered as `keras.Model.layers` orders them.

    Raises:
        UsageError: the network would have more than `MAX_OPS` layers.
    """
    tape = _Tape(architecture)
    stem, preactivation = architecture.stem, architecture.block.preactivation

    tape.stage = "stem"
    x = tape.append(InputLayer("input_layer", "stem", (), (architecture.image_size, architecture.image_size, 3)))
    stride = stem.stride
    for i in range(1, stem.convolutions):
        x = tape.conv_norm_relu(x, f"conv1_{i}", stem.filters // 2, stem.kernel_size, stride)
        stride = 1
    last = tape.conv if preactivation else tape.conv_norm_relu  # before a block that begins with batch norm, none
    x = last(x, "conv1", stem.filters, stem.kernel_size, stride)
    if stem.pool:
        x = tape.window(MaxPooling2D, x, "pool1_pool", 3, 2, pool_size=3)

    for i, stage in enumerate(architecture.stages):
        tape.stage = f"conv{i + 2}"
        x = residual_stack(tape, x, tape.stage, stage)

    tape.stage = "head"
    if preactivation:
        x = tape.relu(tape.norm(x, "post"), "post")
    x = tape.apply(GlobalAveragePooling2D, "avg_pool", x)
    tape.apply(Dense, "predictions", x, units=architecture.head.classes)
    return Graph(architecture, _by_depth(tape.ops))


def _by_depth(ops: list[Op]) -> tuple[Op, ...]:
    """Order ops by their distance from the output, as `keras.Model.layers` does (keras/src/ops/function.py)."""
    depth = dict.fromkeys((op.name for op in ops), 0)
    for op in reversed(ops):
        for name in op.inputs:
            depth[name] = max(depth[name], depth[op.name] + 1)
    return tuple(sorted(ops, key=lambda op: -depth[op.name]))
