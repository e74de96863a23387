"""Benchmarks: figures derived from measurements, and the installed command. No test depends on the speed."""

import json
import os
import sys
from pathlib import Path

import numpy as np
import numpy_resnet
import pytest
from conftest import Run as Resnet
from conftest import run_main
from PIL import Image

from resnet_cli.engines.precision import Precision
from resnet_cli.errors import ResnetError
from resnet_cli.network import graph, variants
from resnet_cli.network.architecture import NetworkOptions
from resnet_cli.output.benchmark import BENCHMARK
from resnet_cli.system.progress import SILENT
from resnet_cli.tasks import benchmark, processes, synthetic
from resnet_cli.tasks.benchmark import Benchmark, Machine, Run, Spread
from resnet_cli.tasks.options import InferenceOptions
from resnet_cli.tasks.processes import Cost

SAMPLES = Path(__file__).parents[1] / "sample_images"
MEGABYTE = 2**20
RATES = ("engine", "decode", "end_to_end", "expected")
FIGURES = {
    *(f"{name}_images_per_second" for name in RATES),
    *("share_of_expected", "cold_seconds", "warm_seconds", "cold_peak_bytes", "warm_peak_bytes"),
}


def test_expected_speed_is_that_of_decoding_then_inference() -> None:
    # 1/30 s and 1/60 s per image are 1/20 s.
    figures = Run(30, 60, 16, 10, Cost(4, 8), Cost(1, 5)).figures
    assert figures["expected_images_per_second"] == pytest.approx(20)
    assert figures["share_of_expected"] == pytest.approx(0.8)
    assert figures["ratio"] == pytest.approx(3)
    assert figures.keys() == FIGURES | {"against_images_per_second", "ratio"}
    assert Run(30, 60, 16, None, Cost(4, 8), Cost(1, 5)).figures.keys() == FIGURES


def _benchmark(precision: Precision) -> Benchmark:
    cost = Cost(1, 1)
    runs = (Run(10, 1, 1, 5, cost, cost), Run(40, 1, 1, 10, cost, cost), Run(30, 1, 1, 10, cost, cost))
    machine = Machine("a processor", 2, {})
    return Benchmark("resnet50", "none", "openvino", precision, "keras", machine, 64, 224, 32, 1, runs)


def test_spread_is_that_of_the_ratios_of_each_run() -> None:
    measured = _benchmark(Precision.F32)
    assert measured.figures["engine_images_per_second"] == Spread(min=10, median=30, max=40)
    assert measured.figures["ratio"] == Spread(min=2, median=3, max=4)  # 10/5, 30/10 and 40/10; not 30/10 of medians


@pytest.mark.parametrize("precision", [Precision.F32, Precision.BF16])
def test_table_shows_figures_and_precision(precision: Precision, capsys: pytest.CaptureFixture[str]) -> None:
    BENCHMARK.show(_benchmark(precision), "table")
    shown = capsys.readouterr().out
    assert f"resnet50, none, openvino {precision}, 64 images" in shown
    rows = ("engine only, images/s", "decoding only, images/s", "end to end, images/s", "cold start, seconds")
    for row in (*rows, "warm start, seconds", "keras only, images/s", "speedup over keras"):
        assert row in shown


def test_the_command(resnet: Resnet, tmp_path: Path) -> None:
    options = ("--weights", "tiny", "--runs", 1, "--images", SAMPLES, "--precision", "bf16")
    result = resnet("benchmark", *options, "--format", "json", RESNET_CACHE_DIR=str(tmp_path / "cache"))
    assert result.returncode == 0
    assert result.stderr in ("", "warning: bf16 is not faster than f32 on this processor; using f32\n")
    printed = json.loads(result.stdout)
    described = {key: value for key, value in printed.items() if key not in FIGURES}
    assert described.pop("peak_bytes") > 20 * MEGABYTE
    machine = described.pop("machine")
    assert (machine["cores"], machine["versions"]["python"]) == (os.cpu_count(), sys.version.split()[0])
    assert {"openvino", "resnet-cli"} <= machine["versions"].keys()
    assert described == {
        "model": "resnet_2_3_3v1.5_w48_small",
        "weights": "tiny",
        "engine": "openvino",
        "precision": "f32" if "using f32" in result.stderr else "bf16",
        "against": None,
        "images": 64,
        "image_size": 80,
        "batch_size": 32,
        "runs": 1,
    }
    assert printed.keys() >= FIGURES
    assert all(0 < printed[name]["min"] == printed[name]["median"] == printed[name]["max"] for name in FIGURES)
    engine, decode, end_to_end, expected = (printed[f"{name}_images_per_second"]["median"] for name in RATES)
    assert expected == pytest.approx(engine * decode / (engine + decode))
    assert printed["share_of_expected"]["median"] == pytest.approx(end_to_end / expected)
    assert not list((tmp_path / "cache").rglob("*.blob")), "the user's cache contains the network of the benchmark"


