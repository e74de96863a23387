"""The network, its engines and its weights files against keras.applications.

Networks of all depths are compared layer by layer; ResNet-50 and ResNet-50 V2 also by their predictions. More layers of
the same kinds add nothing to compute, and `test_engines.py` covers all kinds.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from math import prod
from pathlib import Path
from typing import Any

import keras
import networks
import numpy as np
import openvino
import pytest
from conftest import Run
from numpy.typing import NDArray
from PIL import Image

from resnet_cli.engines import keras_engine
from resnet_cli.engines.engine import ENGINES, start_engine
from resnet_cli.images import decode
from resnet_cli.network import graph
from resnet_cli.network.architecture import NetworkOptions
from resnet_cli.network.graph import Graph
from resnet_cli.network.labels import imagenet
from resnet_cli.network.preprocessing import CAFFE, INCEPTION, Decoding, Preprocessing
from resnet_cli.weights import checkpoint
from resnet_cli.weights.model import ModelFile, default_metadata, load_model

SAMPLES = Path(__file__).parents[1] / "sample_images"
COMPUTED = ("resnet50", "resnet50v2")  # networks whose predictions are compared
TOLERANCES = {"keras": 1e-5, "openvino": 1e-4}  # of probabilities


@dataclass
class Case:
    """A network of Keras with plausible weights, its predictions, the files of its weights, and the same model here."""

    name: str
    theirs: keras.Model
    probabilities: NDArray[np.float32]
    files: dict[str, Path]
    model: ModelFile
    engine: keras_engine.KerasEngine


@pytest.fixture(scope="module", params=COMPUTED)
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    name = request.param
    keras.utils.clear_session()  # Keras numbers the input layers of a session
    folder = tmp_path_factory.mktemp(name)
    build, preprocess = networks.APPLICATIONS[name]
    theirs = networks.plausible(build(weights=None), preprocess=preprocess)
    theirs.save_weights(folder / "theirs.weights.h5")
    files = {
        "legacy": networks.write_legacy(theirs, folder / "theirs.h5"),
        "weights.h5": folder / "theirs.weights.h5",
    }
    images = preprocess(_images().astype("float32"))
    probabilities = theirs.predict(images, batch_size=1, verbose=0)  # the batch size can affect how Keras rounds
    keras.utils.clear_session()
    network = graph.network(name=name)
    read = partial(checkpoint.read, files["legacy"])
    model = ModelFile(network, default_metadata(network.architecture), name, files["legacy"], read)
    engine = start_engine("keras", model)
    assert isinstance(engine, keras_engine.KerasEngine)
    return Case(name, theirs, probabilities, files, model, engine)


def _images() -> NDArray[np.uint8]:
    """Return three images of random pixels and four photos."""
    random = np.random.default_rng(1).integers(0, 256, (3, 224, 224, 3), dtype=np.uint8)
    photos = [decode.decode_file(photo, Decoding(224)) for photo in sorted(SAMPLES.glob("*.jpg"))]
    return np.concatenate([random, photos])


@dataclass(frozen=True)
class Layer:
    """What is compared of a layer.

    Keras's v2 pads 3x3 convolutions in separate layers and does not name its 1x1 poolings; both are left out here.
    """

    name: str
    kind: str
    inputs: tuple[str, ...]
    output_shape: tuple[int, ...]
    settings: dict[str, object]
    parameters: tuple[tuple[str, tuple[int, ...], bool], ...]


def _is_v2_padding(name: str) -> bool:
    return name.endswith("_2_pad")


def _layers_of_keras(model: keras.Model) -> Iterator[Layer]:
    names: dict[str, str] = {}
    for layer in model.layers:
        inputs = [
            tensor._keras_history.operation.name for node in layer._inbound_nodes for tensor in node.input_tensors
        ]
        kind = type(layer).__name__
        settings: dict[str, object] = {}
        match layer:
            case keras.layers.Activation():
                assert layer.activation is keras.activations.relu
                kind = "ReLU"
            case keras.layers.Conv2D():
                settings = {"strides": layer.strides, "groups": layer.groups}
            case keras.layers.MaxPooling2D():
                settings = {"strides": layer.strides, "pool": layer.pool_size}
            case keras.layers.BatchNormalization():
                settings = {"epsilon": layer.epsilon}
            case keras.layers.ZeroPadding2D():
                settings = {"padding": layer.padding}
            case keras.layers.Dense():
                assert layer.activation is keras.activations.softmax
        if _is_v2_padding(layer.name):
            names[layer.name] = names[inputs[0]]
            continue
        names[layer.name] = "" if settings.get("pool") == (1, 1) else layer.name
        trainable = {variable.path for variable in layer.trainable_weights}
        parameters = tuple((each.path, tuple(each.shape), each.path in trainable) for each in layer.weights)
        shape = tuple(layer.output.shape[1:])
        yield Layer(names[layer.name], kind, tuple(names[name] for name in inputs), shape, settings, parameters)


def _layers_of_graph(network: Graph) -> Iterator[Layer]:
    names: dict[str, str] = {}
    for op in network.ops:
        fields: dict[str, Any] = vars(op)
        settings: dict[str, object] = {}
        match op.kind:
            case "Conv2D":
                settings = {"strides": (fields["stride"],) * 2, "groups": fields["groups"]}
            case "MaxPooling2D":
                settings = {"strides": (fields["stride"],) * 2, "pool": (fields["pool_size"],) * 2}
            case "BatchNormalization":
                settings = {"epsilon": fields["epsilon"]}
            case "ZeroPadding2D":
                settings = {"padding": ((fields["padding"],) * 2,) * 2}
        if _is_v2_padding(op.name):
            names[op.name] = names[op.inputs[0]]
            continue
        names[op.name] = "" if settings.get("pool") == (1, 1) else op.name
        parameters = tuple((each.name, each.shape, each.trainable) for each in op.parameters)
        inputs = tuple(names[name] for name in op.inputs)
        yield Layer(names[op.name], op.kind, inputs, op.output_shape, settings, parameters)


def _check_layers(network: Graph, theirs: keras.Model) -> None:
    assert list(_layers_of_graph(network)) == list(_layers_of_keras(theirs))
    assert network.totals.parameters == theirs.count_params()
    assert network.totals.trainable == sum(prod(variable.shape) for variable in theirs.trainable_weights)
    kernels = [layer for layer in theirs.layers if hasattr(layer, "kernel")]
    macs = sum(prod(layer.kernel.shape) * prod(layer.output.shape[1:-1]) for layer in kernels)
    assert network.totals.macs == macs


def test_layers_are_those_of_keras_applications(case: Case) -> None:
    _check_layers(case.model.graph, case.theirs)


@pytest.mark.parametrize("name", [name for name in networks.APPLICATIONS if name not in COMPUTED])
def test_layers_of_deeper_networks_are_those_of_keras_applications(name: str) -> None:
    keras.utils.clear_session()
    _check_layers(graph.network(name=name), networks.APPLICATIONS[name][0](weights=None))


def test_keras_builds_the_layers_of_the_graph(case: Case) -> None:
    layers = case.engine.model.layers
    assert [layer.name for layer in layers] == [op.name for op in case.model.graph.ops]
    for layer, op in zip(layers, case.model.graph.ops, strict=True):
        assert type(layer).__name__ == op.kind
        assert layer.output.shape[1:] == op.output_shape
        assert [(each.path, each.shape) for each in layer.weights] == [
            (each.name, each.shape) for each in op.parameters
        ]


@pytest.mark.parametrize("layout", ["legacy", "weights.h5"])
def test_weights_of_keras_applications_are_read(case: Case, layout: str) -> None:
    read = load_model(str(case.files[layout]), NetworkOptions(name=case.name, image_size=224))
    assert read.metadata == case.model.metadata
    parameters = read.parameters
    for name, theirs in keras_engine.arrays(case.theirs).items():
        np.testing.assert_array_equal(parameters[name], theirs)
    assert len(parameters) == len(case.theirs.weights)


@pytest.mark.parametrize("engine", ENGINES)
def test_same_probabilities_as_keras_applications(case: Case, engine: str) -> None:
    """A batch of 7 images and one of 1; `test_engines.py` has batches of all sizes, which the network cannot affect."""
    running = case.engine if engine == "keras" else start_engine(engine, case.model)
    assert case.probabilities.std(axis=0).max() > 1e-2, "the oracle's predictions are the same for all images"
    images = _images()
    for part in (slice(None), slice(2, 3)):
        difference = np.abs(running.predict(images[part]) - case.probabilities[part]).max()
        print(f"{case.name}, {engine}: largest probability difference {difference:.1e}")
        assert difference < TOLERANCES[engine]


def test_weights_load_into_keras_applications(case: Case, tmp_path: Path) -> None:
    """Each network in one of the two layouts, which are written without regard to the network."""
    if case.name == "resnet50":
        path = tmp_path / "ours.h5"
        checkpoint.write_legacy_h5(path, case.model.parameters, case.model.metadata)
    else:
        path = tmp_path / "ours.weights.h5"
        case.engine.model.save_weights(path)
    expected = keras_engine.arrays(case.theirs)
    for variable in case.theirs.variables:
        variable.assign(keras.ops.zeros_like(variable))
    case.theirs.load_weights(path)
    for name, array in keras_engine.arrays(case.theirs).items():
        np.testing.assert_array_equal(array, expected[name])


@pytest.mark.parametrize("case", ["resnet50"], indirect=True)
def test_resnet50_is_converted_by_the_command(resnet: Run, case: Case, tmp_path: Path) -> None:
    photo = Image.open(SAMPLES / "coffee.jpg").resize((224, 224))
    photo.save(tmp_path / "photo.png")
    pixels = np.asarray(photo)[None]
    expected = case.theirs.predict_on_batch(keras.applications.resnet.preprocess_input(pixels.astype(np.float32)))
    source, out = case.files["legacy"], tmp_path / "out.xml"
    converted = resnet("convert", source, out, "--depth", 50, "--image", tmp_path / "photo.png", "--format", "json")
    assert (converted.returncode, converted.stderr) == (0, "")
    found = openvino.compile_model(out, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})(pixels)[0]
    np.testing.assert_allclose(found, expected, atol=1e-5)
    printed = json.loads(converted.stdout)
    label = imagenet()[expected.argmax()].display
    assert (printed["top_label"], printed["source_top_label"]) == (label, label)


@pytest.mark.parametrize(
    ("name", "preprocessing", "tolerance"), [("resnet50", CAFFE, 0), ("resnet50v2", INCEPTION, 1e-7)]
)
def test_preprocessing_is_that_of_keras(name: str, preprocessing: Preprocessing, tolerance: float) -> None:
    every_value = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)
    pixels = np.concatenate([every_value, every_value[:, ::-1], every_value[:, :, ::-1]], axis=-1)
    expected = networks.APPLICATIONS[name][1](pixels.astype("float32"))
    np.testing.assert_allclose(keras_engine.preprocess(pixels, preprocessing), expected, rtol=0, atol=tolerance)
