"""Training on folders of coloured squares: what the network learns, which folders are refused, and resuming."""

import csv
import json
import os
import re
import resource
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import conftest
import h5py
import numpy as np
import pytest
import sklearn.metrics
from PIL import Image

import resnet_cli
from resnet_cli.engines import probabilities
from resnet_cli.errors import UsageError
from resnet_cli.network import graph
from resnet_cli.network.architecture import NetworkOptions
from resnet_cli.network.preprocessing import TORCHVISION
from resnet_cli.network.variants import describe
from resnet_cli.system import atomic
from resnet_cli.training.dataset import Split, count_copies, scan_dataset
from resnet_cli.training.recipe import Recipe, RecipeOptions
from resnet_cli.training.run import TrainingProgress
from resnet_cli.training.train import train_model
from resnet_cli.weights import checkpoint

COLOURS = {"blue": (40, 60, 200), "green": (40, 180, 60), "red": (200, 50, 40)}
NETWORK = ("--stages", "1", "--block", "basic", "--width", "8", "--stem", "small", "--image-size", "16")
RECIPE = ("--precision", "f32", "--batch-size", "10", "--lr", "0.1", "--sizes", "8x2", "--cooldown", "1")
DAMAGED = b"\x89PNG\r\n\x1a\n damaged"


