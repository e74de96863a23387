"""Print the tables of docs/performance.md: `resnet`, Keras, ONNX Runtime, and OpenVINO without `resnet`.

All run the same ResNet-50 with random weights on the same photos, in interleaved rounds, so that load on the machine
affects all equally. It takes some minutes; with `--quick`, one or two. ONNX Runtime is measured if `onnx` and
`onnxruntime` are installed, int8 if `nncf` is, and bf16 if the processor supports it.
"""

import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from numpy.typing import NDArray

from resnet_cli.engines.engine import EngineOptions, start_engine
from resnet_cli.engines.precision import Precision
from resnet_cli.errors import ModelError
from resnet_cli.images import decode, inputs
from resnet_cli.network import graph, variants
from resnet_cli.network.preprocessing import Fit, Preprocessing
from resnet_cli.output.terminal import mute_libraries
from resnet_cli.tasks import benchmark, classify, processes, synthetic
from resnet_cli.weights.model import ModelFile, load_model

TOLERANCE = 1e-4  # difference of probabilities between all that compute in f32
BATCH_SIZE = 32  # images per batch of Keras and ONNX Runtime
AS_IS = Preprocessing("RGB", (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))  # for pixels that are already preprocessed
OURS, KERAS, ONNX = "`resnet`, {}", "Keras, `predict`", "ONNX Runtime"

Predict = Callable[[], NDArray[np.float32]]

KERAS_SCRIPT = """
import sys, keras
weights, photo = sys.argv[1:]
model = keras.applications.ResNet50(weights=weights)
pixels = keras.utils.img_to_array(keras.utils.load_img(photo, target_size=(224, 224)))
model.predict(keras.applications.resnet.preprocess_input(pixels[None]), verbose=0)
"""

OPENVINO_SCRIPT = """
import sys, numpy, openvino
network, pixels = sys.argv[1:]
compiled = openvino.Core().import_model(openvino.tensor_from_file(network), "CPU")
compiled(numpy.load(pixels))
"""


def contenders(model: ModelFile, pixels: NDArray[np.uint8]) -> dict[str, Predict]:
    """Return functions that classify all images, by row name; Keras and ONNX Runtime get preprocessed images."""
    from resnet_cli.engines import keras_engine

    found: dict[str, Predict] = {}
    for precision in Precision:
        options = EngineOptions(precision, throughput=True, calibration=lambda _: pixels)
        try:
            engine = start_engine("openvino", model, options)
        except ModelError as error:
            print(f"skipped: {error}", file=sys.stderr)
            continue
        if engine.precision is precision:
            found[OURS.format(precision)] = lambda engine=engine: engine.predict(pixels)  # type: ignore[misc]

    import keras

    floats = keras_engine.preprocess(pixels, model.metadata.preprocessing)
    network = keras.applications.ResNet50(weights=str(model.path))
    found[KERAS] = lambda: network.predict(floats, batch_size=BATCH_SIZE, verbose=0)
    try:
        from resnet_cli.engines import onnx_file
    except ModelError as error:
        print(f"skipped: {error}", file=sys.stderr)
        return found
    import onnxruntime

    prepared = replace(model.metadata, preprocessing=AS_IS)
    exported = onnx_file.to_onnx(model.parameters, prepared).SerializeToString()
    session = onnxruntime.InferenceSession(exported, providers=["CPUExecutionProvider"])
    planes = np.ascontiguousarray(floats.transpose(0, 3, 1, 2))
    parts = np.split(planes, range(BATCH_SIZE, len(planes), BATCH_SIZE))
    found[ONNX] = lambda: np.concatenate([session.run(None, {session.get_inputs()[0].name: part})[0] for part in parts])
    return found


def speeds(model: ModelFile, pixels: NDArray[np.uint8], rounds: int) -> str:
    """Return the table of speeds, and of CPU time, which other programs affect less."""
    competing = contenders(model, pixels)
    predicted = {name: run() for name, run in competing.items()}  # the first call takes longer
    for name in (KERAS, ONNX):
        if name in predicted:
            np.testing.assert_allclose(predicted[name], predicted[OURS.format("f32")], rtol=0, atol=TOLERANCE)
    seconds_by_name: dict[str, list[float]] = {name: [] for name in competing}
    cpu_by_name: dict[str, list[float]] = {name: [] for name in competing}
    for number in range(rounds):
        print(f"speed: round {number + 1} of {rounds}", file=sys.stderr)
        for name, run in competing.items():
            started, cpu_before = time.perf_counter(), time.process_time()
            run()
            seconds_by_name[name].append(time.perf_counter() - started)
            cpu_by_name[name].append(time.process_time() - cpu_before)
    rows = []
    for name, seconds in seconds_by_name.items():
        ratios = [theirs / ours for ours, theirs in zip(seconds, seconds_by_name[KERAS], strict=True)]
        rates = [len(pixels) / second for second in seconds]
        work = [1e3 * second / len(pixels) for second in cpu_by_name[name]]
        rows.append([name, spread(rates), spread(ratios, 2), spread(work, 0)])
    return table([f"{len(pixels)} decoded photos", "images/s", "speedup over Keras", "CPU ms per image"], rows)


