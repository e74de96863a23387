"""The OpenVINO engine: precision, the cache of compiled networks, and what it does not import."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import networks
import numpy as np
import openvino
import pytest
from conftest import Run, run_main
from numpy.typing import NDArray

from resnet_cli.engines import keras_engine, openvino_engine
from resnet_cli.engines.engine import Engine, engine_name, start_engine
from resnet_cli.engines.precision import Precision
from resnet_cli.errors import EngineError
from resnet_cli.images import decode
from resnet_cli.network import graph
from resnet_cli.system import cache_folder
from resnet_cli.weights import checkpoint
from resnet_cli.weights.model import default_metadata, load_model

SAMPLES = Path(__file__).parents[1] / "sample_images"
BF16 = "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")

NETWORK = graph.network(stages=(1, 1), width=16, classes=10, image_size=64)

Parameters = dict[str, NDArray[Any]]


@pytest.fixture(scope="module")
def parameters() -> Parameters:
    return keras_engine.arrays(networks.plausible(keras_engine.to_keras(NETWORK)))


@pytest.fixture
def weights(parameters: Parameters, tmp_path: Path) -> Path:
    path = tmp_path / "weights.safetensors"
    checkpoint.write_safetensors(path, parameters, default_metadata(NETWORK.architecture))
    return path


def _images(count: int = 8) -> NDArray[np.uint8]:
    return np.random.default_rng(3).integers(0, 256, (count, 64, 64, 3), dtype=np.uint8)


def _start(parameters: Parameters, folder: Path, **options: object) -> Engine:
    return networks.start("openvino", NETWORK, parameters, folder, **options)


def test_batch_norm_is_folded(parameters: Parameters) -> None:
    weights = openvino_engine.fold_batch_norm(NETWORK, parameters)
    assert not [name for name in weights if "_bn/" in name]
    kernel, gamma, variance = (
        parameters[f"conv1_{name}"] for name in ("conv/kernel", "bn/gamma", "bn/moving_variance")
    )
    scale = gamma / np.sqrt(variance + 1.001e-5)
    np.testing.assert_allclose(weights["conv1_conv/kernel"], kernel * scale, rtol=1e-5)


def test_f32_is_requested(parameters: Parameters, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By default, OpenVINO computes in bfloat16 if the processor can; this processor may not be able to."""
    configs: list[dict[str, str]] = []
    for method in ("compile_model", "import_model"):
        original = getattr(openvino.Core, method)

        def spy(self: Any, source: Any, device: str, config: dict[str, str], original: Any = original) -> Any:
            configs.append(config)
            return original(self, source, device, config)

        monkeypatch.setattr(openvino.Core, method, spy)
    for _ in range(2):
        _start(parameters, tmp_path)
    assert [config["INFERENCE_PRECISION_HINT"] for config in configs] == ["f32", "f32"]