def _write_squares(root: Path, split: str = "train", images: int = 20) -> Path:
    rng = np.random.default_rng(len(split))
    for name, colour in COLOURS.items():
        folder = root / split / name
        folder.mkdir(parents=True)
        for i in range(images):
            pixels = rng.normal(colour, 40, (20, 24, 3)).clip(0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / f"{i:02}.png")
    return root


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Three classes of 20 images."""
    return _write_squares(tmp_path / "data")


def _names(split: Split) -> set[str]:
    return set(split.names)


def test_split_is_stable(data: Path) -> None:
    before = scan_dataset(data, 0.2)
    assert before.classes == ("blue", "green", "red")
    assert len(before.train) + len(before.validation) == 60
    assert not _names(before.train) & _names(before.validation)
    assert 4 <= len(before.validation) <= 20
    for i in range(20, 40):  # more images move none of the old ones to the other side
        (data / f"train/red/{i}.png").write_bytes((data / "train/red/00.png").read_bytes())
    after = scan_dataset(data, 0.2)
    assert _names(before.train) <= _names(after.train)
    assert _names(before.validation) <= _names(after.validation)


def test_val_folder_is_the_validation_split(data: Path) -> None:
    _write_squares(data, "val", images=3)
    found = scan_dataset(data, 0.2)
    assert (len(found.train), len(found.validation)) == (60, 9)
    assert found.validation.folder == data / "val"
    assert [found.classes[i] for i in found.validation.classes] == [
        name.split("/")[0] for name in found.validation.names
    ]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda root: (root / "train").rename(root / "images"), "expected a folder `train`"),
        (lambda root: (root / "train").rename(root / "Valid"), "expected a folder `train`.* found Valid"),
        (lambda root: [(root / name).mkdir() for name in ("val", "Valid")], "Valid and val, found both"),
        (lambda root: (root / "train/void").mkdir(), "found none in void"),
        (lambda root: [(root / "train" / name).rename(root / name) for name in ("red", "blue")], "at least two"),
        (lambda root: [path.unlink() for path in root.rglob("*.png")], "found none in blue, green, red"),
        (lambda root: (root / "val/yellow").mkdir(parents=True), "found classes that are missing in .*: yellow"),
        (lambda root: (root / "val/red").mkdir(parents=True), "no validation images"),
    ],
)
def test_invalid_dataset_is_refused(data: Path, spoil: Any, message: str) -> None:
    spoil(data)
    with pytest.raises(UsageError, match=message):
        scan_dataset(data, 0.2)


@pytest.mark.parametrize(("train", "val"), [("train", "valid"), ("Train", "Val"), ("training", "validation")])
def test_usual_names_of_splits(data: Path, train: str, val: str) -> None:
    (data / "train").rename(data / train)
    _write_squares(data, val, images=3)
    _write_squares(data, "test", images=1)
    (data / "holdout").mkdir()
    found = scan_dataset(data, 0.2)
    assert (found.train.folder, found.validation.folder) == (data / train, data / val)
    assert (len(found.train), len(found.validation), found.unused) == (60, 9, ("holdout", "test"))


def test_class_folders_without_splits_are_split(data: Path) -> None:
    for count in (20, 10, 2):
        for path in data.glob("train/*/[0-9][0-9].png"):
            if int(path.stem) >= count:
                path.unlink()
        found = scan_dataset(data / "train", 0.05)
        assert found.classes == ("blue", "green", "red")
        assert len(found.train) + len(found.validation) == 3 * count
        assert set(found.validation.classes) == set(found.train.classes) == {0, 1, 2}
        assert not _names(found.train) & _names(found.validation)


def test_a_class_can_be_called_train(data: Path) -> None:
    for path in (data / "train/red").iterdir():
        path.rename(data / "train" / path.name)
    (data / "train/red").rmdir()
    for name in ("blue", "green"):
        (data / "train" / name).rename(data / name)
    assert scan_dataset(data, 0.05).classes == ("blue", "green", "train")


def test_copies_of_training_images_are_counted(data: Path) -> None:
    _write_squares(data, "val", images=3)
    assert count_copies(scan_dataset(data, 0.2)) == 0
    for name in ("red/00.png", "blue/01.png"):
        (data / "val" / name).write_bytes((data / "train" / name).read_bytes())
    assert count_copies(scan_dataset(data, 0.2)) == 2


def test_a_frozen_backbone_needs_weights(data: Path, tmp_path: Path) -> None:
    result = conftest.run_main("train", data, "-o", tmp_path / "m.safetensors", *NETWORK, "--freeze-backbone")
    assert (result.returncode, "add --weights" in result.stderr) == (2, True)


def test_invalid_dataset_ends_the_command_before_keras(resnet: conftest.Run, data: Path, tmp_path: Path) -> None:
    (data / "train/void").mkdir()
    result = resnet("train", data, "-o", tmp_path / "m.safetensors", KERAS_BACKEND="none such")
    assert result.returncode == 2
    assert "found none in void" in result.stderr


@dataclass(frozen=True)
class Trained:
    """A training by the command: its folder, its dataset, and what the command returned."""

    folder: Path
    data: Path
    result: subprocess.CompletedProcess[str]

    @property
    def weights(self) -> Path:
        return self.folder / "m.safetensors"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """Twelve epochs on three classes with validation images and a damaged training image; no test changes the files."""
    folder = tmp_path_factory.mktemp("trained")
    data = _write_squares(_write_squares(folder / "data"), "val", images=5)
    (data / "train/red/99.png").write_bytes(DAMAGED)
    options = (*NETWORK, *RECIPE, "--epochs", 12, "--half", "--format", "json")
    return Trained(folder, data, conftest.run_main("train", data, "-o", folder / "m.safetensors", *options))


def test_command_learns_and_reports(trained: Trained) -> None:
    assert trained.result.returncode == 0, trained.result.stderr
    assert "left out: 1" in trained.result.stderr.splitlines()[-1]
    summary = json.loads(trained.result.stdout)
    assert list(summary["bad"]) == ["train/red/99.png"]
    assert "red/99.png: skipped" in trained.result.stderr
    assert (summary["images"], summary["validation_images"], summary["epochs"]) == (60, 15, 12)
    assert summary["val_accuracy"] > 0.9
    assert summary["val_loss"] == summary["val_loss_untempered"]
    assert (summary["temperature"], summary["why_untempered"]) == (1, "15 validation images, at least 500 needed")
    assert "top-5" not in trained.result.stderr  # of three classes

    stored = checkpoint.read(trained.weights)
    assert stored.metadata is not None
    assert [label.name for label in stored.metadata.labels] == ["blue", "green", "red"]
    assert stored.metadata.architecture.image_size == 16
    assert stored.metadata.temperature == summary["temperature"]
    assert stored.metadata.training["recipe"]["epochs"] == 12
    rows = list(csv.DictReader((trained.folder / "m.metrics.csv").open()))
    assert [row["image_size"] for row in rows] == ["8"] * 2 + ["16"] * 10
    best = min(rows[2:], key=lambda row: float(row["val_loss"]))
    assert summary["kept_epoch"] == stored.metadata.training["summary"]["kept_epoch"] == int(best["epoch"])
    assert summary["val_loss"] == pytest.approx(float(best["val_loss"]), abs=0.01)  # saved in 16 bits
    assert Image.open(trained.folder / "m.curves.png").size[0] > 500
    assert trained.weights.stat().st_size < 2.2 * sum(array.size for array in stored.arrays.values()) + 20_000


def test_trained_weights_classify_images(trained: Trained) -> None:
    (result,) = resnet_cli.load(trained.weights).classify(trained.data / "val/green/00.png")
    assert result.predictions[0].label.name == "green"


def test_existing_weights_are_not_overwritten(trained: Trained) -> None:
    again = conftest.run_main("train", trained.data, "-o", trained.weights, *NETWORK)
    assert again.returncode == 2
    assert "use --resume to continue" in again.stderr


def test_only_the_final_layer_is_trained(trained: Trained, tmp_path: Path) -> None:
    recipe = RecipeOptions(epochs=2, batch_size=10, freeze_backbone=True, precision="f32", keep="last")
    out = tmp_path / "fine.safetensors"
    result = train_model(trained.data, out, str(trained.weights), NetworkOptions(), recipe, TrainingProgress())
    assert result.val_accuracy > 0.9
    before, after = (checkpoint.read(path).arrays for path in (trained.weights, out))
    changed = {name for name in before if not np.allclose(before[name], after[name], atol=1e-3)}
    assert changed == {"predictions/kernel", "predictions/bias"}


def _signal_after(command: tuple[object, ...], pattern: str, number: signal.Signals) -> tuple[int, str]:
    """Send `resnet` a signal at the first line on stderr that matches; return its exit code and all of stderr."""
    command = (conftest.RESNET, *map(str, command))
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    lines = []
    for line in process.stderr:
        lines.append(line)
        if re.match(pattern, line):
            break
    process.send_signal(number)
    return process.wait(30), "".join(lines) + process.stderr.read()


def _training_state(path: Path) -> dict[str, np.ndarray]:
    """Return all arrays of a training checkpoint: the weights and the optimiser's variables."""
    arrays = {}
    with h5py.File(path) as file:
        file.visititems(lambda name, item: arrays.update({name: item[()]}) if hasattr(item, "shape") else None)
    return {name: array for name, array in arrays.items() if isinstance(array, np.ndarray)}


