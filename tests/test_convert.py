"""Conversion: every pair of formats, each against what its own framework reads, and what must fail."""

import itertools
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import h5py
import keras
import networks
import numpy as np
import openvino
import pytest
from conftest import RESNET, Run
from keras.src.legacy.saving import legacy_h5_format
from numpy.typing import NDArray
from PIL import Image
from safetensors import safe_open
from safetensors.numpy import load_file

from resnet_cli import (
    architecture,
    checkpoints,
    compiled,
    convert,
    files,
    formats,
    graph,
    images,
    keras_model,
    models,
    terminal,
)
from resnet_cli.errors import ModelError, UsageError
from resnet_cli.labels import Label, imagenet
from resnet_cli.metadata import Metadata
from resnet_cli.pretrained import CAFFE, TINY, Fit, Preprocessing, Resizing

SAMPLES = Path(__file__).parents[1] / "sample_images"
SMALL: dict[str, Any] = {"stages": (1, 1, 1, 1), "width": 16, "classes": 10, "image_size": 64}
# Of a range for which `networks.plausible` makes weights.
PREPROCESSING = Preprocessing("RGB", (120.0, 110.0, 100.0), (1.25, 1.0, 0.8), Resizing(0.95, "bilinear"))
# Whatever a file may have to say: every kind of op, groups, odd sides where a pool averages, BGR and RGB.
SOURCES: dict[str, dict[str, Any]] = {
    "v1": {"variant": "v1"},
    "v1.5": {"variant": "v1.5"},
    "v2": {"variant": "v2"},
    "d": {"variant": "d", "image_size": 72},
    "32x4d": {"variant": "32x4d"},
    "basic": {"variant": "v1.5", "block": "basic", "stem": "cifar", "image_size": 33},
}


@dataclass
class Source:
    """A network that Keras computes, the file that holds it, and what it says of itself."""

    path: Path
    model: keras.Model
    arrays: dict[str, NDArray[Any]]
    metadata: Metadata

    def pixels(self) -> NDArray[np.uint8]:
        size = self.metadata.architecture.image_size
        return np.stack([images.decode(photo, size, Fit.CROP) for photo in sorted(SAMPLES.glob("*.jpg"))])

    def probabilities(self) -> NDArray[np.float64]:
        """What Keras answers; the temperature divides the logits."""
        wanted = self.metadata.preprocessing
        pixels = self.pixels()[..., :: -1 if wanted.channels == "BGR" else 1]
        untempered = self.model.predict_on_batch(((pixels - np.array(wanted.mean)) / wanted.std).astype(np.float32))
        powers = untempered.astype(np.float64) ** (1 / self.metadata.temperature)
        probabilities = powers / powers.sum(axis=1, keepdims=True)
        assert probabilities.std(axis=0).max() > 1e-2, "the oracle gives all images the same answer"
        return probabilities


def _source(folder: Path, **options: Any) -> Source:
    network = graph.resnet(architecture.resnet(**SMALL | options))
    model = networks.plausible(keras_model.build(network))
    labels = tuple(Label(f'<"{i}"> & é\n') for i in range(10))
    preprocessing = CAFFE if options["variant"] == "v1" else PREPROCESSING
    metadata = Metadata(network.architecture, labels, preprocessing, temperature=1.5, training={"epochs": 3})
    path, arrays = folder / "source.safetensors", keras_model.arrays(model)
    checkpoints.write_safetensors(path, arrays, metadata)
    return Source(path, model, arrays, metadata)


