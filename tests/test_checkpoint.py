"""Weight files: every layout is read, and one that does not match is refused with names."""

import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import h5py
import keras
import networks
import numpy as np
import pytest
from conftest import Run
from safetensors.numpy import load_file, save_file

from resnet_cli import architecture, checkpoints, graph, keras_model, labels, models, terminal
from resnet_cli.architecture import Architecture
from resnet_cli.errors import ModelError
from resnet_cli.metadata import Metadata
from resnet_cli.pretrained import CAFFE, PRETRAINED

NETWORK = graph.resnet(architecture.resnet(stages=(1, 1, 1, 1), width=4, classes=5, image_size=32))
SAMPLE = Path(__file__).parents[1] / "sample_images/cat.jpg"
METADATA = Metadata(NETWORK.architecture, labels.default_labels(5), CAFFE)


@pytest.fixture(scope="module")
def model() -> keras.Model:
    return networks.plausible(keras_model.build(NETWORK))


def _rename_head(path: Path) -> None:
    """Call the dense layer `probs`, as the published files do."""
    with h5py.File(path, "a") as file:
        file["probs/probs/kernel:0"] = file["predictions/predictions/kernel"][()]
        file["probs/probs/bias:0"] = file["predictions/predictions/bias"][()]
        del file["predictions"]


def _whole_model(path: Path, model: keras.Model) -> Path:
    model.save(path)  # Keras writes its legacy layout of a whole model to a name that ends with .h5
    return path


@pytest.fixture(
    params=["model.keras", "w.weights.h5", "legacy.h5", "published.h5", "whole.h5", "m.safetensors", "half.safetensors"]
)
def file(request: pytest.FixtureRequest, tmp_path: Path, model: keras.Model) -> Path:
    """The same weights in each layout."""
    path = tmp_path / request.param
    match path.name:
        case "model.keras":
            model.save(path)
        case "w.weights.h5":
            model.save_weights(path)
        case "legacy.h5":
            networks.write_legacy(model, path)
        case "published.h5":
            _rename_head(networks.write_legacy(model, path))
        case "whole.h5":
            _whole_model(path, model)
        case "m.safetensors":
            checkpoints.write_safetensors(path, keras_model.arrays(model), METADATA)
        case "half.safetensors":
            save_file({name: array.astype(np.float16) for name, array in keras_model.arrays(model).items()}, path)
    return path


def test_every_layout_is_read(file: Path, model: keras.Model) -> None:
    parameters = checkpoints.read(file).parameters(NETWORK)
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


def _misshapen(arrays: Arrays) -> Arrays:
    return arrays | {"conv1_bn/gamma": np.zeros(7, np.float32)}


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (_without, "missing: conv3_block1_2_conv/kernel"),
        (_with_one_more, "unexpected: conv9_conv/kernel"),
        (_misshapen, r"wrong: conv1_bn/gamma with shape \(7,\) in place of \(4,\)"),
    ],
)
def test_files_that_do_not_match_are_refused_with_names(
    tmp_path: Path, model: keras.Model, change: Callable[[Arrays], Arrays], named: str
) -> None:
    path = tmp_path / "odd.safetensors"
    checkpoints.write_safetensors(path, change(keras_model.arrays(model)), METADATA)
    with pytest.raises(ModelError, match=named) as caught:
        checkpoints.read(path).parameters(NETWORK)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("layout", ["weights.h5", "legacy.h5"])
@pytest.mark.parametrize(
    ("edit", "named"),
    [
        ("remove", "missing: conv1_conv/kernel"),
        ("add", "unexpected: .*extra"),
        ("reshape", r"wrong: conv1_conv/kernel with shape \(2,\) in place of \(7, 7, 3, 4\)"),
    ],
)
def test_hdf5_files_that_do_not_match_are_refused_with_names(
    tmp_path: Path, model: keras.Model, layout: str, edit: str, named: str
) -> None:
    path = tmp_path / f"odd.{layout}"
    if layout == "weights.h5":
        model.save_weights(path)
    else:
        networks.write_legacy(model, path)
    kernel = "layers/conv2d/vars/0" if layout == "weights.h5" else "conv1_conv/conv1_conv/kernel"
    with h5py.File(path, "a") as file:
        if edit == "add":
            file[f"{kernel.rpartition('/')[0]}/extra"] = np.zeros(3)
        else:
            del file[kernel]
        if edit == "reshape":
            file[kernel] = np.zeros(2)
    with pytest.raises(ModelError, match=named):
        checkpoints.read(path).parameters(NETWORK)


