"""The Keras and OpenVINO readings against keras.applications."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from math import prod
from pathlib import Path
from typing import Any

import keras
import networks
import numpy as np
import pytest
from numpy.typing import NDArray

from resnet_cli import architecture, checkpoints, engines, graph, images, keras_model, models, terminal
from resnet_cli.pretrained import CAFFE, INCEPTION, Fit, Preprocessing

# How an engine makes batches does not depend on the network; where it is not tested, images are computed one by one.
BATCHES = {"resnet50": (1, 7, 32)}

TOLERANCES = {"keras": 1e-5, "openvino": 1e-4}  # of probabilities


@dataclass
class Case:
    """One network: Keras's own with plausible weights, its answers, the files of its weights, and our reading."""

    name: str
    theirs: keras.Model
    probabilities: NDArray[np.float32]
    files: dict[str, Path]
    model: models.Model
    engine: keras_model.KerasEngine


@pytest.fixture(scope="module", params=networks.APPLICATIONS)
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    name = request.param
    keras.utils.clear_session()  # Keras numbers the input layers of a session
    folder = tmp_path_factory.mktemp(name)
    make, preprocess = networks.APPLICATIONS[name]
    theirs = networks.plausible(make(weights=None), preprocess=preprocess)
    theirs.save_weights(folder / "theirs.weights.h5")
    files = {
        "legacy": networks.write_legacy(theirs, folder / "theirs.h5"),
        "weights.h5": folder / "theirs.weights.h5",
    }
    pictures = preprocess(_pictures().astype("float32"))
    probabilities = theirs.predict(pictures, batch_size=1, verbose=0)  # how Keras adds up may depend on the batch
    keras.utils.clear_session()
    network = graph.resnet(architecture.resnet(name=name))
    read = partial(checkpoints.read, files["legacy"])
    model = models.Model(network, models.default_metadata(network.architecture), name, files["legacy"], read)
    with terminal.Activity("") as activity:
        engine = keras_model.KerasEngine(model, _setup(name), activity)
    return Case(name, theirs, probabilities, files, model, engine)


def _setup(name: str) -> engines.Setup:
    return engines.Setup(many=name in BATCHES)


def _pictures() -> NDArray[np.uint8]:
    """Random pixels and real photographs."""
    random = np.random.default_rng(1).integers(0, 256, (4, 224, 224, 3), dtype=np.uint8)
    photos = sorted((Path(__file__).parents[1] / "sample_images").glob("*.jpg"))
    return np.concatenate([random, [images.decode(photo, 224, Fit.CROP) for photo in photos]])


def _layers(model: keras.Model) -> Iterator[tuple[Any, ...]]:
    """Describe layers; Keras's v2 pads each 3x3 convolution in a layer of its own, and leaves 1x1 poolings unnamed."""
    for layer in model.layers:
        if not layer.name.endswith("_2_pad"):
            name = "" if getattr(layer, "pool_size", None) == (1, 1) else layer.name
            yield name, layer.output.shape, layer.count_params()


def test_layers_are_those_of_keras_applications(case: Case) -> None:
    assert list(_layers(case.engine.model)) == list(_layers(case.theirs))


def test_graph_says_what_keras_builds(case: Case) -> None:
    assert [op.name for op in case.model.graph.ops] == [layer.name for layer in case.engine.model.layers]
    layers = {layer.name: layer for layer in case.theirs.layers}
    for op in case.model.graph.ops:
        assert case.engine.model.get_layer(op.name).output.shape[1:] == op.output_shape
        if op.parameters:
            layer = layers[op.name]
            assert [variable.shape for variable in layer.weights] == [p.shape for p in op.parameters]
            assert {v.path for v in layer.trainable_weights} == {p.name for p in op.parameters if p.trainable}
    kernels = [layer for layer in case.theirs.layers if hasattr(layer, "kernel")]
    macs = sum(prod(layer.kernel.shape) * prod(layer.output.shape[1:-1]) for layer in kernels)
    assert case.model.graph.totals.macs == macs


@pytest.mark.parametrize("layout", ["legacy", "weights.h5"])
def test_weights_of_keras_applications_are_read(case: Case, layout: str) -> None:
    with terminal.Activity("") as activity:
        read = models.load(str(case.files[layout]), {"name": case.name, "image_size": 224}, activity)
    assert read.metadata == case.model.metadata
    parameters = read.parameters
    for name, theirs in keras_model.arrays(case.theirs).items():
        np.testing.assert_array_equal(parameters[name], theirs)
    assert len(parameters) == len(case.theirs.weights)


@pytest.mark.parametrize("engine", engines.ENGINES)
def test_same_probabilities_as_keras_applications(case: Case, engine: str) -> None:
    computing = case.engine
    if engine != "keras":
        with terminal.Activity("") as activity:
            computing = engines.start(engine, case.model, _setup(case.name), activity)
    assert case.probabilities.std(axis=0).max() > 1e-2, "the oracle gives all images the same answer"
    for batch_size in BATCHES.get(case.name, (7,)):
        pictures = np.resize(_pictures(), (batch_size, 224, 224, 3))
        theirs = np.resize(case.probabilities, (batch_size, 1000))
        difference = np.abs(computing.predict(pictures) - theirs).max()
        print(f"{case.name}, {engine}, batch of {batch_size}: largest difference of probability {difference:.1e}")
        assert difference < TOLERANCES[engine]


def test_our_weights_load_into_keras_applications(case: Case, tmp_path: Path) -> None:
    case.engine.model.save_weights(tmp_path / "ours.weights.h5")
    expected = keras_model.arrays(case.theirs)
    for variable in case.theirs.variables:
        variable.assign(keras.ops.zeros_like(variable))
    case.theirs.load_weights(tmp_path / "ours.weights.h5")
    for name, array in keras_model.arrays(case.theirs).items():
        np.testing.assert_array_equal(array, expected[name])


@pytest.mark.parametrize(
    ("name", "preprocessing", "tolerance"), [("resnet50", CAFFE, 0), ("resnet50v2", INCEPTION, 1e-7)]
)
def test_preprocessing_is_that_of_keras(name: str, preprocessing: Preprocessing, tolerance: float) -> None:
    every_value = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)
    pixels = np.concatenate([every_value, every_value[:, ::-1], every_value[:, :, ::-1]], axis=-1)
    theirs = networks.APPLICATIONS[name][1](pixels.astype("float32"))
    np.testing.assert_allclose(keras_model.preprocess(pixels, preprocessing), theirs, rtol=0, atol=tolerance)
