"""Evaluation against scikit-learn's figures on the same predictions."""

import contextlib
import csv
import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
from conftest import RESNET, Run
from numpy.typing import NDArray
from PIL import Image
from sklearn import metrics

from resnet_cli.errors import UsageError
from resnet_cli.network import graph, variants
from resnet_cli.network.labels import Label, imagenet
from resnet_cli.network.metadata import Metadata
from resnet_cli.network.preprocessing import CAFFE
from resnet_cli.output import evaluation as files
from resnet_cli.tasks import evaluate, synthetic
from resnet_cli.tasks.classify import Model
from resnet_cli.weights.model import ModelFile

LABELS = tuple(Label(name, f"n0000000{i}") for i, name in enumerate(["ant", "bee", "cat", "dog", "eel", "fly", "gnu"]))
COUNT, SIZE = 40, 32


class Recorder:
    """An engine with known results: the first pixel of an image selects one."""

    def __init__(self, probabilities: NDArray[np.float32]) -> None:
        self.probabilities = probabilities

    def embed(self, images: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        found = self.probabilities[images[:, 0, 0, 0].astype(int) + 256 * images[:, 0, 0, 1].astype(int)]
        return found, np.zeros((len(images), 1), np.float32)


@pytest.fixture(scope="module")
def probabilities() -> NDArray[np.float32]:
    return np.random.default_rng(4).dirichlet(np.full(7, 0.4), COUNT * 6).astype(np.float32)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six folders, named after a label or a WordNet ID; the seventh class has no folder."""
    root = tmp_path_factory.mktemp("data")
    for c, folder in enumerate(["ant", "n00000001", "cat", "dog", "n00000004", "fly"]):
        (root / folder).mkdir()
        for i in range(c * COUNT, (c + 1) * COUNT):
            Image.new("RGB", (SIZE, SIZE), (i % 256, i // 256, 0)).save(root / folder / f"{i:04}.png")
    return root


@pytest.fixture(scope="module")
def model(probabilities: NDArray[np.float32]) -> Model:
    architecture = variants.describe(stages=(1, 1, 1, 1), width=1, classes=7, image_size=SIZE)
    metadata = Metadata(architecture, LABELS, CAFFE)
    return Model(ModelFile(graph.resnet(architecture), metadata, "none", Path(), read=None), Recorder(probabilities))


@pytest.fixture(scope="module")
def evaluation(data: Path, model: Model) -> evaluate.Evaluation:
    return evaluate.evaluate(data, model)


@pytest.fixture(scope="module")
def true() -> NDArray[np.int64]:
    return np.repeat(np.arange(6), COUNT)


def _by_image(evaluation: evaluate.Evaluation) -> list[evaluate.Outcome]:
    return sorted(evaluation.outcomes, key=lambda outcome: Path(outcome.image).name)


def test_figures_are_those_of_scikit_learn(
    evaluation: evaluate.Evaluation, probabilities: NDArray[np.float32], true: NDArray[np.int64]
) -> None:
    predicted = probabilities.argmax(1)
    classes = np.arange(7)
    assert [outcome.true_index for outcome in _by_image(evaluation)] == list(true)
    assert evaluation.top(1)[0] == pytest.approx(metrics.accuracy_score(true, predicted))
    assert evaluation.top(5)[0] == pytest.approx(metrics.top_k_accuracy_score(true, probabilities, k=5, labels=classes))
    assert evaluation.loss == pytest.approx(metrics.log_loss(true, probabilities, labels=classes), rel=1e-5)
    np.testing.assert_array_equal(evaluation.confusion, metrics.confusion_matrix(true, predicted, labels=classes))


def test_calibration_error_is_the_textbook_sum(
    evaluation: evaluate.Evaluation, probabilities: NDArray[np.float32], true: NDArray[np.int64]
) -> None:
    confidence, right = probabilities.max(1), probabilities.argmax(1) == true
    expected = 0.0
    for low in np.arange(15) / 15:
        inside = (confidence >= low) & (confidence < low + 1 / 15)
        if inside.any():
            expected += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    assert evaluation.calibration_error == pytest.approx(expected, abs=1e-6)


def test_wilson_interval_is_the_published_one() -> None:
    # Newcombe 1998, "Two-sided confidence intervals for the single proportion", table I, method 3.
    for hits, count, low, high in ((81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0, 0.1611)):
        assert evaluate.wilson_interval(hits, count) == pytest.approx((low, high), abs=5e-5)


def test_classes_table(
    evaluation: evaluate.Evaluation, probabilities: NDArray[np.float32], true: NDArray[np.int64], tmp_path: Path
) -> None:
    files.write_classes(evaluation, tmp_path / "classes.csv")
    rows = list(csv.DictReader((tmp_path / "classes.csv").open()))
    predicted = probabilities.argmax(1)
    recall = metrics.recall_score(true, predicted, average=None, labels=range(6))
    precision = metrics.precision_score(true, predicted, average=None, labels=range(6))
    assert [row["label"] for row in rows] == ["ant", "bee", "cat", "dog", "eel", "fly"]
    assert [float(row["top1"]) for row in rows] == pytest.approx(recall, abs=1e-4)
    assert [float(row["precision"]) for row in rows] == pytest.approx(precision, abs=1e-4)
    assert {row["images"] for row in rows} == {str(COUNT)}


def test_mistakes_are_sorted_by_confidence(
    evaluation: evaluate.Evaluation, probabilities: NDArray[np.float32], true: NDArray[np.int64], tmp_path: Path
) -> None:
    files.write_mistakes(evaluation, tmp_path / "mistakes.csv")
    rows = list(csv.DictReader((tmp_path / "mistakes.csv").open()))
    wrong = np.flatnonzero(probabilities.argmax(1) != true)
    expected = wrong[np.argsort(-probabilities[wrong].max(1), kind="stable")]
    assert sorted(Path(row["image"]).stem for row in rows) == sorted(f"{i:04}" for i in wrong)
    confidence = [float(row["probability"]) for row in rows]
    assert confidence == pytest.approx(probabilities[expected].max(1), rel=1e-4)


def test_folders_that_match_no_class_or_two_are_refused() -> None:
    found = evaluate.class_indices(["n02012849", "crane (machine)", "tabby", "Egyptian cat"], imagenet(), Path())
    assert list(found.values()) == [134, 517, 281, 285]
    for folders, message in (
        (["sofa_dog", "tabby"], "got sofa_dog"),
        (["crane"], "crane: two classes"),
        (["tabby", "7"], "got 7"),
        (["1000", "7"], "got 1000, 7"),
        (["tabby", "n02123045"], "tabby and n02123045 are for the same class"),
        (["7", "07"], "7 and 07 are for the same class"),
    ):
        with pytest.raises(UsageError, match=message):
            evaluate.class_indices(folders, imagenet(), Path())
    assert evaluate.class_indices(["0", "999"], imagenet(), Path()) == {"0": 0, "999": 999}


def test_labels_that_are_numbers_are_never_indices() -> None:
    labels = tuple(Label(name) for name in sorted(map(str, range(1, 13))))  # 1, 10, 11, 12, 2, ...
    found = evaluate.class_indices(["1", "2", "10"], labels, Path())
    assert [labels[found[name]].name for name in ("1", "2", "10")] == ["1", "2", "10"]
    for folders in (["0", "1", "2"], ["0"]):
        with pytest.raises(UsageError, match="got 0"):
            evaluate.class_indices(folders, labels, Path())


def test_the_command(resnet: Run, tmp_path: Path) -> None:
    weights = tmp_path / "small.safetensors"
    architecture = variants.describe(stages=(1, 1, 1, 1), width=4, classes=7, image_size=32)
    synthetic.write_weights(weights, graph.resnet(architecture))
    data = tmp_path / "data"
    for index in range(3):
        (data / str(index)).mkdir(parents=True)
        Image.new("RGB", (32, 32), (80 * index, 0, 0)).save(data / str(index) / "a.png")
    (data / "0/bad.jpg").write_text("not an image")
    outputs = {name: tmp_path / name for name in ("classes.csv", "mistakes.csv", "confusion.png")}
    options = ["--per-class", outputs["classes.csv"], "--mistakes", outputs["mistakes.csv"]]
    options += ["--confusion", outputs["confusion.png"], "--format", "json"]
    result = resnet("evaluate", "--weights", weights, *options, data)
    assert result.returncode == 1
    assert "bad.jpg" in result.stderr
    printed = json.loads(result.stdout)
    assert (printed["images"], printed["failed"]) == (3, 1)
    assert printed["top1_interval"][0] <= printed["top1"] <= printed["top1_interval"][1]
    assert all(path.stat().st_size > 50 for path in outputs.values())
    assert Image.open(outputs["confusion.png"]).format == "PNG"


def _run_on_terminal(*arguments: object) -> str:
    """Run the command with a terminal as stderr, and return its output there."""
    ours, theirs = os.openpty()
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "120"}
    command = [RESNET, *map(str, arguments)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=theirs, env=environment)
    os.close(theirs)
    output = b""
    with contextlib.suppress(OSError):  # on Linux, the end of the output
        while part := os.read(ours, 4096):
            output += part
    assert process.wait() == 0
    return output.decode()


@pytest.mark.usefixtures("shared_cache")
def test_progress_is_shown_on_a_terminal(tmp_path: Path) -> None:
    data = tmp_path / "0"
    data.mkdir()
    for i in range(5):
        Image.new("RGB", (32, 32), (i, 0, 0)).save(data / f"{i}.png")
    shown = _run_on_terminal("evaluate", "--weights", "tiny", tmp_path)
    assert "5 of 5 images" in shown
    assert "images/s, 0:00:00 left" in shown
    assert _run_on_terminal("evaluate", "--weights", "tiny", "--quiet", tmp_path) == ""


@pytest.mark.parametrize(
    ("folder", "message"),
    [("none", "expected a folder with one subfolder per class, found none"), ("", "expected one subfolder per class")],
)
def test_a_folder_without_classes_is_refused(model: Model, tmp_path: Path, folder: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        evaluate.evaluate(tmp_path / folder, model)
