"""The public API, as docs/api.md documents it: the names in `resnet_cli.__all__`."""

import ast
import dataclasses
import enum
import inspect
import io
import itertools
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import jsonschema
import numpy as np
import pytest
from PIL import Image

import resnet_cli as resnet

ROOT = Path(__file__).parents[1]
SAMPLES = ROOT / "sample_images"
COFFEE = SAMPLES / "coffee.jpg"
VALIDATOR = jsonschema.Draft202012Validator(json.loads((ROOT / "docs/record.schema.json").read_text(encoding="utf-8")))
HEAVY = ("numpy", "PIL", "rich", "typer", "tensorflow", "keras", "openvino", "matplotlib", "h5py", "huggingface_hub")

# Prints what importing the package loads, and what importing and using it changes in a process that uses Pillow.
PROCESS_SCRIPT = """
import sys
before = {*sys.modules}
import resnet_cli as resnet
loaded = {name.split(".")[0] for name in {*sys.modules} - before}
for name in [name for name in sys.modules if name.startswith("resnet_cli")]:
    del sys.modules[name]

import json, logging, os, signal, warnings
import numpy  # adds filters of warnings
from PIL import Image, ImageFile, PngImagePlugin

def state():
    loggers = [logging.getLogger(name) for name in (None, "PIL", "resnet_cli")]
    return {
        "environment": dict(os.environ),
        "warnings": repr(warnings.filters),
        "loggers": repr([(logger.handlers, logger.level, logger.disabled) for logger in loggers]),
        "logging": logging.root.manager.disable,
        "pillow": (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES, PngImagePlugin.MAX_TEXT_CHUNK),
        "signals": [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGPIPE)],
        "streams": (sys.stdout, sys.stderr, sys.excepthook),
        "folder": os.getcwd(),
    }

states = [state()]
import resnet_cli as resnet
states.append(state())
(result,) = resnet.classify(sys.argv[1], "tiny")
states.append(state())
changed = [[name for name in states[0] if states[0][name] != after[name]] for after in states[1:]]
used = [name for name in ("keras", "tensorflow", "matplotlib", "typer") if name in sys.modules]
label = result.predictions[0].label.name
print(json.dumps({"loaded": sorted(loaded), "changed": changed, "used": used, "label": label}))
"""

# What a type checker should accept, and the types that it should see.
CLIENT = """
import numpy as np
import resnet_cli as resnet
from typing import assert_type

model: resnet.Model = resnet.load("tiny", engine="openvino", precision="f32", fit="pad")
for result in model.classify(["dog.png", b"", np.zeros((8, 8, 3), np.uint8)], top_k=5):
    assert_type(result, resnet.Result)
    if result.error is not None:
        assert_type(result.error.kind, resnet.ImageErrorKind)
    assert_type(result.predictions[0].label, resnet.Label)
probabilities, features = model.embed(np.zeros((1, 80, 80, 3), np.uint8))
assert_type(float(probabilities[0, 0]), float)
assert_type(resnet.evaluate("data", model).top(1), tuple[float, float, float])
assert_type(resnet.network(50, classes=10).totals.parameters, int)
try:
    resnet.classify("dog.png", "tiny", min_probability=0.5)
except resnet.UsageError as error:
    assert_type(error.exit_code, int)
{}
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[resnet.Model]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RESNET_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
        yield resnet.load("tiny")


@pytest.fixture(scope="module")
def square(model: resnet.Model) -> Image.Image:
    """A sample image of exactly the network's input size, which is used unchanged."""
    with Image.open(COFFEE) as photo:
        return photo.convert("RGB").resize((model.image_size, model.image_size))


def png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "png")
    return file.getvalue()


# The package


def test_import_is_light_and_changes_nothing() -> None:
    command = [sys.executable, "-c", PROCESS_SCRIPT, COFFEE]
    process = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    printed = json.loads(process.stdout)
    assert "resnet_cli" in printed["loaded"]
    assert not {*HEAVY} & {*printed["loaded"]}
    assert printed["changed"] == [[], []]
    assert printed["used"] == []
    assert printed["label"] == "espresso"
    assert process.stderr == ""


