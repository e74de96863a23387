"""The Keras and OpenVINO readings against keras.applications and against a forward pass in plain NumPy."""

from dataclasses import dataclass
from pathlib import Path

import keras
import networks
import numpy as np
import numpy_resnet
import pytest
from numpy.typing import NDArray

from resnet_cli import architecture, checkpoints, engines, graph, images, keras_model, models, terminal
from resnet_cli.pretrained import CAFFE, Fit


@dataclass
class Case:
    """One depth: Keras's own network with plausible weights, its answers, and the files that hold the weights."""

    depth: int
    theirs: keras.Model
    probabilities: NDArray[np.float32]
    files: dict[str, Path]


@pytest.fixture(scope="module", params=networks.APPLICATIONS)
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    depth = request.param
    keras.utils.clear_session()  # Keras numbers the input layers of a session
    folder = tmp_path_factory.mktemp(f"resnet{depth}")
    theirs = networks.plausible(networks.APPLICATIONS[depth](weights=None))
    theirs.save_weights(folder / "theirs.weights.h5")
    files = {
        "legacy": networks.write_legacy(theirs, folder / "theirs.h5"),
        "weights.h5": folder / "theirs.weights.h5",
    }
    pictures = keras.applications.resnet.preprocess_input(_pictures().astype("float32"))
    return Case(depth, theirs, theirs.predict_on_batch(pictures), files)


def _network(depth: int) -> graph.Graph:
    return graph.resnet(architecture.resnet(depth))


def _pictures() -> NDArray[np.uint8]:
    """Random pixels and real photographs."""
    random = np.random.default_rng(1).integers(0, 256, (4, 224, 224, 3), dtype=np.uint8)
    photos = sorted((Path(__file__).parents[1] / "sample_images").glob("*.jpg"))
    return np.concatenate([random, [images.decode(photo, 224, Fit.CROP) for photo in photos]])


def test_layers_are_those_of_keras_applications(case: Case) -> None:
    ours = keras_model.build(_network(case.depth))
    assert [layer.name for layer in ours.layers] == [layer.name for layer in case.theirs.layers]
    assert [layer.output.shape for layer in ours.layers] == [layer.output.shape for layer in case.theirs.layers]
    assert [layer.count_params() for layer in ours.layers] == [layer.count_params() for layer in case.theirs.layers]


def test_graph_says_what_keras_builds(case: Case) -> None:
    layers = {layer.name: layer for layer in case.theirs.layers}
    for op in _network(case.depth).ops:
        assert layers[op.name].output.shape[1:] == op.output_shape
        assert [variable.shape for variable in layers[op.name].weights] == [p.shape for p in op.parameters]
        trainable = {variable.path for variable in layers[op.name].trainable_weights}
        assert trainable == {p.name for p in op.parameters if p.trainable}
    assert [op.name for op in _network(case.depth).ops] == list(layers)


@pytest.mark.parametrize("layout", ["legacy", "weights.h5"])
def test_same_probabilities_as_keras_applications(case: Case, layout: str) -> None:
    _agrees("keras", case, layout, 1e-5)


def test_compiled_network_gives_the_same_probabilities(case: Case) -> None:
    _agrees("openvino", case, "legacy", 1e-4)


def _agrees(engine: str, case: Case, layout: str, tolerance: float) -> None:
    with terminal.Activity("") as activity:
        model = models.load(str(case.files[layout]), {"depth": case.depth}, activity)
        computing = engines.start(engine, model, engines.Setup(many=True), activity)
    assert case.probabilities.std(axis=0).max() > 1e-2, "the oracle gives all images the same answer"
    for batch_size in (1, 7, 32):
        pictures = np.resize(_pictures(), (batch_size, 224, 224, 3))
        theirs = np.resize(case.probabilities, (batch_size, 1000))
        difference = np.abs(computing.predict(pictures) - theirs).max()
        print(f"{engine}, batch of {batch_size}: largest difference of probability {difference:.1e}")
        assert difference < tolerance


def test_our_weights_load_into_keras_applications(case: Case, tmp_path: Path) -> None:
    network = _network(case.depth)
    parameters = checkpoints.read(case.files["legacy"]).parameters(network)
    keras_model.build(network, parameters).save_weights(tmp_path / "ours.weights.h5")
    fresh = networks.APPLICATIONS[case.depth](weights=None)
    fresh.load_weights(tmp_path / "ours.weights.h5")
    for ours, theirs in zip(fresh.weights, case.theirs.weights, strict=True):
        np.testing.assert_array_equal(keras.ops.convert_to_numpy(ours), keras.ops.convert_to_numpy(theirs))


@pytest.mark.parametrize("engine", engines.ENGINES)
@pytest.mark.parametrize("variant", architecture.VARIANTS)
def test_same_probabilities_as_plain_numpy(variant: str, engine: str, tmp_path: Path) -> None:
    network = graph.resnet(
        architecture.resnet(stages=(1, 1, 1, 1), width=8, classes=10, image_size=64, variant=variant)
    )
    model = networks.plausible(keras_model.build(network))
    pixels = np.random.default_rng(2).integers(0, 256, (3, 64, 64, 3), dtype=np.uint8)
    parameters = keras_model.arrays(model)
    ours = networks.start(engine, network, parameters, tmp_path).predict(pixels)
    caffe = pixels[..., ::-1] - np.array([103.939, 116.779, 123.68])
    theirs = numpy_resnet.forward(parameters, caffe, (1, 1, 1, 1), v15=variant == "v1.5")
    assert theirs.std(axis=0).max() > 1e-3
    np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_preprocessing_is_bit_for_bit_that_of_keras() -> None:
    every_value = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)
    pixels = np.concatenate([every_value, every_value[:, ::-1], every_value[:, :, ::-1]], axis=-1)
    theirs = keras.applications.resnet.preprocess_input(pixels.astype("float32"))
    np.testing.assert_array_equal(keras_model.preprocess(pixels, CAFFE), theirs)
