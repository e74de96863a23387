"""`--features`: what the last layer sees, against Keras's own networks, in bounded memory."""

import json
import resource
import tracemalloc
from pathlib import Path

import keras
import networks
import numpy as np
import pytest
from conftest import Run
from odd_names import populate

from resnet_cli import engines, features, images
from resnet_cli.errors import ImageError, UsageError
from resnet_cli.predict import Record
from resnet_cli.pretrained import Fit

SAMPLES = Path(__file__).parents[1] / "sample_images"


@pytest.fixture(scope="module")
def oracle(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, np.ndarray]:
    """A weight file of Keras's ResNet-50, and what that network's pooling gives for the sample photos."""
    whole = networks.plausible(keras.applications.ResNet50(weights=None))
    path = networks.write_legacy(whole, tmp_path_factory.mktemp("oracle") / "weights.h5")
    pooled = keras.applications.ResNet50(weights=None, include_top=False, pooling="avg")
    pooled.set_weights(whole.get_weights()[:-2])
    pictures = np.stack([images.decode(photo, 224, Fit.CROP) for photo in sorted(SAMPLES.glob("*.jpg"))])
    return path, pooled.predict_on_batch(keras.applications.resnet.preprocess_input(pictures.astype("float32")))


@pytest.mark.parametrize("engine", engines.ENGINES)
def test_features_are_those_of_keras_applications(
    engine: str, oracle: tuple[Path, np.ndarray], resnet: Run, tmp_path: Path
) -> None:
    path, expected = oracle
    command = ("predict", "--weights", path, "--depth", 50, "--engine", engine, "--features", tmp_path / "out.npz")
    result = resnet(*command, "--format", "jsonl", SAMPLES)
    assert result.returncode == 0, result.stderr
    with np.load(tmp_path / "out.npz") as written:
        assert list(written["names"]) == [json.loads(line)["image"] for line in result.stdout.splitlines()]
        ours = written["features"]
    assert ours.dtype == np.float32
    assert expected.std(axis=0).max() > 0.1
    difference = np.abs(ours - expected).max() / np.abs(expected).max()
    print(f"{engine}: largest difference of features {difference:.1e} of the largest feature")
    assert difference < 1e-4


def test_images_that_cannot_be_read_have_no_row(resnet: Run, tmp_path: Path) -> None:
    populate(tmp_path / "photos")
    command = ("predict", "--weights", "tiny", "--format", "jsonl", "--features", tmp_path / "out.npz")
    result = resnet(*command, tmp_path / "photos")
    assert result.returncode == 1
    answered = [record["image"] for line in result.stdout.splitlines() if "error" not in (record := json.loads(line))]
    with np.load(tmp_path / "out.npz") as written:
        assert [name.encode("utf-8", "surrogateescape") for name in written["names"]] == [
            name.encode("utf-8", "surrogateescape") for name in answered
        ]
        assert written["features"].shape == (len(answered), 768)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--features", "out.npy"], "out.npy: the name must end with .npz"),
        (["--features", "missing/out.npz"], "expected a file in an existing folder"),
        (["--features", "out.npz", "--format", "jsonl", "-o", "out.jsonl", "--resume"], "leave out --resume"),
    ],
)
def test_wrong_usage_is_refused(options: list[str], message: str, resnet: Run) -> None:
    result = resnet("predict", "--weights", "tiny", *options, SAMPLES)
    assert (result.returncode, result.stdout) == (2, "")
    assert message in result.stderr


def test_memory_does_not_grow_with_the_number_of_images(tmp_path: Path) -> None:
    rows = np.random.default_rng(0).standard_normal((8, 2048), np.float32)
    tracemalloc.start()
    with features.writing(tmp_path / "out.npz") as add:
        for i in range(6_000):
            add(Record(f"photos/{i}.jpg", "resnet50", "imagenet", features=rows[i % 8]))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5e6  # of 49 MB
    with np.load(tmp_path / "out.npz") as written:
        assert written["features"].shape == (6_000, 2048)
        np.testing.assert_array_equal(written["features"][-8:], rows)
        assert list(written["names"][[0, -1]]) == ["photos/0.jpg", "photos/5999.jpg"]


def test_no_image_at_all_makes_an_empty_file(tmp_path: Path) -> None:
    with features.writing(tmp_path / "out.npz") as add:
        add(Record("a.jpg", "resnet50", "imagenet", error=ImageError("not_found", "expected an image")))
    with np.load(tmp_path / "out.npz") as written:
        assert (len(written["features"]), len(written["names"])) == (0, 0)


def test_a_full_disk_leaves_what_was_there(tmp_path: Path) -> None:
    (tmp_path / "out.npz").write_text("of before")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, limits[1]))
    row = np.zeros(2048, np.float32)
    try:
        with pytest.raises(UsageError, match=r"cannot write .*out\.npz: File too large"):
            fill(tmp_path / "out.npz", row)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert (tmp_path / "out.npz").read_text() == "of before"
    assert [path.name for path in tmp_path.iterdir()] == ["out.npz"]


def fill(path: Path, row: np.ndarray) -> None:
    with features.writing(path) as add:
        for i in range(1_000):
            add(Record(str(i), "resnet50", "imagenet", features=row))
