"""Weights files: every layout is read, and a file that does not match is refused with the names of its arrays."""

import io
import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import h5py
import keras
import ml_dtypes
import networks
import numpy as np
import pytest
from conftest import run_main
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from resnet_cli.engines import keras_engine
from resnet_cli.errors import ModelError
from resnet_cli.network import graph, labels, variants
from resnet_cli.network.architecture import Architecture
from resnet_cli.network.metadata import Metadata
from resnet_cli.network.preprocessing import CAFFE
from resnet_cli.system.cache_folder import cache_dir
from resnet_cli.weights import checkpoint
from resnet_cli.weights.model import load_model
from resnet_cli.weights.published import PRETRAINED

NETWORK = graph.resnet(variants.describe(stages=(1, 1), width=4, classes=5, image_size=32))
SAMPLE = Path(__file__).parents[1] / "sample_images/cat.jpg"
METADATA = Metadata(NETWORK.architecture, labels.default_labels(5), CAFFE)
LAYOUTS = (
    "model.keras",
    "w.weights.h5",
    "legacy.h5",
    "published.h5",
    "model.h5",
    "m.safetensors",
    "half.safetensors",
)


@pytest.fixture(scope="module")
def model() -> keras.Model:
    return networks.plausible(keras_engine.to_keras(NETWORK))


def _rename_head(path: Path) -> None:
    """Call the dense layer `probs`, as in the published files."""
    with h5py.File(path, "a") as file:
        file["probs/probs/kernel:0"] = file["predictions/predictions/kernel"][()]
        file["probs/probs/bias:0"] = file["predictions/predictions/bias"][()]
        del file["predictions"]


@pytest.fixture(scope="module")
def layouts(tmp_path_factory: pytest.TempPathFactory, model: keras.Model) -> Path:
    """The folder of `LAYOUTS`."""
    folder = tmp_path_factory.mktemp("layouts")
    model.save(folder / "model.keras")
    model.save_weights(folder / "w.weights.h5")
    networks.write_legacy(model, folder / "legacy.h5")
    _rename_head(networks.write_legacy(model, folder / "published.h5"))
    model.save(folder / "model.h5")  # Keras writes a complete model in its legacy layout if the name ends with .h5
    arrays = keras_engine.arrays(model)
    checkpoint.write_safetensors(folder / "m.safetensors", arrays, METADATA)
    save_file({name: array.astype(np.float16) for name, array in arrays.items()}, folder / "half.safetensors")
    return folder


@pytest.fixture(params=LAYOUTS)
def file(request: pytest.FixtureRequest, layouts: Path, tmp_path: Path) -> Path:
    """The same weights in each layout, in a copy that a test may damage."""
    return Path(shutil.copy(layouts / request.param, tmp_path))


@pytest.fixture
def legacy(layouts: Path, tmp_path: Path) -> Path:
    """Weights in Keras 2's layout, in a copy that a test may damage."""
    return Path(shutil.copy(layouts / "legacy.h5", tmp_path))


def test_every_layout_is_read(file: Path, model: keras.Model) -> None:
    parameters = checkpoint.read(file).parameters(NETWORK)
    assert list(parameters) == list(NETWORK.parameters)
    for variable in model.variables:
        assert parameters[variable.path].dtype == np.float32
        tolerance = 1e-3 if file.name.startswith("half") else 0  # half precision has 11 bits
        expected = keras.ops.convert_to_numpy(variable)
        np.testing.assert_allclose(parameters[variable.path], expected, tolerance, tolerance)


Arrays = dict[str, np.ndarray]


def _without(arrays: Arrays) -> Arrays:
    return {name: array for name, array in arrays.items() if name != "conv3_block1_2_conv/kernel"}


def _with_one_more(arrays: Arrays) -> Arrays:
    return arrays | {"conv9_conv/kernel": np.zeros(3, np.float32)}


def _with_wrong_shape(arrays: Arrays) -> Arrays:
    return arrays | {"conv1_bn/gamma": np.zeros(7, np.float32)}


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (_without, "missing: conv3_block1_2_conv/kernel"),
        (_with_one_more, "unexpected: conv9_conv/kernel"),
        (_with_wrong_shape, r"wrong shape: conv1_bn/gamma has \(7,\), expected \(4,\)"),
    ],
)
def test_files_that_do_not_match_are_refused_with_names(
    tmp_path: Path, model: keras.Model, change: Callable[[Arrays], Arrays], fault: str
) -> None:
    path = tmp_path / "other.safetensors"
    checkpoint.write_safetensors(path, change(keras_engine.arrays(model)), METADATA)
    with pytest.raises(ModelError, match=fault) as caught:
        checkpoint.read(path).parameters(NETWORK)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("layout", ["w.weights.h5", "legacy.h5"])