@pytest.mark.parametrize("suffix", [".safetensors", ".keras", ".weights.h5", ".h5"])
@pytest.mark.parametrize("content", [b"", b"no weights", b"PK\x03\x04 cut", b"\x89HDF\r\n\x1a\n cut", b"\xff" * 64])
def test_foreign_and_damaged_files_are_refused(tmp_path: Path, suffix: str, content: bytes) -> None:
    path = tmp_path / f"bad{suffix}"
    path.write_bytes(content)
    with pytest.raises(ModelError, match="damaged or foreign"):
        checkpoints.read(path)


def test_cut_files_are_refused(file: Path) -> None:
    whole = file.read_bytes()
    for share in (0.01, 0.5, 0.99):
        file.write_bytes(whole[: int(len(whole) * share)])
        with pytest.raises(ModelError):
            checkpoints.read(file).parameters(NETWORK)


def test_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="expected a weights file, got nothing"):
        checkpoints.read(tmp_path / "none.h5")


def test_arrays_that_stand_for_one_are_refused(tmp_path: Path, model: keras.Model) -> None:
    path = networks.write_legacy(model, tmp_path / "twice.h5")
    with h5py.File(path, "a") as file:
        file["conv1_conv/other/kernel"] = np.zeros((7, 7, 3, 4))
    with pytest.raises(ModelError, match="several arrays are called conv1_conv/kernel"):
        checkpoints.read(path)


@pytest.mark.parametrize("array", [np.zeros(4, bool), np.zeros(4, np.int64), np.zeros(4, "S3")])
def test_arrays_that_are_no_floats_are_refused(tmp_path: Path, model: keras.Model, array: np.ndarray) -> None:
    path = networks.write_legacy(model, tmp_path / "odd.h5")
    with h5py.File(path, "a") as file:
        del file["conv1_conv/conv1_conv/bias"]
        file["conv1_conv/conv1_conv/bias"] = array
    with pytest.raises(ModelError, match=r"conv1_conv/bias holds .* expected floating point"):
        checkpoints.read(path)


def test_flipped_bytes_give_weights_or_our_own_error(file: Path) -> None:
    whole = file.read_bytes()
    rng = np.random.default_rng(7)
    for _ in range(15):
        damaged = bytearray(whole)
        for position in rng.integers(0, min(len(whole), 5000), 20):
            damaged[position] ^= int(rng.integers(1, 256))
        file.write_bytes(damaged)
        try:
            parameters = checkpoints.read(file).parameters(NETWORK)
        except ModelError:
            continue
        assert parameters.keys() == NETWORK.parameters.keys()


def test_safetensors_holds_names_and_metadata(tmp_path: Path, model: keras.Model) -> None:
    path = tmp_path / "m.safetensors"
    checkpoints.write_safetensors(path, keras_model.arrays(model), METADATA)
    assert load_file(path).keys() == NETWORK.parameters.keys()
    assert checkpoints.read(path).metadata == METADATA


