"""`resnet predict` with many images: formats, lists of names, shards, and names that are hard to print."""

import ast
import json
import os
import re
import select
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from conftest import RESNET, Run, run_main
from odd_names import SCHEMA, VALIDATOR, bare, from_csv, from_json, from_json_lines, populate, tiny_image

from resnet_cli.errors import ImageErrorKind
from resnet_cli.network import graph, variants
from resnet_cli.output import terminal
from resnet_cli.weights import checkpoint
from resnet_cli.weights.model import default_metadata

pytestmark = pytest.mark.usefixtures("shared_cache")

TINY = ("predict", "--weights", "tiny")
FORMATS = ("table", "json", "jsonl", "csv")
TEXT = {"capture_output": True, "text": True, "timeout": 300}
HEADER = "image,rank,index,wnid,label,probability,error\n"
TIMEOUT = 60  # seconds after which a run counts as hanging


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("names")
    populate(folder)
    return folder


@pytest.fixture
def names(folder: Path) -> list[str]:
    return populate(folder)


# Formats


def test_all_formats_have_the_same_records_in_input_order(folder: Path, names: list[str]) -> None:
    printed = {name: run_main(*TINY, "--format", name, folder) for name in FORMATS}
    assert {run.returncode for run in printed.values()} == {1}
    records = from_json(printed["json"].stdout)
    assert [record["image"] for record in records] == names
    assert from_json_lines(printed["jsonl"].stdout) == records
    assert from_csv(printed["csv"].stdout) == bare(records)
    failed = [record for record in records if "error" in record]
    assert 1 < len(failed) < len(records)
    assert {len(record["predictions"]) for record in records if "error" not in record} == {3}
    assert printed["table"].stdout.count("│ 1 │") == len(records) - len(failed)
    for run in printed.values():
        assert not terminal.UNSAFE.search((run.stdout + run.stderr).replace("\n", ""))
        assert [line.startswith("error: ") for line in run.stderr.splitlines()] == [True] * len(failed)


@pytest.mark.parametrize("name", FORMATS)
def test_files_have_the_same_content_as_standard_output(folder: Path, tmp_path: Path, name: str) -> None:
    path = tmp_path / "records"
    path.write_text("earlier\n")
    link = tmp_path / "link"
    link.symlink_to(path)
    printed = run_main(*TINY, "--format", name, folder, COLUMNS=str(terminal.PLAIN_WIDTH))
    written = run_main(*TINY, "--format", name, "-o", link, "--force", folder)
    assert (written.returncode, written.stdout, written.stderr) == (1, "", printed.stderr)
    assert path.read_text("utf-8") == printed.stdout
    assert link.is_symlink()


def test_names_are_those_of_the_files(folder: Path, names: list[str]) -> None:
    """They are compared as bytes of the file system, not as text."""
    raw = {os.fsencode(os.path.join(root, name)) for root, _, files in os.walk(folder) for name in files}  # noqa: PTH118
    lines = run_main(*TINY, "--format", "jsonl", folder).stdout.splitlines()
    assert {os.fsencode(json.loads(line)["image"]) for line in lines} == raw
    rows = run_main(*TINY, "--format", "csv", folder).stdout
    assert {os.fsencode(record["image"]) for record in from_csv(rows)} == raw


def test_the_schema_has_every_kind_of_error_and_rejects_other_records() -> None:
    assert SCHEMA["properties"]["error"]["properties"]["kind"]["enum"] == [str(kind) for kind in ImageErrorKind]
    raised = set()
    for path in (Path(__file__).parents[1] / "resnet_cli").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Attribute) and getattr(node.value, "id", "") == "ImageErrorKind":
                raised.add(ImageErrorKind[node.attr])
    assert raised == set(ImageErrorKind), "a kind that is never raised"
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    prediction = {"rank": 1, "index": 3, "wnid": None, "label": "a", "probability": 0.5}
    unknown = prediction | {"index": None, "label": "unknown"}
    common = {"image": "a.png", "model": "m", "weights": "w"}
    assert VALIDATOR.is_valid(common | {"predictions": [prediction]})
    assert VALIDATOR.is_valid(common | {"predictions": [unknown]})
    error = {"kind": "not_found", "message": "m"}
    for invalid in (
        {},
        {"predictions": []},
        {"predictions": [prediction], "error": error},
        {"predictions": [prediction, unknown]},
        {"predictions": [prediction | {"index": None}]},
        {"predictions": [prediction | {"probability": 1.5}]},
        {"error": error | {"kind": "other"}},
    ):
        assert not VALIDATOR.is_valid(common | invalid), invalid


