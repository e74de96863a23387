"""The network read as an ONNX model. Importing this module imports ONNX and ONNX Runtime.

Preprocessing, temperature and softmax are part of the model; batch norm stays, as runtimes fold it themselves.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resnet_cli import __version__
from resnet_cli.checkpoints import Arrays, to_torch
from resnet_cli.errors import ModelError
from resnet_cli.graph import resnet
from resnet_cli.metadata import METADATA_KEY, Metadata
from resnet_cli.ops import Op
from resnet_cli.pretrained import Preprocessing

try:
    import onnx
    import onnxruntime
    from onnx import TensorProto, helper, numpy_helper
except ImportError as error:
    raise ModelError("ONNX needs two packages more: pip install 'resnet-cli[onnx]'") from error

OPSET = 17  # of operators: ONNX 1.12 and later, which is of 2022
IMAGES, PROBABILITIES = "images", "probabilities"  # the input and the output


class _Tape:
    """Writes down nodes and the arrays they take, by name; a node is called as its output."""

    def __init__(self, parameters: Arrays) -> None:
        self.parameters = parameters
        self.nodes: list[Any] = []
        self.arrays: list[Any] = []

    def apply(self, kind: str, name: str, *inputs: str, **attributes: Any) -> str:
        """Append a node of one output."""
        self.nodes.append(helper.make_node(kind, inputs, [name], name, **attributes))
        return name

    def array(self, name: str, values: NDArray[Any]) -> str:
        """Append an array."""
        self.arrays.append(numpy_helper.from_array(values, name))
        return name

    def layer(self, kind: str, op: Op, x: str, **attributes: Any) -> str:
        """Append a node that takes an op's parameters, in Keras's order, each with PyTorch's order of dimensions."""
        arrays = [self.array(parameter.name, to_torch(self.parameters[parameter.name])) for parameter in op.parameters]
        return self.apply(kind, op.name, x, *arrays, **attributes)


def _pad(tape: _Tape, op: Any, x: str) -> str:
    around = tape.array(f"{op.name}/pads", np.array([0, 0, op.padding, op.padding] * 2))
    return tape.apply("Pad", op.name, x, around)


def _convolution(tape: _Tape, op: Any, x: str) -> str:
    return tape.layer("Conv", op, x, strides=[op.stride] * 2, pads=[op.padding] * 4, group=op.groups)


def _max_pool(tape: _Tape, op: Any, x: str) -> str:
    return tape.apply("MaxPool", op.name, x, kernel_shape=[op.pool_size] * 2, strides=[op.stride] * 2)


def _average_pool(tape: _Tape, op: Any, x: str) -> str:
    return tape.apply("AveragePool", op.name, x, kernel_shape=[op.pool_size] * 2, strides=[op.stride] * 2, ceil_mode=1)


def _global_average_pool(tape: _Tape, op: Any, x: str) -> str:
    return tape.apply("Flatten", op.name, tape.apply("GlobalAveragePool", f"{op.name}/mean", x))


# What each kind of op becomes, in NCHW; a dense layer becomes its logits.
NODES: dict[str, Callable[..., str]] = {
    "ZeroPadding2D": _pad,
    "Conv2D": _convolution,
    "BatchNormalization": lambda tape, op, x: tape.layer("BatchNormalization", op, x, epsilon=op.epsilon),
    "ReLU": lambda tape, op, x: tape.apply("Relu", op.name, x),
    "MaxPooling2D": _max_pool,
    "AveragePooling2D": _average_pool,
    "Add": lambda tape, op, x, y: tape.apply("Add", op.name, x, y),
    "GlobalAveragePooling2D": _global_average_pool,
    "Dense": lambda tape, op, x: tape.layer("Gemm", op, x, transB=1),
}


def build(parameters: Arrays, metadata: Metadata) -> Any:
    """Build the ONNX model of a network.

    Args:
        parameters: its arrays by name.
        metadata: its architecture, preprocessing and temperature; the model says all of it under `METADATA_KEY`.

    Returns:
        An `onnx.ModelProto` from `images`, RGB from 0 to 255, float32 (batch, 3, size, size), to `probabilities`,
        float32 (batch, classes).

    Raises:
        ModelError: the network is larger than an ONNX file can be.
    """
    size = sum(array.nbytes for array in parameters.values())
    if size > onnx.checker.MAXIMUM_PROTOBUF:
        raise ModelError(f"an ONNX file holds at most 2 GB, the parameters of this network take {size / 1e9:.1f} GB")
    first, *ops = resnet(metadata.architecture).ops
    tape = _Tape(parameters)
    tensors = {first.name: _preprocess(tape, metadata.preprocessing)}
    for op in ops:
        tensors[op.name] = NODES[op.kind](tape, op, *(tensors[name] for name in op.inputs))
    temperature = tape.array("temperature", np.array(metadata.temperature, np.float32))
    tape.apply("Softmax", PROBABILITIES, tape.apply("Div", "tempered", ops[-1].name, temperature), axis=1)

    height, width, channels = first.output_shape
    image = helper.make_tensor_value_info(IMAGES, TensorProto.FLOAT, ["batch", channels, height, width])
    answer = helper.make_tensor_value_info(PROBABILITIES, TensorProto.FLOAT, ["batch", *ops[-1].output_shape])
    network = helper.make_graph(tape.nodes, metadata.architecture.name, [image], [answer], tape.arrays)
    opsets = [helper.make_opsetid("", OPSET)]
    oldest = helper.find_min_ir_version_for(opsets)  # which most runtimes can read
    producer = {"producer_name": "resnet-cli", "producer_version": __version__}
    model = helper.make_model(network, opset_imports=opsets, ir_version=oldest, **producer)
    helper.set_model_props(model, {METADATA_KEY: metadata.to_json()})
    onnx.checker.check_model(model, full_check=True)
    return model


def _preprocess(tape: _Tape, preprocessing: Preprocessing) -> str:
    x = IMAGES
    if preprocessing.channels == "BGR":
        x = tape.apply("Gather", "bgr", x, tape.array("bgr/order", np.array([2, 1, 0])), axis=1)
    for kind, name in (("Sub", "mean"), ("Div", "std")):
        values = np.array(getattr(preprocessing, name), np.float32).reshape(3, 1, 1)
        x = tape.apply(kind, f"{name}/{kind}", x, tape.array(name, values))
    return x


def write(path: Path, parameters: Arrays, metadata: Metadata) -> None:
    """Write what `build` makes.

    Args:
        path: the file to write.
        parameters: the network's arrays by name.
        metadata: what the file is to say of itself.

    Raises:
        ModelError: the network is larger than an ONNX file can be.
    """
    path.write_bytes(build(parameters, metadata).SerializeToString())


def answer(path: Path, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Classify images with ONNX Runtime.

    Args:
        path: the model.
        images: RGB, shape (batch, size, size, 3).

    Returns:
        Probabilities, shape (batch, classes).
    """
    session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    planes = np.ascontiguousarray(images.transpose(0, 3, 1, 2), np.float32)
    return np.asarray(session.run([PROBABILITIES], {IMAGES: planes})[0])