@pytest.fixture(scope="module", params=SOURCES)
def source(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Source:
    return _source(tmp_path_factory.mktemp("source"), **SOURCES[request.param])


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Source:
    return _source(tmp_path_factory.mktemp("plain"), variant="v1.5")


@pytest.fixture
def onnxruntime() -> Any:
    return pytest.importorskip("onnxruntime", reason="needs the extra onnx")


def _convert(source: Path | str, out: Path, **options: Any) -> convert.Converted:
    with terminal.Activity("") as activity:
        return convert.convert(str(source), out, {}, activity, **options)


WEIGHTS = {
    "a.keras": "keras",
    "b.weights.h5": "keras",
    "c.h5": "keras",
    "d.safetensors": "keras",
    "e.safetensors": "pytorch",
}
EXPORTS = {"f.xml": "keras", **({"g.onnx": "keras"} if find_spec("onnxruntime") else {})}
NAMES = WEIGHTS | EXPORTS


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory, plain: Source) -> Path:
    """A folder with the same network in every format."""
    folder = tmp_path_factory.mktemp("converted")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RESNET_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
        for name, names in NAMES.items():
            _convert(plain.path, folder / name, names=names)
    return folder


@pytest.mark.parametrize(("one", "other"), [*itertools.product(WEIGHTS, NAMES)])
def test_every_pair_of_formats(converted: Path, tmp_path: Path, plain: Source, one: str, other: str) -> None:
    out = tmp_path / other
    result = _convert(converted / one, out, names=NAMES[other])
    assert (result.path, result.format) == (str(out), other.partition(".")[2])
    assert result.bytes == sum(file.stat().st_size for file in tmp_path.iterdir())
    assert result.largest_difference < 1e-5
    if other in WEIGHTS:
        checkpoint = checkpoints.read(out)
        assert checkpoint.metadata == plain.metadata
        for name, array in checkpoint.parameters(graph.resnet(plain.metadata.architecture)).items():
            np.testing.assert_array_equal(array, plain.arrays[name])
    for file in tmp_path.iterdir():
        if file.suffix not in (".keras", ".xml"):  # which have the time in them, and running numbers
            assert file.read_bytes() == (converted / file.name).read_bytes()


def test_build_writes_these_formats_too(resnet: Run, converted: Path, plain: Source, tmp_path: Path) -> None:
    assert resnet("build", "--weights", plain.path, "-o", tmp_path / "c.h5").returncode == 0
    built = resnet("build", "--weights", plain.path, "-o", tmp_path / "f.xml")
    assert (built.returncode, built.stdout) == (0, "")
    for name in ("c.h5", "f.bin"):
        assert (tmp_path / name).read_bytes() == (converted / name).read_bytes()


@pytest.mark.parametrize("name", ["a.keras", "c.h5"])
def test_keras_reads_what_is_written(converted: Path, plain: Source, name: str) -> None:
    if name == "a.keras":
        model = keras.saving.load_model(converted / name)
    else:
        model = keras_model.build(graph.resnet(plain.metadata.architecture))
        model.load_weights(converted / name)
    for theirs, ours in zip(model.weights, plain.model.weights, strict=True):
        np.testing.assert_array_equal(theirs, ours)


def test_names_of_more_layers_than_an_attribute_holds(tmp_path: Path) -> None:
    network = graph.resnet(architecture.resnet(stages=(600,), width=1, classes=2, image_size=8, variant="v1.5"))
    arrays = {name: np.zeros(parameter.shape, np.float32) for name, parameter in network.parameters.items()}
    checkpoints.write_legacy_h5(tmp_path / "deep.h5", arrays, models.default_metadata(network.architecture))
    layers = [op.name for op in network.ops if op.parameters]
    assert len("".join(layers)) > 1 << 16
    with h5py.File(tmp_path / "deep.h5") as file:
        assert legacy_h5_format.load_attributes_from_hdf5_group(file, "layer_names") == layers


BATCH_NORM = {"weight": "gamma", "bias": "beta", "running_mean": "moving_mean", "running_var": "moving_variance"}
LAYERS = {
    "conv1": "conv1_conv",
    "bn1": "conv1_bn",
    **{
        f"layer{i}.0.{theirs}": f"conv{i + 1}_block1_{ours}"
        for i in (1, 2, 3, 4)
        for theirs, ours in {
            "downsample.0": "0_conv",
            "downsample.1": "0_bn",
            "conv1": "1_conv",
            "bn1": "1_bn",
            "conv2": "2_conv",
            "bn2": "2_bn",
            "conv3": "3_conv",
            "bn3": "3_bn",
        }.items()
    },
}


