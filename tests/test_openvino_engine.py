"""The compiled engine: precision, the cache of compiled networks, and what a start does without."""

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
from numpy.typing import NDArray

from resnet_cli import architecture, compiled, engines, graph, images, keras_model, models, store, terminal
from resnet_cli.engines import Precision
from resnet_cli.pretrained import Fit

SAMPLES = Path(__file__).parents[1] / "sample_images"
BF16 = "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


@pytest.fixture(scope="module")
def network() -> graph.Graph:
    return graph.resnet(architecture.resnet(stages=(1, 1, 1, 1), width=16, classes=10, image_size=64))


@pytest.fixture(scope="module")
def parameters(network: graph.Graph) -> dict[str, NDArray[Any]]:
    return keras_model.arrays(networks.plausible(keras_model.build(network)))


@pytest.fixture
def weights(network: graph.Graph, parameters: dict[str, NDArray[Any]], tmp_path: Path) -> Path:
    networks.start("openvino", network, parameters, tmp_path)
    return tmp_path / "weights.safetensors"


def _pictures(count: int = 8) -> NDArray[np.uint8]:
    return np.random.default_rng(3).integers(0, 256, (count, 64, 64, 3), dtype=np.uint8)


def test_batch_norm_is_folded(network: graph.Graph, parameters: dict[str, NDArray[Any]]) -> None:
    weights = compiled.folded(network, parameters)
    assert not [name for name in weights if "_bn/" in name]
    kernel, gamma, variance = (
        parameters[f"conv1_{name}"] for name in ("conv/kernel", "bn/gamma", "bn/moving_variance")
    )
    scale = gamma / np.sqrt(variance + 1.001e-5)
    np.testing.assert_allclose(weights["conv1_conv/kernel"], kernel * scale, rtol=1e-5)


def test_answers_do_not_depend_on_the_batch(
    network: graph.Graph, parameters: dict[str, NDArray[Any]], tmp_path: Path
) -> None:
    for name in engines.ENGINES:
        engine = networks.start(name, network, parameters, tmp_path)
        pictures = _pictures(40)
        whole = engine.predict(pictures)
        np.testing.assert_array_equal(whole[3:6], engine.predict(pictures[3:6]))
        np.testing.assert_array_equal(whole[39:], engine.predict(pictures[39:]))


