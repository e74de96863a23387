"""Training on tiny trees of coloured squares: what it learns, what it refuses, and that it can be killed."""

import csv
import json
import os
import resource
import signal
import subprocess
import time
from functools import partial
from pathlib import Path
from typing import Any

import conftest
import numpy as np
import pytest
import sklearn.metrics
from PIL import Image

from resnet_cli import checkpoints, datasets, files, graph, metrics
from resnet_cli.architecture import resnet as describe
from resnet_cli.errors import UsageError
from resnet_cli.recipe import Recipe

COLOURS = {"blue": (40, 60, 200), "green": (40, 180, 60), "red": (200, 50, 40)}
NETWORK = ("--stages", "1,1", "--width", "8", "--stem", "small", "--image-size", "16", "--precision", "f32")


def _tree(root: Path, split: str = "train", images: int = 20) -> Path:
    rng = np.random.default_rng(len(split))
    for name, colour in COLOURS.items():
        folder = root / split / name
        folder.mkdir(parents=True)
        for i in range(images):
            pixels = rng.normal(colour, 40, (20, 24, 3)).clip(0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / f"{i:02}.png")
    return root


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Three classes of 20 images."""
    return _tree(tmp_path / "data")


def _names(split: datasets.Split) -> set[str]:
    return set(split.names)


def test_split_is_stable(tree: Path) -> None:
    before = datasets.scan(tree, 0.2)
    assert before.classes == ("blue", "green", "red")
    assert len(before.train) + len(before.validation) == 60
    assert not _names(before.train) & _names(before.validation)
    assert 4 <= len(before.validation) <= 20
    for i in range(20, 40):  # more images move none of the old ones to the other side
        (tree / f"train/red/{i}.png").write_bytes((tree / "train/red/00.png").read_bytes())
    after = datasets.scan(tree, 0.2)
    assert _names(before.train) <= _names(after.train)
    assert _names(before.validation) <= _names(after.validation)


def test_val_folder_is_the_validation_split(tree: Path) -> None:
    _tree(tree, "val", images=3)
    found = datasets.scan(tree, 0.2)
    assert (len(found.train), len(found.validation)) == (60, 9)
    assert found.validation.folder == tree / "val"
    assert [found.classes[i] for i in found.validation.classes] == [
        name.split("/")[0] for name in found.validation.names
    ]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda root: (root / "train").rename(root / "images"), "expected a folder `train`"),
        (lambda root: (root / "train/void").mkdir(), "found none in void"),
        (lambda root: [(root / "train" / name).rename(root / name) for name in ("red", "blue")], "at least two"),
        (lambda root: [path.unlink() for path in root.rglob("*.png")], "found none in blue, green, red"),
        (lambda root: (root / "val/yellow").mkdir(parents=True), "yellow has no folder"),
        (lambda root: (root / "val/red").mkdir(parents=True), "no images to validate with"),
    ],
)
def test_bad_tree_is_refused(tree: Path, spoil: Any, message: str) -> None:
    spoil(tree)
    with pytest.raises(UsageError, match=message):
        datasets.scan(tree, 0.2)


def test_bad_tree_ends_the_command_before_keras(resnet: conftest.Run, tree: Path, tmp_path: Path) -> None:
    (tree / "train/void").mkdir()
    result = resnet("train", tree, "-o", tmp_path / "m.safetensors", KERAS_BACKEND="none such")
    assert result.returncode == 2
    assert "found none in void" in result.stderr


def test_command_learns_and_reports(resnet: conftest.Run, tree: Path, tmp_path: Path) -> None:
    _tree(tree, "val", images=5)
    (tree / "train/red/99.png").write_bytes(b"\x89PNG\r\n\x1a\n damaged")
    out = tmp_path / "m.safetensors"
    recipe = ("--epochs", 8, "--batch-size", 10, "--lr", 0.1, "--sizes", "8x2", "--half")
    result = resnet("train", tree, "-o", out, *NETWORK, *recipe, "--format", "json")
    assert result.returncode == 1, result.stderr  # one image was left out
    summary = json.loads(result.stdout)
    assert list(summary["bad"]) == ["train/red/99.png"]
    assert "red/99.png: left out" in result.stderr
    assert (summary["images"], summary["validation_images"], summary["epochs"]) == (60, 15, 8)
    assert summary["val_accuracy"] > 0.9
    assert summary["val_loss"] <= summary["val_loss_untempered"]

    about = checkpoints.read(out).metadata
    assert about is not None
    assert [label.name for label in about.labels] == ["blue", "green", "red"]
    assert about.architecture.image_size == 16
    assert about.temperature == summary["temperature"]
    assert about.training["recipe"]["epochs"] == 8
    rows = list(csv.DictReader((tmp_path / "m.metrics.csv").open()))
    assert [row["image_size"] for row in rows] == ["8"] * 2 + ["16"] * 6
    assert Image.open(tmp_path / "m.curves.png").size[0] > 500
    assert out.stat().st_size < 2.2 * sum(array.size for array in checkpoints.read(out).arrays.values()) + 20_000

    answer = resnet("predict", "--weights", out, "--format", "json", tree / "val/green/00.png")
    assert json.loads(answer.stdout)[0]["predictions"][0]["label"] == "green"

    again = resnet("train", tree, "-o", out, *NETWORK)
    assert again.returncode == 2
    assert "--resume goes on" in again.stderr

    head_only = ("--weights", out, "--freeze-backbone", "--epochs", 2, "--batch-size", 10, "--precision", "f32")
    fine = resnet("train", tree, "-o", tmp_path / "fine.safetensors", *head_only, "--format", "json")
    assert json.loads(fine.stdout)["val_accuracy"] > 0.9
    before, after = (checkpoints.read(tmp_path / name).arrays for name in ("m.safetensors", "fine.safetensors"))
    changed = {name for name in before if not np.allclose(before[name], after[name], atol=1e-3)}
    assert changed == {"predictions/kernel", "predictions/bias"}


def test_killed_run_goes_on(tree: Path, tmp_path: Path) -> None:
    out, whole = tmp_path / "m.safetensors", tmp_path / "whole.safetensors"
    (tree / "train/red/99.png").write_bytes(b"\x89PNG\r\n\x1a\n damaged")
    command = [conftest.RESNET, "train", tree, *NETWORK, "--epochs", "6", "--batch-size", "10", "--format", "json"]
    environment = os.environ | {"RESNET_CACHE_DIR": str(tmp_path)}
    subprocess.run([*command, "-o", whole], env=environment, check=False, capture_output=True)

    process = subprocess.Popen(
        [*command, "-o", out], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    assert process.stderr is not None
    for line in process.stderr:
        if b"epoch 2 of" in line:
            break
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not out.exists()
    assert len(list(csv.DictReader((tmp_path / "m.metrics.csv").open()))) >= 2
    left = tmp_path / ".resnet-left"  # as if it had been killed while it wrote
    left.mkdir()
    (left / "m.checkpoint.weights.h5").write_bytes(b"half")
    resumed = subprocess.run(
        [*command, "-o", out, "--resume"], env=environment, check=False, capture_output=True, text=True
    )
    assert resumed.returncode == 1  # one image was left out
    assert "going on after epoch" in resumed.stderr
    assert json.loads(resumed.stdout)["epochs"] == 6
    assert list(json.loads(resumed.stdout)["bad"]) == ["train/red/99.png"]
    assert "99.png" not in resumed.stderr  # met and told before
    assert not left.exists()

    # The same crops in the same order, momentum and learning rate: as if it had not been killed.
    expected, got = checkpoints.read(whole).arrays, checkpoints.read(out).arrays
    assert all(np.allclose(expected[name], got[name], atol=1e-3) for name in expected)

    more = subprocess.run(
        [conftest.RESNET, "train", tree, "-o", out, "--resume", "--epochs", "7", "--cooldown", "1", "--format", "json"],
        env=environment, check=False, capture_output=True, text=True,
    )  # fmt: skip
    assert json.loads(more.stdout)["epochs"] == 7


def test_full_disk_ends_the_run_with_a_message(tree: Path, tmp_path: Path) -> None:
    command = [conftest.RESNET, "train", tree, "-o", tmp_path / "m.safetensors", *NETWORK, "--epochs", "2"]
    limit = partial(resource.setrlimit, resource.RLIMIT_FSIZE, (20_000, 20_000))  # the table fits, no weights do
    result = subprocess.run(command, preexec_fn=limit, capture_output=True, text=True)
    assert result.returncode == 2, result.stderr
    assert "error: cannot write" in result.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "m.metrics.csv"]


def test_unfinished_files_of_living_processes_stay(tmp_path: Path) -> None:
    out = tmp_path / "m.csv"
    for folder, name in ((".resnet-dead", "m.csv"), (".resnet-other", "n.csv")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / name).touch()
    with files.replacing(out) as unfinished:
        unfinished.write_text("whole")
        code = "import sys, pathlib; from resnet_cli import files; files.remove_unfinished(pathlib.Path(sys.argv[1]))"
        subprocess.run([conftest.RESNET.with_name("python"), "-c", code, out], check=True)
    assert out.read_text() == "whole"
    assert sorted(path.name for path in tmp_path.iterdir()) == [".resnet-other", "m.csv"]


def test_interrupted_run_keeps_its_epochs(tree: Path, tmp_path: Path) -> None:
    command = [conftest.RESNET, "train", tree, "-o", tmp_path / "m.safetensors", *NETWORK, "--epochs", "1000"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    assert process.stderr is not None
    for line in process.stderr:
        if b"epoch 1 of" in line:
            break
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 130
    assert b"--resume" in process.stderr.read()
    assert (tmp_path / "m.checkpoint.weights.h5").exists()


def test_temperature_lowers_the_loss_of_images_it_has_not_seen() -> None:
    rng = np.random.default_rng(0)
    classes = rng.integers(0, 10, 4000).astype(np.int32)
    logits = rng.normal(0, 1, (4000, 10)) + 2 * np.eye(10)[classes]
    powers = np.exp(3 * logits)  # by Bayes' rule, 2 would be honest
    probabilities = (powers / powers.sum(1, keepdims=True)).astype(np.float32)
    scores = metrics.score([(probabilities[:2000], classes[:2000])], metrics.TEMPERATURES)
    assert scores.temperature == pytest.approx(1.5, rel=0.1)
    held = metrics.score([(probabilities[2000:], classes[2000:])], metrics.TEMPERATURES)
    assert held.losses[scores.temperature] < held.losses[1]


def test_scores_of_batches_are_those_of_all_images() -> None:
    rng = np.random.default_rng(0)
    classes = rng.integers(0, 7, 100).astype(np.int32)
    probabilities = rng.dirichlet(np.full(7, 5), 100).astype(np.float32)
    parts = [slice(0, 64), slice(64, 99), slice(99, 100)]
    scores = metrics.score(((probabilities[part], classes[part]) for part in parts), [1.0, 2.0])
    powers = probabilities**0.5  # softmax(logits / 2)
    softer = powers / powers.sum(1, keepdims=True)
    every = range(7)
    assert scores.images == 100
    assert scores.accuracy == pytest.approx(sklearn.metrics.accuracy_score(classes, probabilities.argmax(1)))
    top5 = sklearn.metrics.top_k_accuracy_score(classes, probabilities, k=5, labels=every)
    assert scores.top5 == pytest.approx(top5)
    assert scores.losses[1] == pytest.approx(sklearn.metrics.log_loss(classes, probabilities, labels=every), rel=1e-4)
    assert scores.losses[2] == pytest.approx(sklearn.metrics.log_loss(classes, softer, labels=every), rel=1e-4)


def test_learning_rate_rises_holds_and_falls() -> None:
    from resnet_cli.training import WarmHoldCosine

    recipe = Recipe(epochs=10, warmup=2, cooldown=4, learning_rate=0.5)
    rates = [float(WarmHoldCosine(recipe, steps=5)(step)) for step in range(51)]
    assert rates[:10] == pytest.approx([0.05 * (step + 1) for step in range(10)])
    assert rates[9:30] == pytest.approx([0.5] * 21)
    assert rates[39] == pytest.approx(0.25)
    assert rates[49] == pytest.approx(0, abs=1e-6)
    longer = WarmHoldCosine(Recipe(epochs=100, warmup=2, cooldown=4, learning_rate=0.5), steps=5)
    assert [float(longer(step)) for step in range(30)] == pytest.approx(rates[:30])
    assert float(WarmHoldCosine(Recipe(epochs=1), steps=3)(0)) > 0.1  # a single epoch is no warm-up


def test_the_recipe_is_what_keras_is_told() -> None:
    from resnet_cli import training
    from resnet_cli.pretrained import TORCHVISION

    described = describe(variant="v1.5", stages=(1, 2), width=8, stem="small", classes=5, image_size=32)
    model = training.compiled(training.Run(described, tuple("abcde"), TORCHVISION, Recipe(), []), 10, None)
    weights = {variable.path: variable for variable in model.trainable_variables}
    decays = {path for path, variable in weights.items() if model.optimizer._use_weight_decay(variable)}
    assert decays == {path for path in weights if path.endswith("kernel")}
    zero = {path for path, variable in weights.items() if path.endswith("gamma") and not np.any(variable.numpy())}
    assert zero == {path for path in weights if path.endswith("_3_bn/gamma")}
    truth = np.eye(5, dtype=np.float32)[:1]
    smoothed = 0.9 * -np.log(0.6) + 0.1 / 5 * -(np.log(0.6) + 4 * np.log(0.1))
    assert float(model.loss(truth, np.float32([[0.6, 0.1, 0.1, 0.1, 0.1]]))) == pytest.approx(smoothed, rel=1e-4)


@pytest.mark.parametrize(
    ("images", "given", "batch_size", "learning_rate"),
    [
        (3, {}, 8, 0.0125),
        (190, {}, 16, 0.025),
        (10**6, {}, 128, 0.2),
        (10**6, {"batch_size": 256}, 256, 0.4),
        (190, {"learning_rate": 0.3}, 16, 0.3),
    ],
)
def test_batch_and_rate_follow_the_number_of_images(
    images: int, given: dict[str, Any], batch_size: int, learning_rate: float
) -> None:
    recipe = Recipe.begin(images, given)
    assert (recipe.batch_size, recipe.learning_rate) == (batch_size, pytest.approx(learning_rate))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"epochs": 0}, "epochs must be at least 1"),
        ({"sizes": ((32, -3),)}, "sizes must be"),
        ({"seed": 2**32}, "seed must be below"),
        ({"validation_share": 1.0}, "validation share"),
        ({"learning_rate": float("nan")}, "learning rate"),
    ],
)
def test_bad_recipes_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Recipe(**fields)


def test_phases_of_image_sizes() -> None:
    recipe = Recipe(epochs=5, sizes=((32, 2), (48, 1)))
    assert list(recipe.phases(64)) == [(32, 0, 2), (48, 2, 3), (64, 3, 5)]
    assert list(Recipe(epochs=2, sizes=((32, 2), (48, 1))).phases(64)) == [(32, 0, 2)]
    assert recipe.work(64, 3.5) == 64**2 * 1.5


def test_random_crops_are_parts_of_the_picture() -> None:
    from resnet_cli.batches import random_crop

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
def test_every_kind_of_block_learns(options: dict[str, str]) -> None:
    from resnet_cli import keras_model, training
    from resnet_cli.pretrained import TORCHVISION

    # Narrower, a group would have one channel, and the batch norm after it would undo the scale before it.
    described = describe(stages=(1, 2), width=64, classes=5, image_size=32, **options)
    model = training.compiled(training.Run(described, tuple("abcde"), TORCHVISION, Recipe(), []), 10, None)
    before = keras_model.arrays(model)
    pixels = np.random.default_rng(0).standard_normal((5, 32, 32, 3), np.float32)
    for _ in range(2):  # at first, scales of zero keep what stands before them from learning
        model.train_on_batch(pixels, np.eye(5, dtype=np.float32))
    assert [name for name, array in keras_model.arrays(model).items() if np.array_equal(array, before[name])] == []


TORCH = """
import sys, numpy as np, keras
from resnet_cli import architecture, graph, keras_model, training
from resnet_cli.pretrained import TORCHVISION
from resnet_cli.recipe import Recipe
described = architecture.resnet(variant=sys.argv[1], stages=(1, 2), width=16, stem="small", classes=5, image_size=32)
run = training.Run(described, tuple("abcde"), TORCHVISION, Recipe(learning_rate=0.1, warmup=0), [])
rng = np.random.default_rng(0)
pixels = rng.standard_normal((8, 32, 32, 3)).astype("float32")
truth = np.eye(5, dtype="float32")[rng.integers(0, 5, 8)]
ours = training.compiled(run, 10, None)
theirs = keras_model.build(graph.resnet(described), any_size=True)
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
    # PyTorch keeps the unbiased variance of a batch, Keras the biased one.
    assert np.allclose(a, b, atol=0.05 if "variance" in ours_.path else 2e-3), (ours_.path, np.abs(a - b).max())
assert np.allclose(ours.predict_on_batch(pixels), theirs.predict_on_batch(pixels), atol=0.02)
"""


@pytest.mark.torch
@pytest.mark.parametrize("variant", ["v1.5", "32x4d"])
def test_layers_for_torch_learn_as_those_of_keras(variant: str) -> None:
    pytest.importorskip("torch")
    result = subprocess.run(
        [conftest.RESNET.with_name("python"), "-c", TORCH, variant],
        env=os.environ | {"KERAS_BACKEND": "torch"}, capture_output=True, text=True,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr


def test_stem_is_a_row() -> None:
    small = graph.resnet(
        describe(50, stages=(2, 3, 3), width=48, stem="small", variant="v1.5", classes=200, image_size=64)
    )
    assert small.ops[-3].output_shape == (4, 4, 768)
    with pytest.raises(UsageError, match="stem must be one of imagenet, deep, small, cifar"):
        describe(stem="large")