def test_killed_and_interrupted_run_is_resumed(trained: Trained, tmp_path: Path) -> None:
    out = tmp_path / "m.safetensors"
    command = ("train", trained.data, "-o", out, *NETWORK, *RECIPE, "--epochs", 11)
    _signal_after(command, "epoch 2 of", signal.SIGKILL)
    assert not out.exists()
    assert len(list(csv.DictReader((tmp_path / "m.metrics.csv").open()))) >= 2
    leftover = tmp_path / ".resnet-left"  # as if the process had been killed while it wrote
    leftover.mkdir()
    (leftover / "m.checkpoint.weights.h5").write_bytes(b"half")

    code, messages = _signal_after((*command, "--resume"), r"epoch \d+ of", signal.SIGINT)
    assert code == 130
    assert "resuming after epoch" in messages
    assert "run the same command with --resume" in messages
    assert not leftover.exists()
    assert not out.exists()

    # Now with one more epoch than planned; nothing before the cool-down depends on the number of epochs.
    resumed = conftest.run_main(*command, "--resume", "--epochs", 12, "--format", "json")
    assert resumed.returncode == 0, resumed.stderr
    assert "resuming after epoch" in resumed.stderr
    assert json.loads(resumed.stdout)["epochs"] == 12
    assert list(json.loads(resumed.stdout)["bad"]) == ["train/red/99.png"]
    assert "99.png" not in resumed.stderr  # already reported
    assert json.loads(resumed.stdout)["kept_epoch"] == json.loads(trained.result.stdout)["kept_epoch"]

    # The same crops in the same order, momentum and learning rate as in one uninterrupted run.
    expected, got = (_training_state(folder / "m.checkpoint.weights.h5") for folder in (trained.folder, tmp_path))
    assert expected.keys() == got.keys()
    assert any(name.startswith("optimizer/") for name in expected)
    assert all(np.allclose(expected[name], got[name], atol=1e-3) for name in expected)


