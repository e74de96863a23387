"""The command line: help, exit codes, what goes to which stream, and the files that `build` writes."""

import io
import json
import re
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path

import numpy as np
import pytest
from conftest import RESNET, Run, run_main
from PIL import Image
from safetensors.numpy import save_file

from resnet_cli.cli.app import app
from resnet_cli.network import graph, variants
from resnet_cli.weights import checkpoint
from resnet_cli.weights.published import PRETRAINED

SAMPLES = Path(__file__).parents[1] / "sample_images"
SMALL = ("--stages", "1,1,1,1", "--width", "4", "--image-size", "32")
PANELS = {
    "Classify": ["predict"],
    "Networks": ["summary", "build", "models", "convert", "train", "evaluate", "benchmark"],
    "This machine": ["weights", "cache"],
}
COMMANDS = ("build", "summary", "predict", "evaluate", "train", "benchmark", "convert")


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small network of 1000 classes with random weights, written by the command."""
    import keras  # noqa: F401 - before stderr is redirected, because TensorFlow's loggers keep it

    path = tmp_path_factory.mktemp("weights") / "small.safetensors"
    assert run_main("build", *SMALL, "-o", path).returncode == 0
    return path


@pytest.fixture(scope="module")
def deep_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """ResNet-101 without metadata, all zeros: 178 MB."""
    network = graph.resnet(variants.describe(101))
    arrays = {name: np.zeros(parameter.shape, np.float32) for name, parameter in network.parameters.items()}
    path = tmp_path_factory.mktemp("weights") / "deep.safetensors"
    save_file(arrays, path)
    return path


# Help


def test_no_command_prints_help(resnet: Run) -> None:
    printed = resnet()
    assert (printed.returncode, printed.stderr) == (0, "")
    assert printed.stdout == run_main("--help").stdout == run_main("-h").stdout


def test_commands_are_grouped_in_panels() -> None:
    lines = run_main("--help", COLUMNS="80").stdout.splitlines()
    panels: dict[str, list[str]] = {}
    for line in lines:
        if line.startswith("╭─ "):
            panel = panels.setdefault(line.strip("╭─╮ "), [])
        elif line.startswith("│ "):
            panel.append(line.split()[1])
    assert list(panels) == ["Options", *PANELS]
    assert {name: panels[name] for name in PANELS} == PANELS


@pytest.mark.parametrize("command", COMMANDS)
def test_help_fits_a_screen_and_ends_with_three_examples(command: str) -> None:
    result = run_main(command, "--help", COLUMNS="80")
    lines = result.stdout.rstrip().splitlines()
    assert result.returncode == 0
    assert len(lines) <= (62 if command in ("predict", "train", "evaluate") else 40)
    examples = "\n".join(lines).rpartition("Examples")[2]
    assert examples.count(f"resnet {command}") == 3


def test_version_and_module(resnet: Run) -> None:
    module = subprocess.run([sys.executable, "-m", "resnet_cli", "--version"], capture_output=True, text=True)
    assert module.stdout == resnet("--version").stdout
    assert module.stdout.startswith("resnet 0.")


def test_completion_for_bash(resnet: Run) -> None:
    """The shell that runs the command is detected."""
    command = ["bash", "-c", f"{RESNET} --show-completion; echo code $?"]
    script, _, code = subprocess.run(command, capture_output=True, text=True).stdout.rpartition("code ")
    assert code == "0\n"
    assert "complete -o default -F _resnet_completion resnet" in script
    completed = resnet(_RESNET_COMPLETE="complete_bash", COMP_WORDS="resnet pre", COMP_CWORD="1")
    assert (completed.returncode, completed.stdout.split()) == (0, ["predict"])


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_for_a_named_shell(shell: str) -> None:
    starts = {"bash": "_resnet_completion() {", "zsh": "#compdef resnet", "fish": "complete --command resnet "}
    shown = run_main("--show-completion", shell)
    assert (shown.returncode, shown.stderr) == (0, "")
    assert shown.stdout.startswith(starts[shell])
    assert run_main("--show-completion", "shell").returncode == 2


def complete(line: str) -> list[str]:
    """Return what bash is told to complete the last word of a line with."""
    words = line.split(" ")
    environment = {"_RESNET_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1)}
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(io.StringIO()) as printed:
        for name, value in environment.items():
            patch.setenv(name, value)
        with pytest.raises(SystemExit, match="0"):
            app(prog_name="resnet", standalone_mode=False)
    return printed.getvalue().split()


@pytest.mark.parametrize(
    ("line", "names"),
    [
        ("resnet predict --weights ", ["auto", "imagenet", "tiny", *PRETRAINED]),
        ("resnet train --weights n", ["none"]),
        ("resnet benchmark --weights n", ["none"]),
        ("resnet evaluate --weights resnet50.a", ["resnet50.a1_in1k"]),
        ("resnet convert resnet34", ["resnet34.tv_in1k"]),
        ("resnet weights download resnet50 resnet18", ["resnet18.tv_in1k"]),
        ("resnet weights path t", ["tiny"]),
        ("resnet summary ", list(variants.NETWORKS)),
        ("resnet build resnet152v", ["resnet152v1.5", "resnet152v2"]),
        ("resnet cache clear ", ["weights", "compiled", "remembered"]),
        ("resnet predict ca", []),
    ],
)
def test_names_are_completed(line: str, names: list[str]) -> None:
    assert sorted(complete(line)) == sorted(names)


OPTION = re.compile(r"--[a-z][a-z-]*")


@pytest.mark.parametrize("command", [*COMMANDS, "cache clear", "weights bundle", ""])
def test_help_on_narrow_terminals_cuts_no_name(command: str) -> None:
    wide = {*OPTION.findall(run_main(*command.split(), "--help", COLUMNS="200").stdout)}
    for width in (10, 30, 60, 79):
        narrow = run_main(*command.split(), "--help", COLUMNS=str(width))
        assert narrow.returncode == 0
        assert wide == {*OPTION.findall(narrow.stdout)}
        assert "\u2026" not in narrow.stdout
        assert "[bold]" not in narrow.stdout


HEAVY = {"keras", "tensorflow", "numpy", "PIL", "h5py", "requests", "huggingface_hub", "openvino"}


@pytest.mark.parametrize(
    ("arguments", "forbidden"),
    [
        (["--help"], HEAVY),
        (["summary"], HEAVY),
        (["summary", "--format", "json"], HEAVY),
        (["predict", "--help"], HEAVY),
        (["predict", "--weights", "tiny", str(SAMPLES / "cat.jpg")], HEAVY - {"numpy", "PIL", "h5py", "openvino"}),
    ],
    ids=lambda value: " ".join(value[:3]) if isinstance(value, list) else "",
)
def test_light_commands_import_nothing_heavy(arguments: list[str], forbidden: set[str]) -> None:
    code = (
        "import sys; from resnet_cli.cli.app import main\n"
        f"sys.argv[1:] = {arguments}\n"
        "assert main() == 0\n"
        f"print(*{forbidden} & sys.modules.keys(), file=sys.stderr)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout
    assert result.stderr.split() == []


# Summary


def test_summary_totals() -> None:
    printed = json.loads(run_main("summary", "--depth", 101, "--format", "json").stdout)
    totals = {"parameters": 44_707_176, "trainable": 44_601_832, "macs": 7_570_194_432}
    assert printed["totals"] == totals
    assert {key: sum(layer[key] for layer in printed["layers"]) for key in totals} == totals
    table = run_main("summary", "--depth", 101).stdout
    assert "44,707,176" in table
    assert "7,570,194,432" in table


def test_summary_by_name() -> None:
    named = run_main("summary", "resnext50_32x4d", "--format", "json")
    assert json.loads(named.stdout)["totals"]["trainable"] == 25_028_904
    assert run_main("summary", "--variant", "32x4d", "--format", "json").stdout == named.stdout


def test_summary_by_kind_of_block() -> None:
    named = run_main("summary", "resnet18", "--format", "json").stdout
    options = ("--stages", "2,2,2,2", "--block", "basic", "--variant", "v1.5", "--format", "json")
    assert run_main("summary", *options).stdout == named


def test_summary_expands_to_layers() -> None:
    table = run_main("summary", "--expand").stdout
    assert "conv4_block6_3_conv" in table
    assert "25,636,712" in table


def test_summary_of_any_network() -> None:
    options = ("--stages", "2,2,2,2", "--width", 32, "--classes", 200, "--image-size", 64, "--format", "json")
    layers = json.loads(run_main("summary", *options).stdout)["layers"]
    assert layers[-1] == {
        "name": "predictions",
        "stage": "head",
        "kind": "Dense",
        "output_shape": [200],
        "parameters": 1024 * 200 + 200,
        "trainable": 1024 * 200 + 200,
        "macs": 1024 * 200,
    }


# Wrong usage


def test_wrong_usage_ends_the_command_with_2(resnet: Run) -> None:
    result = resnet("summary", "--depth", "42")
    message = "error: depth must be one of 18, 34, 50, 101, 152, got 42\n"
    assert (result.returncode, result.stdout, result.stderr) == (2, "", message)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--depth", "42"], "got 42"),
        (["--stages", "3,0,6,3"], "got 0"),
        (["--stages", "a,b"], "got 'a,b'"),
        (["--stages", "9999,9999"], "at most 10,000 layers"),
        (["--width", "-1"], "got -1"),
        (["--width", "x"], "'--width'"),
        (["--image-size", "31"], "at least 32"),
        (["--depth", "50", "--stages", "1,1"], "--depth and --stages"),
        (["--variant", "v7"], "got 'v7'"),
        (["--block", "round"], "basic, bottleneck, got 'round'"),
        (["--depth", "34", "--variant", "32x4d"], "a basic block has none"),
        (["resnet50", "--depth", "50"], "resnet50 already sets --depth"),
        (["resnet51"], "resnet50, resnet101, resnet152, resnet18, "),
        (["--format", "xml"], "'xml'"),
        (["--dpeth", "50"], "--dpeth"),
    ],
)
def test_bad_values_get_one_line_and_exit_code_2(arguments: list[str], message: str) -> None:
    result = run_main("summary", *arguments)
    assert (result.returncode, result.stdout) == (2, "")
    assert message in result.stderr
    assert result.stderr.startswith("error: ")
    assert len(result.stderr.splitlines()) == 1


# Build


TRAIN_A_STEP = """
import sys
sys.modules["resnet_cli"] = None
import keras, numpy
images = numpy.random.default_rng(0).normal(size=(8, 32, 32, 3)).astype("float32")
classes = numpy.arange(8)
for path in sys.argv[1:]:
    model = keras.saving.load_model(path)
    model.compile("sgd", "sparse_categorical_crossentropy", jit_compile=False)
    before = model.train_on_batch(images, classes)
    after = model.train_on_batch(images, classes)
    assert numpy.isfinite([before, after]).all() and before != after, (path, before, after)
