"""The network written once, as ordered ops (standard library only).

Keras, the summary and every other engine read `graph(architecture)`; none of them knows what a ResNet is.
Layers are named and ordered as `keras.applications` names and orders them.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from math import ceil, prod

from resnet_cli.architecture import Architecture, Block, Stage
from resnet_cli.errors import UsageError

Shape = tuple[int, ...]
MAX_OPS = 10_000


@dataclass(frozen=True)
class Parameter:
    """One array of a layer, named `layer/kernel`, shaped as Keras shapes it (kernels: HWIO)."""

    name: str
    shape: Shape
    trainable: bool = True

    @property
    def size(self) -> int:
        """Number of values."""
        return prod(self.shape)


@dataclass(frozen=True)
class Op:
    """One layer; what it computes is its class.

    Args:
        name: unique name.
        stage: the part of the network it stands in: stem, conv2, ..., head.
        inputs: names of the ops whose outputs it takes.
        input_shape: shape of one input without the batch: (height, width, channels) or (features,).
    """

    name: str
    stage: str
    inputs: tuple[str, ...]
    input_shape: Shape

    @property
    def kind(self) -> str:
        """The class's name, which is that of the Keras layer."""
        return type(self).__name__

    @property
    def output_shape(self) -> Shape:
        """Shape of the output without the batch."""
        return self.input_shape

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        """The arrays it needs, in Keras's order."""
        return ()

    @property
    def macs(self) -> int:
        """Multiply-accumulates for one image (convolutions and the dense layer only)."""
        return 0


class InputLayer(Op):
    """The image: float32, already preprocessed."""


@dataclass(frozen=True)
class ZeroPadding2D(Op):
    """Adds `padding` pixels of zero on each side."""

    padding: int

    @property
    def output_shape(self) -> Shape:
        """Shape of the output without the batch."""
        height, width, channels = self.input_shape
        return (height + 2 * self.padding, width + 2 * self.padding, channels)