def test_full_disk_ends_the_run_with_a_message(data: Path, tmp_path: Path) -> None:
    import matplotlib.figure  # noqa: F401 - files of its first import could not be written, either

    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))  # enough for the metrics, not for weights
    try:
        result = conftest.run_main("train", data, "-o", tmp_path / "m.safetensors", *NETWORK, *RECIPE, "--epochs", 2)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert result.returncode == 2, result.stderr
    assert "error: cannot write" in result.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "m.metrics.csv"]


REMOVE_LEFTOVERS = """
import sys
from pathlib import Path
from resnet_cli.system import atomic
atomic.remove_leftovers(Path(sys.argv[1]))
"""


def test_temporary_files_of_running_processes_stay(tmp_path: Path) -> None:
    out = tmp_path / "m.csv"
    for folder, name in ((".resnet-dead", "m.csv"), (".resnet-other", "n.csv")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / name).touch()
    with atomic.atomic_write(out) as temporary:
        temporary.write_text("complete")
        subprocess.run([conftest.RESNET.with_name("python"), "-c", REMOVE_LEFTOVERS, out], check=True)
    assert out.read_text() == "complete"
    assert sorted(path.name for path in tmp_path.iterdir()) == [".resnet-other", "m.csv"]


def test_temperature_lowers_the_loss_on_held_out_images() -> None:
    rng = np.random.default_rng(0)
    classes = rng.integers(0, 10, 4000).astype(np.int32)
    logits = rng.normal(0, 1, (4000, 10)) + 2 * np.eye(10)[classes]
    powers = np.exp(3 * logits)  # by Bayes' rule, 2 would be honest
    predicted = (powers / powers.sum(1, keepdims=True)).astype(np.float32)
    scores = probabilities.score([(predicted[:2000], classes[:2000])], probabilities.TEMPERATURES)
    assert scores.temperature == pytest.approx(1.5, rel=0.1)
    held_out = probabilities.score([(predicted[2000:], classes[2000:])], probabilities.TEMPERATURES)
    assert held_out.losses[scores.temperature] < held_out.losses[1]
    few = probabilities.score([(predicted[:499], classes[:499])], probabilities.TEMPERATURES)
    assert (few.temperature, few.why_untempered) == (1, "499 validation images, at least 500 needed")
    enough = probabilities.score([(predicted[:500], classes[:500])], probabilities.TEMPERATURES)
    assert 1 < enough.temperature < min(enough.losses, key=enough.losses.__getitem__)
    sure = np.where(np.eye(10, dtype=bool)[classes], 0.5, 0.5 / 9).astype(np.float32)  # always right, never certain
    edge = probabilities.score([(sure, classes)], probabilities.TEMPERATURES)
    assert edge.temperature == 1
    assert "limit of 0.1" in edge.why_untempered


def test_scores_do_not_depend_on_batches() -> None:
    rng = np.random.default_rng(0)
    classes = rng.integers(0, 7, 100).astype(np.int32)
    predicted = rng.dirichlet(np.full(7, 5), 100).astype(np.float32)
    parts = [slice(0, 64), slice(64, 99), slice(99, 100)]
    scores = probabilities.score(((predicted[part], classes[part]) for part in parts), [1.0, 2.0])
    powers = predicted**0.5  # softmax(logits / 2)
    softer = powers / powers.sum(1, keepdims=True)
    every = range(7)
    assert scores.images == 100
    assert scores.accuracy == pytest.approx(sklearn.metrics.accuracy_score(classes, predicted.argmax(1)))
    top5 = sklearn.metrics.top_k_accuracy_score(classes, predicted, k=5, labels=every)
    assert scores.top5 == pytest.approx(top5)
    assert scores.losses[1] == pytest.approx(sklearn.metrics.log_loss(classes, predicted, labels=every), rel=1e-4)
    assert scores.losses[2] == pytest.approx(sklearn.metrics.log_loss(classes, softer, labels=every), rel=1e-4)