def test_random_weights_generated_photos_and_another_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(benchmark, "MIN_SECONDS", 0.05)
    requested = NetworkOptions(stages=(1, 1, 1, 1), width=4, image_size=32)
    measured = benchmark.run_benchmark("none", requested, None, InferenceOptions(), SILENT, against="keras", runs=2)
    assert (measured.model, measured.weights, measured.against) == ("resnet_1_1_1_1_w4", "none", "keras")
    assert (measured.engine, measured.precision) == ("openvino", "f32")
    assert [measured.images, len(measured.runs)] == [64, 2]
    assert all(run.figures["ratio"] == run.engine / run.against for run in measured.runs if run.against)
    assert measured.figures.keys() == FIGURES | {"against_images_per_second", "ratio"}


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--runs", "0"], 2, "--runs"),
        (["--precision", "f16"], 2, "f16"),
        (["--against", "torch"], 2, "torch"),
        (["--weights", "none", "--depth", "19"], 2, "depth must be one of 18, 34, 50, 101, 152"),
        (["--weights", "tiny", "--images", "nowhere"], 2, "nowhere: found no readable images"),
        (["--weights", "nothing.h5"], 3, "nothing.h5: neither a weights file nor a known name"),
    ],
)
def test_wrong_input(arguments: list[str], code: int, message: str) -> None:
    result = run_main("benchmark", *arguments)
    assert (result.returncode, result.stdout) == (code, "")
    assert message in result.stderr


def test_memory_of_a_process_excludes_its_parent() -> None:
    ballast = bytearray(b"x") * (300 * MEGABYTE)
    light = processes.run([sys.executable, "-c", "pass"], os.environ)
    heavy = processes.run([sys.executable, "-c", f"bytearray(b'x') * {200 * MEGABYTE}"], os.environ)
    assert light.peak_bytes < 100 * MEGABYTE < 200 * MEGABYTE < heavy.peak_bytes < 300 * MEGABYTE
    assert processes.peak_bytes() > len(ballast)


def test_time_of_a_process_is_measured_to_its_end() -> None:
    assert processes.run([sys.executable, "-c", "import time; time.sleep(0.3)"], os.environ).seconds > 0.3


def test_a_process_that_fails_raises_an_error() -> None:
    with pytest.raises(ResnetError, match="failed: no such photo"):
        processes.run([sys.executable, "-c", "raise SystemExit('first line\\nno such photo')"], os.environ)


def test_generated_photos_are_like_those_of_imagenet(tmp_path: Path) -> None:
    for folder in ("once", "again"):
        synthetic.write_photos(tmp_path / folder, 3)
    once, again = (sorted((tmp_path / folder).iterdir()) for folder in ("once", "again"))
    assert [path.read_bytes() for path in once] == [path.read_bytes() for path in again]
    assert len({path.read_bytes() for path in once}) == 3
    for path in once:
        with Image.open(path) as photo:
            assert (photo.format, photo.mode, photo.size) == ("JPEG", "RGB", (500, 375))
        assert 50_000 < path.stat().st_size < 150_000


def test_random_weights_give_predictions_of_medium_confidence() -> None:
    """In fifty layers, activations neither vanish nor explode, which would make all predictions alike, or certain."""
    network = graph.resnet(variants.describe(width=8, image_size=64))
    drawn = synthetic.parameters(network)
    assert {name: array.shape for name, array in drawn.items()} == {
        name: parameter.shape for name, parameter in network.parameters.items()
    }
    images = np.random.default_rng(1).uniform(-128, 128, (2, 64, 64, 3)).astype(np.float32)
    probabilities = numpy_resnet.ResNet(drawn, "v1").probabilities(images, (3, 4, 6, 3))
    assert 2 / 1000 < probabilities.max() < 0.9
    assert not np.allclose(probabilities[0], probabilities[1], rtol=0.01)