"""


def test_keras_files_load_and_train_without_the_project(tmp_path: Path) -> None:
    paths = []
    for name, options in (("v1", ()), ("v2", ("--variant", "v2")), ("next", ("--variant", "32x4d", "--width", "16"))):
        paths.append(tmp_path / f"{name}.keras")
        built = run_main("build", "--stages", "1,1", "--image-size", "32", "--width", "4", *options, "-o", paths[-1])
        assert (built.returncode, built.stdout) == (0, "")
        assert f"{name}.keras: res" in built.stderr
    subprocess.run([sys.executable, "-c", TRAIN_A_STEP, *paths], check=True, timeout=300)
    assert sorted(tmp_path.iterdir()) == sorted(paths)


def test_build_goes_from_format_to_format_without_loss(tmp_path: Path, weights: Path) -> None:
    source = weights
    for name in ("a.weights.h5", "b.keras", "c.h5", "d.safetensors"):
        assert run_main("build", "--weights", source, "-o", tmp_path / name).returncode == 0
        source = tmp_path / name
    assert source.read_bytes() == weights.read_bytes()


def test_build_by_name(tmp_path: Path) -> None:
    path = tmp_path / "m.keras"
    built = run_main("build", "resnet34", "-o", path)
    assert (built.returncode, built.stdout) == (0, "")
    assert "m.keras: resnet34" in built.stderr
    read = checkpoint.read(path)
    assert read.metadata.architecture == variants.describe(34)
    trainable, statistics = 21_797_672, 17_024
    assert sum(array.size for array in read.arrays.values()) == trainable + statistics


def test_build_overwrites_only_with_force(tmp_path: Path) -> None:
    path = tmp_path / "model.keras"
    path.write_text("precious")
    refused = run_main("build", *SMALL, "-o", path)
    assert (refused.returncode, path.read_text()) == (2, "precious")
    assert "--force" in refused.stderr
    assert run_main("build", *SMALL, "--force", "-o", path).returncode == 0
    assert path.stat().st_size > 100_000


@pytest.mark.parametrize(
    ("output", "code", "message"),
    [
        ("model.txt", 2, ".safetensors"),
        ("none/model.keras", 2, "existing folder"),
        ("folder.keras", 2, "expected a file"),
    ],
)
def test_build_refuses_other_outputs(tmp_path: Path, output: str, code: int, message: str) -> None:
    (tmp_path / "folder.keras").mkdir()
    result = run_main("build", *SMALL, "-o", tmp_path / output)
    assert result.returncode == code
    assert message in result.stderr


def test_a_network_beyond_all_memory_is_refused(tmp_path: Path) -> None:
    result = run_main("build", "--width", 100_000, "-o", tmp_path / "huge.keras")
    assert (result.returncode, len(result.stderr.splitlines())) == (2, 1)


def test_killed_build_leaves_no_file_under_the_final_name(deep_weights: Path, tmp_path: Path) -> None:
    command = [RESNET, "build", "--depth", "101", "--weights", deep_weights, "-o", tmp_path / "model.weights.h5"]
    process = subprocess.Popen(command)
    while not list(tmp_path.glob("*/*")):  # the unfinished file, in its temporary folder
        assert process.poll() is None
        time.sleep(0.01)
    process.kill()
    process.wait()
    assert not (tmp_path / "model.weights.h5").exists()


def test_defaults_come_from_the_weights_file(tmp_path: Path) -> None:
    source, target = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    options = ("--stages", "1,1", "--width", 4, "--classes", 5, "--image-size", 64, "--variant", "v1.5")
    assert run_main("build", *options, "-o", source).returncode == 0
    assert run_main("build", "--weights", source, "--classes", 5, "-o", target).returncode == 0
    assert target.read_bytes() == source.read_bytes()


@contextmanager
def full_disk(size: int) -> Iterator[None]:
    """Let no file grow beyond a size, which has the same effect as a full disk."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.mark.parametrize("name", ["a.weights.h5", "a.keras", "a.safetensors"])