@pytest.mark.parametrize(
    ("edit", "fault"),
    [
        ("remove", "missing: conv1_conv/kernel"),
        ("add", "unexpected: .*extra"),
        ("reshape", r"wrong shape: conv1_conv/kernel has \(2,\), expected \(7, 7, 3, 4\)"),
    ],
)
def test_hdf5_files_that_do_not_match_are_refused_with_names(
    tmp_path: Path, layouts: Path, layout: str, edit: str, fault: str
) -> None:
    path = Path(shutil.copy(layouts / layout, tmp_path))
    kernel = "layers/conv2d/vars/0" if layout == "w.weights.h5" else "conv1_conv/conv1_conv/kernel"
    with h5py.File(path, "a") as file:
        if edit == "add":
            file[f"{kernel.rpartition('/')[0]}/extra"] = np.zeros(3)
        else:
            del file[kernel]
        if edit == "reshape":
            file[kernel] = np.zeros(2)
    with pytest.raises(ModelError, match=fault):
        checkpoint.read(path).parameters(NETWORK)


@pytest.mark.parametrize("suffix", [".safetensors", ".keras", ".weights.h5", ".h5"])
@pytest.mark.parametrize("content", [b"", b"no weights", b"PK\x03\x04 cut", b"\x89HDF\r\n\x1a\n cut", b"\xff" * 64])
def test_damaged_and_unsupported_files_are_refused(tmp_path: Path, suffix: str, content: bytes) -> None:
    path = tmp_path / f"bad{suffix}"
    path.write_bytes(content)
    with pytest.raises(ModelError, match="damaged or unsupported"):
        checkpoint.read(path)


def test_bfloat16_is_read_without_its_library(tmp_path: Path) -> None:
    """In a new process, because Keras teaches NumPy the type; the oracle is that library."""
    values = np.array([[0, -0.0, 1, -2.5], [3.1415926, 1e-40, 6.5e37, -1e-3]], np.float32)
    path = tmp_path / "narrow.safetensors"
    save_file({"a/kernel": values.astype(ml_dtypes.bfloat16), "a/bias": values[0].astype(np.float16)}, path)
    script = f"""
import sys
from pathlib import Path
from resnet_cli.weights import checkpoint
arrays = checkpoint.read_arrays(Path({str(path)!r}))
assert "ml_dtypes" not in sys.modules
print(arrays["a/kernel"].dtype, arrays["a/kernel"].tobytes().hex(), arrays["a/bias"].tolist())
"""
    printed = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    expected = values.astype(ml_dtypes.bfloat16).astype(np.float32)
    assert printed.split() == ["float32", expected.tobytes().hex(), "[0.0,", "-0.0,", "1.0,", "-2.5]"]


def _set_value(path: Path, name: str, value: float) -> None:
    """Change the first value of an array in a weights file, without the code under test."""
    if path.suffix == ".safetensors":
        with safe_open(path, "numpy") as file:
            metadata = file.metadata()
        arrays = load_file(path)
        arrays[name].flat[0] = value
        save_file(arrays, path, metadata)
        return
    with zipfile.ZipFile(path) if path.suffix == ".keras" else nullcontext() as archive:
        members = {each: archive.read(each) for each in archive.namelist()} if archive else {}
    content = io.BytesIO(members.get("model.weights.h5") or path.read_bytes())
    with h5py.File(content, "a") as file:
        values = file[name][()]
        values.flat[0] = value
        file[name][...] = values
    path.write_bytes(content.getvalue())
    if members:
        with zipfile.ZipFile(path, "w") as archive:
            for each, old in members.items():
                archive.writestr(each, content.getvalue() if each == "model.weights.h5" else old)


@pytest.mark.parametrize(
    ("layout", "kernel", "variance"),
    [
        ("m.safetensors", "conv1_conv/kernel", "conv1_bn/moving_variance"),
        ("half.safetensors", "conv1_conv/kernel", "conv1_bn/moving_variance"),
        ("legacy.h5", "conv1_conv/conv1_conv/kernel", "conv1_bn/conv1_bn/moving_variance"),
        ("w.weights.h5", "layers/conv2d/vars/0", "layers/batch_normalization/vars/3"),
        ("model.keras", "layers/conv2d/vars/0", "layers/batch_normalization/vars/3"),
    ],
)
def test_values_of_diverged_weights_are_refused(
    layouts: Path, tmp_path: Path, layout: str, kernel: str, variance: str
) -> None:
    for name, value, fault in (
        (kernel, np.nan, "conv1_conv/kernel.* has NaN or infinite values"),
        (kernel, -np.inf, "conv1_conv/kernel.* has NaN or infinite values"),
        (variance, -0.5, "conv1_bn/moving_variance.* has a negative variance, -0.5"),
    ):
        path = Path(shutil.copy(layouts / layout, tmp_path))
        _set_value(path, name, value)
        with pytest.raises(ModelError, match=f"^{path}: {fault}") as caught:
            checkpoint.read(path).check_values(NETWORK)
        assert (f"({name} in the file)" in str(caught.value)) == ("vars" in name)


