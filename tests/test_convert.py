"""Conversion: each format is written and read once, against the library that the format is from, and what must fail."""

import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
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
from conftest import RESNET, Run, run_main
from keras.src.legacy.saving import legacy_h5_format
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.numpy import load_file

from resnet_cli.engines import exports, keras_engine, openvino_engine
from resnet_cli.errors import ModelError, UsageError
from resnet_cli.images import decode
from resnet_cli.network import graph
from resnet_cli.network.architecture import NetworkOptions
from resnet_cli.network.labels import Label
from resnet_cli.network.metadata import Metadata
from resnet_cli.network.preprocessing import CAFFE, Decoding, Preprocessing, Resizing
from resnet_cli.system import atomic
from resnet_cli.system.progress import SILENT
from resnet_cli.tasks import convert
from resnet_cli.weights import checkpoint
from resnet_cli.weights.model import default_metadata
from resnet_cli.weights.published import TINY

SAMPLES = Path(__file__).parents[1] / "sample_images"
SMALL: dict[str, Any] = {"stages": (1, 1), "width": 16, "classes": 10, "image_size": 64}
# In a range for which `networks.plausible` makes weights.
PREPROCESSING = Preprocessing("RGB", (120.0, 110.0, 100.0), (1.25, 1.0, 0.8), Resizing(0.95, "bilinear"))
# Every kind of op, groups, a pooled shortcut that meets an edge (17 pixels), a 1x1 pooling (v2), BGR and RGB.
SOURCES: dict[str, dict[str, Any]] = {
    "v1": {"variant": "v1"},
    "v2": {"variant": "v2", "stages": (2, 1)},
    "d": {"variant": "d", "image_size": 66},
    "32x4d": {"variant": "32x4d"},
    "basic": {"variant": "v1.5", "block": "basic", "stem": "cifar", "image_size": 33},
}


@dataclass
class Source:
    """A network in Keras, its weights file, arrays and metadata."""

    path: Path
    model: keras.Model
    arrays: dict[str, NDArray[Any]]
    metadata: Metadata

    def pixels(self) -> NDArray[np.uint8]:
        decoding = Decoding(self.metadata.architecture.image_size)
        return np.stack([decode.decode_file(photo, decoding) for photo in sorted(SAMPLES.glob("*.jpg"))])

    def probabilities(self) -> NDArray[np.float64]:
        """Return Keras's probabilities; the temperature divides the logits."""
        preprocessing = self.metadata.preprocessing
        pixels = self.pixels()[..., :: -1 if preprocessing.channels == "BGR" else 1]
        batch = ((pixels - np.array(preprocessing.mean)) / preprocessing.std).astype(np.float32)
        untempered = keras.ops.convert_to_numpy(self.model(batch, training=False))
        powers = untempered.astype(np.float64) ** (1 / self.metadata.temperature)
        probabilities = powers / powers.sum(axis=1, keepdims=True)
        assert probabilities.std(axis=0).max() > 1e-2, "the oracle's predictions are the same for all images"
        return probabilities


def _source(folder: Path, **options: Any) -> Source:
    network = graph.network(**SMALL | options)
    model = networks.plausible(keras_engine.to_keras(network))
    labels = tuple(Label(f'<"{i}"> & é\n') for i in range(10))
    preprocessing = CAFFE if options["variant"] == "v1" else PREPROCESSING
    metadata = Metadata(network.architecture, labels, preprocessing, temperature=1.5, training={"epochs": 3})
    path, arrays = folder / "source.safetensors", keras_engine.arrays(model)
    checkpoint.write_safetensors(path, arrays, metadata)
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
    return convert.convert_model(str(source), out, NetworkOptions(), SILENT, **options)


# By file name, the naming of the arrays.
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
def converted(tmp_path_factory: pytest.TempPathFactory, plain: Source) -> dict[str, convert.Converted]:
    """The same network in every format, by file name."""
    folder = tmp_path_factory.mktemp("converted")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RESNET_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
        return {name: _convert(plain.path, folder / name, names=names) for name, names in NAMES.items()}


@pytest.mark.parametrize("name", NAMES)
def test_each_format_is_written(converted: dict[str, convert.Converted], plain: Source, name: str) -> None:
    result = converted[name]
    path = Path(result.path)
    assert (path.name, result.format) == (name, name.partition(".")[2])
    files = [file for file in path.parent.iterdir() if file.name.startswith(name[0])]
    assert sorted(file.name for file in files) == [*(["f.bin"] if name == "f.xml" else []), name]
    assert result.bytes == sum(file.stat().st_size for file in files)
    assert result.largest_difference < 1e-5
    if name in WEIGHTS:
        content = checkpoint.read(path)
        assert content.metadata == plain.metadata
        for parameter, array in content.parameters(graph.resnet(plain.metadata.architecture)).items():
            np.testing.assert_array_equal(array, plain.arrays[parameter])