def test_learning_rate_rises_holds_and_falls() -> None:
    from resnet_cli.training.loop import WarmHoldCosine

    recipe = Recipe(epochs=10, warmup=2, cooldown=4, learning_rate=0.5)
    rates = [float(WarmHoldCosine(recipe, steps=5)(step)) for step in range(51)]
    assert rates[:10] == pytest.approx([0.05 * (step + 1) for step in range(10)])
    assert rates[9:30] == pytest.approx([0.5] * 21)
    assert rates[39] == pytest.approx(0.25)
    assert rates[49] == pytest.approx(0, abs=1e-6)
    longer = WarmHoldCosine(Recipe(epochs=100, warmup=2, cooldown=4, learning_rate=0.5), steps=5)
    assert [float(longer(step)) for step in range(30)] == pytest.approx(rates[:30])
    assert float(WarmHoldCosine(Recipe(epochs=1), steps=3)(0)) > 0.1  # a single epoch has no warm-up


def test_keras_gets_the_recipe() -> None:
    from resnet_cli.training import loop

    described = describe(variant="v1.5", stages=(1, 2), width=8, stem="small", classes=5, image_size=32)
    model = loop.build_trainable(loop.TrainingRun(described, tuple("abcde"), TORCHVISION, Recipe(), []), 10, None)
    weights = {variable.path: variable for variable in model.trainable_variables}
    decays = {path for path, variable in weights.items() if model.optimizer._use_weight_decay(variable)}
    assert decays == {path for path in weights if path.endswith("kernel")}
    zero = {path for path, variable in weights.items() if path.endswith("gamma") and not np.any(variable.numpy())}
    assert zero == {path for path in weights if path.endswith("_3_bn/gamma")}
    truth = np.eye(5, dtype=np.float32)[:1]
    smoothed = 0.9 * -np.log(0.6) + 0.1 / 5 * -(np.log(0.6) + 4 * np.log(0.1))
    assert float(model.loss(truth, np.float32([[0.6, 0.1, 0.1, 0.1, 0.1]]))) == pytest.approx(smoothed, rel=1e-4)


@pytest.mark.parametrize(
    ("images", "options", "batch_size", "learning_rate"),
    [
        (3, {}, 8, 0.0125),
        (190, {}, 16, 0.025),
        (10**6, {}, 128, 0.2),
        (10**6, {"batch_size": 256}, 256, 0.4),
        (190, {"learning_rate": 0.3}, 16, 0.3),
    ],
)
def test_batch_and_rate_follow_the_number_of_images(
    images: int, options: dict[str, Any], batch_size: int, learning_rate: float
) -> None:
    recipe = Recipe.for_images(images, RecipeOptions(**options))
    assert (recipe.batch_size, recipe.learning_rate) == (batch_size, pytest.approx(learning_rate))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"epochs": 0}, "epochs must be at least 1"),
        ({"sizes": ((32, -3),)}, "sizes must be pairs of pixels and epochs"),
        ({"seed": 2**32}, "seed must be below"),
        ({"validation_share": 1.0}, "validation share"),
        ({"learning_rate": float("nan")}, "learning rate"),
    ],
)
def test_invalid_recipes_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Recipe(**fields)


def test_phases_of_image_sizes() -> None:
    recipe = Recipe(epochs=5, sizes=((32, 2), (48, 1)))
    assert list(recipe.phases(64)) == [(32, 0, 2), (48, 2, 3), (64, 3, 5)]
    assert list(Recipe(epochs=2, sizes=((32, 2), (48, 1))).phases(64)) == [(32, 0, 2)]
    assert recipe.remaining_work(64, 3.5) == 64**2 * 1.5


def test_random_crops_are_parts_of_the_image() -> None:
    from resnet_cli.training.batches import random_crop

    ramp = np.zeros((40, 60, 3), np.uint8)
    ramp[..., 0] = 4 * np.arange(60)
    ramp[..., 1] = 6 * np.arange(40)[:, None]
    rng = np.random.default_rng(0)
    crops = [random_crop(Image.fromarray(ramp), 16, 0.35, rng).astype(int) for _ in range(200)]
    assert all(crop.shape == (16, 16, 3) for crop in crops)
    areas = [np.ptp(crop[..., 0]) / 4 * np.ptp(crop[..., 1]) / 6 / (59 * 39) for crop in crops]
    assert 0.25 < min(areas) < 0.4 < 0.75 < max(areas) <= 1
    mirrored = np.mean([crop[0, 0, 0] > crop[0, -1, 0] for crop in crops])
    assert 0.35 < mirrored < 0.65