@pytest.mark.parametrize("engine", ["openvino", "keras"])
def test_diverged_weights_are_refused_though_an_older_version_compiled_them(
    layouts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, engine: str
) -> None:
    path = Path(shutil.copy(layouts / "m.safetensors", tmp_path))
    _set_value(path, "conv2_block1_1_conv/kernel", np.nan)
    os.utime(path, (1_000_000, 1_000_000))  # so that what is found in it is cached
    command = ("predict", "--weights", path, "--engine", engine, SAMPLE)
    if engine == "openvino":
        with monkeypatch.context() as older:
            older.setattr(checkpoint, "_fault", lambda *_: "")
            older.setattr("resnet_cli.weights.model.READER_VERSION", 0)
            assert run_main(*command).returncode == 0
        assert [*(cache_dir() / "compiled").iterdir()]
    refused = run_main(*command)
    assert (refused.returncode, refused.stdout) == (3, "")
    assert refused.stderr.startswith(f"error: {path}: conv2_block1_1_conv/kernel has NaN or infinite values\n")


def test_a_cached_start_reads_no_arrays(layouts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = Path(shutil.copy(layouts / "m.safetensors", tmp_path))
    os.utime(path, (1_000_000, 1_000_000))
    command = ("predict", "--weights", path, "--format", "json", SAMPLE)
    first = run_main(*command)
    monkeypatch.setattr(checkpoint, "read", None)
    again = run_main(*command)
    assert (first.returncode, again.returncode, again.stdout) == (0, 0, first.stdout)


def test_incomplete_files_are_refused(file: Path) -> None:
    content = file.read_bytes()
    for share in (0.01, 0.5, 0.99):
        file.write_bytes(content[: int(len(content) * share)])
        with pytest.raises(ModelError):
            checkpoint.read(file).parameters(NETWORK)


def test_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="expected a weights file, found none"):
        checkpoint.read(tmp_path / "none.h5")


def test_duplicate_arrays_are_refused(legacy: Path) -> None:
    with h5py.File(legacy, "a") as file:
        file["conv1_conv/other/kernel"] = np.zeros((7, 7, 3, 4))
    with pytest.raises(ModelError, match="duplicate arrays: conv1_conv/kernel"):
        checkpoint.read(legacy)


@pytest.mark.parametrize("array", [np.zeros(4, bool), np.zeros(4, np.int64), np.zeros(4, "S3")])
def test_arrays_of_other_types_are_refused(legacy: Path, array: np.ndarray) -> None:
    with h5py.File(legacy, "a") as file:
        del file["conv1_conv/conv1_conv/bias"]
        file["conv1_conv/conv1_conv/bias"] = array
    with pytest.raises(ModelError, match=r"conv1_conv/bias: expected floating-point values, got "):
        checkpoint.read(legacy)


def test_flipped_bytes_cause_no_other_error(file: Path) -> None:
    content = file.read_bytes()
    rng = np.random.default_rng(7)
    for _ in range(15):
        damaged = bytearray(content)
        for position in rng.integers(0, min(len(content), 5000), 20):
            damaged[position] ^= int(rng.integers(1, 256))
        file.write_bytes(damaged)
        try:
            parameters = checkpoint.read(file).parameters(NETWORK)
        except ModelError:
            continue
        assert parameters.keys() == NETWORK.parameters.keys()


def test_safetensors_contains_names_and_metadata(tmp_path: Path, model: keras.Model) -> None:
    path = tmp_path / "m.safetensors"
    checkpoint.write_safetensors(path, keras_engine.arrays(model), METADATA)
    assert load_file(path).keys() == NETWORK.parameters.keys()
    assert checkpoint.read(path).metadata == METADATA


@pytest.mark.parametrize(
    "damage",
    [
        lambda fields: fields.pop("labels"),
        lambda fields: fields["labels"].pop(),
        lambda fields: fields["architecture"].update(image_size=1),
        lambda fields: fields["architecture"].update(unknown=1),
        lambda fields: fields["preprocessing"].update(std=[0, 0, 0]),
        lambda fields: fields["labels"].__setitem__(0, [1, 2]),
        lambda fields: fields["architecture"].update(epsilon="x"),
        lambda fields: fields["architecture"].update(name="a/b c"),
        lambda fields: fields["architecture"].update(conv_bias="no"),
        lambda fields: fields["architecture"].update(image_size=4097),
        lambda fields: fields["architecture"].update(image_size=0),
        lambda fields: fields.update(temperature=0),
        lambda fields: fields.update(temperature=-1.5),
        lambda fields: fields.update(temperature=float("nan")),
        lambda fields: fields.update(temperature=float("inf")),
        lambda fields: fields.update(temperature=1e-300),
        lambda fields: fields["architecture"]["stages"][0].update(blocks=10**12),
        lambda fields: fields["architecture"]["stem"].update(filters=True),
    ],
)
def test_damaged_metadata_is_refused(damage: Callable[[dict[str, object]], object]) -> None:
    fields = json.loads(METADATA.to_json())
    damage(fields)
    with pytest.raises(ModelError, match="metadata"):
        Metadata.from_json(json.dumps(fields))