@pytest.mark.parametrize("name", WEIGHTS)
def test_each_format_is_converted(converted: dict[str, convert.Converted], tmp_path: Path, name: str) -> None:
    """To the same bytes from any of them, so that another target would have the same content, too."""
    result = _convert(converted[name].path, tmp_path / "d.safetensors")
    assert (result.largest_difference, result.weights) == (0, converted[name].path)
    assert Path(result.path).read_bytes() == Path(converted["d.safetensors"].path).read_bytes()


def test_build_writes_these_formats_too(converted: dict[str, convert.Converted], plain: Source, tmp_path: Path) -> None:
    for name, written in (("c.h5", "c.h5"), ("f.xml", "f.bin")):  # the .xml itself contains running numbers
        built = run_main("build", "--weights", plain.path, "-o", tmp_path / name)
        assert (built.returncode, built.stdout) == (0, "")
        assert (tmp_path / written).read_bytes() == Path(converted[name].path).with_name(written).read_bytes()


@pytest.mark.parametrize("name", ["a.keras", "b.weights.h5", "c.h5"])
def test_keras_reads_each_of_its_formats(converted: dict[str, convert.Converted], plain: Source, name: str) -> None:
    path = converted[name].path
    if name == "a.keras":
        model = keras.saving.load_model(path)
    else:
        model = keras_engine.to_keras(graph.resnet(plain.metadata.architecture))
        model.load_weights(path)
    for theirs, ours in zip(model.weights, plain.model.weights, strict=True):
        np.testing.assert_array_equal(theirs, ours)


def test_names_of_more_layers_than_an_attribute_holds(tmp_path: Path) -> None:
    network = graph.network(stages=(600,), width=1, classes=2, image_size=8, variant="v1.5")
    arrays = {name: np.zeros(parameter.shape, np.float32) for name, parameter in network.parameters.items()}
    checkpoint.write_legacy_h5(tmp_path / "deep.h5", arrays, default_metadata(network.architecture))
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
        for i in (1, 2)
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


def test_names_of_pytorch(converted: dict[str, convert.Converted], plain: Source) -> None:
    """Against a table, written by hand, of torchvision's bottleneck networks."""
    expected = {"fc.weight": plain.arrays["predictions/kernel"].T, "fc.bias": plain.arrays["predictions/bias"]}
    for theirs, ours in LAYERS.items():
        if ours.endswith("_bn"):
            expected |= {f"{theirs}.{array}": plain.arrays[f"{ours}/{name}"] for array, name in BATCH_NORM.items()}
        else:
            expected[f"{theirs}.weight"] = np.einsum("yxio->oiyx", plain.arrays[f"{ours}/kernel"])
    path = converted["e.safetensors"].path
    found = load_file(path)
    assert found.keys() == expected.keys()
    assert found["layer2.0.conv2.weight"].shape == (32, 32, 3, 3)
    assert found["fc.weight"].shape == (10, 128)
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array)
    with safe_open(path, "numpy") as file:
        assert Metadata.from_json(file.metadata()["resnet_cli"]) == plain.metadata


@pytest.mark.parametrize(("variant", "named"), [("v1", "conv1_conv/bias"), ("v2", "preact_bn/gamma")])
def test_networks_that_pytorch_does_not_have_are_rejected(tmp_path: Path, variant: str, named: str) -> None:
    path, out = _source(tmp_path, variant=variant).path, tmp_path / "out.safetensors"
    result = run_main("convert", "--names", "pytorch", path, out)
    assert (result.returncode, result.stdout, out.exists()) == (3, "", False)
    assert named in result.stderr
    assert "that no PyTorch ResNet has" in result.stderr
    assert len(result.stderr.splitlines()) == 2


def test_openvino_predicts_like_keras(source: Source, tmp_path: Path) -> None:
    exports.FILE_FORMATS[".xml"].write(tmp_path / "model.xml", source.arrays, source.metadata)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["model.bin", "model.xml"]
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


def test_onnx_runtime_predicts_like_keras(source: Source, tmp_path: Path, onnxruntime: Any) -> None:
    exports.FILE_FORMATS[".onnx"].write(tmp_path / "model.onnx", source.arrays, source.metadata)
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    (image,), (output,) = session.get_inputs(), session.get_outputs()
    size = source.metadata.architecture.image_size
    assert (image.name, image.type, image.shape) == ("images", "tensor(float)", ["batch", 3, size, size])
    assert (output.name, output.type, output.shape) == ("probabilities", "tensor(float)", ["batch", 10])
    assert Metadata.from_json(session.get_modelmeta().custom_metadata_map["resnet_cli"]) == source.metadata
    planes = np.moveaxis(source.pixels(), -1, 1).astype(np.float32)
    expected = source.probabilities()
    for batch in (slice(None), slice(1)):
        (found,) = session.run(None, {"images": planes[batch]})
        np.testing.assert_allclose(found, expected[batch], atol=1e-5)


