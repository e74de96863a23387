"""The embedded weights: what the file says of itself, and that it answers."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import Run
from PIL import Image

from resnet_cli import checkpoints, graph, images
from resnet_cli.labels import imagenet
from resnet_cli.pretrained import TINY, Fit, Resizing


def test_file_says_what_it_is() -> None:
    assert TINY.path.stat().st_size <= 10_000_000
    checkpoint = checkpoints.read(TINY.path)
    about = checkpoint.metadata
    assert about is not None
    assert len(about.labels) == TINY.classes == 200
    assert set(about.labels) <= set(imagenet())
    assert about.training["recipe"]["seed"] is not None
    assert 0.1 < about.temperature < 10
    checkpoint.parameters(graph.resnet(about.architecture))


def test_it_is_as_good_as_its_row_says(resnet: Run, shared: Path, tmp_path: Path) -> None:
    """Four of the fifty validation tiles of each class, so that it takes seconds; the interval is as wide as that."""
    for sheet in sorted((shared / "data/tiny-imagenet/val").glob("*.webp")):
        (tmp_path / sheet.stem).mkdir()
        tiles = Image.open(sheet).convert("RGB")
        for k in range(0, 50, 13):
            left, top = k % 10 * 64, k // 10 * 64
            tiles.crop((left, top, left + 64, top + 64)).save(tmp_path / sheet.stem / f"{k:02}.png")
    result = resnet("evaluate", "--weights", "tiny", "--format", "json", tmp_path)
    measured = json.loads(result.stdout)
    assert measured["images"] == 800
    assert 100 * measured["top1"] == pytest.approx(TINY.top1, abs=6)
    assert 100 * measured["top5"] == pytest.approx(TINY.top5, abs=6)
    assert measured["calibration_error"] < 0.08


@pytest.mark.parametrize(("photo", "tile"), [("n04487081_trolleybus", 13), ("n03179701_desk", 1)])
def test_it_gets_photographs_as_its_training_images_were_made(shared: Path, photo: str, tile: int) -> None:
    """Each is a photograph of which the data set has a tile: 64 x 64 of its pixels, no averages of several."""
    sheet = Image.open(shared / f"data/tiny-imagenet/val/{photo.split('_')[0]}.webp").convert("RGB")
    left, top = tile % 10 * 64, tile // 10 * 64
    theirs = np.asarray(sheet.crop((left, top, left + 64, top + 64)), float)
    resizing = checkpoints.read(TINY.path).metadata.preprocessing.resizing

    def difference(resizing: Resizing) -> float:
        ours = images.decode(shared / f"images/photos/{photo}.JPEG", 64, Fit.CROP, resizing)
        return float(np.sqrt(np.mean((ours - theirs) ** 2)))

    assert difference(resizing) < 0.7 * difference(replace(resizing, sampled=None))


def test_it_sees_real_photographs(resnet: Run, shared: Path) -> None:
    known = {label.wnid for label in checkpoints.read(TINY.path).metadata.labels}
    photos = [path for path in sorted((shared / "images/photos").iterdir()) if path.name.split("_")[0] in known]
    result = resnet("predict", "--weights", "tiny", "--format", "json", "-k", 5, *photos)
    hits = [
        path.name.split("_")[0] in {prediction["wnid"] for prediction in record["predictions"]}
        for path, record in zip(photos, json.loads(result.stdout), strict=True)
    ]
    assert len(hits) >= 8
    assert np.mean(hits) > 0.4, "of five guesses among 200 classes, chance gets 2.5 % right"