@pytest.mark.parametrize(
    "options",
    [{"variant": "v1.5", "block": "basic"}, {"variant": "v2"}, {"variant": "d"}, {"variant": "32x4d"}],
    ids=str,
)
def test_all_parameters_of_a_block_are_trained(options: dict[str, str]) -> None:
    from resnet_cli.engines import keras_engine
    from resnet_cli.training import loop

    # At a smaller width, a group would have one channel, and its batch norm would cancel the scale before it.
    described = describe(stages=(1, 2), width=64, classes=5, image_size=32, **options)
    model = loop.build_trainable(loop.TrainingRun(described, tuple("abcde"), TORCHVISION, Recipe(), []), 10, None)
    model.run_eagerly = True  # compiling the network takes longer than two steps
    before = keras_engine.arrays(model)
    pixels = np.random.default_rng(0).standard_normal((5, 32, 32, 3), np.float32)
    for _ in range(2):  # in the first one, scales of zero block the gradients of the layers before them
        model.train_on_batch(pixels, np.eye(5, dtype=np.float32))
    assert [name for name, array in keras_engine.arrays(model).items() if np.array_equal(array, before[name])] == []


TORCH = """
import sys, numpy as np, keras
from resnet_cli.engines import keras_engine
from resnet_cli.network import graph, variants
from resnet_cli.network.preprocessing import TORCHVISION
from resnet_cli.training import loop
from resnet_cli.training.recipe import Recipe
from resnet_cli.training.run import TrainingRun
architecture = variants.describe(variant=sys.argv[1], stages=(1, 2), width=16, stem="small", classes=5, image_size=32)
run = TrainingRun(architecture, tuple("abcde"), TORCHVISION, Recipe(learning_rate=0.1, warmup=0), [])
rng = np.random.default_rng(0)
pixels = rng.standard_normal((8, 32, 32, 3)).astype("float32")
truth = np.eye(5, dtype="float32")[rng.integers(0, 5, 8)]
ours = loop.build_trainable(run, 10, None)
theirs = keras_engine.to_keras(graph.resnet(architecture), any_size=True)
theirs.compile(keras.optimizers.SGD(0.1), keras.losses.CategoricalCrossentropy())
ours.compile(keras.optimizers.SGD(0.1), keras.losses.CategoricalCrossentropy())
for layer in theirs.layers:
    if isinstance(layer, keras.layers.BatchNormalization):
        layer.momentum = 0.9
theirs.set_weights(ours.get_weights())
for _ in range(3):
    print(ours.train_on_batch(pixels, truth), theirs.train_on_batch(pixels, truth))
for ours_, theirs_ in zip(ours.variables, theirs.variables):
    a, b = (keras.ops.convert_to_numpy(v) for v in (ours_, theirs_))
    # PyTorch uses the unbiased variance of a batch, Keras the biased one.
    assert np.allclose(a, b, atol=0.05 if "variance" in ours_.path else 2e-3), (ours_.path, np.abs(a - b).max())
assert np.allclose(ours.predict_on_batch(pixels), theirs.predict_on_batch(pixels), atol=0.02)
"""


@pytest.mark.torch
@pytest.mark.parametrize("variant", ["v1.5", "32x4d"])
def test_torch_layers_train_like_those_of_keras(variant: str) -> None:
    pytest.importorskip("torch")
    result = subprocess.run(
        [conftest.RESNET.with_name("python"), "-c", TORCH, variant],
        env=os.environ | {"KERAS_BACKEND": "torch"}, capture_output=True, text=True,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr


def test_stem_can_be_chosen() -> None:
    small = graph.resnet(
        describe(50, stages=(2, 3, 3), width=48, stem="small", variant="v1.5", classes=200, image_size=64)
    )
    assert small.ops[-3].output_shape == (4, 4, 768)
    with pytest.raises(UsageError, match="stem must be one of imagenet, deep, small, cifar"):
        describe(stem="large")
