"""The installed command: what it prints, where, and how it ends."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import RESNET, Run
from PIL import Image
from safetensors.numpy import save_file

from resnet_cli import architecture, checkpoints, graph

SAMPLES = Path(__file__).parents[1] / "sample_images"
SMALL = ("--stages", "1,1,1,1", "--width", "4", "--image-size", "32")
COMMANDS = ("build", "summary", "predict", "evaluate", "train", "benchmark", "convert")


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small network of 1000 classes with random weights, written by the command."""
    path = tmp_path_factory.mktemp("weights") / "small.safetensors"
    subprocess.run([RESNET, "build", *SMALL, "-o", path], check=True, timeout=300)
    return path


def test_no_command_prints_help(resnet: Run) -> None:
    assert resnet().stdout == resnet("--help").stdout
    for command in COMMANDS:
        assert command in resnet().stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_help_fits_a_screen_and_ends_with_three_examples(resnet: Run, command: str) -> None:
    result = resnet(command, "--help", COLUMNS="80")
    lines = result.stdout.rstrip().splitlines()
    assert result.returncode == 0
    assert len(lines) <= (58 if command in ("predict", "train", "evaluate") else 40)
    examples = "\n".join(lines).rpartition("Examples")[2]
    assert examples.count(f"resnet {command}") == 3


def test_version_and_module(resnet: Run) -> None:
    module = subprocess.run([sys.executable, "-m", "resnet_cli", "--version"], capture_output=True, text=True)
    assert module.stdout == resnet("--version").stdout
    assert module.stdout.startswith("resnet 0.")


@pytest.mark.parametrize("arguments", [["--help"], ["summary"], ["summary", "--format", "json"], ["predict", "--help"]])
def test_light_commands_import_nothing_heavy(arguments: list[str]) -> None:
    code = (
        "import sys; from resnet_cli.cli import app\n"
        f"app({arguments}, standalone_mode=False)\n"
        "heavy = {'keras', 'tensorflow', 'numpy', 'PIL', 'h5py', 'requests', 'huggingface_hub'}\n"
        "print(*heavy & sys.modules.keys(), file=sys.stderr)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stderr.split() == []


def test_summary_totals(resnet: Run) -> None:
    printed = json.loads(resnet("summary", "--depth", 101, "--format", "json").stdout)
    totals = {"parameters": 44_707_176, "trainable": 44_601_832, "macs": 7_570_194_432}
    assert printed["totals"] == totals
    assert {key: sum(layer[key] for layer in printed["layers"]) for key in totals} == totals
    table = resnet("summary", "--depth", 101).stdout
    assert "44,707,176" in table
    assert "7,570,194,432" in table


def test_summary_by_name(resnet: Run) -> None:
    named = resnet("summary", "resnext50_32x4d", "--format", "json")
    assert json.loads(named.stdout)["totals"]["trainable"] == 25_028_904
    assert resnet("summary", "--variant", "32x4d", "--format", "json").stdout == named.stdout


def test_summary_by_kind_of_block(resnet: Run) -> None:
    named = resnet("summary", "resnet18", "--format", "json").stdout
    options = ("--stages", "2,2,2,2", "--block", "basic", "--variant", "v1.5", "--format", "json")
    assert resnet("summary", *options).stdout == named


def test_summary_expands_to_layers(resnet: Run) -> None:
    table = resnet("summary", "--expand").stdout
    assert "conv4_block6_3_conv" in table
    assert "25,636,712" in table


def test_summary_of_any_network(resnet: Run) -> None:
    options = ("--stages", "2,2,2,2", "--width", 32, "--classes", 200, "--image-size", 64, "--format", "json")
    layers = json.loads(resnet("summary", *options).stdout)["layers"]
    assert layers[-1] == {
        "name": "predictions",
        "stage": "head",
        "kind": "Dense",
        "output_shape": [200],
        "parameters": 1024 * 200 + 200,
        "trainable": 1024 * 200 + 200,
        "macs": 1024 * 200,
    }


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
        (["resnet50", "--depth", "50"], "resnet50 says what --depth says"),
        (["resnet51"], "resnet50, resnet101, resnet152, resnet18, "),
        (["--format", "xml"], "'xml'"),
        (["--dpeth", "50"], "--dpeth"),
    ],
)
def test_bad_values_get_one_line_and_exit_code_2(resnet: Run, arguments: list[str], message: str) -> None:
    result = resnet("summary", *arguments)
    assert (result.returncode, result.stdout) == (2, "")
    assert message in result.stderr
    assert result.stderr.startswith("error: ")
    assert len(result.stderr.splitlines()) == 1