def single_photo(model: ModelFile, photo: str, scratch: Path, rounds: int) -> str:
    """Return the table of processes that classify one photo."""
    decoded, cache = scratch / "pixels.npy", scratch / "single"
    np.save(decoded, decode.decode_file(photo, model.metadata.decoding(Fit.CROP))[None])
    resnet = [sys.executable, "-P", "-m", "resnet_cli", "predict", "--weights", str(model.path), photo]
    costs: dict[str, list[processes.Cost]] = {}
    for number in range(rounds):
        print(f"one photo: round {number + 1} of {rounds}", file=sys.stderr)
        for blob in cache.rglob("*.blob"):
            blob.unlink()
        for name, command in {
            "`resnet predict`, cold start": lambda: resnet,
            "`resnet predict`, warm start": lambda: resnet,
            "OpenVINO only: compiled network, pixels from a .npy file": lambda: [
                *(sys.executable, "-c", OPENVINO_SCRIPT, str(*cache.rglob("*.blob")), str(decoded))
            ],
            "Keras: `ResNet50`, `load_img`, `predict`": lambda: [
                *(sys.executable, "-c", KERAS_SCRIPT, str(model.path), photo)
            ],
        }.items():
            cost = processes.run(command(), os.environ | {"RESNET_CACHE_DIR": str(cache)})
            costs.setdefault(name, []).append(cost)
    rows = [
        [name, spread([each.seconds for each in cost], 2), spread([each.peak_bytes / 1e6 for each in cost], 0)]
        for name, cost in costs.items()
    ]
    return table(["one photo, one process", "seconds", "peak memory, MB"], rows)


def spread(values: Sequence[float], digits: int = 1) -> str:
    """Write median and range."""
    median, low, high = (f"{value:.{digits}f}" for value in (statistics.median(values), min(values), max(values)))
    return median if low == high else f"{median} ({low} to {high})"


def table(header: list[str], rows: list[list[str]]) -> str:
    """Write a table in Markdown."""
    return "\n".join(f"| {' | '.join(row)} |" for row in [header, ["---"] * len(header), *rows]) + "\n"


def main(
    folder: Annotated[Path | None, typer.Option("--images", help="Image folder (default: generated noise).")] = None,
    rounds: Annotated[int, typer.Option(min=1)] = 5,
    quick: Annotated[bool, typer.Option("--quick", help="One round of 32 photos.")] = False,
) -> None:
    """Print the tables."""
    count, rounds = (32, 1) if quick else (64, rounds)
    with tempfile.TemporaryDirectory() as temporary, mute_libraries():
        scratch = Path(temporary)
        os.environ |= {"RESNET_CACHE_DIR": str(scratch / "cache"), "RESNET_OFFLINE": "1"}
        weights, photos = scratch / "resnet50.weights.h5", folder or scratch / "photos"
        synthetic.write_weights(weights, graph.resnet(variants.describe(50)))
        if folder is None:
            synthetic.write_photos(photos, count)
        model = load_model(str(weights))
        pixels = classify.calibration_loader([str(photos)], Fit.CROP)(model.metadata)[:count]
        single = single_photo(model, next(inputs.find([str(photos)])), scratch, rounds)
        speed = speeds(model, pixels, rounds)
    machine = benchmark.machine()
    versions = machine.versions | {name: metadata.version(name) for name in ("onnxruntime", "nncf") if installed(name)}
    listed = ", ".join(f"{name} {version}" for name, version in versions.items())
    print(
        f"{machine.processor}, {machine.cores} cores; {listed}; median (min to max) of {rounds} interleaved rounds.\n"
    )
    print(speed)
    print(single)


def installed(name: str) -> bool:
    """Return whether a distribution is installed."""
    try:
        return bool(metadata.version(name))
    except metadata.PackageNotFoundError:
        return False


if __name__ == "__main__":
    typer.run(main)
