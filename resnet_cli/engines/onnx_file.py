"""The network as an ONNX model. Importing this module imports ONNX and ONNX Runtime.

Preprocessing, temperature and softmax are part of the model; batch norm is not folded, because runtimes do that.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resnet_cli.errors import ModelError
from resnet_cli.network import layers
from resnet_cli.network.graph import resnet
from resnet_cli.network.layers import Op
from resnet_cli.network.metadata import METADATA_KEY, Metadata
from resnet_cli.network.preprocessing import Preprocessing
from resnet_cli.version import __version__
from resnet_cli.weights.checkpoint import Arrays, to_torch

try:
    import onnx
    import onnxruntime
    from onnx import TensorProto, helper, numpy_helper
except ImportError as error:
    raise ModelError("ONNX needs two more packages: pip install 'resnet-cli[onnx]'") from error

OPSET = 17  # ONNX 1.12 (2022) and later
IMAGES, PROBABILITIES = "images", "probabilities"  # names of the input and the output


class _ModelBuilder:
    """Records nodes and arrays; each node has the name of its output."""

    def __init__(self, parameters: Arrays) -> None:
        self.parameters = parameters
        self.nodes: list[Any] = []
        self.arrays: list[Any] = []

    def apply(self, kind: str, name: str, *inputs: str, **attributes: Any) -> str:
        """Append a node with one output."""
        self.nodes.append(helper.make_node(kind, inputs, [name], name, **attributes))
        return name

    def array(self, name: str, values: NDArray[Any]) -> str:
        """Append an array."""
        self.arrays.append(numpy_helper.from_array(values, name))
        return name

    def layer(self, kind: str, op: Op, x: str, **attributes: Any) -> str:
        """Append a node with an op's parameters, in Keras's order but with PyTorch's dimensions."""
        arrays = [self.array(parameter.name, to_torch(self.parameters[parameter.name])) for parameter in op.parameters]
        return self.apply(kind, op.name, x, *arrays, **attributes)


def _pad(builder: _ModelBuilder, op: layers.ZeroPadding2D, x: str) -> str:
    around = builder.array(f"{op.name}/pads", np.array([0, 0, op.padding, op.padding] * 2))
    return builder.apply("Pad", op.name, x, around)


def _convolution(builder: _ModelBuilder, op: layers.Conv2D, x: str) -> str:
    return builder.layer("Conv", op, x, strides=[op.stride] * 2, pads=[op.padding] * 4, group=op.groups)


def _max_pool(builder: _ModelBuilder, op: layers.MaxPooling2D, x: str) -> str:
    return builder.apply("MaxPool", op.name, x, kernel_shape=[op.pool_size] * 2, strides=[op.stride] * 2)


def _average_pool(builder: _ModelBuilder, op: layers.AveragePooling2D, x: str) -> str:
    return builder.apply(
        "AveragePool", op.name, x, kernel_shape=[op.pool_size] * 2, strides=[op.stride] * 2, ceil_mode=1
    )


def _global_average_pool(builder: _ModelBuilder, op: Op, x: str) -> str:
    return builder.apply("Flatten", op.name, builder.apply("GlobalAveragePool", f"{op.name}/mean", x))


# By op, the nodes that compute it, in NCHW; a dense layer returns its logits.
NODES: dict[str, Callable[..., str]] = {
    "ZeroPadding2D": _pad,
    "Conv2D": _convolution,
    "BatchNormalization": lambda builder, op, x: builder.layer("BatchNormalization", op, x, epsilon=op.epsilon),
    "ReLU": lambda builder, op, x: builder.apply("Relu", op.name, x),
    "MaxPooling2D": _max_pool,
    "AveragePooling2D": _average_pool,
    "Add": lambda builder, op, x, y: builder.apply("Add", op.name, x, y),
    "GlobalAveragePooling2D": _global_average_pool,
    "Dense": lambda builder, op, x: builder.layer("Gemm", op, x, transB=1),
}


def to_onnx(parameters: Arrays, metadata: Metadata) -> Any:
    """Build the ONNX model of a network.

    Args:
        parameters: its arrays by name.
        metadata: its metadata, which the model contains as the property `METADATA_KEY`.

    Returns:
        An `onnx.ModelProto` from `images`, RGB from 0 to 255, float32 (batch, 3, size, size), to `probabilities`,
        float32 (batch, classes).

    Raises:
        ModelError: the network is too large for an ONNX file.
    """
    size = sum(array.nbytes for array in parameters.values())
    if size > onnx.checker.MAXIMUM_PROTOBUF:
        raise ModelError(f"an ONNX file can hold at most 2 GB, but this network's parameters take {size / 1e9:.1f} GB")
    first, *ops = resnet(metadata.architecture).ops
    builder = _ModelBuilder(parameters)
    tensors = {first.name: _preprocess(builder, metadata.preprocessing)}
    for op in ops:
        tensors[op.name] = NODES[op.kind](builder, op, *(tensors[name] for name in op.inputs))
    temperature = builder.array("temperature", np.array(metadata.temperature, np.float32))
    builder.apply("Softmax", PROBABILITIES, builder.apply("Div", "tempered", ops[-1].name, temperature), axis=1)

    height, width, channels = first.output_shape
    image = helper.make_tensor_value_info(IMAGES, TensorProto.FLOAT, ["batch", channels, height, width])
    probabilities = helper.make_tensor_value_info(PROBABILITIES, TensorProto.FLOAT, ["batch", *ops[-1].output_shape])
    network = helper.make_graph(builder.nodes, metadata.architecture.name, [image], [probabilities], builder.arrays)
    opsets = [helper.make_opsetid("", OPSET)]
    oldest = helper.find_min_ir_version_for(opsets)  # readable by most runtimes
    producer = {"producer_name": "resnet-cli", "producer_version": __version__}
    model = helper.make_model(network, opset_imports=opsets, ir_version=oldest, **producer)
    helper.set_model_props(model, {METADATA_KEY: metadata.to_json()})
    onnx.checker.check_model(model, full_check=True)
    return model


def _preprocess(builder: _ModelBuilder, preprocessing: Preprocessing) -> str:
    x = IMAGES
    if preprocessing.channels == "BGR":
        x = builder.apply("Gather", "bgr", x, builder.array("bgr/order", np.array([2, 1, 0])), axis=1)
    for kind, name in (("Sub", "mean"), ("Div", "std")):
        values = np.array(getattr(preprocessing, name), np.float32).reshape(3, 1, 1)
        x = builder.apply(kind, f"{name}/{kind}", x, builder.array(name, values))
    return x


def write(path: Path, parameters: Arrays, metadata: Metadata) -> None:
    """Write the result of `to_onnx`.

    Raises:
        ModelError: the network is too large for an ONNX file.
    """
    path.write_bytes(to_onnx(parameters, metadata).SerializeToString())


def predict_file(path: Path, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the probabilities (batch, classes) that a file computes for RGB images (batch, size, size, 3)."""
    session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    planes = np.ascontiguousarray(images.transpose(0, 3, 1, 2), np.float32)
    return np.asarray(session.run([PROBABILITIES], {IMAGES: planes})[0])