TRAIN_A_STEP = """
import sys
sys.modules["resnet_cli"] = None
import keras, numpy
model = keras.saving.load_model(sys.argv[1])
images = numpy.random.default_rng(0).normal(size=(8, 32, 32, 3)).astype("float32")
classes = numpy.arange(8)
model.compile("sgd", "sparse_categorical_crossentropy")
before = model.train_on_batch(images, classes)
after = model.train_on_batch(images, classes)
assert numpy.isfinite([before, after]).all() and before != after, (before, after)
"""


@pytest.mark.parametrize("options", [(), ("--variant", "v2"), ("--variant", "32x4d", "--width", "16")], ids=str)
def test_keras_file_loads_and_trains_without_the_project(resnet: Run, tmp_path: Path, options: tuple[str, ...]) -> None:
    path = tmp_path / "model.keras"
    built = resnet("build", *SMALL, *options, "-o", path)
    assert (built.returncode, built.stdout) == (0, "")
    assert "model.keras" in built.stderr
    subprocess.run([sys.executable, "-c", TRAIN_A_STEP, path], check=True, timeout=300)
    assert [file.name for file in tmp_path.iterdir()] == ["model.keras"]


def test_build_goes_from_format_to_format_without_loss(resnet: Run, tmp_path: Path, weights: Path) -> None:
    source = weights
    for name in ("a.weights.h5", "b.keras", "c.h5", "d.safetensors"):
        assert resnet("build", "--weights", source, "-o", tmp_path / name).returncode == 0
        source = tmp_path / name
    assert source.read_bytes() == weights.read_bytes()


def test_build_by_name(resnet: Run, tmp_path: Path) -> None:
    path = tmp_path / "m.keras"
    built = resnet("build", "resnet34", "-o", path)
    assert (built.returncode, built.stdout) == (0, "")
    assert "m.keras: resnet34" in built.stderr
    read = checkpoints.read(path)
    assert read.metadata.architecture == architecture.resnet(34)
    trainable, statistics = 21_797_672, 17_024
    assert sum(array.size for array in read.arrays.values()) == trainable + statistics


def test_build_replaces_nothing_unasked(resnet: Run, tmp_path: Path) -> None:
    path = tmp_path / "model.keras"
    path.write_text("precious")
    refused = resnet("build", *SMALL, "-o", path)
    assert (refused.returncode, path.read_text()) == (2, "precious")
    assert "--force" in refused.stderr
    assert resnet("build", *SMALL, "--force", "-o", path).returncode == 0
    assert path.stat().st_size > 100_000


@pytest.mark.parametrize(
    ("output", "code", "message"),
    [
        ("model.txt", 2, ".safetensors"),
        ("none/model.keras", 2, "existing folder"),
        ("folder.keras", 2, "expected a file"),
    ],
)
def test_build_refuses_other_outputs(resnet: Run, tmp_path: Path, output: str, code: int, message: str) -> None:
    (tmp_path / "folder.keras").mkdir()
    result = resnet("build", *SMALL, "-o", tmp_path / output)
    assert result.returncode == code
    assert message in result.stderr


