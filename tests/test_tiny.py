"""The built-in weights: the metadata in the file, and its accuracy."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import Run
from PIL import Image

from resnet_cli.images import decode
from resnet_cli.network import graph
from resnet_cli.network.labels import imagenet
from resnet_cli.network.preprocessing import Decoding, Fit, Resizing
from resnet_cli.weights import checkpoint
from resnet_cli.weights.published import TINY


def test_file_describes_itself() -> None:
    assert TINY.path.stat().st_size <= 10_000_000
    stored = checkpoint.read(TINY.path)
    metadata = stored.metadata
    assert metadata is not None
    assert len(metadata.labels) == TINY.classes == 200
    assert set(metadata.labels) <= set(imagenet())
    assert metadata.training["recipe"]["seed"] is not None
    assert 0.1 < metadata.temperature < 10
    stored.parameters(graph.resnet(metadata.architecture))


@pytest.mark.usefixtures("shared_cache")
def test_accuracy_is_the_published_one(resnet: Run, shared: Path, tmp_path: Path) -> None:
    """Four of the fifty validation tiles per class take seconds; the tolerances fit their number."""
    for sheet in sorted((shared / "data/tiny-imagenet/val").glob("*.webp")):
        (tmp_path / sheet.stem).mkdir()
        tiles = Image.open(sheet).convert("RGB")
        for k in range(0, 50, 13):
            left, top = k % 10 * 64, k // 10 * 64
            tiles.crop((left, top, left + 64, top + 64)).save(tmp_path / sheet.stem / f"{k:02}.png", compress_level=0)
    result = resnet("evaluate", "--weights", "tiny", "--format", "json", tmp_path)
    measured = json.loads(result.stdout)
    assert measured["images"] == 800
    assert 100 * measured["top1"] == pytest.approx(TINY.top1, abs=6)
    assert 100 * measured["top5"] == pytest.approx(TINY.top5, abs=6)
    assert measured["calibration_error"] < 0.08


@pytest.mark.parametrize(("photo", "tile"), [("n04487081_trolleybus", 13), ("n03179701_desk", 1)])
def test_photos_are_resized_like_the_training_images(shared: Path, photo: str, tile: int) -> None:
    """The dataset has a tile of each of these photos: 64 x 64 of its pixels, sampled without averaging."""
    sheet = Image.open(shared / f"data/tiny-imagenet/val/{photo.split('_')[0]}.webp").convert("RGB")
    left, top = tile % 10 * 64, tile // 10 * 64
    theirs = np.asarray(sheet.crop((left, top, left + 64, top + 64)), float)
    resizing = checkpoint.read(TINY.path).metadata.preprocessing.resizing

    def difference(resizing: Resizing) -> float:
        ours = decode.decode_file(shared / f"images/photos/{photo}.JPEG", Decoding(64, Fit.CROP, resizing))
        return float(np.sqrt(np.mean((ours - theirs) ** 2)))

    assert difference(resizing) < 0.7 * difference(replace(resizing, sampled=None))


@pytest.mark.usefixtures("shared_cache")
def test_photos_are_recognised(resnet: Run, shared: Path) -> None:
    known = {label.wnid for label in checkpoint.read(TINY.path).metadata.labels}
    photos = [path for path in sorted((shared / "images/photos").iterdir()) if path.name.split("_")[0] in known]
    result = resnet("predict", "--weights", "tiny", "--format", "json", "-k", 5, *photos)
    hits = [
        path.name.split("_")[0] in {prediction["wnid"] for prediction in record["predictions"]}
        for path, record in zip(photos, json.loads(result.stdout), strict=True)
    ]
    assert len(hits) >= 8
    assert np.mean(hits) > 0.4, "of five guesses among 200 classes, chance gets 2.5 % right"