def test_a_compiled_network_is_reused(parameters: Parameters, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = _start(parameters, tmp_path).predict(_images())
    monkeypatch.setattr(openvino_engine, "to_openvino", None)  # nothing is built the second time
    second = _start(parameters, tmp_path).predict(_images())
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("damage", ["flipped", "truncated", "empty", "unrelated"])
def test_a_damaged_cache_entry_is_rebuilt(parameters: Parameters, tmp_path: Path, damage: str) -> None:
    expected = _start(parameters, tmp_path).predict(_images())
    (entry,) = (cache_folder.cache_dir() / "compiled").iterdir()
    content = entry.read_bytes()
    middle = len(content) // 2
    damaged = {
        "flipped": content[:middle] + bytes([content[middle] ^ 0xFF]) + content[middle + 1 :],
        "truncated": content[:middle],
        "empty": b"",
        "unrelated": b"written by another program",
    }
    entry.write_bytes(damaged[damage])
    os.utime(entry, (0, 0))
    np.testing.assert_array_equal(expected, _start(parameters, tmp_path).predict(_images()))
    (entry,) = (cache_folder.cache_dir() / "compiled").iterdir()
    assert entry.read_bytes() not in damaged.values()


def test_a_cache_entry_that_openvino_cannot_read_is_rebuilt(
    parameters: Parameters, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its hash is correct, but its content is not from this version of OpenVINO."""
    expected = _start(parameters, tmp_path).predict(_images())
    shutil.rmtree(cache_folder.cache_dir())
    with monkeypatch.context() as patch:
        patch.setattr(openvino.CompiledModel, "export_model", lambda self, stream: stream.write(b"of another version"))
        _start(parameters, tmp_path)
    (entry,) = (cache_folder.cache_dir() / "compiled").iterdir()
    assert b"of another version" in entry.read_bytes()
    np.testing.assert_array_equal(expected, _start(parameters, tmp_path).predict(_images()))
    (rebuilt,) = (cache_folder.cache_dir() / "compiled").iterdir()
    assert b"of another version" not in rebuilt.read_bytes()


def test_other_weights_in_the_same_file_are_compiled(parameters: Parameters, tmp_path: Path) -> None:
    first = _start(parameters, tmp_path).predict(_images())
    other = parameters | {"predictions/kernel": parameters["predictions/kernel"][:, ::-1]}
    second = _start(other, tmp_path).predict(_images())
    assert np.abs(first - second).max() > 1e-3
    assert len(list((cache_folder.cache_dir() / "compiled").iterdir())) == 2


def test_the_cache_has_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache_folder, "COMPILED_LIMIT", 250)
    paths = [cache_folder.save_compiled(key, bytes([key]) * 100) for key in range(2)]
    for age, path in enumerate(reversed(paths)):  # the first one was used last
        os.utime(path, (1_000_000 - age, 1_000_000))
    assert cache_folder.find_compiled(0) == paths[0]
    saved = cache_folder.save_compiled(2, b"2" * 100)
    assert cache_folder.find_compiled(1) is None
    assert cache_folder.find_compiled(0) == paths[0]
    assert cache_folder.find_compiled(2) == saved


def test_a_value_is_cached_until_the_file_changes(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"first")
    os.utime(file, (1_000_000, 1_000_000))
    calls = []
    for _ in range(2):
        assert cache_folder.cached_value(file, "length", lambda path: calls.append(path) or path.stat().st_size) == 5
    assert len(calls) == 1
    file.write_bytes(b"other")
    assert cache_folder.digest(file) == cache_folder.hashlib.sha256(b"other").hexdigest()
    os.utime(file, (1_000_001, 1_000_001))
    cache_folder.cached_value(file, "length", lambda path: calls.append(path))
    assert len(calls) == 2


def test_an_unwritable_cache_costs_one_warning(resnet: Run, tmp_path: Path, weights: Path) -> None:
    (tmp_path / "file").touch()
    cache = str(tmp_path / "file" / "cache")
    result = resnet("predict", "--weights", weights, SAMPLES / "cat.jpg", RESNET_CACHE_DIR=cache)
    assert result.returncode == 0
    assert result.stderr.count("warning") == 1
    assert "every start will be slower" in result.stderr


@pytest.mark.skipif(BF16, reason="this processor may compute in bf16")
def test_bf16_warns_if_the_processor_does_not_support_it(weights: Path) -> None:
    command = ("predict", "--weights", weights, "--format", "json", SAMPLES / "cat.jpg")
    default, requested = run_main(*command), run_main(*command, "--precision", "bf16")
    assert (requested.returncode, requested.stdout) == (0, default.stdout)
    assert requested.stderr.splitlines() == ["warning: bf16 is not faster than f32 on this processor; using f32"]


def test_int8(parameters: Parameters, tmp_path: Path) -> None:
    pytest.importorskip("nncf", reason="needs the extra int8")
    exact = _start(parameters, tmp_path).predict(_images(64))
    engine = _start(parameters, tmp_path, precision=Precision.INT8, calibration=lambda *_: _images(32))
    quantised = engine.predict(_images(64))
    assert engine.precision == "int8"
    assert 1e-5 < np.abs(quantised - exact).max() < 0.2
    assert np.mean(quantised.argmax(1) == exact.argmax(1)) > 0.8
    again = _start(parameters, tmp_path, precision=Precision.INT8)
    np.testing.assert_array_equal(quantised, again.predict(_images(64)))


@pytest.fixture
def broken_openvino(tmp_path: Path) -> Path:
    """A folder with an `openvino` package that cannot be imported."""
    (tmp_path / "broken" / "openvino").mkdir(parents=True)
    (tmp_path / "broken" / "openvino" / "__init__.py").write_text("raise ImportError('libopenvino.so: not found')")
    return tmp_path / "broken"


def test_keras_replaces_a_broken_openvino(
    weights: Path, broken_openvino: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load_model(str(weights))
    usual = start_engine("auto", model)
    for name in [name for name in sys.modules if name.partition(".")[0] == "openvino"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delitem(sys.modules, openvino_engine.__name__)
    monkeypatch.syspath_prepend(broken_openvino)
    reason = "the openvino engine cannot run here: libopenvino.so: not found"
    with pytest.warns(UserWarning, match=f"^{reason}; using keras, which is slower$"):
        fallback = start_engine("auto", model)
    assert (engine_name(usual), engine_name(fallback)) == ("openvino", "keras")
    assert np.abs(usual.predict(_images()) - fallback.predict(_images())).max() < 1e-4
    with pytest.raises(EngineError, match=f"^{reason}$"):
        start_engine("openvino", model)


def test_a_broken_openvino_is_an_error_if_it_is_requested(resnet: Run, weights: Path, broken_openvino: Path) -> None:
    path = os.pathsep.join(filter(None, [str(broken_openvino), os.environ.get("PYTHONPATH")]))
    result = resnet("predict", "--weights", weights, "--engine", "openvino", SAMPLES / "cat.jpg", PYTHONPATH=path)
    assert (result.returncode, result.stdout) == (3, "")
    assert result.stderr == "error: the openvino engine cannot run here: libopenvino.so: not found\n"


def test_neither_keras_nor_tensorflow_nor_h5py_is_imported() -> None:
    """With a compiled network in the cache; TensorFlow would take seconds, h5py a tenth of a second."""
    start_engine("openvino", load_model("tiny"))
    script = """
import sys
from resnet_cli.cli import app
for arguments in (["--help"], ["summary"], ["predict", "--weights", "tiny", "cat.jpg"]):
    sys.argv[1:] = arguments
    assert app.main() == 0
    print(sorted({name.partition(".")[0] for name in sys.modules} & {"keras", "tensorflow", "h5py"}), file=sys.stderr)
"""
    result = subprocess.run([sys.executable, "-c", script], cwd=SAMPLES, capture_output=True, text=True)
    assert (result.returncode, result.stderr.splitlines()[-3:]) == (0, ["[]"] * 3), result.stderr


def test_cache_info_and_clear(weights: Path) -> None:
    os.utime(weights, (1_000_000, 1_000_000))  # nothing is remembered of a file that may still be written
    assert run_main("predict", "--weights", weights, SAMPLES / "cat.jpg").returncode == 0
    before = json.loads(run_main("cache", "info", "--format", "json").stdout)
    entries = list((cache_folder.cache_dir() / "compiled").iterdir())
    assert before["compiled"]["files"] == len(entries) > 0
    assert before["compiled"]["bytes"] == sum(entry.stat().st_size for entry in entries)
    assert "compiled" in run_main("cache", "info").stdout
    cleared = run_main("cache", "clear", "compiled")
    assert (cleared.returncode, cleared.stdout) == (0, "")
    assert not (cache_folder.cache_dir() / "compiled").exists()
    assert (cache_folder.cache_dir() / "remembered").exists()
    assert run_main("cache", "clear").returncode == 0
    parts = json.loads(run_main("cache", "info", "--format", "json").stdout)
    assert {part["files"] for part in parts.values()} == {0}
    assert run_main("cache", "clear", "everything").returncode == 2


def test_both_engines_agree_on_the_embedded_network() -> None:
    model = load_model("tiny")
    images = np.stack([decode.decode_file(photo, model.metadata.decoding()) for photo in sorted(SAMPLES.glob("*.jpg"))])
    reference, compiled = (start_engine(name, model) for name in ("keras", "openvino"))
    assert np.abs(compiled.predict(images) - reference.predict(images)).max() < 1e-4