def test_improbable_predictions_are_unknown(folder: Path) -> None:
    image = folder / "plain.png"
    (best,) = from_json(run_main(*TINY, "-k", 1, "--format", "json", image).stdout)[0]["predictions"]
    above, below = best["probability"] + 1e-4, best["probability"] - 1e-4
    unknown = {"rank": 1, "index": None, "wnid": None, "label": "unknown", "probability": best["probability"]}
    for limit, expected in ((above, unknown), (below, best)):
        options = ("--min-probability", limit, "-k", 1, image)
        lines = run_main(*TINY, "--format", "jsonl", *options)
        assert (lines.returncode, from_json_lines(lines.stdout)[0]["predictions"]) == (0, [expected])
        assert from_csv(run_main(*TINY, "--format", "csv", *options).stdout)[0]["predictions"] == [expected]
    assert "unknown" in run_main(*TINY, "--min-probability", 1, image).stdout


def test_more_labels_than_classes_print_all_classes(folder: Path) -> None:
    (record,) = from_json(run_main(*TINY, "-k", 9999, "--format", "json", folder / "plain.png").stdout)
    assert sorted(prediction["index"] for prediction in record["predictions"]) == list(range(200))
    assert sum(prediction["probability"] for prediction in record["predictions"]) == pytest.approx(1, abs=1e-3)


def test_duplicates_and_the_empty_name_have_records(folder: Path) -> None:
    image = str(folder / "plain.png")
    result = run_main(*TINY, "--format", "json", image, "", image)
    records = from_json(result.stdout)
    assert result.returncode == 1
    assert [record["image"] for record in records] == [image, "", image]
    assert records[0] == records[2]
    assert records[1]["error"]["kind"] == "not_found"


# A terminal


def test_names_cannot_control_a_terminal(folder: Path) -> None:
    command = f"{RESNET} {' '.join(TINY)} {folder}"
    environment = os.environ | {"RESNET_OFFLINE": "1", "COLUMNS": "100"}
    result = subprocess.run(["script", "-qec", command, "/dev/null"], capture_output=True, env=environment, timeout=300)
    shown = result.stdout.decode()
    styles = re.compile("\x1b\\[[0-9;?]*[mhlAJKG]")  # Rich's own
    assert styles.search(shown)
    assert "\x1b[5;7m" not in shown
    assert not terminal.UNSAFE.search(re.sub("[\r\n]", "", styles.sub("", shown)))
    assert "[bold]markup[/bold]" in shown


# Lists


def test_null_separated_lists_contain_any_name(names: list[str], tmp_path: Path) -> None:
    path = tmp_path / "list"
    path.write_bytes(b"\0".join(map(os.fsencode, names)) + b"\0")
    arguments = run_main(*TINY, "--format", "csv", "--", *names)
    listed = run_main(*TINY, "--format", "csv", "--files-from", path, "-0")
    assert (listed.returncode, listed.stdout) == (1, arguments.stdout)
    assert [record["image"] for record in from_csv(listed.stdout)] == names


def test_lists_with_one_name_per_line(names: list[str], folder: Path) -> None:
    single_line = [os.fsencode(name) for name in names if "\n" not in name]
    result = subprocess.run(
        [RESNET, *TINY, "--format", "jsonl", "--files-from", "-", folder / "plain.png"],
        input=b"\n".join(single_line),
        capture_output=True,
        timeout=300,
    )
    records = from_json_lines(result.stdout.decode())
    assert [os.fsencode(record["image"]) for record in records] == [os.fsencode(folder / "plain.png"), *single_line]


