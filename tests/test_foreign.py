"""Weights files of other tools: fine-tuned, nested, prefixed, in shards, or none that can be read."""

import json
import pickle
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import keras
import ml_dtypes
import numpy as np
import pytest
from conftest import run_main
from keras import layers
from PIL import Image
from safetensors.numpy import save_file

from resnet_cli.engines import keras_engine
from resnet_cli.errors import ModelError
from resnet_cli.network import graph, variants
from resnet_cli.tasks import synthetic
from resnet_cli.weights import checkpoint, foreign_names
from resnet_cli.weights.model import load_model

SAMPLE = Path(__file__).parents[1] / "sample_images/cat.jpg"
LABELS = ["ant", "bee", "cat", "dog", "eel"]
SMALL = graph.network(stages=(1, 1), width=4, classes=5, image_size=32)
RESNET18 = graph.network(name="resnet18", classes=5)


@pytest.fixture(scope="module")
def tuned() -> keras.Model:
    """Keras's own ResNet-50 for 5 classes and small images."""
    return keras.applications.ResNet50(weights=None, classes=5, input_shape=(32, 32, 3))


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, np.ndarray]:
    """The arrays of a ResNet-18 for 5 classes with torchvision's names."""
    rng = np.random.default_rng(0)
    arrays = {}
    for own, name in foreign_names.torch(RESNET18).items():
        shape = checkpoint.to_torch(np.empty(RESNET18.parameters[own].shape)).shape
        arrays[name] = rng.uniform(0.01, 0.02, shape).astype(np.float32)
    return arrays


def save(model: keras.Model, path: Path) -> Path:
    model.save_weights(path) if path.name.endswith(".weights.h5") else model.save(path)
    return path


def assert_same(path: Path, model: keras.Model) -> None:
    """A file of a small network contains the parameters of a Keras model, whose layers have the usual names."""
    expected = {}
    for layer in model._flatten_layers():
        if isinstance(layer, layers.Conv2D | layers.BatchNormalization | layers.Dense):
            name = "predictions" if isinstance(layer, layers.Dense) else layer.name
            expected |= {f"{name}/{each.name}": keras.ops.convert_to_numpy(each) for each in layer.variables}
    found = checkpoint.read(path).parameters(SMALL)
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array)


# Keras


@pytest.mark.parametrize("suffix", [".h5", ".weights.h5"])
def test_a_fine_tuned_network_of_keras_works_as_it_is(tuned: keras.Model, tmp_path: Path, suffix: str) -> None:
    path = save(tuned, tmp_path / f"fine{suffix}")
    model = load_model(str(path))
    assert [label.name for label in model.metadata.labels] == [f"class_{i}" for i in range(5)]
    assert model.metadata.architecture.name == "resnet50"
    assert model.metadata.architecture.image_size == (224 if suffix == ".weights.h5" else 32)
    for variable in tuned.variables:
        np.testing.assert_array_equal(model.parameters[variable.path], keras.ops.convert_to_numpy(variable))


def test_a_fine_tuned_network_predicts_like_keras_and_has_labels(tuned: keras.Model, tmp_path: Path) -> None:
    path, names, photo = save(tuned, tmp_path / "fine.keras"), tmp_path / "labels.txt", tmp_path / "square.png"
    names.write_text("\ufeff" + "\r\n".join(LABELS) + "\r\n", "utf-8")
    with Image.open(SAMPLE) as image:
        pixels = np.asarray(image.convert("RGB").resize((32, 32)))
    Image.fromarray(pixels).save(photo)  # of the network's size, so it is used unchanged
    expected = tuned(keras.applications.resnet.preprocess_input(pixels[None].astype("float32")))[0]
    printed = run_main("predict", "--weights", path, "--labels", names, "-k", 5, "--format", "json", photo)
    assert printed.stderr == (f"{path}: made for images of 32 x 32 pixels; using that size instead of 224 x 224\n"), (
        "and no warning"
    )
    predicted = {each["label"]: each["probability"] for each in json.loads(printed.stdout)[0]["predictions"]}
    np.testing.assert_allclose([predicted[name] for name in LABELS], np.asarray(expected), atol=1e-4)


