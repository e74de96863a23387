"""The network read as an OpenVINO model, and OpenVINO as an engine. Importing this module imports OpenVINO.

Batch norm is folded into the convolutions; preprocessing, temperature and softmax are part of the compiled model.
"""

import contextlib
import io
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resnet_cli import store
from resnet_cli.engines import Engine, Precision, Setup
from resnet_cli.errors import EngineError, ModelError, UsageError
from resnet_cli.graph import Graph, resnet
from resnet_cli.metadata import METADATA_KEY, Metadata
from resnet_cli.models import Activity, Model
from resnet_cli.pretrained import Preprocessing

# `import openvino` brings along a converter for other frameworks' models, in more time than all the rest of it takes.
if unconverted := "openvino" not in sys.modules:
    sys.modules["openvino.tools.ovc"] = None  # type: ignore[assignment]
try:
    import openvino
    from openvino import opset13 as opset
    from openvino.preprocess import ColorFormat, PrePostProcessor
finally:
    if unconverted:
        del sys.modules["openvino.tools.ovc"]

Node = Any  # the package has no types of its own
Weights = Mapping[str, NDArray[np.float32]]

HINTS = {Precision.F32: "f32", Precision.BF16: "bf16", Precision.INT8: "f32"}  # of what is not quantised, for int8
LAYOUT_VERSION = 3  # of what `build` makes of a network: compiled networks of another one are not used


def _per_channel(values: NDArray[np.float32]) -> NDArray[np.float32]:
    return values.reshape(1, -1, 1, 1)


def _pad(op: Any, weights: Weights, x: Node) -> Node:
    around = [0, 0, op.padding, op.padding]
    return opset.pad(x, around, around, "constant", np.float32(0))


def _convolution(op: Any, weights: Weights, x: Node) -> Node:
    kernel = np.ascontiguousarray(weights[f"{op.name}/kernel"].transpose(3, 2, 0, 1))  # HWIO to OIHW
    convolution = opset.convolution
    if op.groups > 1:
        kernel = kernel.reshape(op.groups, -1, *kernel.shape[1:])
        convolution = opset.group_convolution
    strides, padding, dilations = [op.stride] * 2, [op.padding] * 2, [1, 1]
    y = convolution(x, kernel, strides, padding, padding, dilations)
    bias = weights.get(f"{op.name}/bias")
    return y if bias is None else opset.add(y, _per_channel(bias))


def _batch_norm(op: Any, weights: Weights, x: Node) -> Node:
    if f"{op.name}/gamma" not in weights:
        return x
    scale, shift = _affine(op, weights)
    return opset.add(opset.multiply(x, _per_channel(scale)), _per_channel(shift))


def _max_pool(op: Any, weights: Weights, x: Node) -> Node:
    return opset.max_pool(x, [op.stride] * 2, [1, 1], [0, 0], [0, 0], [op.pool_size] * 2).output(0)


def _average_pool(op: Any, weights: Weights, x: Node) -> Node:
    around = [0, 0]
    return opset.avg_pool(x, [op.stride] * 2, around, around, [op.pool_size] * 2, True, "ceil")


def _dense(op: Any, weights: Weights, x: Node) -> Node:
    product = opset.matmul(x, weights[f"{op.name}/kernel"], transpose_a=False, transpose_b=False)
    return opset.add(product, weights[f"{op.name}/bias"])


# What each kind of op becomes, in NCHW; a dense layer becomes its logits.
NODES: dict[str, Callable[..., Node]] = {
    "ZeroPadding2D": _pad,
    "Conv2D": _convolution,
    "BatchNormalization": _batch_norm,
    "ReLU": lambda op, weights, x: opset.relu(x),
    "MaxPooling2D": _max_pool,
    "AveragePooling2D": _average_pool,
    "Add": lambda op, weights, x, y: opset.add(x, y),
    "GlobalAveragePooling2D": lambda op, weights, x: opset.reduce_mean(x, np.array([2, 3]), keep_dims=False),
    "Dense": _dense,
}


def _affine(op: Any, weights: Weights) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return batch norm's scale and shift a channel, computed in 64 bits."""
    arrays = (weights[parameter.name].astype(np.float64) for parameter in op.parameters)
    gamma, beta, mean, variance = arrays
    scale = gamma / np.sqrt(variance + op.epsilon)
    return scale.astype(np.float32), (beta - mean * scale).astype(np.float32)