def test_keras_archive_of_another_tool_has_no_metadata(tmp_path: Path, layouts: Path) -> None:
    path = Path(shutil.copy(layouts / "model.keras", tmp_path))
    assert checkpoint.read(path).metadata is None
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(checkpoint.KERAS_MEMBER, METADATA.to_json())
    assert checkpoint.read(path).metadata == METADATA


def test_metadata_contains_the_architecture() -> None:
    fields = json.loads(METADATA.to_json())["architecture"]
    assert Architecture.from_dict(fields) == NETWORK.architecture


def _pytorch_resnet18(classes: int) -> dict[str, np.ndarray]:
    """Return random arrays with the names in torchvision/models/resnet.py."""
    rng = np.random.default_rng(0)
    arrays: dict[str, np.ndarray] = {"fc.weight": rng.standard_normal((classes, 512), np.float32)}
    arrays["fc.bias"] = np.zeros(classes, np.float32)

    def conv_norm(conv: str, norm: str, *shape: int) -> None:
        arrays[f"{conv}.weight"] = 0.05 * rng.standard_normal(shape, np.float32)
        for name in ("weight", "bias", "running_mean", "running_var"):
            arrays[f"{norm}.{name}"] = rng.uniform(0.5, 1.5, shape[0]).astype(np.float32)
        arrays[f"{norm}.num_batches_tracked"] = np.array(1)

    conv_norm("conv1", "bn1", 64, 3, 7, 7)
    before = 64
    for i, filters in enumerate((64, 128, 256, 512), 1):
        for block in (f"layer{i}.0", f"layer{i}.1"):
            conv_norm(f"{block}.conv1", f"{block}.bn1", filters, before, 3, 3)
            conv_norm(f"{block}.conv2", f"{block}.bn2", filters, filters, 3, 3)
            if before != filters:
                conv_norm(f"{block}.downsample.0", f"{block}.downsample.1", filters, before, 1, 1)
            before = filters
    return arrays


def test_pytorch_file_is_recognised(tmp_path: Path) -> None:
    path = tmp_path / "theirs.safetensors"
    theirs = _pytorch_resnet18(classes=7)
    save_file(theirs, path)
    model = load_model(str(path))
    assert model.metadata.architecture == variants.describe(name="resnet18", classes=7)
    assert model.metadata.preprocessing == PRETRAINED["resnet18.tv_in1k"].preprocessing
    kernel = theirs["layer3.0.downsample.0.weight"]
    np.testing.assert_array_equal(model.parameters["conv4_block1_0_conv/kernel"], kernel.transpose(2, 3, 1, 0))
    np.testing.assert_array_equal(
        model.parameters["conv2_block2_2_bn/moving_mean"], theirs["layer1.1.bn2.running_mean"]
    )
    result = run_main("predict", "--weights", path, "--format", "jsonl", SAMPLE)
    assert json.loads(result.stdout)["model"] == "resnet18"

    save_file(theirs | {"fc.bias": np.zeros(0, np.float32)}, path)
    refused = run_main("predict", "--weights", path, SAMPLE)
    assert (refused.returncode, str(path) in refused.stderr) == (3, True), "no classes"

    save_file({name: array for name, array in theirs.items() if name != "layer4.1.bn2.bias"}, path)
    refused = run_main("predict", "--weights", path, "--depth", 18, SAMPLE)
    assert refused.returncode == 3
    assert "missing: conv5_block2_2_bn/beta" in refused.stderr


def test_ambiguous_file_is_refused(tmp_path: Path) -> None:
    """With Keras's names, c and d have the same arrays: only their shortcuts differ, which pool or stride."""
    network = graph.resnet(variants.describe(name="resnet50d", classes=2))
    path, built = tmp_path / "bare.safetensors", tmp_path / "built.safetensors"
    save_file({name: np.ones(each.shape, np.float32) for name, each in network.parameters.items()}, path)
    refused = run_main("predict", "--weights", path, SAMPLE)
    assert refused.returncode == 3
    assert f"{path}: its arrays fit resnet50c and resnet50d, and the file does not specify which" in refused.stderr
    assert run_main("build", "resnet50d", "--classes", 2, "--weights", path, "-o", built).returncode == 0
    metadata = checkpoint.read(built).metadata
    assert metadata is not None
    assert metadata.architecture == network.architecture