def test_a_full_disk_is_one_line(tmp_path: Path, name: str) -> None:
    with full_disk(50 << 10):
        result = run_main("build", *SMALL, "--width", "16", "-o", tmp_path / name)
    assert (result.returncode, result.stderr) == (2, f"error: cannot write {tmp_path / name}: File too large\n")
    assert list(tmp_path.iterdir()) == []


def test_no_keras_backend_is_one_line(resnet: Run, tmp_path: Path) -> None:
    result = resnet("build", *SMALL, "-o", tmp_path / "a.keras", KERAS_BACKEND="nonsense")
    assert (result.returncode, len(result.stderr.splitlines())) == (3, 1)
    assert "KERAS_BACKEND=nonsense" in result.stderr


# Predict


def test_predict_classifies_every_image(resnet: Run, weights: Path) -> None:
    result = resnet("predict", "--weights", weights, "--format", "json", "-k", 5, SAMPLES)
    assert (result.returncode, result.stderr) == (0, "")
    records = json.loads(result.stdout)
    assert [record["image"] for record in records] == sorted(str(path) for path in SAMPLES.glob("*.jpg"))
    for record in records:
        assert record["weights"] == str(weights)
        assert record["model"] == "resnet_1_1_1_1_w4"
        assert [prediction["rank"] for prediction in record["predictions"]] == [1, 2, 3, 4, 5]
        probabilities = [prediction["probability"] for prediction in record["predictions"]]
        assert probabilities == sorted(probabilities, reverse=True)