def test_f32_is_asked_for(
    network: graph.Graph, parameters: dict[str, NDArray[Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Left to itself, OpenVINO computes in bfloat16 where the processor can; here it may not be able to."""
    asked: list[dict[str, str]] = []
    for method in ("compile_model", "import_model"):
        original = getattr(openvino.Core, method)

        def spy(self: Any, what: Any, device: str, config: dict[str, str], original: Any = original) -> Any:
            asked.append(config)
            return original(self, what, device, config)

        monkeypatch.setattr(openvino.Core, method, spy)
    for _ in range(2):
        networks.start("openvino", network, parameters, tmp_path)
    assert [config["INFERENCE_PRECISION_HINT"] for config in asked] == ["f32", "f32"]


def test_compiled_network_is_read_back(
    network: graph.Graph, parameters: dict[str, NDArray[Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = networks.start("openvino", network, parameters, tmp_path).predict(_pictures())
    monkeypatch.setattr(compiled, "build", None)  # nothing is built the second time
    second = networks.start("openvino", network, parameters, tmp_path).predict(_pictures())
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("damage", ["flipped", "cut", "empty", "foreign"])
def test_damaged_entry_is_made_anew(
    network: graph.Graph, parameters: dict[str, NDArray[Any]], tmp_path: Path, damage: str
) -> None:
    expected = networks.start("openvino", network, parameters, tmp_path).predict(_pictures())
    (entry,) = (store.cache_dir() / "compiled").iterdir()
    whole = entry.read_bytes()
    middle = len(whole) // 2
    damaged = {
        "flipped": whole[:middle] + bytes([whole[middle] ^ 0xFF]) + whole[middle + 1 :],
        "cut": whole[:middle],
        "empty": b"",
        "foreign": b"what another program wrote",
    }
    entry.write_bytes(damaged[damage])
    os.utime(entry, (0, 0))
    again = networks.start("openvino", network, parameters, tmp_path).predict(_pictures())
    np.testing.assert_array_equal(expected, again)
    (entry,) = (store.cache_dir() / "compiled").iterdir()
    assert entry.read_bytes() not in damaged.values()


def test_entry_that_openvino_refuses_is_made_anew(
    network: graph.Graph, parameters: dict[str, NDArray[Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Well hashed, but not what this OpenVINO can read."""
    expected = networks.start("openvino", network, parameters, tmp_path).predict(_pictures())
    monkeypatch.setattr(openvino.CompiledModel, "export_model", lambda self, stream: stream.write(b"of other days"))
    shutil.rmtree(store.cache_dir())
    networks.start("openvino", network, parameters, tmp_path)
    monkeypatch.undo()
    monkeypatch.setenv("RESNET_CACHE_DIR", str(tmp_path / "cache"))
    again = networks.start("openvino", network, parameters, tmp_path).predict(_pictures())
    np.testing.assert_array_equal(expected, again)


def test_other_weights_in_the_same_place_are_compiled(
    network: graph.Graph, parameters: dict[str, NDArray[Any]], tmp_path: Path
) -> None:
    first = networks.start("openvino", network, parameters, tmp_path).predict(_pictures())
    other = keras_model.arrays(networks.plausible(keras_model.build(network), seed=1))
    second = networks.start("openvino", network, other, tmp_path).predict(_pictures())
    assert np.abs(first - second).max() > 1e-3
    assert len(list((store.cache_dir() / "compiled").iterdir())) == 2


def test_cache_has_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "COMPILED_LIMIT", 250)
    paths = [store.keep_compiled(key, bytes([key]) * 100) for key in range(2)]
    for age, path in enumerate(reversed(paths)):  # the first one was used last
        os.utime(path, (1_000_000 - age, 1_000_000))
    assert store.find_compiled(0) == paths[0]
    kept = store.keep_compiled(2, b"2" * 100)
    assert store.find_compiled(1) is None
    assert store.find_compiled(0) == paths[0]
    assert store.find_compiled(2) == kept


def test_remembered_only_as_long_as_the_file_is_untouched(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"first")
    os.utime(file, (1_000_000, 1_000_000))
    calls = []
    for _ in range(2):
        assert store.remembered(file, "length", lambda path: calls.append(path) or path.stat().st_size) == 5
    assert len(calls) == 1
    file.write_bytes(b"other")
    assert store.digest(file) == store.hashlib.sha256(b"other").hexdigest()
    os.utime(file, (1_000_001, 1_000_001))
    store.remembered(file, "length", lambda path: calls.append(path))
    assert len(calls) == 2


def test_unwritable_cache_costs_one_warning(resnet: Any, tmp_path: Path, weights: Path) -> None:
    (tmp_path / "file").touch()
    cache = str(tmp_path / "file" / "cache")
    ran = resnet("predict", "--weights", weights, SAMPLES / "cat.jpg", RESNET_CACHE_DIR=cache)
    assert ran.returncode == 0
    assert ran.stderr.count("warning") == 1
    assert "every start takes longer" in ran.stderr


@pytest.mark.skipif(BF16, reason="this processor may compute in bf16")
def test_bf16_warns_where_the_processor_has_none(resnet: Any, weights: Path) -> None:
    plain = resnet("predict", "--weights", weights, "--format", "json", SAMPLES / "cat.jpg")
    asked = resnet("predict", "--weights", weights, "--format", "json", "--precision", "bf16", SAMPLES / "cat.jpg")
    assert asked.stdout == plain.stdout
    assert asked.stderr.splitlines() == ["warning: this processor does not compute in bf16; f32 is used"]


def test_int8(network: graph.Graph, parameters: dict[str, NDArray[Any]], tmp_path: Path) -> None:
    pytest.importorskip("nncf", reason="needs the extra int8")
    exact = networks.start("openvino", network, parameters, tmp_path).predict(_pictures(64))
    setup = {"precision": Precision.INT8, "calibration": lambda *_: _pictures(32)}
    engine = networks.start("openvino", network, parameters, tmp_path, **setup)
    close = engine.predict(_pictures(64))
    assert engine.precision == "int8"
    assert 1e-5 < np.abs(close - exact).max() < 0.2
    assert np.mean(close.argmax(1) == exact.argmax(1)) > 0.8
    again = networks.start("openvino", network, parameters, tmp_path, precision=Precision.INT8)
    np.testing.assert_array_equal(close, again.predict(_pictures(64)))


def test_without_openvino_keras_computes(resnet: Any, tmp_path: Path, weights: Path) -> None:
    usual = resnet("predict", "--weights", weights, "--format", "json", SAMPLES / "cat.jpg")
    (tmp_path / "broken" / "openvino").mkdir(parents=True)
    (tmp_path / "broken" / "openvino" / "__init__.py").write_text("raise ImportError('libopenvino.so: not found')")
    path = os.pathsep.join(filter(None, [str(tmp_path / "broken"), os.environ.get("PYTHONPATH")]))
    arguments = ("predict", "--weights", weights, "--format", "json", SAMPLES / "cat.jpg")
    fallen = resnet(*arguments, PYTHONPATH=path)
    assert fallen.returncode == 0
    assert len(fallen.stderr.splitlines()) == 1
    assert "openvino cannot run here: libopenvino.so: not found; keras computes instead" in fallen.stderr
    pairs = zip(*(json.loads(ran.stdout)[0]["predictions"] for ran in (usual, fallen)), strict=True)
    assert all(abs(one["probability"] - other["probability"]) < 1e-4 for one, other in pairs)
    insisting = resnet(*arguments, "--engine", "openvino", PYTHONPATH=path)
    assert insisting.returncode == 3
    assert insisting.stdout == ""


@pytest.mark.parametrize("arguments", [["--help"], ["summary"], ["predict", "--weights", "tiny", "cat.jpg"]])
def test_neither_keras_nor_tensorflow_is_imported(arguments: list[str]) -> None:
    script = """
import json, sys
from resnet_cli import cli
sys.argv[1:] = json.loads(sys.argv[1])
try:
    cli.main()
finally:
    print(sorted({name.partition(".")[0] for name in sys.modules} & {"keras", "tensorflow", "h5py"}), file=sys.stderr)
"""
    for _ in range(2):  # with and without a compiled network
        ran = subprocess.run(
            [sys.executable, "-c", script, json.dumps(arguments)], cwd=SAMPLES, capture_output=True, text=True
        )
        assert ran.returncode == 0
    assert ran.stderr.splitlines()[-1] == "[]"


def test_cache_info_and_clear(resnet: Any, weights: Path) -> None:
    assert resnet("predict", "--weights", weights, SAMPLES / "cat.jpg").returncode == 0
    before = json.loads(resnet("cache", "info", "--format", "json").stdout)
    entries = list((store.cache_dir() / "compiled").iterdir())
    assert before["compiled"]["files"] == len(entries) > 0
    assert before["compiled"]["bytes"] == sum(entry.stat().st_size for entry in entries)
    assert "compiled" in resnet("cache", "info").stdout
    cleared = resnet("cache", "clear", "compiled")
    assert (cleared.returncode, cleared.stdout) == (0, "")
    assert not (store.cache_dir() / "compiled").exists()
    assert (store.cache_dir() / "remembered").exists()
    assert resnet("cache", "clear").returncode == 0
    assert {part["files"] for part in json.loads(resnet("cache", "info", "--format", "json").stdout).values()} == {0}
    assert resnet("cache", "clear", "everything").returncode == 2


def test_embedded_network_answers_as_keras_computes_it() -> None:
    activity = terminal.Activity("")
    model = models.load("tiny", {}, activity)
    size = model.metadata.architecture.image_size
    pictures = np.stack([images.decode(photo, size, Fit.CROP) for photo in sorted(SAMPLES.glob("*.jpg"))])
    theirs, ours = (engines.start(name, model, engines.Setup(), activity) for name in ("keras", "openvino"))
    assert np.abs(ours.predict(pictures) - theirs.predict(pictures)).max() < 1e-4