def test_older_runtimes_can_read_onnx_files(converted: dict[str, convert.Converted], onnxruntime: Any) -> None:
    import onnx

    model = onnx.load(converted["g.onnx"].path)
    onnx.checker.check_model(model, full_check=True)
    assert (model.ir_version, [(opset.domain, opset.version) for opset in model.opset_import]) == (8, [("", 17)])


def test_a_network_too_large_for_onnx_is_rejected(onnxruntime: Any) -> None:
    from resnet_cli.engines import onnx_file

    network = graph.network(width=400)
    arrays = {name: np.broadcast_to(np.float32(0), each.shape) for name, each in network.parameters.items()}
    with pytest.raises(ModelError, match=r"at most 2 GB, but this network's parameters take 3\.\d GB"):
        onnx_file.to_onnx(arrays, default_metadata(network.architecture))


def test_half_precision_is_converted_without_loss(tmp_path: Path) -> None:
    halves = load_file(TINY.path)
    assert {array.dtype.name for array in halves.values()} == {"float16"}
    _convert("tiny", tmp_path / "tiny.safetensors")
    for name, array in load_file(tmp_path / "tiny.safetensors").items():
        np.testing.assert_array_equal(array, halves[name])


def test_the_result_is_printed(plain: Source, tmp_path: Path) -> None:
    out = tmp_path / "out.safetensors"
    printed = json.loads(run_main("convert", plain.path, out, "--format", "json").stdout)
    label = printed["top_label"]
    assert label in [label.name for label in plain.metadata.labels]
    assert printed == {
        "path": str(out),
        "format": "safetensors",
        "model": "resnet_1_1v1.5_w16",
        "weights": str(plain.path),
        "bytes": out.stat().st_size,
        "largest_difference": 0,
        "top_label": label,
        "source_top_label": label,
    }
    line = run_main("convert", "--force", plain.path, out).stdout
    shown = label.replace("\n", "\\u000a")
    size = f"{out.stat().st_size / 1000:.1f} kB"
    end = f"largest probability difference: 0, top label: {shown} (source: {shown})"
    assert line == f"{out}: {size}, {end}\n"