def test_all_names_exist() -> None:
    assert dir(resnet) == sorted(resnet.__all__)
    for name in resnet.__all__:
        assert getattr(resnet, name) is not None
    with pytest.raises(AttributeError, match="module 'resnet_cli' has no attribute 'predict'"):
        resnet.predict  # noqa: B018
    assert resnet.__version__ == metadata.version("resnet-cli")


def test_network_is_a_function_and_a_package() -> None:
    from resnet_cli.network import graph

    assert isinstance(resnet.network, ModuleType)
    assert resnet.network.graph is graph
    network = resnet.network(50, classes=10)
    assert network == graph.network(50, classes=10)
    assert network.ops[-1].output_shape == (10,)


# docs/api.md


def documented() -> dict[str, ast.stmt]:
    """Return the definitions in the code blocks of docs/api.md, by name."""
    text = (ROOT / "docs/api.md").read_text(encoding="utf-8")
    found: dict[str, ast.stmt] = {}
    for block in re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        for node in ast.parse(block).body:
            name = ast.unparse(node.target) if isinstance(node, ast.AnnAssign) else node.name  # type: ignore[attr-defined]
            assert name not in found
            found[name] = node
    return found


def type_text(annotation: Any) -> str:
    """Return a type without its modules, except Keras's; the types of an image are written as `Source`."""
    from resnet_cli.images.inputs import Source

    def short(value: Any) -> str:
        text = value.__qualname__ if isinstance(value, type) and not hasattr(value, "__args__") else str(value)
        if getattr(value, "__module__", "").startswith("keras."):
            return f"keras.{text}"
        text = re.sub(
            r"numpy\.ndarray\[tuple\[typing\.Any, \.\.\.\], numpy\.dtype\[\w+\.(\w+)\]\]", r"NDArray[\1]", text
        )
        text = re.sub(r"keras\.src\.[\w.]+\.(\w+)", r"keras;\1", text)
        return re.sub(r"\b(?:\w+\.)+(?=\w)", "", text).replace("keras;", "keras.").replace("NoneType", "None")

    return short(annotation).replace(short(Source), "Source")


def signature_text(name: str, function: Any) -> str:
    """Return a function as a stub; a default that is not a plain value is written as `...`."""
    signature = inspect.signature(function)
    parameters = []
    for parameter in signature.parameters.values():
        default = parameter.default
        annotation = parameter.annotation
        text = parameter.name if annotation is parameter.empty else f"{parameter.name}: {type_text(annotation)}"
        if parameter.kind is parameter.KEYWORD_ONLY and "*" not in parameters:
            parameters.append("*")
        if default is not parameter.empty:
            text += f" = {default!r}" if isinstance(default, str | float | int | None) else " = ..."
        parameters.append(text)
    return f"def {name}({', '.join(parameters)}) -> {type_text(signature.return_annotation)}: ..."


# By class: attributes that are for the package's own use.
INTERNAL = {"Model": {"file", "engine", "options"}}


def class_text(kind: type) -> str:
    """Return a class as a stub: fields, properties, constants and methods of its own."""
    bases = [base.__name__ for base in kind.__bases__ if base is not object]
    lines = []
    if dataclasses.is_dataclass(kind):
        lines += [f"{field.name}: {type_text(field.type)}" for field in dataclasses.fields(kind)]
    lines = [line for line in lines if line.partition(":")[0] not in INTERNAL.get(kind.__name__, ())]
    for name, member in vars(kind).items():
        constructor = name == "__init__" and not dataclasses.is_dataclass(kind)
        if isinstance(member, property) and not name.startswith("_"):
            lines.append(f"{name}: {type_text(inspect.signature(member.fget).return_annotation)}")  # type: ignore[arg-type]
        elif inspect.isfunction(member) and (constructor or not name.startswith("_")):
            lines.append(signature_text(name, member))
        elif isinstance(member, int) and not name.startswith("_"):
            lines.append(f"{name} = {member!r}")
    lines.sort(key=lambda line: line.startswith("def "))
    head = f"class {kind.__name__}({', '.join(bases)}):"
    return "\n    ".join([head, *(lines or ["..."])])