@pytest.mark.parametrize(
    "damage",
    [
        lambda fields: fields.pop("labels"),
        lambda fields: fields["labels"].pop(),
        lambda fields: fields["architecture"].update(image_size=1),
        lambda fields: fields["architecture"].update(surprise=1),
        lambda fields: fields["preprocessing"].update(std=[0, 0, 0]),
        lambda fields: fields["labels"].__setitem__(0, [1, 2]),
        lambda fields: fields["architecture"].update(epsilon="x"),
        lambda fields: fields["architecture"].update(name="a/b c"),
        lambda fields: fields["architecture"].update(conv_bias="no"),
        lambda fields: fields["architecture"].update(image_size=10**9),
        lambda fields: fields["architecture"]["stages"][0].update(blocks=10**12),
        lambda fields: fields["architecture"]["stem"].update(filters=True),
    ],
)
def test_damaged_metadata_is_refused(damage: Callable[[dict[str, object]], object]) -> None:
    fields = json.loads(METADATA.to_json())
    damage(fields)
    with pytest.raises(ModelError, match="metadata"):
        Metadata.from_json(json.dumps(fields))


def test_keras_archive_of_another_tool_has_no_metadata(tmp_path: Path, model: keras.Model) -> None:
    model.save(tmp_path / "plain.keras")
    assert checkpoints.read(tmp_path / "plain.keras").metadata is None
    with zipfile.ZipFile(tmp_path / "plain.keras", "a") as archive:
        archive.writestr(checkpoints.KERAS_MEMBER, METADATA.to_json())
    assert checkpoints.read(tmp_path / "plain.keras").metadata == METADATA


def test_architecture_is_that_of_the_metadata() -> None:
    fields = json.loads(METADATA.to_json())["architecture"]
    assert Architecture.from_dict(fields) == NETWORK.architecture


def _resnet18_of_pytorch(classes: int) -> dict[str, np.ndarray]:
    """Random arrays under the names of torchvision/models/resnet.py."""
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


def test_a_file_of_pytorch_is_recognised(tmp_path: Path, resnet: Run) -> None:
    path = tmp_path / "theirs.safetensors"
    theirs = _resnet18_of_pytorch(classes=7)
    save_file(theirs, path)
    with terminal.Activity("") as activity:
        model = models.load(str(path), {}, activity)
    assert model.metadata.architecture == architecture.resnet(name="resnet18", classes=7)
    assert model.metadata.preprocessing == PRETRAINED["resnet18.tv_in1k"].preprocessing
    kernel = theirs["layer3.0.downsample.0.weight"]
    np.testing.assert_array_equal(model.parameters["conv4_block1_0_conv/kernel"], kernel.transpose(2, 3, 1, 0))
    np.testing.assert_array_equal(
        model.parameters["conv2_block2_2_bn/moving_mean"], theirs["layer1.1.bn2.running_mean"]
    )
    result = resnet("predict", "--weights", path, "--format", "jsonl", SAMPLE)
    assert json.loads(result.stdout)["model"] == "resnet18"

    save_file(theirs | {"fc.bias": np.zeros(0, np.float32)}, path)
    refused = resnet("predict", "--weights", path, SAMPLE)
    assert (refused.returncode, str(path) in refused.stderr) == (3, True), "no class at all"

    save_file({name: array for name, array in theirs.items() if name != "layer4.1.bn2.bias"}, path)
    refused = resnet("predict", "--weights", path, "--depth", 18, SAMPLE)
    assert refused.returncode == 3
    assert "missing: conv5_block2_2_bn/beta" in refused.stderr


def test_a_file_that_fits_two_networks_is_not_guessed(tmp_path: Path, resnet: Run) -> None:
    """Under Keras's names, c and d have the same arrays: only their shortcuts differ, which pool or stride."""
    network = graph.resnet(architecture.resnet(name="resnet50d", classes=2))
    path, told = tmp_path / "bare.safetensors", tmp_path / "told.safetensors"
    save_file({name: np.ones(each.shape, np.float32) for name, each in network.parameters.items()}, path)
    refused = resnet("predict", "--weights", path, SAMPLE)
    assert refused.returncode == 3
    assert f"{path}: its arrays fit resnet50c and resnet50d alike" in refused.stderr
    assert resnet("build", "resnet50d", "--classes", 2, "--weights", path, "-o", told).returncode == 0
    metadata = checkpoints.read(told).metadata
    assert metadata is not None
    assert metadata.architecture == network.architecture
