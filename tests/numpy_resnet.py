"""A bottleneck ResNet in plain NumPy, written from the paper: an oracle that shares no code with the project."""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Weights = dict[str, NDArray[np.float32]]


def conv(w: Weights, name: str, x: Array, stride: int = 1, pad: int = 0) -> Array:
    kernel = w[f"{name}/kernel"].astype(np.float64)
    size = kernel.shape[0]
    x = np.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
    height, width = ((n - size) // stride + 1 for n in x.shape[1:3])
    y = np.zeros((len(x), height, width, kernel.shape[-1])) + w.get(f"{name}/bias", 0)
    for i in range(size):
        for j in range(size):
            window = x[:, i : i + height * stride : stride, j : j + width * stride : stride]
            y += window[:, :height, :width] @ kernel[i, j]
    return y


def bn(w: Weights, name: str, x: Array, epsilon: float) -> Array:
    scale = w[f"{name}/gamma"] / np.sqrt(w[f"{name}/moving_variance"].astype(np.float64) + epsilon)
    return (x - w[f"{name}/moving_mean"]) * scale + w[f"{name}/beta"]


def relu(x: Array) -> Array:
    return np.maximum(x, 0)


def max_pool(x: Array) -> Array:
    x = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    height, width = ((n - 3) // 2 + 1 for n in x.shape[1:3])
    shifts = [x[:, i : i + 2 * height : 2, j : j + 2 * width : 2] for i in range(3) for j in range(3)]
    return np.max([shift[:, :height, :width] for shift in shifts], axis=0)


def forward(w: Weights, x: NDArray[np.float32], blocks: tuple[int, ...], *, v15: bool) -> Array:
    """Return the probabilities of preprocessed images (batch, height, width, 3)."""
    epsilon = 1e-5 if v15 else 1.001e-5
    y = relu(bn(w, "conv1_bn", conv(w, "conv1_conv", x.astype(np.float64), 2, 3), epsilon))
    y = max_pool(y)
    for s, count in enumerate(blocks):
        for b in range(count):
            name = f"conv{s + 2}_block{b + 1}"
            stride = 2 if s > 0 and b == 0 else 1
            one, three = (1, stride) if v15 else (stride, 1)
            shortcut = y
            if b == 0:
                shortcut = bn(w, f"{name}_0_bn", conv(w, f"{name}_0_conv", y, stride), epsilon)
            y = relu(bn(w, f"{name}_1_bn", conv(w, f"{name}_1_conv", y, one), epsilon))
            y = relu(bn(w, f"{name}_2_bn", conv(w, f"{name}_2_conv", y, three, 1), epsilon))
            y = bn(w, f"{name}_3_bn", conv(w, f"{name}_3_conv", y), epsilon)
            y = relu(y + shortcut)
    logits = y.mean((1, 2)) @ w["predictions/kernel"] + w["predictions/bias"]
    exponentials = np.exp(logits - logits.max(-1, keepdims=True))
    return exponentials / exponentials.sum(-1, keepdims=True)