@pytest.mark.parametrize("name", resnet.__all__)
def test_documentation_has_the_signatures(name: str) -> None:
    public = getattr(resnet, name)
    if isinstance(public, str):
        text = f"{name}: str"
    elif isinstance(public, type) and issubclass(public, enum.Enum):
        members = "\n    ".join(f"{member.name} = {member.value!r}" for member in public)
        text = f"class {name}(StrEnum):\n    {members}"
    else:
        text = class_text(public) if isinstance(public, type) else signature_text(name, public)
    assert ast.unparse(documented()[name]) == ast.unparse(ast.parse(text))


def test_documentation_has_no_other_names() -> None:
    assert {*documented()} == {*resnet.__all__}


# classify


def test_sources_are_interchangeable(model: resnet.Model, tmp_path: Path) -> None:
    """The same pixels give the same predictions, from a file or from memory."""
    with Image.open(COFFEE) as photo:
        content = png(photo.convert("RGB"))
    path = tmp_path / "coffee.png"
    path.write_bytes(content)
    with Image.open(path) as opened:  # not loaded yet
        sources = [path, str(path), content, bytearray(content), opened, np.asarray(Image.open(path))]
        results = list(model.classify(sources))
    assert [result.image for result in results] == [str(path)] * 2 + [f"image {number}" for number in (3, 4, 5, 6)]
    for result in results:
        assert result.error is None
        assert result.predictions == results[0].predictions
        VALIDATOR.validate(result.to_dict())
    best = results[0].predictions[0]
    assert (best.rank, best.label.name, best.label.wnid) == (1, "espresso", "n07920052")
    assert best.label == model.labels[best.index or 0]


@pytest.mark.parametrize("kind", ["path", "str", "bytes", "image", "array"])
def test_one_source_needs_no_list(model: resnet.Model, kind: str) -> None:
    with Image.open(COFFEE) as image:
        image.load()
    sources = {
        "path": COFFEE,
        "str": str(COFFEE),
        "bytes": COFFEE.read_bytes(),
        "image": image,
        "array": np.asarray(image),
    }
    (result,) = model.classify(sources[kind])
    assert result.predictions[0].label.name == "espresso"
    assert (result.model, result.weights) == (model.name, "tiny")


def test_folders_and_patterns(model: resnet.Model, tmp_path: Path) -> None:
    (tmp_path / "photos/more").mkdir(parents=True)
    for name in ("photos/b.jpg", "photos/a.jpg", "photos/more/c.jpg"):
        shutil.copy(COFFEE, tmp_path / name)
    (tmp_path / "photos/notes.txt").write_text("no image")
    folder, pattern = tmp_path / "photos", str(tmp_path / "photos/?.jpg")
    names = [str(tmp_path / "photos" / name) for name in ("a.jpg", "b.jpg", "more/c.jpg")]
    assert [result.image for result in model.classify([folder])] == names
    assert [result.image for result in model.classify([pattern, folder])] == names[:2] + names


def test_failed_images_have_an_error(model: resnet.Model, tmp_path: Path) -> None:
    text = tmp_path / "text.jpg"
    text.write_text("no image")
    sources = [tmp_path / "missing.png", COFFEE, text, b"no image", COFFEE.read_bytes()[:9000], COFFEE]
    results = list(model.classify(sources))
    kinds = ["not_found", None, "not_an_image", "not_an_image", "unreadable_image", None]
    assert [result.error and result.error.kind for result in results] == kinds
    assert isinstance(results[0].error, resnet.ImageError)
    assert results[0].error.kind is resnet.ImageErrorKind.NOT_FOUND
    for result, kind in zip(results, kinds, strict=True):
        record = result.to_dict()
        VALIDATOR.validate(record)
        assert ("error" in record) == bool(kind)
        assert (len(result.predictions), result.features is None) == ((0, True) if kind else (3, False))


def test_results_are_in_order_and_come_one_by_one(model: resnet.Model) -> None:
    """Sources may be endless, and slow images do not change places with fast ones."""
    taken = 0

    def sources() -> Iterator[str | bytes]:
        nonlocal taken
        for source in itertools.cycle([str(COFFEE), png(Image.new("RGB", (8, 8))), "missing.png"]):
            taken += 1
            yield source

    results = list(itertools.islice(model.classify(sources()), 100))
    expected = [[str(COFFEE), f"image {number}", "missing.png"][(number - 1) % 3] for number in range(1, 101)]
    assert [result.image for result in results] == expected
    assert taken < 1000