def test_relative_names_that_look_like_options(folder: Path) -> None:
    command = [RESNET, *TINY, "--format", "jsonl"]
    result = subprocess.run([*command, "--", "--help.png", "-k 5.png"], cwd=folder, **TEXT)
    assert [record["image"] for record in from_json_lines(result.stdout)] == ["--help.png", "-k 5.png"]
    listed = subprocess.run([*command, "--files-from", "-"], cwd=folder, input="--help.png\n-k 5.png\n-\n", **TEXT)
    assert [record["image"] for record in from_json_lines(listed.stdout)] == ["--help.png", "-k 5.png", "./-"]


@pytest.mark.parametrize("name", FORMATS)
def test_an_empty_list_succeeds(name: str) -> None:
    result = run_main(*TINY, "--format", name, "--files-from", os.devnull)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.replace("\n", "") == {"json": "[]", "csv": HEADER[:-1]}.get(name, "")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "got nothing"),
        (["-", "-"], "more than once"),
        (["--files-from", "-", "-"], "--files-from"),
        (["--files-from", "none.txt"], "none.txt"),
        (["--files-from", "/"], "Is a directory"),
        (["-0", "a.png"], "--files-from"),
        (["--shard", "3/2", "a.png"], "3/2"),
        (["--min-probability", "2", "a.png"], "--min-probability"),
        (["--min-probability", "nan", "a.png"], "from 0 to 1"),
        (["-k", "0", "a.png"], "--top-k"),
        (["--resume", "a.png"], "-o"),
        (["--resume", "-o", "a.json", "--format", "json", "a.png"], "jsonl or csv"),
        (["--resume", "-o", "/dev/null", "--format", "csv", "a.png"], "/dev/null"),
        (["-o", "none/a.csv", "a.png"], "none/a.csv: expected a file in an existing folder"),
        (["-o", "/", "a.png"], "expected a file"),
        (["-o", "w" * 300, "a.png"], "File name too long"),
    ],
)
def test_wrong_usage_is_one_line(arguments: list[str], message: str) -> None:
    result = run_main(*TINY, *arguments)
    assert (result.returncode, result.stdout) == (2, "")
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_shards_contain_each_image_once(folder: Path, names: list[str]) -> None:
    shards = [run_main(*TINY, "--format", "jsonl", "--shard", f"{k}/3", folder).stdout for k in (1, 2, 3)]
    images = [[record["image"] for record in from_json_lines(shard)] for shard in shards]
    assert images == [names[0::3], names[1::3], names[2::3]]


# Streaming


@pytest.fixture(params=["jsonl", "csv"])
def slow(request: pytest.FixtureRequest) -> Iterator[subprocess.Popen[bytes]]:
    """A run that waits for names on its standard input."""
    command = [RESNET, *TINY, "--format", request.param, "-k", "1", "--files-from", "-"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0) as process:
        yield process
        process.kill()


def test_records_are_printed_before_the_next_name_is_read(slow: subprocess.Popen[bytes], names: list[str]) -> None:
    assert slow.stdin
    assert slow.stdout
    for name in [name for name in names if "\n" not in name][:5]:
        slow.stdin.write(os.fsencode(name) + b"\n")
        got = b""
        while got.count(b"\n") < 1 or got == HEADER.encode():
            assert select.select([slow.stdout], [], [], TIMEOUT)[0], "no record until the next name"
            got += os.read(slow.stdout.fileno(), 1 << 16)
        assert got.count(b"\n") == 1 + got.startswith(HEADER.encode())
        assert got.endswith(b"\n")
    slow.stdin.close()
    assert slow.wait(TIMEOUT) == 1


