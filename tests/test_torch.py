"""Networks and preprocessing against timm's."""

import importlib.util
import multiprocessing
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from pathlib import Path

import networks
import numpy as np
import pytest
import timm_networks
from PIL import Image

from resnet_cli.engines import keras_engine
from resnet_cli.engines.engine import ENGINES, start_engine
from resnet_cli.images import decode
from resnet_cli.network import variants
from resnet_cli.network.layers import Totals
from resnet_cli.network.preprocessing import Decoding
from resnet_cli.weights.model import load_model
from resnet_cli.weights.published import PRETRAINED

if importlib.util.find_spec("timm") is None:
    pytest.skip("needs pip install 'resnet-cli[torch]'", allow_module_level=True)

pytestmark = pytest.mark.torch

SAMPLES = sorted((Path(__file__).parents[1] / "sample_images").glob("*.jpg"))


@pytest.fixture(scope="module")
def process() -> Iterator[Executor]:
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as executor:
        yield executor


@pytest.mark.parametrize("name", [name for name in variants.NETWORKS if name not in networks.APPLICATIONS])
def test_same_network_as_timm(name: str, process: Executor, tmp_path: Path) -> None:
    """A file with PyTorch's names does not specify its network, which its arrays determine."""
    path = tmp_path / "weights.safetensors"
    size = next((row.image_size for row in PRETRAINED.values() if row.network == name), 224)
    images = np.stack([decode.decode_file(photo, Decoding(size)) for photo in SAMPLES[:2]])
    theirs = process.submit(timm_networks.run, name.removesuffix("v1.5"), images, path).result()
    assert theirs.probabilities.std(axis=0).max() > 1e-2, "the oracle's predictions are the same for all images"
    ours = load_model(str(path))
    assert ours.metadata.architecture == variants.describe(name=name, image_size=size)
    totals = ours.graph.totals
    assert totals == Totals(theirs.trainable + theirs.statistics, theirs.trainable, theirs.macs)
    for engine in ENGINES:
        predicted = start_engine(engine, ours).predict(images)
        difference = np.abs(predicted - theirs.probabilities).max()
        print(f"{name}, {engine}: largest probability difference {difference:.1e}, {totals} at {size} pixels")
        assert difference < 1e-4
    path.unlink()  # up to half a gigabyte


def _images() -> list[Image.Image]:
    """Return photos, and noise with sides that are odd, small, long, or one pixel off a network's input size."""
    rng = np.random.default_rng(4)
    sides = [(333, 500), (500, 333), (517, 389), (225, 224), (288, 289), (97, 61), (231, 233), (300, 1201)]
    noise = [Image.fromarray(rng.integers(0, 256, (*shape, 3), dtype=np.uint8)) for shape in sides]
    return [*map(Image.open, SAMPLES), *noise]


@pytest.mark.parametrize("name", [row.name for row in PRETRAINED.values() if row.repository])
def test_same_pixels_as_timm(name: str, process: Executor, tmp_path: Path) -> None:
    row = PRETRAINED[name]
    paths = []
    for index, image in enumerate(_images()):
        paths.append(tmp_path / f"{index}.png")
        image.save(paths[-1], icc_profile=None)  # timm reads colours as they are stored
    theirs = process.submit(timm_networks.pixels, name, row.image_size, paths).result()
    for path, (raw, normal) in zip(paths, theirs, strict=True):
        ours = decode.decode_file(path, Decoding(row.image_size, resizing=row.preprocessing.resizing))
        np.testing.assert_array_equal(ours, raw)
        np.testing.assert_allclose(keras_engine.preprocess(ours, row.preprocessing), normal, rtol=0, atol=1e-5)