def test_a_network_beyond_all_memory_is_refused(resnet: Run, tmp_path: Path) -> None:
    result = resnet("build", "--width", 100_000, "-o", tmp_path / "huge.keras")
    assert (result.returncode, len(result.stderr.splitlines())) == (2, 1)


def test_killed_build_leaves_no_file_under_the_final_name(tmp_path: Path) -> None:
    process = subprocess.Popen([RESNET, "build", "--depth", "101", "-o", tmp_path / "model.weights.h5"])
    while not list(tmp_path.glob("*/*")):  # the unfinished file, in its temporary folder
        assert process.poll() is None
        time.sleep(0.01)
    process.kill()
    process.wait()
    assert not (tmp_path / "model.weights.h5").exists()


def test_predict_answers_every_image(resnet: Run, weights: Path) -> None:
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


def test_predict_prints_a_table(resnet: Run, weights: Path) -> None:
    result = resnet("predict", "--weights", weights, SAMPLES / "cat.jpg", SAMPLES / "coffee.jpg")
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.count("│ 3 │") == 2
    assert "cat.jpg" in result.stdout


def test_bad_images_cost_only_themselves(resnet: Run, weights: Path, tmp_path: Path) -> None:
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


def test_a_folder_without_images_is_an_error(resnet: Run, weights: Path, tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("Dear all")
    result = resnet("predict", "--weights", weights, tmp_path)
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
def test_weights_that_are_not_to_be_had_end_with_3(resnet: Run, arguments: list[str], message: str) -> None:
    result = resnet("predict", *arguments, SAMPLES / "cat.jpg")
    assert (result.returncode, result.stdout) == (3, "")
    assert message in result.stderr
    assert len(result.stderr.splitlines()) <= 3


def test_auto_answers_with_the_embedded_weights_where_imagenet_is_not_to_be_had(resnet: Run) -> None:
    result = resnet("predict", "--format", "json", SAMPLES)
    assert result.returncode == 0
    assert {record["weights"] for record in json.loads(result.stdout)} == {"tiny"}
    assert result.stderr.startswith("warning: ")
    assert len(result.stderr.splitlines()) == 1
    assert "200 classes" in result.stderr
    named = resnet("predict", "--format", "json", "--weights", "tiny", SAMPLES)
    assert (named.returncode, named.stdout, named.stderr) == (0, result.stdout, "")


def test_auto_tries_a_dead_network_once(resnet: Run) -> None:
    dead = {"RESNET_OFFLINE": "0", "RESNET_WEIGHTS_MIRROR": "http://127.0.0.1:9"}
    first = resnet("predict", SAMPLES / "cat.jpg", **dead)
    again = resnet("predict", SAMPLES / "cat.jpg", **dead)
    assert (first.returncode, again.returncode) == (0, 0)
    assert "no connection" in first.stderr
    assert first.stdout == again.stdout


def test_weights_of_another_depth_end_with_3_and_names(resnet: Run, weights: Path) -> None:
    result = resnet("predict", "--weights", weights, "--depth", 50, SAMPLES / "cat.jpg")
    assert result.returncode == 3
    assert "conv2_block2_1_conv/kernel" in result.stderr


def test_weights_of_a_known_depth_are_recognised(resnet: Run, tmp_path: Path) -> None:
    network = graph.resnet(architecture.resnet(101))
    arrays = {name: np.zeros(parameter.shape, np.float32) for name, parameter in network.parameters.items()}
    save_file(arrays, tmp_path / "deep.safetensors")
    result = resnet("predict", "--weights", tmp_path / "deep.safetensors", SAMPLES / "cat.jpg")
    assert result.returncode == 3
    assert "unexpected: conv4_block10_1_bn/beta" in result.stderr
    assert result.stderr.endswith("Its layers are those of --depth 101.\n")


def test_what_is_not_asked_is_as_the_file_says(resnet: Run, tmp_path: Path) -> None:
    source, target = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    options = ("--stages", "1,1", "--width", 4, "--classes", 5, "--image-size", 64, "--variant", "v1.5")
    assert resnet("build", *options, "-o", source).returncode == 0
    assert resnet("build", "--weights", source, "--classes", 5, "-o", target).returncode == 0
    assert target.read_bytes() == source.read_bytes()


def test_a_full_disk_is_one_line(resnet: Run, tmp_path: Path) -> None:
    for name in ("a.weights.h5", "a.keras", "a.safetensors"):
        command = f"ulimit -f 50; exec {RESNET} build {' '.join(SMALL)} --width 16 -o {tmp_path / name}"
        result = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
        assert (result.returncode, result.stderr) == (2, f"error: cannot write {tmp_path / name}: File too large\n")
    assert list(tmp_path.iterdir()) == []


def test_closed_streams_change_nothing(weights: Path) -> None:
    command = f"{RESNET} summary --format json"
    whole = subprocess.run(command, shell=True, capture_output=True, check=True).stdout
    assert subprocess.run(f"{command} 2>&- <&-", shell=True, capture_output=True, check=True).stdout == whole
    assert subprocess.run(f"{command} >&-", shell=True, capture_output=True, check=True).stderr == b""
    assert subprocess.run(f"{RESNET} nope 2>&-", shell=True, check=False).returncode == 2


def test_no_keras_backend_is_one_line(resnet: Run, tmp_path: Path) -> None:
    result = resnet("build", *SMALL, "-o", tmp_path / "a.keras", KERAS_BACKEND="nonsense")
    assert (result.returncode, len(result.stderr.splitlines())) == (3, 1)
    assert "KERAS_BACKEND=nonsense" in result.stderr


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


def test_progress_shows_on_a_terminal_and_goes_away(tmp_path: Path) -> None:
    command = f"{RESNET} build {' '.join(SMALL)} -o {tmp_path / 'a.keras'}"
    shown = subprocess.run(["script", "-qec", command, "/dev/null"], capture_output=True, text=True, check=True).stdout
    assert "Importing Keras" in shown
    assert "a.keras: resnet_1_1_1_1_w4" in shown


def test_predict_without_images_is_wrong_usage(resnet: Run) -> None:
    result = resnet("predict")
    assert (result.returncode, len(result.stderr.splitlines())) == (2, 1)


def test_published_layout_through_the_command(resnet: Run, tmp_path: Path) -> None:
    import keras
    import networks

    theirs = networks.plausible(keras.applications.ResNet50(weights=None), seed=5)
    path = networks.write_legacy(theirs, tmp_path / "published.h5")
    pixels = np.random.default_rng(3).integers(0, 256, (3, 224, 224, 3), dtype=np.uint8)
    for i, image in enumerate(pixels):
        Image.fromarray(image).save(tmp_path / f"{i}.png")
    result = resnet("predict", "--weights", path, "--format", "json", "-k", 1000, *sorted(tmp_path.glob("*.png")))
    expected = theirs.predict_on_batch(keras.applications.resnet.preprocess_input(pixels.astype("float32")))
    for record, probabilities in zip(json.loads(result.stdout), expected, strict=True):
        assert record["model"] == "resnet50"
        for prediction in record["predictions"]:
            assert prediction["probability"] == pytest.approx(probabilities[prediction["index"]], abs=1e-5)


def test_a_closed_pipe_ends_the_run_silently(weights: Path) -> None:
    for arguments in (["summary", "--expand"], ["predict", "--weights", weights, *[SAMPLES] * 40]):
        process = subprocess.Popen([RESNET, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait() == 0


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signals_end_the_run_with_their_code(weights: Path, number: int, code: int) -> None:
    arguments = ["predict", "--weights", weights, *[SAMPLES] * 200]
    process = subprocess.Popen(
        [RESNET, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # a job in the background has none
    )
    assert process.stdout.readline()
    process.send_signal(number)
    _, errors = process.communicate(timeout=10)
    assert process.returncode == code
    assert "Traceback" not in errors