def nested(kind: str) -> keras.Model:
    """Return a small network that is a layer of another model."""
    whole = keras_engine.to_keras(SMALL)
    inner = keras.Model(whole.input, whole.get_layer("avg_pool").output, name="resnet_small")
    if kind == "sequential":
        return keras.Sequential([keras.Input((32, 32, 3)), layers.RandomFlip(), inner, layers.Dense(5)])
    if kind == "functional":
        image = keras.Input((32, 32, 3))
        scaled = layers.Rescaling(1 / 127.5, offset=-1)(image)
        outputs = layers.Dense(5, activation="softmax", name="out")(layers.Dropout(0.2)(inner(scaled)))
        model = keras.Model(image, outputs)
        model.compile("adam", "sparse_categorical_crossentropy")  # a trained model is saved with its optimizer
        model.optimizer.build(model.trainable_variables)
        return model
    return keras.Model(inner.input, layers.Dense(5, name="other")(inner.output))


@pytest.mark.parametrize(
    ("kind", "suffix"),
    [
        ("sequential", ".h5"),
        ("sequential", ".weights.h5"),
        ("functional", ".h5"),
        ("functional", ".keras"),
        ("flat", ".weights.h5"),
    ],
)
def test_a_network_inside_another_model_is_found(tmp_path: Path, kind: str, suffix: str) -> None:
    model = nested(kind)
    path = save(model, tmp_path / f"nested{suffix}")
    assert_same(path, model)
    config = checkpoint.read(path).config
    assert config.image_size == (None if suffix == ".weights.h5" else 32)
    if kind == "functional" and suffix != ".weights.h5":
        assert config.preprocessing is not None
        mean, std = (np.array(config.preprocessing[name]) for name in ("mean", "std"))
        pixels = np.array([[0.0, 127.5, 255.0]] * 3).T
        np.testing.assert_allclose((pixels - mean) / std, model.layers[1](pixels), atol=1e-6)


def test_older_files_of_keras_and_bfloat16_are_read(tmp_path: Path) -> None:
    model = nested("flat")
    path = save(model, tmp_path / "old.weights.h5")
    with h5py.File(path, "a") as file:
        file.move("layers", "_layer_checkpoint_dependencies")
        for layer in file["_layer_checkpoint_dependencies"].values():
            for name, values in [*layer["vars"].items()]:
                narrow = values[()].astype(ml_dtypes.bfloat16)
                del layer[f"vars/{name}"]
                layer[f"vars/{name}"] = narrow.view("V2")  # as Keras stores it
    for variable in model.variables:
        variable.assign(keras.ops.convert_to_numpy(variable).astype(ml_dtypes.bfloat16).astype(np.float32))
    assert_same(path, model)


class Wrapper(keras.Model):
    """A network in an attribute of a class."""

    def __init__(self) -> None:
        super().__init__()
        whole = keras_engine.to_keras(SMALL)
        self.backbone = keras.Model(whole.input, whole.get_layer("avg_pool").output)
        self.classifier = layers.Dense(5)

    def call(self, images: Any) -> Any:
        return self.classifier(self.backbone(images))


def test_a_network_in_an_attribute_is_found(tmp_path: Path) -> None:
    model = Wrapper()
    model(np.zeros((1, 32, 32, 3), np.float32))
    assert_same(save(model, tmp_path / "attribute.weights.h5"), model)


def two_heads() -> keras.Model:
    inner = nested("flat")
    features = inner.layers[-2].output
    return keras.Model(inner.input, [inner.output, layers.Dense(3, name="second")(features)])


def on_features(*more: layers.Layer) -> keras.Model:
    inner = nested("flat")
    return keras.Sequential([keras.Model(inner.input, inner.layers[-2].output), *more])


