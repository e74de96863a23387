"""All engines on every kind of block, against a forward pass in plain NumPy."""

import itertools
from pathlib import Path

import networks
import numpy as np
import numpy_resnet
import pytest

from resnet_cli.engines import keras_engine
from resnet_cli.engines.engine import ENGINES
from resnet_cli.network import graph, variants

KINDS = [
    (variant, block)
    for variant, block in itertools.product(variants.VARIANTS, variants.BLOCKS)
    if block != "basic" or "group_width" not in variants.VARIANTS[variant].block  # a basic block has no groups
]

# Blocks per stage: the stages have 18, 9 and 5 pixels, so one of the pooled shortcuts meets an edge.
STAGES, IMAGE_SIZE = (1, 2, 1), 70

# As the publishers of the weights preprocess pixels (keras.applications, torchvision).
PREPROCESS: dict[str, networks.Preprocess] = {
    "v1": lambda pixels: pixels[..., ::-1] - np.array([103.939, 116.779, 123.68]),
    "v2": lambda pixels: pixels / 127.5 - 1,
    "others": lambda pixels: (pixels / 255 - np.array([0.485, 0.456, 0.406])) / np.array([0.229, 0.224, 0.225]),
}


@pytest.mark.parametrize(("variant", "block"), KINDS)
def test_same_probabilities_as_plain_numpy(variant: str, block: str, tmp_path: Path) -> None:
    """Width 32 gives the narrowest groups two channels."""
    options = {"stages": STAGES, "width": 32, "classes": 10, "image_size": IMAGE_SIZE}
    network = graph.network(variant=variant, block=block, **options)
    preprocess = PREPROCESS.get(variant, PREPROCESS["others"])
    pixels = np.random.default_rng(2).integers(0, 256, (3, IMAGE_SIZE, IMAGE_SIZE, 3), dtype=np.uint8)
    shapes = {name: parameter.shape for name, parameter in network.parameters.items()}
    parameters = numpy_resnet.plausible_weights(shapes, variant, preprocess(pixels), STAGES)
    expected = numpy_resnet.ResNet(parameters, variant).probabilities(preprocess(pixels), STAGES)
    assert expected.std(axis=0).max() > 1e-3, "the oracle's predictions are the same for all images"
    for engine in ENGINES:
        predicted = networks.start(engine, network, parameters, tmp_path, throughput=False).predict(pixels)
        difference = np.abs(predicted - expected).max()
        print(f"{variant}, {block}, {engine}: largest probability difference {difference:.1e}")
        np.testing.assert_allclose(predicted, expected, atol=1e-5)


@pytest.mark.parametrize("engine", ENGINES)
def test_predictions_do_not_depend_on_the_batch(engine: str, tmp_path: Path) -> None:
    """With more images than a batch of the Keras engine has, and with fewer."""
    network = graph.network(stages=(1, 1), width=16, classes=10, image_size=64)
    parameters = keras_engine.arrays(networks.plausible(keras_engine.to_keras(network)))
    running = networks.start(engine, network, parameters, tmp_path)
    images = np.random.default_rng(3).integers(0, 256, (keras_engine.BATCH_SIZE + 8, 64, 64, 3), dtype=np.uint8)
    predicted = running.predict(images)
    assert predicted.std(axis=0).max() > 1e-3
    for part in (slice(1), slice(3, 10), slice(keras_engine.BATCH_SIZE + 7, None)):
        np.testing.assert_array_equal(predicted[part], running.predict(images[part]))
