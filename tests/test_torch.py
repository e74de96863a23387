"""The networks of timm against ours, and its preprocessing against ours."""

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

from resnet_cli import architecture, engines, images, keras_model, models, terminal
from resnet_cli.ops import Totals
from resnet_cli.pretrained import PRETRAINED, Fit

if importlib.util.find_spec("timm") is None:
    pytest.skip("needs pip install 'resnet-cli[torch]'", allow_module_level=True)

pytestmark = pytest.mark.torch

SAMPLES = sorted((Path(__file__).parents[1] / "sample_images").glob("*.jpg"))


@pytest.fixture(scope="module")
def process() -> Iterator[Executor]:
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as executor:
        yield executor


@pytest.mark.parametrize("name", [name for name in architecture.NETWORKS if name not in networks.APPLICATIONS])
def test_same_network_as_timm(name: str, process: Executor, tmp_path: Path) -> None:
    """A file with PyTorch's names says nothing of itself: the network is told by its arrays."""
    path = tmp_path / "weights.safetensors"
    size = next((row.image_size for row in PRETRAINED.values() if row.network == name), 224)
    pictures = np.stack([images.decode(photo, size, Fit.CROP) for photo in SAMPLES[:2]])
    theirs = process.submit(timm_networks.answers, name.removesuffix("v1.5"), pictures, path).result()
    assert theirs.probabilities.std(axis=0).max() > 1e-2, "the oracle gives all images the same answer"
    with terminal.Activity("") as activity:
        ours = models.load(str(path), {}, activity)
        assert ours.metadata.architecture == architecture.resnet(name=name, image_size=size)
        totals = ours.graph.totals
        assert totals == Totals(theirs.trainable + theirs.statistics, theirs.trainable, theirs.macs)
        for engine in engines.ENGINES:
            answers = engines.start(engine, ours, engines.Setup(), activity).predict(pictures)
            difference = np.abs(answers - theirs.probabilities).max()
            print(f"{name}, {engine}: largest difference of probability {difference:.1e}, {totals} at {size} pixels")
            assert difference < 1e-4
    path.unlink()  # up to half a gigabyte


def _pictures() -> list[Image.Image]:
    """Photographs, and noise of sides that are odd, small, long, or a pixel off those that networks want."""
    rng = np.random.default_rng(4)
    sides = [(333, 500), (500, 333), (517, 389), (225, 224), (288, 289), (97, 61), (231, 233), (300, 1201)]
    noise = [Image.fromarray(rng.integers(0, 256, (*shape, 3), dtype=np.uint8)) for shape in sides]
    return [*map(Image.open, SAMPLES), *noise]


@pytest.mark.parametrize("name", [row.name for row in PRETRAINED.values() if row.repository])
def test_same_pixels_as_timm(name: str, process: Executor, tmp_path: Path) -> None:
    row = PRETRAINED[name]
    paths = []
    for index, picture in enumerate(_pictures()):
        paths.append(tmp_path / f"{index}.png")
        picture.save(paths[-1])
    theirs = process.submit(timm_networks.pixels, name, row.image_size, paths).result()
    for path, (raw, normal) in zip(paths, theirs, strict=True):
        ours = images.decode(path, row.image_size, Fit.CROP, row.preprocessing.resizing)
        np.testing.assert_array_equal(ours, raw)
        np.testing.assert_allclose(keras_model.preprocess(ours, row.preprocessing), normal, rtol=0, atol=1e-5)
