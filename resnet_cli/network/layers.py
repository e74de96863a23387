"""The types of layers of a ResNet, with their shapes, parameters and MACs (standard library only)."""

from collections.abc import Iterable
from dataclasses import dataclass
from math import ceil, prod

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Parameter:
    """An array of a layer, named like `layer/kernel`, with its shape in Keras (kernels: HWIO)."""

    name: str
    shape: Shape
    trainable: bool = True

    @property
    def size(self) -> int:
        """Number of values."""
        return prod(self.shape)


@dataclass(frozen=True)
class Op:
    """A layer; its class defines what it computes.

    Args:
        name: unique name.
        stage: the part of the network that contains it: stem, conv2, ..., head.
        inputs: names of the ops whose outputs it takes.
        input_shape: shape of one input without the batch: (height, width, channels) or (features,).
    """

    name: str
    stage: str
    inputs: tuple[str, ...]
    input_shape: Shape

    @property
    def kind(self) -> str:
        """The class name, which is the name of the Keras layer."""
        return type(self).__name__

    @property
    def output_shape(self) -> Shape:
        """Shape of the output without the batch."""
        return self.input_shape

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        """Its arrays, in Keras's order."""
        return ()

    @property
    def macs(self) -> int:
        """Multiply-accumulates per image, of convolutions and the dense layer only."""
        return 0


class InputLayer(Op):
    """The image: float32, already preprocessed."""


@dataclass(frozen=True)
class ZeroPadding2D(Op):
    """Zero padding of `padding` pixels on each side."""

    padding: int

    @property
    def output_shape(self) -> Shape:
        """Shape of the output without the batch."""
        height, width, channels = self.input_shape
        return (height + 2 * self.padding, width + 2 * self.padding, channels)


@dataclass(frozen=True)
class Conv2D(Op):
    """A convolution with zero padding of `padding` pixels on each side, in `groups` groups of channels."""

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
        """Multiply-accumulates per image."""
        return prod(self.output_shape) * self.kernel_size**2 * (self.input_shape[-1] // self.groups)


@dataclass(frozen=True)
class BatchNormalization(Op):
    """gamma * (x - moving_mean) / sqrt(moving_variance + epsilon) + beta, per channel."""

    epsilon: float

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        """Scale, shift, and mean and variance of the training data."""
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
    """The mean of each `pool_size` square; at the edge, of its part inside the image."""

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
    """A fully connected layer with bias, followed by softmax."""

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
        """Multiply-accumulates per image."""
        return self.input_shape[0] * self.units


@dataclass(frozen=True)
class Totals:
    """The cost of ops: parameters, trainable parameters, and multiply-accumulates per image."""

    parameters: int
    trainable: int
    macs: int


def totals(ops: Iterable[Op]) -> Totals:
    """Return the total cost of ops."""
    ops = list(ops)
    parameters = [parameter for op in ops for parameter in op.parameters]
    return Totals(
        sum(parameter.size for parameter in parameters),
        sum(parameter.size for parameter in parameters if parameter.trainable),
        sum(op.macs for op in ops),
    )
