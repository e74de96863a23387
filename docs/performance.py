"""Print README's tables of performance: this program beside Keras, ONNX Runtime and OpenVINO without it.

All have the same ResNet-50 of random weights and the same photos, and take turns, so that a busy minute of the machine
touches all alike. It takes some minutes; `--quick` takes one, for a look. ONNX Runtime takes part where `onnx` and
`onnxruntime` are installed, int8 where `nncf` is, bf16 where the processor computes in it.
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

from resnet_cli import (
    architecture,
    benchmark,
    engines,
    graph,
    images,
    inputs,
    models,
    predict,
    processes,
    synthetic,
)
from resnet_cli.engines import Precision, Setup
from resnet_cli.errors import ModelError
from resnet_cli.models import Model
from resnet_cli.pretrained import Fit, Preprocessing
from resnet_cli.terminal import Activity, libraries_muted

TOLERANCE = 1e-4  # of probabilities, between all that compute in f32
BATCH_SIZE = 32  # of Keras and of ONNX Runtime
AS_IS = Preprocessing("RGB", (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))  # of pixels that are preprocessed already
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


def contenders(model: Model, pixels: NDArray[np.uint8]) -> dict[str, Predict]:
    """Return what classifies all images, by name. Keras and ONNX Runtime get them preprocessed already."""
    from resnet_cli import keras_model

    found: dict[str, Predict] = {}
    for precision in Precision:
        setup = Setup(precision, many=True, calibration=lambda *_: pixels)
        try:
            engine = engines.start("openvino", model, setup, Activity(""))
        except ModelError as error:
            print(f"left out: {error}", file=sys.stderr)
            continue
        if engine.precision is precision:
            found[OURS.format(precision)] = lambda engine=engine: engine.predict(pixels)  # type: ignore[misc]

    import keras

    floats = keras_model.preprocess(pixels, model.metadata.preprocessing)
    network = keras.applications.ResNet50(weights=str(model.path))
    found[KERAS] = lambda: network.predict(floats, batch_size=BATCH_SIZE, verbose=0)
    try:
        from resnet_cli import onnx_model
    except ModelError as error:
        print(f"left out: {error}", file=sys.stderr)
        return found
    import onnxruntime

    prepared = replace(model.metadata, preprocessing=AS_IS)
    exported = onnx_model.build(model.parameters, prepared).SerializeToString()
    session = onnxruntime.InferenceSession(exported, providers=["CPUExecutionProvider"])
    planes = np.ascontiguousarray(floats.transpose(0, 3, 1, 2))
    parts = np.split(planes, range(BATCH_SIZE, len(planes), BATCH_SIZE))
    found[ONNX] = lambda: np.concatenate([session.run(None, {session.get_inputs()[0].name: part})[0] for part in parts])
    return found


def speeds(model: Model, pixels: NDArray[np.uint8], rounds: int) -> str:
    """Return the table of images a second, and of processor time, which other programs touch less."""
    competing = contenders(model, pixels)
    answers = {name: run() for name, run in competing.items()}  # the first time takes longer
    for name in (KERAS, ONNX):
        if name in answers:
            np.testing.assert_allclose(answers[name], answers[OURS.format("f32")], rtol=0, atol=TOLERANCE)
    taken: dict[str, list[float]] = {name: [] for name in competing}
    worked: dict[str, list[float]] = {name: [] for name in competing}
    for number in range(rounds):
        print(f"speed: round {number + 1} of {rounds}", file=sys.stderr)
        for name, run in competing.items():
            started, worked_before = time.perf_counter(), time.process_time()
            run()
            taken[name].append(time.perf_counter() - started)
            worked[name].append(time.process_time() - worked_before)
    rows = []
    for name, seconds in taken.items():
        ratios = [theirs / ours for ours, theirs in zip(seconds, taken[KERAS], strict=True)]
        rates = [len(pixels) / second for second in seconds]
        work = [1e3 * second / len(pixels) for second in worked[name]]
        rows.append([name, spread(rates), spread(ratios, 2), spread(work, 0)])
    return table([f"{len(pixels)} decoded photos", "images a second", "times Keras", "processor ms an image"], rows)


def first_answers(model: Model, photo: str, scratch: Path, rounds: int) -> str:
    """Return the table of whole processes that answer one photo."""
    decoded, cache = scratch / "pixels.npy", scratch / "first"
    np.save(decoded, images.decode(photo, model.metadata.architecture.image_size, Fit.CROP)[None])
    resnet = [sys.executable, "-P", "-m", "resnet_cli", "predict", "--weights", str(model.path), photo]
    costs: dict[str, list[processes.Cost]] = {}
    for number in range(rounds):
        print(f"first answers: round {number + 1} of {rounds}", file=sys.stderr)
        for blob in cache.rglob("*.blob"):
            blob.unlink()
        for name, command in {
            "`resnet predict`, the first time": lambda: resnet,
            "`resnet predict`, every other time": lambda: resnet,
            "OpenVINO alone: the compiled network, pixels from NumPy's file": lambda: [
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
    return table(["one photo, a whole process", "seconds", "memory at most, MB"], rows)


def spread(values: Sequence[float], digits: int = 1) -> str:
    """Write median and range."""
    median, least, most = (f"{value:.{digits}f}" for value in (statistics.median(values), min(values), max(values)))
    return median if least == most else f"{median} ({least} to {most})"


def table(header: list[str], rows: list[list[str]]) -> str:
    """Write a table in Markdown."""
    return "\n".join(f"| {' | '.join(row)} |" for row in [header, ["---"] * len(header), *rows]) + "\n"


def main(
    folder: Annotated[Path | None, typer.Option("--images", help="Photos; without, some are made of noise.")] = None,
    rounds: Annotated[int, typer.Option(min=1)] = 5,
    quick: Annotated[bool, typer.Option("--quick", help="One round of 32 photos.")] = False,
) -> None:
    """Print the tables."""
    count, rounds = (32, 1) if quick else (64, rounds)
    with tempfile.TemporaryDirectory() as temporary, libraries_muted():
        scratch = Path(temporary)
        os.environ |= {"RESNET_CACHE_DIR": str(scratch / "cache"), "RESNET_OFFLINE": "1"}
        weights, photos = scratch / "resnet50.weights.h5", folder or scratch / "photos"
        synthetic.write_weights(weights, graph.resnet(architecture.resnet(50)))
        if folder is None:
            synthetic.write_photos(photos, count)
        model = models.load(str(weights), {}, Activity(""))
        pixels = predict.calibration([str(photos)], Fit.CROP)(model.metadata)[:count]
        first = first_answers(model, next(inputs.find([str(photos)])), scratch, rounds)
        speed = speeds(model, pixels, rounds)
    machine = benchmark.machine()
    versions = machine.versions | {name: metadata.version(name) for name in ("onnxruntime", "nncf") if installed(name)}
    listed = ", ".join(f"{name} {version}" for name, version in versions.items())
    print(f"{machine.processor}, {machine.cores} cores; {listed}; median (least to most) of {rounds} by turns.\n")
    print(speed)
    print(first)


def installed(name: str) -> bool:
    """Tell whether a distribution is installed."""
    try:
        return bool(metadata.version(name))
    except metadata.PackageNotFoundError:
        return False


if __name__ == "__main__":
    typer.run(main)