def test_top_k_and_min_probability(model: resnet.Model) -> None:
    (five,) = model.classify(COFFEE, top_k=5)
    assert [prediction.rank for prediction in five.predictions] == [1, 2, 3, 4, 5]
    values = [prediction.probability for prediction in five.predictions]
    assert values == sorted(values, reverse=True)
    (every,) = model.classify(COFFEE, top_k=1000)
    assert sorted(prediction.index or 0 for prediction in every.predictions) == [*range(len(model.labels))]
    assert sum(prediction.probability for prediction in every.predictions) == pytest.approx(1, abs=1e-5)
    (sure,) = model.classify(COFFEE, min_probability=values[0] - 1e-6)
    assert sure.predictions == five.predictions[:3]
    (unsure,) = model.classify(COFFEE, min_probability=values[0] + 1e-6)
    (unknown,) = unsure.predictions
    assert (unknown.rank, unknown.index, unknown.label.name, unknown.probability) == (1, None, "unknown", values[0])
    VALIDATOR.validate(unsure.to_dict())


def test_classify_loads_a_model() -> None:
    (result,) = resnet.classify(COFFEE, "tiny", top_k=1)
    assert (result.weights, len(result.predictions)) == ("tiny", 1)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (3, "expected a path, bytes, a Pillow image or a uint8 array, got int"),
        (None, "expected a path, bytes, a Pillow image or a uint8 array, got NoneType"),
        (np.zeros((8, 8, 3), np.float32), r"expected a uint8 array \(height, width, 3\), got float32 \(8, 8, 3\)"),
        (np.zeros((8, 8), np.uint8), r"expected a uint8 array \(height, width, 3\), got uint8 \(8, 8\)"),
        (np.zeros((0, 8, 3), np.uint8), r"expected a uint8 array \(height, width, 3\), got uint8 \(0, 8, 3\)"),
    ],
    ids=["int", "None", "float array", "grey array", "empty array"],
)
def test_sources_of_other_types(model: resnet.Model, source: object, message: str) -> None:
    with pytest.raises(resnet.UsageError, match=message):
        list(model.classify([COFFEE, source]))  # type: ignore[list-item]


@pytest.mark.parametrize(
    "options", [{"top_k": 0}, {"min_probability": 1.5}, {"min_probability": float("nan")}], ids=str
)
def test_options_out_of_range(model: resnet.Model, options: dict[str, Any]) -> None:
    ((name, value),) = options.items()
    with pytest.raises(resnet.UsageError, match=rf"^{name} must be .*, got {value}$"):
        model.classify(COFFEE, **options)


def test_a_model_can_be_used_while_it_classifies(model: resnet.Model, square: Image.Image) -> None:
    """Runs that take turns, and one that is abandoned, do not get each other's results."""
    images = [square.rotate(angle) for angle in range(0, 360, 10)]
    alone = [result.predictions for result in model.classify(images)]
    probabilities = model.embed(np.stack(images))[0]
    next(model.classify(images))
    together = zip(model.classify(images), model.classify(images[::-1]), strict=True)
    for number, (forwards, backwards) in enumerate(together):
        if number % 12 == 0:
            np.testing.assert_array_equal(model.embed(np.stack(images))[0], probabilities)
        assert forwards.predictions == alone[number]
        assert backwards.predictions == alone[-1 - number]


def test_a_program_can_end_while_it_classifies() -> None:
    """A daemon thread that returns from OpenVINO during the shutdown would abort the process."""
    script = (
        "import sys, resnet_cli as resnet\n"
        "results = resnet.classify([sys.argv[1]] * 300, 'tiny')\n"
        "print(next(results).image)"
    )
    process = subprocess.run([sys.executable, "-c", script, COFFEE], capture_output=True, text=True, timeout=60)
    assert (process.returncode, process.stdout, process.stderr) == (0, f"{COFFEE}\n", "")


# embed