def test_keras_is_imported_only_for_keras_files(plain: Source, tmp_path: Path) -> None:
    script = """
import sys
from resnet_cli.cli import app
source, *outputs = sys.argv[1:]
for output in outputs:
    sys.argv[1:] = ["convert", "--quiet", source, output]
    assert app.main() == 0
    print(output, sorted({name.partition(".")[0] for name in sys.modules} & {"keras", "tensorflow"}))
"""
    outputs = [str(tmp_path / name) for name in ("a.weights.h5", "a.h5", "a.safetensors", "a.xml")]
    result = subprocess.run([sys.executable, "-c", script, plain.path, *outputs], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert [line for line in result.stdout.splitlines() if line.endswith("]")] == [f"{name} []" for name in outputs]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["tiny", "out.pt"], 2, "out.pt: the name must end with .keras, .weights.h5, .h5, .safetensors, .xml, .onnx"),
        (["tiny", "out.xml", "--names", "pytorch"], 2, "must end with .safetensors (with --names pytorch)"),
        (["tiny", "folder.h5", "--force"], 2, "folder.h5: expected a file in an existing folder"),
        (["tiny", "folder.xml", "--force"], 2, "folder.bin: expected a file in an existing folder"),
        (["tiny", "none/out.h5"], 2, "none/out.h5: expected a file in an existing folder"),
        (["imagenet", "none/out.h5"], 2, "none/out.h5: expected a file in an existing folder"),
        (["tiny", "old.h5"], 2, "old.h5 already exists; use --force to overwrite it"),
        (["tiny", "old.xml"], 2, "old.bin already exists; use --force to overwrite it"),
        (["source.safetensors", "source.safetensors", "--force"], 2, "source.safetensors is the file to convert"),
        (["old.bin", "old.xml", "--force"], 2, "old.bin is the file to convert"),
        (["tiny", "out.h5", "--image", "none.png"], 2, "none.png: no file with this name"),
        (["tiny", "out.h5", "--image", "old.h5"], 2, "old.h5: expected an image"),
        (["nonsense", "out.h5"], 3, "nonsense: neither a weights file nor a known name"),
        (["folder.h5", "out.h5"], 3, "folder.h5: expected a weights file, got a folder"),
        (["old.h5", "out.keras"], 3, "old.h5: expected .safetensors"),
        (["imagenet", "out.h5"], 3, "RESNET_OFFLINE"),
    ],
)
def test_conversions_that_are_rejected(
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
    Path("old.h5").write_text("content")
    for name in ("source.safetensors", "old.bin"):
        Path(name).write_bytes(plain.path.read_bytes())
    before = {path: path.is_file() and path.read_bytes() for path in tmp_path.iterdir()}
    result = run_main("convert", *arguments)
    assert (result.returncode, result.stdout) == (code, "")
    assert message in result.stderr
    assert len(result.stderr.splitlines()) <= 3
    assert {path: path.is_file() and path.read_bytes() for path in tmp_path.iterdir()} == before


def test_existing_files_are_overwritten_with_force(plain: Source, tmp_path: Path) -> None:
    for name in ("a.xml", "a.bin"):
        (tmp_path / name).write_text("old")
    _convert(plain.path, tmp_path / "a.xml", force=True)
    assert openvino_engine.predict_file(tmp_path / "a.xml", plain.pixels()[:1]).shape == (1, 10)


@contextmanager
def _disk_with(kilobytes: int) -> Iterator[None]:
    """Let this process write no larger files, which fails like a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (kilobytes * 1024, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("suffix", exports.FILE_FORMATS)
def test_a_full_disk_leaves_nothing(plain: Source, tmp_path: Path, suffix: str) -> None:
    if suffix == ".onnx":
        pytest.importorskip("onnxruntime", reason="needs the extra onnx")
    out = tmp_path / f"a{suffix}"
    with _disk_with(kilobytes=50), pytest.raises(UsageError) as caught:
        _convert(plain.path, out)
    assert str(caught.value).startswith(f"cannot write {out}: ")
    assert len(str(caught.value).splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_one_line(plain: Source, tmp_path: Path) -> None:
    command = f"ulimit -f 50; exec {RESNET} convert {plain.path} {tmp_path / 'a.safetensors'}"
    result = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith(f"error: cannot write {tmp_path / 'a.safetensors'}: ")
    assert len(result.stderr.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_both_files_or_neither(tmp_path: Path) -> None:
    """The first file is already in place when the second cannot be moved."""

    def write() -> None:
        with atomic.atomic_write(tmp_path / "a.xml", tmp_path / "a.bin") as temporary:
            temporary.touch()
            temporary.with_name("a.bin").touch()
            (tmp_path / "a.xml").mkdir()

    with pytest.raises(UsageError, match=r"cannot write .*a\.xml"):
        write()
    assert [path.name for path in tmp_path.iterdir()] == ["a.xml"]


def _changed(path: Path, arrays: dict[str, NDArray[Any]], metadata: Metadata) -> None:
    """Write with the smallest possible error: in the last bit of one value."""
    gamma = arrays["conv1_bn/gamma"].copy()
    gamma[3] = np.nextafter(gamma[3], np.float32(2))
    checkpoint.write_safetensors(path, arrays | {"conv1_bn/gamma": gamma}, metadata)


def _without_temperature(path: Path, arrays: dict[str, NDArray[Any]], metadata: Metadata) -> None:
    checkpoint.write_safetensors(path, arrays, replace(metadata, temperature=1.0))


def _truncated(path: Path, arrays: dict[str, NDArray[Any]], metadata: Metadata) -> None:
    openvino_engine.write(path, arrays, metadata)
    path.with_suffix(".bin").write_bytes(path.with_suffix(".bin").read_bytes()[:-1000])


def _mirrored(path: Path, arrays: dict[str, NDArray[Any]], metadata: Metadata) -> None:
    kernels = {name: array[:, ::-1] for name, array in arrays.items() if array.ndim == 4}
    openvino_engine.write(path, arrays | kernels, metadata)


@pytest.mark.parametrize(
    ("suffix", "writer", "message"),
    [
        (".safetensors", _changed, "arrays changed in the file: conv1_bn/gamma"),
        (".safetensors", _without_temperature, "the metadata changed in the file"),
        (".xml", _truncated, "cannot be read back"),
        (".xml", _mirrored, "its probabilities differ by up to 0."),
    ],
)
def test_a_file_with_another_network_is_discarded(
    plain: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str, writer: Any, message: str
) -> None:
    damaging = replace(exports.FILE_FORMATS[suffix], writer=f"{__name__}:{writer.__name__}")
    monkeypatch.setitem(exports.FILE_FORMATS, suffix, damaging)
    out = tmp_path / f"out{suffix}"
    with pytest.raises(ModelError) as caught:
        _convert(plain.path, out)
    assert str(caught.value).startswith(f"{out} was discarded: ")
    assert message in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("library", "suffix", "message"),
    [
        ("onnx", ".onnx", "ONNX needs two more packages: pip install 'resnet-cli[onnx]'"),
        ("openvino", ".xml", "cannot write this format here: it is broken"),
    ],
)
def test_a_missing_library_is_one_line(resnet: Run, tmp_path: Path, library: str, suffix: str, message: str) -> None:
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
