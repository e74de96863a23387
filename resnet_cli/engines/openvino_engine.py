"""The network as an OpenVINO model, and OpenVINO as an engine. Importing this module imports OpenVINO.

Batch norm is folded into the convolutions; preprocessing, temperature and softmax are part of the compiled model.
"""

import atexit
import contextlib
import io
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resnet_cli.engines.engine import Engine, EngineOptions
from resnet_cli.engines.precision import Precision
from resnet_cli.errors import EngineError, ModelError, UsageError
from resnet_cli.network import layers
from resnet_cli.network.graph import Graph, resnet
from resnet_cli.network.metadata import METADATA_KEY, Metadata
from resnet_cli.network.preprocessing import Preprocessing
from resnet_cli.system import cache_folder
from resnet_cli.system.progress import Progress
from resnet_cli.weights.model import ModelFile

# `import openvino` also imports its model converter, which takes longer than everything else; block it.
if first_import := "openvino" not in sys.modules:
    sys.modules["openvino.tools.ovc"] = None  # type: ignore[assignment]
try:
    import openvino
    from openvino import opset13 as opset
    from openvino.preprocess import ColorFormat, PrePostProcessor
finally:
    if first_import:
        del sys.modules["openvino.tools.ovc"]

Node = Any  # OpenVINO has no type hints
Parameters = Mapping[str, NDArray[np.float32]]

HINTS = {Precision.F32: "f32", Precision.BF16: "bf16", Precision.INT8: "f32"}  # int8: for the layers that stay floats
CACHE_VERSION = 3  # version of what `to_openvino` produces; compiled networks of other versions are ignored


def _per_channel(values: NDArray[np.float32]) -> NDArray[np.float32]:
    return values.reshape(1, -1, 1, 1)


def _pad(op: layers.ZeroPadding2D, weights: Parameters, x: Node) -> Node:
    around = [0, 0, op.padding, op.padding]
    return opset.pad(x, around, around, "constant", np.float32(0))


def _convolution(op: layers.Conv2D, weights: Parameters, x: Node) -> Node:
    kernel = np.ascontiguousarray(weights[f"{op.name}/kernel"].transpose(3, 2, 0, 1))  # HWIO to OIHW
    convolution = opset.convolution
    if op.groups > 1:
        kernel = kernel.reshape(op.groups, -1, *kernel.shape[1:])
        convolution = opset.group_convolution
    strides, padding, dilations = [op.stride] * 2, [op.padding] * 2, [1, 1]
    y = convolution(x, kernel, strides, padding, padding, dilations)
    bias = weights.get(f"{op.name}/bias")
    return y if bias is None else opset.add(y, _per_channel(bias))


def _batch_norm(op: layers.BatchNormalization, weights: Parameters, x: Node) -> Node:
    if f"{op.name}/gamma" not in weights:
        return x
    scale, shift = _scale_and_shift(op, weights)
    return opset.add(opset.multiply(x, _per_channel(scale)), _per_channel(shift))


def _max_pool(op: layers.MaxPooling2D, weights: Parameters, x: Node) -> Node:
    return opset.max_pool(x, [op.stride] * 2, [1, 1], [0, 0], [0, 0], [op.pool_size] * 2).output(0)


def _average_pool(op: layers.AveragePooling2D, weights: Parameters, x: Node) -> Node:
    around = [0, 0]
    return opset.avg_pool(x, [op.stride] * 2, around, around, [op.pool_size] * 2, True, "ceil")


def _dense(op: layers.Dense, weights: Parameters, x: Node) -> Node:
    product = opset.matmul(x, weights[f"{op.name}/kernel"], transpose_a=False, transpose_b=False)
    return opset.add(product, weights[f"{op.name}/bias"])


# By op, the nodes that compute it, in NCHW; a dense layer returns its logits.
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