def test_embed(model: resnet.Model, square: Image.Image) -> None:
    """The probabilities and features of `classify`, for images that need no resizing."""
    (result,) = model.classify(square, top_k=len(model.labels))
    pixels = np.stack([np.zeros_like(square), np.asarray(square)])
    probabilities, features = model.embed(pixels)
    assert (probabilities.shape, probabilities.dtype) == ((2, 200), np.float32)
    assert (features.shape, features.dtype) == ((2, 768), np.float32)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)
    by_index = {prediction.index: prediction.probability for prediction in result.predictions}
    np.testing.assert_allclose(probabilities[1], [by_index[i] for i in range(200)], rtol=0, atol=1e-6)
    assert result.features is not None
    np.testing.assert_allclose(features[1], result.features, rtol=0, atol=1e-4)
    assert not np.allclose(features[0], features[1])


@pytest.mark.parametrize(
    ("pixels", "got"),
    [
        (np.zeros((1, 80, 80, 3), np.float32), r"float32 \(1, 80, 80, 3\)"),
        (np.zeros((80, 80, 3), np.uint8), r"uint8 \(80, 80, 3\)"),
        (np.zeros((1, 64, 80, 3), np.uint8), r"uint8 \(1, 64, 80, 3\)"),
        (np.zeros((1, 3, 80, 80), np.uint8), r"uint8 \(1, 3, 80, 80\)"),
        ([[0]], "list"),
        (None, "NoneType"),
    ],
    ids=["float", "one image", "size", "channels first", "list", "None"],
)
def test_embed_other_arrays(model: resnet.Model, pixels: Any, got: str) -> None:
    with pytest.raises(resnet.UsageError, match=rf"^expected uint8 \(n, 80, 80, 3\), got {got}$"):
        model.embed(pixels)


def test_embed_no_images(model: resnet.Model) -> None:
    with pytest.raises(resnet.UsageError, match=r"^expected at least one image, got uint8 \(0, 80, 80, 3\)$"):
        model.embed(np.zeros((0, 80, 80, 3), np.uint8))