def test_names_of_pytorch(converted: Path, plain: Source) -> None:
    """Against a table by hand of torchvision's bottleneck networks."""
    expected = {"fc.weight": plain.arrays["predictions/kernel"].T, "fc.bias": plain.arrays["predictions/bias"]}
    for theirs, ours in LAYERS.items():
        if ours.endswith("_bn"):
            expected |= {f"{theirs}.{array}": plain.arrays[f"{ours}/{name}"] for array, name in BATCH_NORM.items()}
        else:
            expected[f"{theirs}.weight"] = np.einsum("yxio->oiyx", plain.arrays[f"{ours}/kernel"])
    found = load_file(converted / "e.safetensors")
    assert found.keys() == expected.keys()
    assert found["layer2.0.conv2.weight"].shape == (32, 32, 3, 3)
    assert found["fc.weight"].shape == (10, 512)
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array)
    with safe_open(converted / "e.safetensors", "numpy") as file:
        assert Metadata.from_json(file.metadata()["resnet_cli"]) == plain.metadata


@pytest.mark.parametrize(("variant", "named"), [("v1", "conv1_conv/bias"), ("v2", "preact_bn/gamma")])
def test_networks_that_pytorch_does_not_have_are_refused(resnet: Run, tmp_path: Path, variant: str, named: str) -> None:
    path, out = _source(tmp_path, variant=variant).path, tmp_path / "out.safetensors"
    result = resnet("convert", "--names", "pytorch", path, out)
    assert (result.returncode, result.stdout, out.exists()) == (3, "", False)
    assert named in result.stderr
    assert "no ResNet of PyTorch has" in result.stderr
    assert len(result.stderr.splitlines()) == 2


def test_openvino_answers_as_keras_does(source: Source, tmp_path: Path) -> None:
    result = _convert(source.path, tmp_path / "model.xml")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["model.bin", "model.xml"]
    assert result.bytes == sum(file.stat().st_size for file in tmp_path.iterdir())
    model = openvino.Core().read_model(tmp_path / "model.xml")
    size = source.metadata.architecture.image_size
    assert (model.input("images").element_type, [*model.input(0).shape]) == (openvino.Type.u8, [1, size, size, 3])
    assert (model.output("probabilities").element_type, [*model.output(0).shape]) == (openvino.Type.f32, [1, 10])
    assert len(model.outputs) == 1
    assert Metadata.from_json(model.get_rt_info("resnet_cli").astype(str)) == source.metadata
    kinds = {node.get_element_type() for node in model.get_ops() if node.get_type_name() == "Constant"}
    assert openvino.Type.f16 not in kinds
    network = openvino.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    for pixels, probabilities in zip(source.pixels(), source.probabilities(), strict=True):
        np.testing.assert_allclose(network(pixels[None])[0][0], probabilities, atol=1e-5)