@dataclass(frozen=True)
class Conv2D(Op):
    """A convolution; `padding` pixels of zero are added on each side.

    Each of `groups` of filters sees its own share of the channels.
    """

    filters: int
    kernel_size: int
    stride: int
    padding: int
    use_bias: bool
    groups: int = 1

    @property
    def output_shape(self) -> Shape:
        """Shape of the output without the batch."""
        height, width, _ = self.input_shape
        return (*((n + 2 * self.padding - self.kernel_size) // self.stride + 1 for n in (height, width)), self.filters)

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        """Kernel (height, width, in, out) and bias."""
        kernel = (self.kernel_size, self.kernel_size, self.input_shape[-1] // self.groups, self.filters)
        bias = (Parameter(f"{self.name}/bias", (self.filters,)),) if self.use_bias else ()
        return (Parameter(f"{self.name}/kernel", kernel), *bias)

    @property
    def macs(self) -> int:
        """Multiply-accumulates for one image."""
        return prod(self.output_shape) * self.kernel_size**2 * (self.input_shape[-1] // self.groups)


@dataclass(frozen=True)
class BatchNormalization(Op):
    """gamma * (x - moving_mean) / sqrt(moving_variance + epsilon) + beta, a channel at a time."""

    epsilon: float

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        """Scale, shift and the statistics of the training data."""
        trainable = {"gamma": True, "beta": True, "moving_mean": False, "moving_variance": False}
        return tuple(Parameter(f"{self.name}/{key}", self.input_shape[-1:], flag) for key, flag in trainable.items())


class ReLU(Op):
    """max(x, 0)."""


@dataclass(frozen=True)
class MaxPooling2D(Op):
    """The largest value of each `pool_size` square."""

    pool_size: int
    stride: int

    @property
    def output_shape(self) -> Shape:
        """Shape of the output without the batch."""
        height, width, channels = self.input_shape
        return (*((n - self.pool_size) // self.stride + 1 for n in (height, width)), channels)


@dataclass(frozen=True)
class AveragePooling2D(Op):
    """The mean of each `pool_size` square; at the edge, of the part of it that is there."""

    pool_size: int
    stride: int

    @property
    def output_shape(self) -> Shape:
        """Shape of the output without the batch."""
        height, width, channels = self.input_shape
        return (*(ceil(n / self.stride) for n in (height, width)), channels)


class Add(Op):
    """The sum of its inputs."""


class GlobalAveragePooling2D(Op):
    """The mean over height and width."""

    @property
    def output_shape(self) -> Shape:
        """Shape of the output without the batch."""
        return self.input_shape[-1:]


@dataclass(frozen=True)
class Dense(Op):
    """A fully connected layer with bias, and softmax."""

    units: int

    @property
    def output_shape(self) -> Shape:
        """Shape of the output without the batch."""
        return (self.units,)

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        """Kernel (in, out) and bias."""
        return (
            Parameter(f"{self.name}/kernel", (*self.input_shape, self.units)),
            Parameter(f"{self.name}/bias", (self.units,)),
        )

    @property
    def macs(self) -> int:
        """Multiply-accumulates for one image."""
        return self.input_shape[0] * self.units


@dataclass(frozen=True)
class Totals:
    """What ops cost together: values of all and of trainable parameters, multiply-accumulates for one image."""

    parameters: int
    trainable: int
    macs: int


def totals(ops: Iterable[Op]) -> Totals:
    """Add up what ops cost."""
    ops = list(ops)
    parameters = [parameter for op in ops for parameter in op.parameters]
    return Totals(
        sum(parameter.size for parameter in parameters),
        sum(parameter.size for parameter in parameters if parameter.trainable),
        sum(op.macs for op in ops),
    )


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
            x, padding = self.pad(x, name, padding), 0
        if kind is Conv2D:
            fields |= {"padding": padding}
        return self.apply(kind, name, x, stride=stride, **fields)

    def pad(self, x: Op, name: str, padding: int) -> Op:
        """Add zeros around what the layer `name` is going to see."""
        return self.apply(ZeroPadding2D, name.rpartition("_")[0] + "_pad", x, padding=padding)

    def conv(self, x: Op, name: str, filters: int, size: int, stride: int = 1, **fields: float) -> Op:
        """Convolution."""
        fields = {"use_bias": True} | fields
        return self.window(Conv2D, x, f"{name}_conv", size, stride, filters=filters, kernel_size=size, **fields)

    def norm(self, x: Op, name: str) -> Op:
        """Batch norm."""
        return self.apply(BatchNormalization, f"{name}_bn", x, epsilon=self.architecture.epsilon)

    def norm_relu(self, x: Op, name: str) -> Op:
        """Batch norm and ReLU."""
        return self.apply(ReLU, f"{name}_relu", self.norm(x, name))

    def conv_norm(self, x: Op, name: str, filters: int, size: int, stride: int = 1, **fields: float) -> Op:
        """Convolution and batch norm."""
        fields = {"use_bias": self.architecture.conv_bias} | fields
        return self.norm(self.conv(x, name, filters, size, stride, **fields), name)

    def conv_norm_relu(self, x: Op, name: str, filters: int, size: int, stride: int = 1, **fields: float) -> Op:
        """Convolution, batch norm and ReLU."""
        return self.apply(ReLU, f"{name}_relu", self.conv_norm(x, name, filters, size, stride, **fields))


def residual_block(tape: _Tape, x: Op, name: str, filters: int, stride: int) -> Op:
    """Write y = ReLU(F(x) + x), with a projection W x where F changes the shape (He et al. 2015, eq. 1 and 2)."""
    *inner, last = convolutions(tape.architecture.block, filters, stride)
    shortcut, y = x, x
    if stride > 1 or x.output_shape[-1] != last["filters"]:
        pooled = tape.architecture.block.pooled_shortcut and stride > 1
        if pooled:
            shortcut = tape.apply(AveragePooling2D, f"{name}_0_pool", x, pool_size=stride, stride=stride)
        shortcut = tape.conv_norm(shortcut, f"{name}_0", last["filters"], 1, 1 if pooled else stride)
    for i, convolution in enumerate(inner, 1):
        y = tape.conv_norm_relu(y, f"{name}_{i}", **convolution)
    y = tape.conv_norm(y, f"{name}_{len(inner) + 1}", **last)
    y = tape.apply(Add, f"{name}_add", shortcut, y)
    return tape.apply(ReLU, f"{name}_out", y)


def preactivated_block(tape: _Tape, x: Op, name: str, filters: int, stride: int) -> Op:
    """Write y = F(x) + x with batch norm and ReLU first in F; a projection shares those (He et al. 2016, eq. 5)."""
    *inner, last = convolutions(tape.architecture.block, filters, stride)
    y = tape.norm_relu(x, f"{name}_preact")
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


def convolutions(block: Block, filters: int, stride: int) -> list[dict[str, int]]:
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
        x = tape.norm_relu(x, "post")
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