# load


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"engine": "tpu"}, "engine must be auto, openvino or keras, got 'tpu'"),
        ({"precision": "f16"}, "precision must be one of f32, bf16, int8, got 'f16'"),
        ({"fit": "squash"}, "fit must be one of crop, stretch, pad, got 'squash'"),
        ({"depth": 51}, "depth must be .*, got 51"),
        ({"batch_size": 0}, "batch_size must be an integer of at least 1, got 0"),
        ({"workers": 0}, "workers must be an integer of at least 1, got 0"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_load_other_values(options: dict[str, Any], message: str) -> None:
    with pytest.raises(resnet.UsageError, match=message):
        resnet.load("tiny", **options)


def test_load_other_weights(tmp_path: Path) -> None:
    with pytest.raises(resnet.ModelError, match="nothing: neither a weights file nor a known name"):
        resnet.load("nothing")
    (tmp_path / "text.safetensors").write_text("no weights")
    with pytest.raises(resnet.ModelError, match=re.escape(str(tmp_path / "text.safetensors"))):
        resnet.load(tmp_path / "text.safetensors")


def test_load_a_file_with_options(model: resnet.Model) -> None:
    path = ROOT / "resnet_cli/data/tiny.safetensors"
    padded = resnet.load(path, fit="pad", batch_size=1, workers=1)
    assert (padded.name, padded.weights) == (model.name, str(path))
    assert (padded.labels, padded.image_size) == (model.labels, model.image_size)
    (square,), (whole,) = model.classify(COFFEE), padded.classify(COFFEE)
    assert square.predictions[0].probability != whole.predictions[0].probability


def test_fallback_to_the_built_in_weights_warns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RESNET_OFFLINE", "1")
    with pytest.warns(UserWarning, match="using the small built-in network"):
        fallback = resnet.load()
    assert fallback.weights == "tiny"
    with pytest.raises(resnet.ModelError):
        resnet.load(depth=50)


# evaluate


def test_evaluate(model: resnet.Model, tmp_path: Path) -> None:
    """Figures from the predictions of `classify`, by hand."""
    names = {"cat.jpg": "n02123045", "coffee.jpg": "espresso"}  # by WordNet ID and by label
    for name, folder in names.items():
        (tmp_path / folder).mkdir()
        shutil.copy(SAMPLES / name, tmp_path / folder)
    (tmp_path / "espresso/broken.jpg").write_text("no image")
    every = [next(iter(model.classify(SAMPLES / name, top_k=200))).predictions for name in names]
    ranks, probabilities = [], []
    for predictions, folder in zip(every, names.values(), strict=True):
        true = next(each for each in predictions if folder in (each.label.wnid, each.label.name))
        ranks.append(true.rank)
        probabilities.append(true.probability)

    evaluation = resnet.evaluate(tmp_path, model)
    assert [Path(outcome.image).name for outcome in evaluation.outcomes] == ["coffee.jpg", "cat.jpg"]
    by_name = {Path(outcome.image).name: outcome for outcome in evaluation.outcomes}
    assert [by_name[name].rank for name in names] == ranks
    np.testing.assert_allclose([by_name[name].true_probability for name in names], probabilities, atol=1e-6)
    assert evaluation.top(1)[0] == sum(rank == 1 for rank in ranks) / 2
    assert evaluation.loss == pytest.approx(-np.log(probabilities).mean(), rel=1e-4)
    assert evaluation.confusion.shape == (200, 200)
    assert evaluation.confusion.sum() == 2
    ((failed, error),) = evaluation.failures
    assert (Path(failed).name, error.kind) == ("broken.jpg", "not_an_image")
    assert evaluation.images_per_second > 0


@pytest.mark.parametrize("folders", [[], ["dachshund or cat"]], ids=["empty", "unknown class"])
def test_evaluate_other_folders(model: resnet.Model, tmp_path: Path, folders: list[str]) -> None:
    for folder in folders:
        (tmp_path / folder).mkdir()
    with pytest.raises(resnet.UsageError, match=f"^{re.escape(str(tmp_path))}: expected .*, "):
        resnet.evaluate(tmp_path, model)


# network and to_keras


def test_to_keras() -> None:
    network = resnet.network(stages=(1, 1), width=8, classes=5, image_size=32)
    rng = np.random.default_rng(0)
    parameters = {name: rng.uniform(0.5, 1, each.shape).astype(np.float32) for name, each in network.parameters.items()}
    model = resnet.to_keras(network, parameters)
    assert (model.input_shape, model.output_shape) == ((None, 32, 32, 3), (None, 5))
    assert model.count_params() == network.totals.parameters
    assert {variable.path for variable in model.variables} == {*parameters}
    for variable in model.variables:
        np.testing.assert_array_equal(np.asarray(variable), parameters[variable.path])
    probabilities = np.asarray(resnet.to_keras(network)(np.zeros((2, 32, 32, 3), np.float32)))
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)
    assert resnet.to_keras(network, any_size=True).input_shape == (None, None, None, 3)


@pytest.mark.parametrize(
    "options",
    [{"depth": 51}, {"name": "resnet51"}, {"variant": "v3"}, {"block": "wide"}, {"classes": 0}, {"image_size": 4}],
    ids=lambda options: next(iter(options)),
)
def test_network_other_values(options: dict[str, Any]) -> None:
    ((_, value),) = options.items()
    with pytest.raises(resnet.UsageError, match=rf"\b{value}\b"):
        resnet.network(**options)


# Types


def test_types_are_part_of_the_package() -> None:
    files = {str(file) for file in metadata.files("resnet-cli") or ()}
    spec = find_spec("resnet_cli")
    assert spec is not None
    assert spec.origin is not None
    assert Path(spec.origin).with_name("py.typed").is_file() or "resnet_cli/py.typed" in files


@pytest.mark.skipif(not find_spec("mypy"), reason="needs mypy: pip install 'resnet-cli[lint]'")
def test_mypy_accepts_a_client(tmp_path: Path) -> None:
    (tmp_path / "client.py").write_text(CLIENT.format(""))
    (tmp_path / "wrong.py").write_text(CLIENT.format('resnet.load(weights="tiny", top_k=3)'))
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file=", "client.py", "wrong.py"]
    process = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    errors = [line for line in process.stdout.splitlines() if ": error: " in line]
    assert len(errors) == 1, process.stdout + process.stderr
    assert errors[0].startswith("wrong.py:")
    assert 'Unexpected keyword argument "top_k" for "load"' in errors[0]