def inside() -> keras.Model:
    inner = nested("flat")
    return keras.Model(inner.input, inner.layers[-3].output)


MODELS: dict[str, tuple[Callable[[], keras.Model], str]] = {
    "no head": (lambda: on_features(layers.Dropout(0.1)), "has no classification head"),
    "two heads": (two_heads, "has two heads"),
    "hidden layers": (
        lambda: on_features(layers.Dense(8), layers.Dense(8), layers.Dense(5)),
        "has 3 dense layers",
    ),
    "one output": (lambda: on_features(layers.Dense(1, activation="sigmoid")), "one"),
    "max pooling": (
        lambda: keras.Sequential([keras.Input((32, 32, 3)), inside(), layers.GlobalMaxPooling2D(), layers.Dense(5)]),
        "ends with GlobalMaxPooling2D",
    ),
    "several labels": (lambda: on_features(layers.Dense(5, activation="sigmoid")), "activation sigmoid"),
    "batch norm beside it": (
        lambda: on_features(layers.BatchNormalization(), layers.Dense(5)),
        "has arrays beside those of the network",
    ),
    "another kind": (
        lambda: keras.Sequential([keras.Input((8, 8, 3)), layers.Conv2D(2, 3), layers.Flatten(), layers.Dense(5)]),
        "is not a ResNet that is known here; its arrays have names like ",
    ),
}


@pytest.mark.parametrize("kind", MODELS)
def test_other_models_are_named_for_what_they_are(tmp_path: Path, kind: str) -> None:
    make, fault = MODELS[kind]
    path = save(make(), tmp_path / "other.keras")
    with pytest.raises(ModelError, match=f"^{path}: .*{fault}") as caught:
        load_model(str(path))
    assert len(str(caught.value).splitlines()) <= 3


# PyTorch and the Hugging Face Hub


@pytest.mark.parametrize(
    ("prefix", "head"),
    [
        ("module.", "module.fc"),
        ("model.backbone.", "model.head.1"),
        ("", "classifier"),
    ],
)
def test_a_common_prefix_is_stripped(theirs: dict[str, np.ndarray], tmp_path: Path, prefix: str, head: str) -> None:
    renamed = {
        name.replace("fc", head) if name.startswith("fc.") else f"{prefix}{name}": array
        for name, array in theirs.items()
    }
    counters = {f"{prefix}bn1.num_batches_tracked": np.array(3)}
    save_file(renamed | counters, tmp_path / "prefixed.safetensors")
    found = load_model(str(tmp_path / "prefixed.safetensors"))
    assert found.metadata.architecture == RESNET18.architecture
    np.testing.assert_array_equal(found.parameters["predictions/kernel"], theirs["fc.weight"].T)
    np.testing.assert_array_equal(found.parameters["predictions/bias"], theirs["fc.bias"])
    kernel = theirs["layer4.1.conv2.weight"].transpose(2, 3, 1, 0)
    np.testing.assert_array_equal(found.parameters["conv5_block2_2_conv/kernel"], kernel)


def test_two_networks_are_refused(theirs: dict[str, np.ndarray], tmp_path: Path) -> None:
    path = tmp_path / "teacher.safetensors"
    save_file({f"{who}.{name}": array for who in ("student", "teacher") for name, array in theirs.items()}, path)
    with pytest.raises(ModelError, match=r"contains 2 networks \(student\. and teacher\.\), expected one"):
        load_model(str(path))


def hub_names(name: str) -> str:
    """Convert torchvision's names of a ResNet-18 to those of transformers, by hand."""
    first, *rest = name.split(".")
    if first in ("conv1", "bn1"):
        return f"resnet.embedder.embedder.{'convolution' if first == 'conv1' else 'normalization'}.{rest[-1]}"
    if first == "fc":
        return f"classifier.1.{rest[-1]}"
    block, layer, *number, kind = rest
    place = "shortcut" if layer == "downsample" else f"layer.{int(layer[-1]) - 1}"
    convolution = layer.startswith("conv") or number == ["0"]
    stage = f"resnet.encoder.stages.{int(first[-1]) - 1}.layers.{block}"
    return f"{stage}.{place}.{'convolution' if convolution else 'normalization'}.{kind}"


