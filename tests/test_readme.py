"""Every command and every Python example in README does what README says."""

import csv
import io
import itertools
import json
import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from conftest import RESNET

from resnet_cli.weights.published import PRETRAINED

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
TEXT = PAGES[0].read_text(encoding="utf-8")
SHELL = re.findall(r"^```sh\n(.*?)^```", "\n".join(page.read_text(encoding="utf-8") for page in PAGES), re.M | re.S)
COMMANDS = [line for line in "\n".join(SHELL).splitlines() if re.search(r"(^|[|] |until )resnet ", line)]
NAMES = ["plain.png", 'line\nbreak \\u0041 "quoted".png', os.fsdecode(b"\xff\xfe.png")]


CAPTURED: dict[str, Any] = {"capture_output": True, "text": True, "timeout": 300}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files that README's commands name."""
    folder = tmp_path_factory.mktemp("readme")
    shutil.copytree(ROOT / "sample_images", folder / "photos")
    for name in ("dog.png", "cat.png"):
        shutil.copy(ROOT / "sample_images/cat.jpg", folder / name)
    for split, kind, name in itertools.product(("train", "val"), ("cat", "cup"), ("1.jpg", "2.jpg")):
        sample = ROOT / "sample_images" / {"cat": "cat.jpg", "cup": "coffee.jpg"}[kind]
        (folder / "data" / split / kind).mkdir(parents=True, exist_ok=True)
        shutil.copy(sample, folder / "data" / split / kind / name)
    return folder


def test_readme_has_commands() -> None:
    assert len(COMMANDS) > 8
    assert len(re.findall(r"^python3 -m venv ", TEXT, re.MULTILINE)) == 2  # .ci/run runs them


@pytest.mark.parametrize("command", COMMANDS, ids=lambda line: line.partition("  ")[0])
def test_commands(folder: Path, command: str) -> None:
    """Without internet access, published weights end with 3, and a URL is an image that fails."""
    words = shlex.split(command, comments=True)
    for other in {"jq", "curl"} & set(words):
        if not shutil.which(other):
            pytest.skip(f"needs {other}")
    if ".onnx" in command:
        pytest.importorskip("onnxruntime", reason="needs the extra onnx")
    environment = os.environ | {
        "PATH": f"{RESNET.parent}{os.pathsep}{os.environ['PATH']}",
        "RESNET_OFFLINE": "1",
        "RESNET_CACHE_DIR": str(folder / "cache"),
    }
    command = command.replace("curl ", "curl --max-time 2 ")
    result = subprocess.run(["bash", "-o", "pipefail", "-c", command], cwd=folder, env=environment, **CAPTURED)
    needs_imagenet = "imagenet" in words or {"predict", "--depth"} <= set(words)
    needs_weights = {"--weights", "weights"} & set(words) and {*PRETRAINED, "weights.zip"} & set(words)
    expected = 3 if needs_imagenet or needs_weights else 1 if "example.com" in command else 0
    assert result.returncode == expected, result.stderr


@pytest.mark.parametrize("layout", ["jsonl", "csv"])
def test_names_can_be_restored(tmp_path: Path, layout: str) -> None:
    """The names of missing files: every record has one."""
    line_of_json, cell_of_csv = re.findall(r"^os\.fsencode.*$", TEXT, re.MULTILINE)
    command = [RESNET, "predict", "--weights", "tiny", "--format", layout, *NAMES]
    printed = subprocess.run(command, cwd=tmp_path, env=os.environ | {"RESNET_OFFLINE": "1"}, **CAPTURED).stdout
    if layout == "jsonl":
        restored = [eval(line_of_json, {"os": os, "json": json, "line": line}) for line in printed.splitlines()]
    else:
        cells = [row[0] for row in csv.reader(io.StringIO(printed))][1:]
        restored = [eval(cell_of_csv, {"os": os, "json": json, "cell": cell}) for cell in cells]
    assert restored == [os.fsencode(name) for name in NAMES]


def test_python(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(folder)
    section = TEXT.partition("## From Python\n")[2].partition("\n## ")[0]
    classify, build = re.findall(r"^```python\n(.*?)^```", section, re.MULTILINE | re.DOTALL)
    variables: dict[str, Any] = {}
    exec(classify, variables)
    printed = dict(line.split(" ", 1) for line in capsys.readouterr().out.splitlines())
    assert [*printed] == ["dog.png", *(f"photos/{name}.jpg" for name in ("astronaut", "cat", "coffee", "rocket"))]
    assert printed["photos/coffee.jpg"] == "espresso"
    assert variables["probabilities"].shape == (8, 200)
    assert variables["features"].shape == (8, 768)
    exec(build, variables)
    assert variables["model"].output_shape == (None, 10)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links(page: Path) -> None:
    """Links lead to files of this repository, and to headings in them."""
    for target in re.findall(r"\]\((?!https?://)([^)]+)\)", page.read_text(encoding="utf-8")):
        name, _, heading = target.partition("#")
        linked = page.parent / name
        assert linked.is_file(), target
        headings = re.findall(r"^#+ (.*)$", linked.read_text(encoding="utf-8"), re.MULTILINE)
        assert not heading or heading in [re.sub(r"[^\w -]", "", each).lower().replace(" ", "-") for each in headings]