def test_onnx_runtime_answers_as_keras_does(source: Source, tmp_path: Path, onnxruntime: Any) -> None:
    _convert(source.path, tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    (taken,), (given,) = session.get_inputs(), session.get_outputs()
    size = source.metadata.architecture.image_size
    assert (taken.name, taken.type, taken.shape) == ("images", "tensor(float)", ["batch", 3, size, size])
    assert (given.name, given.type, given.shape) == ("probabilities", "tensor(float)", ["batch", 10])
    said = session.get_modelmeta().custom_metadata_map["resnet_cli"]
    assert Metadata.from_json(said) == source.metadata
    planes = np.moveaxis(source.pixels(), -1, 1).astype(np.float32)
    for batch in (slice(None), slice(1)):
        (found,) = session.run(None, {"images": planes[batch]})
        np.testing.assert_allclose(found, source.probabilities()[batch], atol=1e-5)


def test_onnx_is_one_that_older_runtimes_read(plain: Source, tmp_path: Path, onnxruntime: Any) -> None:
    import onnx

    _convert(plain.path, tmp_path / "model.onnx")
    model = onnx.load(tmp_path / "model.onnx")
    onnx.checker.check_model(model, full_check=True)
    assert (model.ir_version, [(opset.domain, opset.version) for opset in model.opset_import]) == (8, [("", 17)])


def test_a_network_too_large_for_onnx_is_refused(onnxruntime: Any) -> None:
    from resnet_cli import onnx_model

    network = graph.resnet(architecture.resnet(width=400))
    arrays = {name: np.broadcast_to(np.float32(0), each.shape) for name, each in network.parameters.items()}
    with pytest.raises(ModelError, match=r"at most 2 GB, the parameters of this network take 3\.\d GB"):
        onnx_model.build(arrays, models.default_metadata(network.architecture))


@pytest.fixture(scope="module")
def resnet50(tmp_path_factory: pytest.TempPathFactory) -> tuple[keras.Model, Path]:
    """Keras's own network with plausible weights, and its file as Keras 2 wrote it."""
    keras.utils.clear_session()  # Keras numbers the input layers of a session
    theirs = networks.plausible(keras.applications.ResNet50(weights=None))
    return theirs, networks.write_legacy(theirs, tmp_path_factory.mktemp("resnet50") / "theirs.h5")


def test_resnet50_through_the_command(resnet: Run, resnet50: tuple[keras.Model, Path], tmp_path: Path) -> None:
    theirs, path = resnet50
    converted = resnet("convert", path, tmp_path / "a.safetensors", "--depth", 50)
    assert (converted.returncode, converted.stderr) == (0, "")
    assert converted.stdout.startswith(f"{tmp_path / 'a.safetensors'}: 102.6 MB, largest difference of probability 0, ")
    assert resnet("convert", tmp_path / "a.safetensors", tmp_path / "b.h5").returncode == 0
    fresh = keras.applications.ResNet50(weights=None)
    fresh.load_weights(tmp_path / "b.h5")
    for ours, expected in zip(fresh.weights, theirs.weights, strict=True):
        np.testing.assert_array_equal(ours, expected)

    photo = Image.open(SAMPLES / "coffee.jpg").resize((224, 224))
    photo.save(tmp_path / "photo.png")
    pixels = np.asarray(photo)[None]
    expected = theirs.predict_on_batch(keras.applications.resnet.preprocess_input(pixels.astype(np.float32)))
    converted = resnet("convert", path, tmp_path / "c.xml", "--image", tmp_path / "photo.png", "--format", "json")
    assert converted.returncode == 0, converted.stderr
    found = openvino.compile_model(tmp_path / "c.xml", "CPU", {"INFERENCE_PRECISION_HINT": "f32"})(pixels)[0]
    np.testing.assert_allclose(found, expected, atol=1e-5)
    printed = json.loads(converted.stdout)
    label = imagenet()[expected.argmax()].display
    assert (printed["top_label"], printed["source_top_label"]) == (label, label)


def test_resnet50_in_onnx(resnet: Run, resnet50: tuple[keras.Model, Path], tmp_path: Path, onnxruntime: Any) -> None:
    theirs, path = resnet50
    assert resnet("convert", path, tmp_path / "model.onnx").returncode == 0
    pixels = images.decode(SAMPLES / "coffee.jpg", 224, Fit.CROP)[None].astype(np.float32)
    expected = theirs.predict_on_batch(keras.applications.resnet.preprocess_input(pixels.copy()))
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    (found,) = session.run(["probabilities"], {"images": np.moveaxis(pixels, -1, 1)})
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_half_precision_keeps_its_values(tmp_path: Path) -> None:
    halves = load_file(TINY.path)
    assert {array.dtype.name for array in halves.values()} == {"float16"}
    _convert("tiny", tmp_path / "tiny.safetensors")
    for name, array in load_file(tmp_path / "tiny.safetensors").items():
        np.testing.assert_array_equal(array, halves[name])


def test_what_is_printed(resnet: Run, plain: Source, tmp_path: Path) -> None:
    out = tmp_path / "out.safetensors"
    printed = json.loads(resnet("convert", plain.path, out, "--format", "json").stdout)
    label = printed["top_label"]
    assert label in [label.name for label in plain.metadata.labels]
    assert printed == {
        "path": str(out),
        "format": "safetensors",
        "model": "resnet_1_1_1_1v1.5_w16",
        "weights": str(plain.path),
        "bytes": out.stat().st_size,
        "largest_difference": 0,
        "top_label": label,
        "source_top_label": label,
    }
    line = resnet("convert", "--force", plain.path, out).stdout
    shown = label.replace("\n", "\\u000a")
    assert line.endswith(f", largest difference of probability 0, {shown} (before: {shown})\n")
    assert len(line.splitlines()) == 1


def test_keras_is_imported_for_keras_alone(plain: Source, tmp_path: Path) -> None:
    script = """
import sys
from resnet_cli import cli
sys.argv[1:1] = ["convert", "--quiet"]
assert cli.main() == 0
print(sorted({name.partition(".")[0] for name in sys.modules} & {"keras", "tensorflow"}))
"""
    for name in ("a.weights.h5", "a.h5", "a.safetensors", "a.xml"):
        command = [sys.executable, "-c", script, plain.path, tmp_path / name]
        ran = subprocess.run(command, capture_output=True, text=True)
        assert (ran.returncode, ran.stdout.splitlines()[-1]) == (0, "[]"), ran.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["tiny", "out.pt"], 2, "out.pt: the name must end with .keras, .weights.h5, .h5, .safetensors, .xml, .onnx"),
        (["tiny", "out.xml", "--names", "pytorch"], 2, "must end with .safetensors, given --names pytorch"),
        (["tiny", "folder.h5", "--force"], 2, "folder.h5: expected a file in an existing folder"),
        (["tiny", "folder.xml", "--force"], 2, "folder.bin: expected a file in an existing folder"),
        (["tiny", "none/out.h5"], 2, "none/out.h5: expected a file in an existing folder"),
        (["imagenet", "none/out.h5"], 2, "none/out.h5: expected a file in an existing folder"),
        (["tiny", "old.h5"], 2, "old.h5 exists; --force replaces it"),
        (["tiny", "old.xml"], 2, "old.bin exists; --force replaces it"),
        (["source.safetensors", "source.safetensors", "--force"], 2, "source.safetensors is what is to be converted"),
        (["old.bin", "old.xml", "--force"], 2, "old.bin is what is to be converted"),
        (["tiny", "out.h5", "--image", "none.png"], 2, "none.png: expected an image file, found none of this name"),
        (["tiny", "out.h5", "--image", "old.h5"], 2, "old.h5: expected an image"),
        (["nonsense", "out.h5"], 3, "nonsense: neither a weights file nor one of"),
        (["folder.h5", "out.h5"], 3, "folder.h5: expected a weights file, got a folder"),
        (["old.h5", "out.keras"], 3, "old.h5: expected .safetensors"),
        (["imagenet", "out.h5"], 3, "RESNET_OFFLINE"),
    ],
)
def test_what_cannot_be_converted(
    resnet: Run,
    plain: Source,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    code: int,
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in ("folder.h5", "folder.bin"):
        Path(folder).mkdir()
    Path("old.h5").write_text("precious")
    for name in ("source.safetensors", "old.bin"):
        Path(name).write_bytes(plain.path.read_bytes())
    before = {path: path.is_file() and path.read_bytes() for path in tmp_path.iterdir()}
    result = resnet("convert", *arguments)
    assert (result.returncode, result.stdout) == (code, "")
    assert message in result.stderr
    assert len(result.stderr.splitlines()) <= 3
    assert {path: path.is_file() and path.read_bytes() for path in tmp_path.iterdir()} == before


def test_existing_files_are_replaced_when_asked(plain: Source, tmp_path: Path) -> None:
    for name in ("a.xml", "a.bin"):
        (tmp_path / name).write_text("old")
    _convert(plain.path, tmp_path / "a.xml", force=True)
    assert compiled.answer(tmp_path / "a.xml", plain.pixels()[:1]).shape == (1, 10)


@pytest.mark.parametrize("suffix", formats.FORMATS)
def test_a_full_disk_is_one_line(plain: Source, tmp_path: Path, suffix: str) -> None:
    if suffix == ".onnx":
        pytest.importorskip("onnxruntime", reason="needs the extra onnx")
    out = tmp_path / f"a{suffix}"
    command = f"ulimit -f 200; exec {RESNET} convert {plain.path} {out}"
    result = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith(f"error: cannot write {out}: ")
    assert len(result.stderr.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_both_files_or_neither(tmp_path: Path) -> None:
    """The first one is in place already when the second one cannot be moved."""

    def write() -> None:
        with files.replacing(tmp_path / "a.xml", tmp_path / "a.bin") as unfinished:
            unfinished.touch()
            unfinished.with_name("a.bin").touch()
            (tmp_path / "a.xml").mkdir()

    with pytest.raises(UsageError, match=r"cannot write .*a\.xml"):
        write()
    assert [path.name for path in tmp_path.iterdir()] == ["a.xml"]


def _changed(path: Path, arrays: dict[str, NDArray[Any]], metadata: Metadata) -> None:
    """Write with the smallest of mistakes: the last bit of one value."""
    gamma = arrays["conv1_bn/gamma"].copy()
    gamma[3] = np.nextafter(gamma[3], np.float32(2))
    checkpoints.write_safetensors(path, arrays | {"conv1_bn/gamma": gamma}, metadata)


def _forgetful(path: Path, arrays: dict[str, NDArray[Any]], metadata: Metadata) -> None:
    checkpoints.write_safetensors(path, arrays, replace(metadata, temperature=1.0))


def _cut(path: Path, arrays: dict[str, NDArray[Any]], metadata: Metadata) -> None:
    compiled.write(path, arrays, metadata)
    path.with_suffix(".bin").write_bytes(path.with_suffix(".bin").read_bytes()[:-1000])


def _mirrored(path: Path, arrays: dict[str, NDArray[Any]], metadata: Metadata) -> None:
    kernels = {name: array[:, ::-1] for name, array in arrays.items() if array.ndim == 4}
    compiled.write(path, arrays | kernels, metadata)


@pytest.mark.parametrize(
    ("suffix", "writer", "message"),
    [
        (".safetensors", _changed, "arrays came out changed: conv1_bn/gamma"),
        (".safetensors", _forgetful, "the metadata came out changed"),
        (".xml", _cut, "cannot be read back"),
        (".xml", _mirrored, "its probabilities are off by up to 0."),
    ],
)
def test_a_file_that_is_not_the_same_network_is_not_kept(
    plain: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str, writer: Any, message: str
) -> None:
    damaging = replace(formats.FORMATS[suffix], writer=f"{__name__}:{writer.__name__}")
    monkeypatch.setitem(formats.FORMATS, suffix, damaging)
    out = tmp_path / f"out{suffix}"
    with pytest.raises(ModelError) as caught:
        _convert(plain.path, out)
    assert str(caught.value).startswith(f"{out} is not kept, as ")
    assert message in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("library", "suffix", "message"),
    [
        ("onnx", ".onnx", "ONNX needs two packages more: pip install 'resnet-cli[onnx]'"),
        ("openvino", ".xml", "what writes such a file cannot run here: it is broken"),
    ],
)
def test_a_library_that_is_missing_is_one_line(
    resnet: Run, tmp_path: Path, library: str, suffix: str, message: str
) -> None:
    (tmp_path / library).mkdir()
    (tmp_path / library / "__init__.py").write_text("raise ImportError('it is broken')")
    path = os.pathsep.join(filter(None, [str(tmp_path), os.environ.get("PYTHONPATH")]))
    result = resnet("convert", "tiny", tmp_path / f"tiny{suffix}", PYTHONPATH=path)
    assert (result.returncode, result.stdout, result.stderr) == (3, "", f"error: {message}\n")
    assert not (tmp_path / f"tiny{suffix}").exists()


def test_an_interrupted_conversion_leaves_nothing(tmp_path: Path) -> None:
    process = subprocess.Popen([RESNET, "convert", "tiny", tmp_path / "tiny.keras"], stderr=subprocess.PIPE)
    while not list(tmp_path.glob("*/")):  # the temporary folder
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 143
    assert list(tmp_path.iterdir()) == []