def folded(graph: Graph, parameters: Weights) -> dict[str, NDArray[np.float32]]:
    """Fold each batch norm that alone follows a convolution into its kernel and bias.

    Args:
        graph: the network.
        parameters: its arrays by name.

    Returns:
        Arrays of the same network, those of folded batch norms left out; each such convolution has a bias.
    """
    weights = dict(parameters)
    by_name = {op.name: op for op in graph.ops}
    used = [name for op in graph.ops for name in op.inputs]
    for op in graph.ops:
        if op.kind == "BatchNormalization" and by_name[conv := op.inputs[0]].kind == "Conv2D" and used.count(conv) == 1:
            scale, shift = _affine(op, weights)
            weights[f"{conv}/kernel"] = weights[f"{conv}/kernel"] * scale
            weights[f"{conv}/bias"] = weights.get(f"{conv}/bias", np.float32(0)) * scale + shift
            for parameter in op.parameters:
                del weights[parameter.name]
    return weights


def build(graph: Graph, parameters: Weights, preprocessing: Preprocessing, temperature: float) -> Any:
    """Build the OpenVINO model of a network.

    Args:
        graph: the network.
        parameters: its arrays by name.
        preprocessing: what the network wants done to pixels.
        temperature: divides the logits.

    Returns:
        An `openvino.Model` from one RGB image, uint8 (1, size, size, 3), to its probabilities (1, classes) and the
        features that the head sees (1, channels), float32.
    """
    weights = folded(graph, parameters)
    first, *rest = graph.ops
    height, width, channels = first.output_shape
    image = opset.parameter([1, channels, height, width], np.float32, name=first.name)
    nodes: dict[str, Node] = {first.name: image}
    for op in rest:
        nodes[op.name] = NODES[op.kind](op, weights, *(nodes[name] for name in op.inputs))
    logits = nodes[rest[-1].name]
    probabilities = opset.softmax(opset.divide(logits, np.float32(temperature)), axis=1)
    outputs = {"probabilities": probabilities.output(0), "features": nodes[graph.features].output(0)}
    for name, output in outputs.items():
        output.set_names({name})
    model = openvino.Model(list(outputs.values()), [image], graph.architecture.name)

    prepared = PrePostProcessor(model)
    layout = openvino.Layout
    prepared.input().tensor().set_element_type(openvino.Type.u8).set_layout(layout("NHWC"))
    prepared.input().tensor().set_color_format(ColorFormat.RGB)
    prepared.input().model().set_layout(layout("NCHW"))
    steps = prepared.input().preprocess().convert_element_type(openvino.Type.f32)
    steps.convert_color(getattr(ColorFormat, preprocessing.channels))
    steps.mean(list(preprocessing.mean)).scale(list(preprocessing.std))
    return prepared.build()


def write(path: Path, parameters: Weights, metadata: Metadata) -> None:
    """Write what `build` makes as OpenVINO IR, from `images` to `probabilities`, with the metadata as runtime info.

    Args:
        path: the `.xml` to write; the arrays stand in a `.bin` beside it.
        parameters: the network's arrays by name.
        metadata: what the file is to say of itself.

    Raises:
        OSError: it cannot be written.
    """
    network = build(resnet(metadata.architecture), parameters, metadata.preprocessing, metadata.temperature)
    network.input().set_names({"images"})
    network.remove_result(network.output("features").get_node())
    network.set_rt_info(metadata.to_json(), METADATA_KEY)
    try:
        openvino.save_model(network, path, compress_to_fp16=False)
    except RuntimeError as error:
        raise OSError(f"OpenVINO says {error}; the disk may be full") from error