@pytest.mark.parametrize("sharded", [False, True])
def test_a_snapshot_of_the_hub_is_read_with_its_labels(
    theirs: dict[str, np.ndarray], tmp_path: Path, sharded: bool
) -> None:
    arrays = {hub_names(name): array.astype(ml_dtypes.bfloat16) for name, array in theirs.items()}
    if sharded:
        names = sorted(arrays)
        parts = {"model-00001-of-00002.safetensors": names[:50], "model-00002-of-00002.safetensors": names[50:]}
        for part, chosen in parts.items():
            save_file({name: arrays[name] for name in chosen}, tmp_path / part)
        listed = {name: part for part, chosen in parts.items() for name in chosen}
        (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": listed}))
    else:
        save_file(arrays, tmp_path / "model.safetensors")
    labels = {str(index): name for index, name in enumerate(LABELS)}
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "resnet", "id2label": labels}))
    images = {"image_mean": [0.5, 0.5, 0.5], "image_std": [0.25, 0.25, 0.25], "size": {"shortest_edge": 96}}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(images))
    model = load_model(str(tmp_path))
    assert [label.name for label in model.metadata.labels] == LABELS
    assert model.metadata.architecture == variants.describe(name="resnet18", classes=5, image_size=96)
    assert model.metadata.preprocessing.mean == (127.5, 127.5, 127.5)
    expected = theirs["layer2.0.downsample.0.weight"].astype(ml_dtypes.bfloat16).astype(np.float32)
    np.testing.assert_array_equal(model.parameters["conv3_block1_0_conv/kernel"], expected.transpose(2, 3, 1, 0))
    if sharded:
        before = model.digest
        save_file({name: 2 * arrays[name] for name in names[50:]}, tmp_path / part)
        again = load_model(str(tmp_path))
        assert again.digest != before, "a compiled network of the old part is not used"
        (tmp_path / part).unlink()
        with pytest.raises(ModelError, match=f"{part}, which it lists, is missing"):
            load_model(str(tmp_path))
        return
    (tmp_path / "config.json").write_text(json.dumps({"id2label": {"0": "ant"}}))
    with pytest.warns(UserWarning, match="its configuration has 1 labels for 5 classes; ignoring them"):
        assert load_model(str(tmp_path)).metadata.labels[0].name == "class_0"
    (tmp_path / "config.json").write_text(json.dumps({"downsample_in_bottleneck": True}))
    with pytest.raises(ModelError, match="downsample_in_bottleneck must be False, got True"):
        load_model(str(tmp_path))


def test_a_snapshot_of_timm_brings_its_preprocessing(theirs: dict[str, np.ndarray], tmp_path: Path) -> None:
    save_file(theirs, tmp_path / "model.safetensors")
    trained = {"input_size": [3, 160, 160], "mean": [0.5] * 3, "std": [0.5] * 3}
    trained |= {"crop_pct": 0.95, "interpolation": "bicubic"}
    config = {"architecture": "resnet18", "label_names": LABELS, "pretrained_cfg": trained}
    (tmp_path / "config.json").write_text(json.dumps(config))
    found = load_model(str(tmp_path / "model.safetensors")).metadata
    assert (found.architecture.image_size, [label.name for label in found.labels]) == (160, LABELS)
    assert (found.preprocessing.resizing.crop, found.preprocessing.resizing.interpolation) == (0.95, "bicubic")


# Labels