def _scale_and_shift(
    op: layers.BatchNormalization, weights: Parameters
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return a batch norm's scale and shift per channel, computed in 64 bits."""
    arrays = (weights[parameter.name].astype(np.float64) for parameter in op.parameters)
    gamma, beta, mean, variance = arrays
    scale = gamma / np.sqrt(variance + op.epsilon)
    return scale.astype(np.float32), (beta - mean * scale).astype(np.float32)


def fold_batch_norm(graph: Graph, parameters: Parameters) -> dict[str, NDArray[np.float32]]:
    """Fold each batch norm that is the only reader of a convolution into its kernel and bias.

    Args:
        graph: the network.
        parameters: its arrays by name.

    Returns:
        The arrays of the same network without the folded batch norms; each such convolution has a bias.
    """
    weights = dict(parameters)
    by_name = {op.name: op for op in graph.ops}
    used = [name for op in graph.ops for name in op.inputs]
    for op in graph.ops:
        if not isinstance(op, layers.BatchNormalization):
            continue
        if by_name[conv := op.inputs[0]].kind == "Conv2D" and used.count(conv) == 1:
            scale, shift = _scale_and_shift(op, weights)
            weights[f"{conv}/kernel"] = weights[f"{conv}/kernel"] * scale
            weights[f"{conv}/bias"] = weights.get(f"{conv}/bias", np.float32(0)) * scale + shift
            for parameter in op.parameters:
                del weights[parameter.name]
    return weights


def to_openvino(graph: Graph, parameters: Parameters, preprocessing: Preprocessing, temperature: float) -> Any:
    """Build the OpenVINO model of a network.

    Args:
        graph: the network.
        parameters: its arrays by name.
        preprocessing: the input that the network expects.
        temperature: divides the logits.

    Returns:
        An `openvino.Model` from one RGB image, uint8 (1, size, size, 3), to its probabilities (1, classes) and features
        (1, channels), float32.
    """
    weights = fold_batch_norm(graph, parameters)
    first, *rest = graph.ops
    height, width, channels = first.output_shape
    image = opset.parameter([1, channels, height, width], np.float32, name=first.name)
    nodes: dict[str, Node] = {first.name: image}
    for op in rest:
        nodes[op.name] = NODES[op.kind](op, weights, *(nodes[name] for name in op.inputs))
    logits = nodes[rest[-1].name]
    probabilities = opset.softmax(opset.divide(logits, np.float32(temperature)), axis=1)
    outputs = {"probabilities": probabilities.output(0), "features": nodes[graph.features_op].output(0)}
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


def write(path: Path, parameters: Parameters, metadata: Metadata) -> None:
    """Write the network as OpenVINO IR, from `images` to `probabilities`, with the metadata as runtime info.

    Args:
        path: the `.xml` to write; the arrays are in a `.bin` next to it.
        parameters: the network's arrays by name.
        metadata: the metadata.

    Raises:
        OSError: a file cannot be written.
    """
    graph = resnet(metadata.architecture)
    network = to_openvino(graph, parameters, metadata.preprocessing, metadata.temperature)
    network.input().set_names({"images"})
    network.remove_result(network.output("features").get_node())
    network.set_rt_info(metadata.to_json(), METADATA_KEY)
    try:
        openvino.save_model(network, path, compress_to_fp16=False)
    except RuntimeError as error:
        raise OSError(f"OpenVINO failed: {error}; the disk may be full") from error


def predict_file(path: Path, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the probabilities (1, classes) that an `.xml` file computes for an RGB image (1, size, size, 3)."""
    core = openvino.Core()
    compiled = core.compile_model(core.read_model(path), "CPU", {"INFERENCE_PRECISION_HINT": HINTS[Precision.F32]})
    return np.asarray(compiled(images)[0])


class OpenVINOEngine(Engine):
    """Runs a compiled network, which is cached for the next run."""

    def __init__(self, model: ModelFile, options: EngineOptions, progress: Progress) -> None:
        with _engine_errors():
            core = openvino.Core()
            self.precision = _usable_precision(core, options.precision, progress)
            config = {
                "INFERENCE_PRECISION_HINT": HINTS[self.precision],  # otherwise some processors compute in bfloat16
                "PERFORMANCE_HINT": "THROUGHPUT" if options.throughput else "LATENCY",
            }
            self._compiled = _load_or_compile(core, config, model, self.precision, options, progress)
            self._shapes = [tuple(output.shape)[1:] for output in self._compiled.outputs]
            self._queue = openvino.AsyncInferQueue(self._compiled)
            self._lock = threading.RLock()  # the queue has one callback for all its requests
            # At exit, the main thread waits for a running batch and prevents others: a daemon thread that returns from
            # OpenVINO while the interpreter shuts down would abort the process.
            atexit.register(self._lock.acquire)

    def embed(self, images: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Classify images in parallel, one request per image; see `Engine`."""
        probabilities, features = (np.empty((len(images), *shape), np.float32) for shape in self._shapes)

        def keep(request: Any, index: int) -> None:
            probabilities[index] = request.get_output_tensor(0).data[0]
            features[index] = request.get_output_tensor(1).data[0]

        with self._lock:
            self._queue.set_callback(keep)
            try:
                for index in range(len(images)):
                    self._queue.start_async(images[index : index + 1], userdata=index, share_inputs=True)
            finally:
                self._queue.wait_all()
        return probabilities, features


def _load_or_compile(
    core: Any,
    config: dict[str, str],
    model: ModelFile,
    precision: Precision,
    options: EngineOptions,
    progress: Progress,
) -> Any:
    """Return the compiled network from the cache, or compile and cache it."""
    key = {
        "weights": model.digest,
        "metadata": _cache_key(model.metadata),
        "precision": precision,
        "calibrated_on": options.calibration_key if precision is Precision.INT8 else None,
        "openvino": openvino.get_version(),
        "processor": [core.get_property("CPU", name) for name in ("FULL_DEVICE_NAME", "OPTIMIZATION_CAPABILITIES")],
        "layout": CACHE_VERSION,
    }
    if found := cache_folder.find_compiled(key):
        progress.report(f"Reading {found}")
        with contextlib.suppress(RuntimeError):
            return core.import_model(openvino.tensor_from_file(found), "CPU", config)
        with contextlib.suppress(OSError):
            found.unlink()  # otherwise the next start would find it again
    progress.report(f"Compiling {model.metadata.architecture.name} for {precision}")
    network = to_openvino(model.graph, model.parameters, model.metadata.preprocessing, model.metadata.temperature)
    if precision is Precision.INT8:
        network = _quantise(network, options, model.metadata)
    compiled = core.compile_model(network, "CPU", config)
    content = io.BytesIO()
    compiled.export_model(content)
    try:
        progress.report(f"Cached as {cache_folder.save_compiled(key, content.getvalue())}")
    except (OSError, UsageError) as error:
        progress.warn(f"cannot cache the compiled network, so every start will be slower: {error}")
    return compiled


def _cache_key(metadata: Metadata) -> list[object]:
    """Return the metadata that the compiled network depends on."""
    return [metadata.architecture.to_dict(), metadata.preprocessing.to_dict(), metadata.temperature]


def _usable_precision(core: Any, precision: Precision, progress: Progress) -> Precision:
    if precision is Precision.BF16 and not _is_faster(core, "bf16"):
        progress.warn("bf16 is not faster than f32 on this processor; using f32")
        return Precision.F32
    return precision


def _is_faster(core: Any, hint: str) -> bool:
    """Time a convolution to tell whether a precision is faster than f32; some processors only emulate it."""
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


def _quantise(network: Any, options: EngineOptions, metadata: Metadata) -> Any:
    """Quantise a network to 8-bit integers (Jacob et al. 2017) with NNCF, without training."""
    try:
        import nncf
    except ImportError as error:
        raise ModelError("int8 needs NNCF: pip install 'resnet-cli[int8]'") from error
    images = options.calibration(metadata) if options.calibration else np.empty(0)
    if not len(images):
        raise UsageError("int8 needs images for calibration; add --calibrate IMAGE")
    with contextlib.redirect_stdout(io.StringIO()):  # NNCF draws its progress on stdout
        nncf.set_log_level("ERROR")
        data = nncf.Dataset(list(images), lambda image: image[None])
        return nncf.quantize(network, data, subset_size=len(images))


@contextlib.contextmanager
def _engine_errors() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        raise EngineError(str(error)) from error
