"""Every command of README does what README says."""

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

from resnet_cli.pretrained import PRETRAINED

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
SHELL = "\n".join(re.findall(r"^```sh\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL))
COMMANDS = [line for line in SHELL.splitlines() if re.search(r"(^|[|] |until )resnet ", line)]


CAPTURED: dict[str, Any] = {"capture_output": True, "text": True, "timeout": 300}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what README's commands name."""
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


@pytest.mark.parametrize("command", COMMANDS, ids=lambda line: line.partition("  ")[0])
def test_commands(folder: Path, command: str) -> None:
    """The internet is out of reach here: published weights end with 3, an address costs its image."""
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


@pytest.mark.parametrize("name", ["plain.png", 'line\nbreak \\u0041 "quoted".png', os.fsdecode(b"\xff\xfe.png")])
def test_names_come_back(folder: Path, name: str) -> None:
    environment = os.environ | {"RESNET_OFFLINE": "1"}
    line_of_json, cell_of_csv = re.findall(r"^os\.fsencode.*$", TEXT, re.MULTILINE)
    for layout, expression in (("jsonl", line_of_json), ("csv", cell_of_csv)):
        command = [RESNET, "predict", "--weights", "tiny", "--format", layout, name]
        printed = subprocess.run(command, cwd=folder, env=environment, **CAPTURED).stdout
        cell = list(csv.reader(io.StringIO(printed)))[-1][0]
        assert eval(expression, {"os": os, "json": json, "line": printed, "cell": cell}) == os.fsencode(name)


def test_python() -> None:
    code = re.findall(r"^```python\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)[-1]
    variables: dict[str, Any] = {}
    exec(code, variables)
    assert variables["model"].output_shape == (None, 10)