def answer(path: Path, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Classify an image with a model of OpenVINO IR.

    Args:
        path: the `.xml`.
        images: RGB, shape (1, size, size, 3).

    Returns:
        Probabilities, shape (1, classes).
    """
    core = openvino.Core()
    compiled = core.compile_model(core.read_model(path), "CPU", {"INFERENCE_PRECISION_HINT": HINTS[Precision.F32]})
    return np.asarray(compiled(images)[0])


class OpenVINOEngine(Engine):
    """Computes probabilities with a compiled network, which is kept in the cache folder for the next run."""

    def __init__(self, model: Model, setup: Setup, activity: Activity) -> None:
        with _explained():
            core = openvino.Core()
            self.precision = _possible(core, setup.precision, activity)
            config = {
                "INFERENCE_PRECISION_HINT": HINTS[self.precision],  # or some processors would compute in bfloat16
                "PERFORMANCE_HINT": "THROUGHPUT" if setup.many else "LATENCY",
            }
            self._compiled = _compiled(core, config, model, self.precision, setup, activity)
            self._shapes = [tuple(output.shape)[1:] for output in self._compiled.outputs]
            self._queue = openvino.AsyncInferQueue(self._compiled)

    def embed(self, images: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Classify images, each in a request of its own, as many at a time as the processor has streams for.

        Args:
            images: RGB, shape (batch, size, size, 3).

        Returns:
            Tempered probabilities (batch, classes), and the features that the head sees (batch, channels).
        """
        probabilities, features = (np.empty((len(images), *shape), np.float32) for shape in self._shapes)

        def keep(request: Any, index: int) -> None:
            probabilities[index] = request.get_output_tensor(0).data[0]
            features[index] = request.get_output_tensor(1).data[0]

        self._queue.set_callback(keep)
        for index in range(len(images)):
            self._queue.start_async(images[index : index + 1], userdata=index, share_inputs=True)
        self._queue.wait_all()
        return probabilities, features


def _compiled(
    core: Any, config: dict[str, str], model: Model, precision: Precision, setup: Setup, activity: Activity
) -> Any:
    """Return the compiled network from the cache folder, or compile and keep it."""
    key = {
        "weights": store.digest(model.path),
        "metadata": _computed(model.metadata),
        "precision": precision,
        "calibrated_on": setup.calibrated_on if precision is Precision.INT8 else None,
        "openvino": openvino.get_version(),
        "processor": [core.get_property("CPU", name) for name in ("FULL_DEVICE_NAME", "OPTIMIZATION_CAPABILITIES")],
        "layout": LAYOUT_VERSION,
    }
    if found := store.find_compiled(key):
        activity.report(f"Reading {found}")
        with contextlib.suppress(RuntimeError):  # then it is compiled anew
            return core.import_model(openvino.tensor_from_file(found), "CPU", config)
    activity.report(f"Compiling {model.metadata.architecture.name} for {precision}")
    network = build(model.graph, model.parameters, model.metadata.preprocessing, model.metadata.temperature)
    if precision is Precision.INT8:
        network = _quantised(network, setup, model.metadata)
    compiled = core.compile_model(network, "CPU", config)
    content = io.BytesIO()
    compiled.export_model(content)
    try:
        activity.report(f"Kept as {store.keep_compiled(key, content.getvalue())}")
    except (OSError, UsageError) as error:
        activity.warn(f"the compiled network cannot be kept, so that every start takes longer: {error}")
    return compiled


def _computed(metadata: Metadata) -> list[Any]:
    """Return what of the metadata goes into the compiled network."""
    return [metadata.architecture.to_dict(), metadata.preprocessing.to_dict(), metadata.temperature]


def _possible(core: Any, precision: Precision, activity: Activity) -> Precision:
    if precision is Precision.BF16 and not _gains(core, "bf16"):
        activity.warn("this processor does not compute in bf16; f32 is used")
        return Precision.F32
    return precision


def _gains(core: Any, hint: str) -> bool:
    """Tell by a convolution whether a precision is faster than f32; some processors only emulate it."""
    if hint.upper() not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        return False
    image = opset.parameter([1, 256, 28, 28], np.float32)
    kernel = np.ones((256, 256, 3, 3), np.float32)
    model = openvino.Model([opset.convolution(image, kernel, [1, 1], [1, 1], [1, 1], [1, 1])], [image], "trial")
    pixels = np.ones((1, 256, 28, 28), np.float32)
    seconds = {}
    for trial in ("f32", hint):
        compiled = core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": trial})
        times = []
        for _ in range(10):
            started = time.perf_counter()
            compiled(pixels)
            times.append(time.perf_counter() - started)
        seconds[trial] = min(times)
    return seconds[hint] < seconds["f32"]


def _quantised(network: Any, setup: Setup, metadata: Metadata) -> Any:
    """Return a network that computes in 8-bit integers (Jacob et al. 2017), by NNCF's post-training quantisation."""
    try:
        import nncf
    except ImportError as error:
        raise ModelError("int8 needs NNCF: pip install 'resnet-cli[int8]'") from error
    images = setup.calibration(metadata) if setup.calibration else np.empty(0)
    if not len(images):
        raise UsageError("int8 needs images to measure the network's ranges on; name some with --calibrate")
    with contextlib.redirect_stdout(io.StringIO()):  # where results go, NNCF draws its progress
        nncf.set_log_level("ERROR")
        data = nncf.Dataset(list(images), lambda image: image[None])
        return nncf.quantize(network, data, subset_size=len(images))


@contextlib.contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        raise EngineError(str(error)) from error
