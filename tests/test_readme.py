"""Every command of README does what README says."""

import itertools
import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from conftest import RESNET

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
SHELL = "\n".join(re.findall(r"^```sh\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL))
COMMANDS = [shlex.split(line, comments=True) for line in SHELL.splitlines() if line.startswith("resnet ")]


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


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_commands(folder: Path, command: list[str]) -> None:
    """ImageNet's weights are not to be had here, so that what asks for them by name or depth ends with 3."""
    line = shlex.join([str(RESNET), *command[1:]]).replace("'>'", ">")
    environment = os.environ | {"RESNET_OFFLINE": "1", "RESNET_CACHE_DIR": str(folder / "cache")}
    result = subprocess.run(line, shell=True, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)
    needs_imagenet = "imagenet" in command or {"predict", "--depth"} <= set(command)
    assert result.returncode == (3 if needs_imagenet else 0), result.stderr


def test_python() -> None:
    (code,) = re.findall(r"^```python\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)
    variables: dict[str, Any] = {}
    exec(code, variables)
    assert variables["model"].output_shape == (None, 10)
