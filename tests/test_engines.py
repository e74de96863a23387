"""All engines on blocks of all kinds, against a forward pass in plain NumPy."""

import itertools
from pathlib import Path

import networks
import numpy as np
import numpy_resnet
import pytest

from resnet_cli import architecture, engines, graph, keras_model


def _tiny(variant: str, block: str) -> graph.Graph:
    """Two channels a group; of the poolings of shortcuts, one meets an edge: the stages see 18, 9 and 5 pixels."""
    options = {"stages": (1, 2, 2), "width": 32, "classes": 10, "image_size": 70}
    return graph.resnet(architecture.resnet(variant=variant, block=block, **options))


KINDS = [
    (variant, block)
    for variant, block in itertools.product(architecture.VARIANTS, architecture.BLOCKS)
    if block != "basic" or "group_width" not in architecture.VARIANTS[variant].block  # a basic block has no groups
]

# As the publishers of the weights do it (keras.applications, torchvision).
PREPROCESS: dict[str, networks.Preprocess] = {
    "v1": lambda pixels: pixels[..., ::-1] - np.array([103.939, 116.779, 123.68]),
    "v2": lambda pixels: pixels / 127.5 - 1,
    "others": lambda pixels: (pixels / 255 - np.array([0.485, 0.456, 0.406])) / np.array([0.229, 0.224, 0.225]),
}


@pytest.mark.parametrize(("variant", "block"), KINDS)
def test_same_probabilities_as_plain_numpy(variant: str, block: str, tmp_path: Path) -> None:
    network, preprocess = _tiny(variant, block), PREPROCESS.get(variant, PREPROCESS["others"])
    model = networks.plausible(keras_model.build(network), preprocess=preprocess)
    parameters = keras_model.arrays(model)
    pixels = np.random.default_rng(2).integers(0, 256, (3, 70, 70, 3), dtype=np.uint8)
    theirs = numpy_resnet.ResNet(parameters, variant).probabilities(preprocess(pixels), (1, 2, 2))
    assert theirs.std(axis=0).max() > 1e-3, "the oracle gives all images the same answer"
    for engine in engines.ENGINES:
        ours = networks.start(engine, network, parameters, tmp_path).predict(pixels)
        print(f"{variant}, {block}, {engine}: largest difference of probability {np.abs(ours - theirs).max():.1e}")
        np.testing.assert_allclose(ours, theirs, atol=1e-5)