@pytest.fixture(scope="module")
def five(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small network with 5 classes."""
    path = tmp_path_factory.mktemp("five") / "five.safetensors"
    synthetic.write_weights(path, SMALL)
    return path


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"a\nb\nc\nd\n", "expected 5 labels, one per line, got 4 lines"),
        (b"a\nb\nc\nd\ne\nf", "got 6 lines"),
        (b"a\n\nc\nd\ne\n", "got line 2 empty"),
        (b"\xff\xfe", "cannot read the labels"),
        (None, "No such file"),
    ],
)
def test_labels_that_do_not_fit_are_wrong_usage(five: Path, tmp_path: Path, content: bytes | None, fault: str) -> None:
    labels = tmp_path / "labels.txt"
    if content is not None:
        labels.write_bytes(content)
    result = run_main("predict", "--weights", five, "--labels", labels, SAMPLE)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith(f"error: {labels}: ")
    assert fault in result.stderr


def test_labels_are_stored_by_convert_and_used_by_evaluate(five: Path, tmp_path: Path) -> None:
    labels = tmp_path / "labels.txt"
    labels.write_text("\n".join(["n02099712", *LABELS[1:]]))
    converted = run_main("convert", "--labels", labels, five, tmp_path / "named.safetensors")
    assert converted.returncode == 0, converted.stderr
    metadata = checkpoint.read(tmp_path / "named.safetensors").metadata
    assert metadata is not None
    assert [(label.name, label.wnid) for label in metadata.labels[:2]] == [
        ("Labrador_retriever", "n02099712"),
        ("bee", None),
    ]
    (tmp_path / "data/bee").mkdir(parents=True)
    shutil.copy(SAMPLE, tmp_path / "data/bee")
    command = ("evaluate", "--weights", five, tmp_path / "data")
    assert (run_main(*command).returncode, run_main(*command, "--labels", labels).returncode) == (2, 0)


# Files that are no weights


def _zip(path: Path, *names: str) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, b"content")


PICKLE = "got a PyTorch pickle, which could run any code and is never loaded"
OTHERS: dict[str, tuple[Callable[[Path], object], str]] = {
    "model.pth": (lambda path: path.write_bytes(pickle.dumps({"fc.weight": [1.0]}, 2)), PICKLE),
    "model.pt": (lambda path: _zip(path, "archive/data.pkl", "archive/data/0"), PICKLE),
    "pickle.safetensors": (lambda path: path.write_bytes(pickle.dumps([1], 4)), PICKLE),
    "model.onnx": (lambda path: path.write_bytes(b"\x08\x08\x12\x07pytorch"), "ONNX file, which is for export only"),
    "onnx.h5": (lambda path: path.write_bytes(b"\x08\x0a:\x04body"), "ONNX file, which is for export only"),
    "model.xml": (
        lambda path: path.write_text('<?xml version="1.0"?>\n<net name="resnet" version="11">'),
        "OpenVINO file, which is for export only",
    ),
    "lfs.safetensors": (
        lambda path: path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\n"),
        "Run `git lfs pull`",
    ),
    "page.h5": (lambda path: path.write_text("<!DOCTYPE html><title>Not found</title>"), "got a web page"),
    "arrays.npz": (lambda path: np.savez(path, a=np.zeros(3)), "got NumPy arrays"),
    "weights.zip": (lambda path: _zip(path, "manifest.json", "a.h5"), "Run `resnet weights install FILE`"),
    "folder": (Path.mkdir, "got a folder without model.safetensors"),
    "saved": (lambda path: (path.mkdir(), (path / "saved_model.pb").touch()), "got a TensorFlow SavedModel"),
    "hub": (lambda path: (path.mkdir(), _zip(path / "pytorch_model.bin", "archive/data.pkl")), PICKLE),
}


@pytest.mark.parametrize("name", OTHERS)
def test_files_that_are_not_read_are_named_for_what_they_are(tmp_path: Path, name: str) -> None:
    make, words = OTHERS[name]
    path = tmp_path / name
    make(path)
    result = run_main("predict", "--weights", path, SAMPLE)
    assert (result.returncode, result.stdout) == (3, "")
    assert result.stderr.startswith(f"error: {path}")
    assert words in result.stderr
    assert len(result.stderr.splitlines()) <= 3