def test_predict_prints_a_table(weights: Path) -> None:
    result = run_main("predict", "--weights", weights, SAMPLES / "cat.jpg", SAMPLES / "coffee.jpg")
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.count("│ 3 │") == 2
    assert "cat.jpg" in result.stdout


def test_bad_images_do_not_stop_the_run(resnet: Run, weights: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut [bold]\x1b[31m.jpg"
    cut.write_bytes((SAMPLES / "cat.jpg").read_bytes()[:9000])
    (tmp_path / "empty.png").touch()
    good = SAMPLES / "cat.jpg"
    inputs = [good, cut, tmp_path / "empty.png", tmp_path / "none.png", tmp_path, good]
    result = resnet("predict", "--weights", weights, "--format", "json", *inputs)
    assert result.returncode == 1
    records = json.loads(result.stdout)
    kinds = [record.get("error", {}).get("kind") for record in records]
    cut_and_empty = ["unreadable_image", "not_an_image"]
    assert kinds == [None, *cut_and_empty, "not_found", *cut_and_empty, None]
    assert records[0] == records[-1]
    errors = result.stderr.splitlines()
    assert len(errors) == 5
    assert "\x1b" not in result.stderr
    assert "cut [bold]\\u001b[31m.jpg: " in errors[0]


def test_a_folder_without_images_is_an_error(weights: Path, tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("Dear all")
    result = run_main("predict", "--weights", weights, tmp_path)
    assert result.returncode == 1
    assert "a folder without images" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--weights", "nonsense"], "nonsense"),
        (["--weights", str(SAMPLES / "cat.jpg")], "cat.jpg: expected .safetensors"),
        (["--weights", "imagenet"], "resnet50_weights_tf_dim_ordering_tf_kernels.h5"),
        (["--weights", "imagenet"], "RESNET_WEIGHTS_MIRROR"),
        (["--depth", "152"], "resnet152_weights_tf_dim_ordering_tf_kernels.h5"),
    ],
)
def test_unavailable_weights_end_with_3(arguments: list[str], message: str) -> None:
    result = run_main("predict", *arguments, SAMPLES / "cat.jpg")
    assert (result.returncode, result.stdout) == (3, "")
    assert message in result.stderr
    assert len(result.stderr.splitlines()) <= 3


def test_auto_falls_back_to_the_embedded_weights(resnet: Run) -> None:
    result = resnet("predict", "--format", "json", SAMPLES)
    assert result.returncode == 0
    assert {record["weights"] for record in json.loads(result.stdout)} == {"tiny"}
    assert result.stderr.startswith("warning: ")
    assert len(result.stderr.splitlines()) == 1
    assert "200 classes" in result.stderr
    named = run_main("predict", "--format", "json", "--weights", "tiny", SAMPLES)
    assert (named.returncode, named.stdout, named.stderr) == (0, result.stdout, "")


def test_auto_tries_a_dead_network_once(resnet: Run) -> None:
    dead = {"RESNET_OFFLINE": "0", "RESNET_WEIGHTS_MIRROR": "http://127.0.0.1:9"}
    first = resnet("predict", SAMPLES / "cat.jpg", **dead)
    again = resnet("predict", SAMPLES / "cat.jpg", **dead)
    assert (first.returncode, again.returncode) == (0, 0)
    assert "cannot connect" in first.stderr
    assert first.stdout == again.stdout


def test_weights_of_another_depth_end_with_3_and_names(weights: Path) -> None:
    result = run_main("predict", "--weights", weights, "--depth", 50, SAMPLES / "cat.jpg")
    assert result.returncode == 3
    assert "conv2_block2_1_conv/kernel" in result.stderr


def test_weights_of_a_known_depth_are_recognised(deep_weights: Path) -> None:
    result = run_main("predict", "--weights", deep_weights, "--format", "json", SAMPLES / "cat.jpg")
    assert json.loads(result.stdout)[0]["model"] == "resnet101"
    result = run_main("predict", "--weights", deep_weights, "--depth", 50, SAMPLES / "cat.jpg")
    assert result.returncode == 3
    assert f"{deep_weights} does not match resnet50;" in result.stderr
    assert result.stderr.endswith("Its layers match --depth 101.\n")


def test_published_layout_through_the_command(tmp_path: Path) -> None:
    import keras
    import networks

    theirs = networks.plausible(keras.applications.ResNet50(weights=None), seed=5)
    path = networks.write_legacy(theirs, tmp_path / "published.h5")
    pixels = np.random.default_rng(3).integers(0, 256, (3, 224, 224, 3), dtype=np.uint8)
    for i, image in enumerate(pixels):
        Image.fromarray(image).save(tmp_path / f"{i}.png")
    result = run_main("predict", "--weights", path, "--format", "json", "-k", 1000, *sorted(tmp_path.glob("*.png")))
    expected = theirs.predict_on_batch(keras.applications.resnet.preprocess_input(pixels.astype("float32")))
    for record, probabilities in zip(json.loads(result.stdout), expected, strict=True):
        assert record["model"] == "resnet50"
        for prediction in record["predictions"]:
            assert prediction["probability"] == pytest.approx(probabilities[prediction["index"]], abs=1e-5)


# Streams and verbosity


def test_groups_of_commands_can_be_quiet() -> None:
    assert "deleted 0 files" in run_main("cache", "clear").stderr
    for arguments in (("cache", "-q", "clear"), ("cache", "clear", "-q"), ("-q", "cache", "clear")):
        assert run_main(*arguments).stderr == ""
    assert run_main("weights", "--quiet", "path", "tiny").stdout.endswith("tiny.safetensors\n")


def test_quiet_hides_warnings_and_notes(tmp_path: Path, weights: Path) -> None:
    fallback = ("predict", "--format", "jsonl", SAMPLES / "cat.jpg", "none.png")
    failure = "error: none.png: no file with this name"
    normal = run_main(*fallback).stderr.splitlines()
    assert normal[0].startswith("warning: ")
    assert normal[1:] == [failure]
    for option in ("-q", "--quiet"):
        for arguments in ((*fallback, option), (option, *fallback)):
            quiet = run_main(*arguments)
            assert (quiet.returncode, quiet.stdout.count("\n"), quiet.stderr) == (1, 2, f"{failure}\n")
    built = run_main("build", "-q", "--weights", weights, "-o", tmp_path / "a.safetensors")
    assert (built.returncode, built.stdout, built.stderr) == (0, "", "")


def test_libraries_are_heard_with_verbose_only(resnet: Run, weights: Path, tmp_path: Path) -> None:
    Image.open(SAMPLES / "cat.jpg").save(tmp_path / "cat.tif", compression="tiff_lzw")
    content = bytearray((tmp_path / "cat.tif").read_bytes())
    content[2000:2100] = bytes(100)
    (tmp_path / "cat.tif").write_bytes(content)
    quiet = resnet("predict", "--weights", weights, tmp_path / "cat.tif")
    assert [line[:7] for line in quiet.stderr.splitlines()] == ["error: "]
    loud = resnet("predict", "-v", "--weights", weights, tmp_path / "cat.tif")
    assert "LZWDecode" in loud.stderr
    assert quiet.stdout == loud.stdout


def test_closed_streams_change_nothing() -> None:
    command = f"{RESNET} summary --format json"
    complete = subprocess.run(command, shell=True, capture_output=True, check=True).stdout
    assert subprocess.run(f"{command} 2>&- <&-", shell=True, capture_output=True, check=True).stdout == complete
    assert subprocess.run(f"{command} >&-", shell=True, capture_output=True, check=True).stderr == b""
    assert subprocess.run(f"{RESNET} nope 2>&-", shell=True, check=False).returncode == 2


def test_progress_shows_on_a_terminal_and_goes_away(tmp_path: Path) -> None:
    path = tmp_path / "a.keras"
    command = f"{RESNET} build {' '.join(SMALL)} -o {path}"
    shown = subprocess.run(["script", "-qec", command, "/dev/null"], capture_output=True, text=True, check=True).stdout
    progress, _, rest = shown.rpartition("\x1b[2K")  # erases the line
    assert "Importing Keras" in progress
    assert rest.startswith(f"{path}: resnet_1_1_1_1_w4, ")
    assert [file.name for file in tmp_path.iterdir()] == ["a.keras"]


def test_a_closed_pipe_ends_the_run_silently(weights: Path) -> None:
    for arguments in (["summary", "--expand"], ["predict", "--weights", weights, *[SAMPLES] * 40]):
        process = subprocess.Popen([RESNET, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait() == 0