def test_head_ends_the_run_silently(folder: Path) -> None:
    for name in FORMATS:
        command = f"{RESNET} {' '.join(TINY)} --format {name} {f'{folder} ' * 20} | head -1; echo ${{PIPESTATUS[0]}}"
        result = subprocess.run(["bash", "-c", f"{command}"], capture_output=True, text=True, timeout=TIMEOUT)
        first, _, code = result.stdout.rpartition("\n")[0].rpartition("\n")
        assert (len(first.splitlines()), code) == (1, "0"), name
        assert all(line.startswith("error: ") for line in result.stderr.splitlines())


# Devices, pipes, and files that appear when they are complete


def test_devices_and_pipes_can_be_written(resnet: Run, folder: Path, tmp_path: Path) -> None:
    image = folder / "plain.png"
    expected = run_main(*TINY, "--format", "json", image).stdout
    os.mkfifo(tmp_path / "pipe")
    with subprocess.Popen(["cat", tmp_path / "pipe"], stdout=subprocess.PIPE, text=True) as reader:
        assert run_main(*TINY, "--format", "json", "-o", tmp_path / "pipe", image).returncode == 0
        assert reader.communicate(timeout=TIMEOUT)[0] == expected
    for name in ("json", "jsonl"):
        assert run_main(*TINY, "--format", name, "-o", "/dev/null", image).returncode == 0
        assert run_main(*TINY, "--format", name, "-o", "/dev/stdout", image).stdout.count("plain.png") == 1
    assert resnet(*TINY, "--format", "json", "-o", "/dev/stdout", image).stdout == expected
    assert Path("/dev/null").is_char_device()
    assert Path("/dev/stdout").is_symlink()
    appended = tmp_path / "appended"
    appended.write_text("first\n")
    subprocess.run(
        f"{RESNET} {' '.join(TINY)} --format json -o /dev/stdout {image} >> {appended}", shell=True, check=True
    )
    assert appended.read_text() == f"first\n{expected}"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["appended", "pipe"]


def test_json_and_tables_appear_only_when_complete(folder: Path, tmp_path: Path) -> None:
    """The run waits for another name after thousands of bytes of records."""
    for name in ("json", "table", "jsonl"):
        path = tmp_path / name
        command = [RESNET, *TINY, "--format", name, "-o", path, "--files-from", "-"]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            assert process.stdin
            assert process.stderr
            process.stdin.write(f"{folder / 'plain.png'}\n".encode() * 99 + b"none\n")
            process.stdin.flush()
            assert process.stderr.readline().startswith(b"error: none")  # so the records before it are written
            assert path.exists() == (name == "jsonl")
            process.stdin.close()
            assert process.wait(TIMEOUT) == 1
        assert path.read_text("utf-8").count("plain.png") == 99
    assert sorted(path.name for path in tmp_path.iterdir()) == [".jsonl.settings.json", "json", "jsonl", "table"]


# Memory


def write_small_weights(path: Path) -> Path:
    """Write a network that takes next to no time per image."""
    network = graph.resnet(variants.describe(stages=(1, 1), width=4, classes=10, image_size=32))
    arrays = {name: np.full(parameter.shape, 0.1, np.float32) for name, parameter in network.parameters.items()}
    checkpoint.write_safetensors(path, arrays, default_metadata(network.architecture))
    return path


def test_memory_does_not_grow_with_the_images(tmp_path: Path) -> None:
    peaks = []
    weights = write_small_weights(tmp_path / "small.safetensors")
    for count in (200, 2000):
        (tmp_path / str(count)).mkdir()
        for number in range(count):
            (tmp_path / str(count) / f"{number}.png").write_bytes(tiny_image(number))
        options = ("--weights", weights, "--format", "csv", "-o", tmp_path / f"{count}.csv")
        command = [RESNET, "predict", *options, tmp_path / str(count)]
        process = subprocess.Popen(command)
        _, status, usage = os.wait4(process.pid, 0)
        assert status == 0
        assert (tmp_path / f"{count}.csv").read_text().count(".png,1,") == count
        peaks.append(usage.ru_maxrss << (0 if sys.platform == "darwin" else 10))
    assert peaks[1] - peaks[0] < 30 << 20, peaks
