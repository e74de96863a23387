"""`--features`: the input of the final layer, compared with Keras's own networks; bounded memory."""

import json
import resource
import tracemalloc
from pathlib import Path

import keras
import networks
import numpy as np
import pytest
from conftest import Run
from keras.src.applications import resnet
from odd_names import populate

from resnet_cli.engines.engine import ENGINES
from resnet_cli.errors import ImageError, ImageErrorKind, UsageError
from resnet_cli.images import decode
from resnet_cli.network.architecture import NetworkOptions
from resnet_cli.network.preprocessing import Decoding
from resnet_cli.output import features
from resnet_cli.output.destination import Destination
from resnet_cli.tasks.classify import start_model
from resnet_cli.tasks.options import InferenceOptions
from resnet_cli.tasks.results import Result

SAMPLES = Path(__file__).parents[1] / "sample_images"


NETWORK = NetworkOptions(stages=(1, 2), image_size=64)


def _stack_blocks(x: keras.KerasTensor) -> keras.KerasTensor:
    for filters, blocks, name in ((64, 1, "conv2"), (128, 2, "conv3")):
        x = resnet.stack_residual_blocks_v1(x, filters, blocks, stride1=1 if name == "conv2" else 2, name=name)
    return x


@pytest.fixture(scope="module")
def oracle(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, np.ndarray]:
    """A weights file of a shallow ResNet of keras.applications, and the output of its pooling for the sample photos."""
    model = resnet.ResNet(_stack_blocks, preact=False, use_bias=True, weights=None, input_shape=(64, 64, 3))
    networks.plausible(model)
    path = networks.write_legacy(model, tmp_path_factory.mktemp("oracle") / "weights.h5")
    pooled = keras.Model(model.input, model.get_layer("avg_pool").output)
    pixels = np.stack([decode.decode_file(photo, Decoding(64)) for photo in sorted(SAMPLES.glob("*.jpg"))])
    return path, np.asarray(pooled(resnet.preprocess_input(pixels.astype("float32"))))


@pytest.mark.parametrize("engine", ENGINES)
def test_features_are_those_of_keras_applications(engine: str, oracle: tuple[Path, np.ndarray], tmp_path: Path) -> None:
    path, expected = oracle
    model = start_model(str(path), NETWORK, InferenceOptions(engine=engine), throughput=True)
    with features.open_features(tmp_path / "out.npz") as add:
        results = [add(result) for result in model.classify(SAMPLES)]
    with np.load(tmp_path / "out.npz") as written:
        assert list(written["names"]) == [result.image for result in results]
        ours = written["features"]
    assert ours.dtype == np.float32
    assert expected.std(axis=0).max() > 0.1
    difference = np.abs(ours - expected).max() / np.abs(expected).max()
    print(f"{engine}: largest difference of features {difference:.1e} of the largest feature")
    assert difference < 1e-4


@pytest.mark.usefixtures("shared_cache")
def test_images_that_cannot_be_read_have_no_row(resnet: Run, tmp_path: Path) -> None:
    populate(tmp_path / "photos")
    command = ("predict", "--weights", "tiny", "--format", "jsonl", "--features", tmp_path / "out.npz")
    result = resnet(*command, tmp_path / "photos")
    assert result.returncode == 1
    classified = [record["image"] for line in result.stdout.splitlines() if "error" not in (record := json.loads(line))]
    with np.load(tmp_path / "out.npz") as written:
        assert [name.encode("utf-8", "surrogateescape") for name in written["names"]] == [
            name.encode("utf-8", "surrogateescape") for name in classified
        ]
        assert written["features"].shape == (len(classified), 768)


def test_wrong_usage_ends_the_command(resnet: Run) -> None:
    result = resnet("predict", "--weights", "tiny", "--features", "out.npy", SAMPLES)
    assert (result.returncode, result.stdout) == (2, "")
    assert "out.npy: the name must end with .npz" in result.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"features": Path("missing/out.npz")}, "expected a file in an existing folder"),
        ({"features": Path("out.npz"), "path": Path("out.jsonl"), "resume": True}, "leave out --resume"),
    ],
)
def test_wrong_usage_is_refused(options: dict[str, Path | bool], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Destination("jsonl", **options)


def test_memory_does_not_grow_with_the_number_of_images(tmp_path: Path) -> None:
    rows = np.random.default_rng(0).standard_normal((8, 2048), np.float32)
    tracemalloc.start()
    with features.open_features(tmp_path / "out.npz") as add:
        for i in range(6_000):
            add(Result(f"photos/{i}.jpg", "resnet50", "imagenet", features=rows[i % 8]))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5e6  # of 49 MB
    with np.load(tmp_path / "out.npz") as written:
        assert written["features"].shape == (6_000, 2048)
        np.testing.assert_array_equal(written["features"][-8:], rows)
        assert list(written["names"][[0, -1]]) == ["photos/0.jpg", "photos/5999.jpg"]


def test_file_is_empty_without_readable_images(tmp_path: Path) -> None:
    with features.open_features(tmp_path / "out.npz") as add:
        add(Result("a.jpg", "resnet50", "imagenet", error=ImageError(ImageErrorKind.NOT_FOUND, "expected an image")))
    with np.load(tmp_path / "out.npz") as written:
        assert (len(written["features"]), len(written["names"])) == (0, 0)


def test_a_full_disk_leaves_the_earlier_file(tmp_path: Path) -> None:
    (tmp_path / "out.npz").write_text("earlier")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, limits[1]))
    row = np.zeros(2048, np.float32)
    try:
        with pytest.raises(UsageError, match=r"cannot write .*out\.npz: File too large"):
            fill(tmp_path / "out.npz", row)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert (tmp_path / "out.npz").read_text() == "earlier"
    assert [path.name for path in tmp_path.iterdir()] == ["out.npz"]


def fill(path: Path, row: np.ndarray) -> None:
    with features.open_features(path) as add:
        for i in range(1_000):
            add(Result(str(i), "resnet50", "imagenet", features=row))
