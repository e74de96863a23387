"""ResNets in plain NumPy, written from the papers: an oracle that shares no code with the project."""

from math import prod, sqrt

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def relu(x: Array) -> Array:
    return np.maximum(x, 0)


def max_pool(x: Array) -> Array:
    x = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    height, width = ((n - 3) // 2 + 1 for n in x.shape[1:3])
    shifts = [x[:, i : i + 2 * height : 2, j : j + 2 * width : 2] for i in range(3) for j in range(3)]
    return np.max([shift[:, :height, :width] for shift in shifts], axis=0)


def average_pool(x: Array) -> Array:
    """Average each square of 2 x 2 pixels; squares at the edge have fewer."""
    x = np.pad(x, ((0, 0), *((0, side % 2) for side in x.shape[1:3]), (0, 0)), constant_values=np.nan)
    images, height, width, channels = x.shape
    return np.nanmean(x.reshape(images, height // 2, 2, width // 2, 2, channels), axis=(2, 4))


class ResNet:
    """A network: its weights determine its layers, and the variant what they compute."""

    def __init__(self, weights: dict[str, NDArray[np.float32]], variant: str) -> None:
        self.weights = {name: array.astype(np.float64) for name, array in weights.items()}
        self.variant = variant
        self.epsilon = 1.001e-5 if variant in ("v1", "v2") else 1e-5
        self.deep = variant in ("c", "d")

    def probabilities(self, x: NDArray[np.float32], blocks: tuple[int, ...]) -> Array:
        """Classify preprocessed images (batch, height, width, 3); `blocks` are the blocks per stage."""
        y = x.astype(np.float64)
        if self.deep:
            y = relu(self.conv_norm("conv1_1", y, 2))
            y = relu(self.conv_norm("conv1_2", y))
        stride = 1 if self.deep else 2
        y = self.conv("conv1", y, stride) if self.variant == "v2" else relu(self.conv_norm("conv1", y, stride))
        y = max_pool(y)
        for s, count in enumerate(blocks):
            for b in range(count):
                name = f"conv{s + 2}_block{b + 1}"
                if self.variant == "v2":
                    y = self.preactivated_block(name, y, 2 if b == count - 1 and s < len(blocks) - 1 else 1)
                else:
                    y = self.block(name, y, 2 if b == 0 and s > 0 else 1)
        if self.variant == "v2":
            y = relu(self.norm("post", y))
        logits = y.mean((1, 2)) @ self.weights["predictions/kernel"] + self.weights["predictions/bias"]
        exponentials = np.exp(logits - logits.max(-1, keepdims=True))
        return exponentials / exponentials.sum(-1, keepdims=True)

    def block(self, name: str, x: Array, stride: int) -> Array:
        count = self.convolutions(name)
        strided = 1 if count == 2 or self.variant == "v1" else 2
        y = x
        for i in range(1, count + 1):
            y = self.conv_norm(f"{name}_{i}", y, stride if i == strided else 1)
            y = relu(y) if i < count else y
        if stride > 1 or x.shape[-1] != y.shape[-1]:
            if self.variant == "d" and stride > 1:
                x, stride = average_pool(x), 1
            x = self.conv_norm(f"{name}_0", x, stride)
        return relu(y + x)

    def preactivated_block(self, name: str, x: Array, stride: int) -> Array:
        count = self.convolutions(name)
        y = activated = relu(self.norm(f"{name}_preact", x))
        for i in range(1, count + 1):
            y = self.conv(f"{name}_{i}", y, stride if i == count - 1 else 1)
            y = relu(self.norm(f"{name}_{i}", y)) if i < count else y
        if x.shape[-1] != y.shape[-1]:
            return y + self.conv(f"{name}_0", activated, stride)
        return y + x[:, ::stride, ::stride]

    def convolutions(self, block: str) -> int:
        return 3 if f"{block}_3_conv/kernel" in self.weights else 2

    def conv(self, name: str, x: Array, stride: int = 1) -> Array:
        """Convolve; each group of filters reads as many channels as its kernels have."""
        kernel = self.weights[f"{name}_conv/kernel"]
        size, _, depth, filters = kernel.shape
        pad, groups = size // 2, x.shape[-1] // depth
        x = np.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
        height, width = ((n - size) // stride + 1 for n in x.shape[1:3])
        y = np.zeros((groups, len(x) * height * width, filters // groups))
        for i, j in np.ndindex(size, size):
            window = x[:, i : i + height * stride : stride, j : j + width * stride : stride][:, :height, :width]
            pixels = window.reshape(-1, groups, depth).swapaxes(0, 1)
            y += pixels @ kernel[i, j].reshape(depth, groups, -1).swapaxes(0, 1)
        joined = y.swapaxes(0, 1).reshape(len(x), height, width, filters)
        return joined + self.weights.get(f"{name}_conv/bias", 0)

    def norm(self, name: str, x: Array) -> Array:
        gamma, beta, mean, variance = (
            self.weights[f"{name}_bn/{array}"] for array in ("gamma", "beta", "moving_mean", "moving_variance")
        )
        return (x - mean) * gamma / np.sqrt(variance + self.epsilon) + beta

    def conv_norm(self, name: str, x: Array, stride: int = 1) -> Array:
        return self.norm(name, self.conv(name, x, stride))


class _Calibrating(ResNet):
    """A network that sets the statistics of its batch norms on the way, up to 20 % off."""

    rng = np.random.default_rng(1)

    def norm(self, name: str, x: Array) -> Array:
        for statistic, values in (("moving_mean", x.mean((0, 1, 2))), ("moving_variance", x.var((0, 1, 2)))):
            self.weights[f"{name}_bn/{statistic}"] = values * self.rng.uniform(0.8, 1.2, values.shape)
        return super().norm(name, x)


def plausible_weights(
    shapes: dict[str, tuple[int, ...]], variant: str, x: NDArray[np.float32], blocks: tuple[int, ...]
) -> dict[str, NDArray[np.float32]]:
    """Return random weights with which activations neither vanish nor explode, and logits deviate by 1.

    Args:
        shapes: the shape of each array.
        variant: the variant of the network.
        x: preprocessed images to calibrate on.
        blocks: blocks per stage.
    """
    rng = np.random.default_rng(0)
    distributions = {
        "kernel": lambda shape: rng.normal(0, sqrt(2 / prod(shape[:-1])), shape),
        "bias": lambda shape: rng.normal(0, 0.1, shape),
        "gamma": lambda shape: rng.uniform(0.5, 1.5, shape),
        "beta": lambda shape: rng.normal(0, 0.3, shape),
        "moving_mean": np.zeros,
        "moving_variance": np.ones,
    }
    drawn = {name: distributions[name.rpartition("/")[2]](shape) for name, shape in shapes.items()}
    network = _Calibrating(drawn, variant)
    logits = np.log(network.probabilities(x, blocks))
    network.weights["predictions/kernel"] /= logits.std(axis=-1).mean()
    return {name: array.astype(np.float32) for name, array in network.weights.items()}
