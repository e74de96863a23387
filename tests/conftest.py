"""Shared by several tests: the installed command, the same command in this process, and the shared files."""

import io
import os
import signal
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryFile
from typing import BinaryIO

import pytest
from PIL import PngImagePlugin
from rich.console import Console

SHARED = Path(__file__).parents[2] / "shared"
RESNET = Path(sys.executable).with_name("resnet")
ENVIRONMENT = {"RESNET_OFFLINE": "1", "COLUMNS": "100"}

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
signal.signal(signal.SIGINT, signal.default_int_handler)  # background jobs inherit that it is ignored, and pass it on

Completed = subprocess.CompletedProcess[str]
Run = Callable[..., Completed]


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of photos, facts and data next to the checkout."""
    if not SHARED.is_dir():
        pytest.skip(f"needs the photos and facts of {SHARED}")
    return SHARED


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Give each test empty cache folders, so that it sees neither those of other tests nor the user's."""
    monkeypatch.setenv("RESNET_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.setenv("HF_HOME", str(tmp_path_factory.mktemp("hub")))
    for name in ("HF_HUB_CACHE", "HF_HUB_OFFLINE", "HF_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="session")
def cache_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache folder for all tests of a session, which saves compiling the embedded network for each."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def shared_cache(_own_cache: None, cache_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Replace the test's own cache folder with that of the session."""
    monkeypatch.setenv("RESNET_CACHE_DIR", str(cache_folder))


@pytest.fixture
def resnet() -> Run:
    """Run the installed `resnet` command without internet."""

    def run(*arguments: object, **environment: str) -> Completed:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("TF_", "KERAS_"))}
        return subprocess.run(
            [RESNET, *map(str, arguments)],
            env=inherited | ENVIRONMENT | environment,
            capture_output=True,
            text=True,
            timeout=300,
        )

    return run


def run_main(*arguments: object, stdin: bytes = b"", **environment: str) -> Completed:
    """Run `resnet` in this process, which saves the second that a new process takes; restore all module state."""
    from resnet_cli.cli import app
    from resnet_cli.output import terminal
    from resnet_cli.system import interrupts

    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings(), _captured(patch) as (out, err):
        for name, value in (ENVIRONMENT | environment).items():
            patch.setenv(name, value)
        patch.setattr(sys, "argv", ["resnet", *map(str, arguments)])
        patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        patch.setattr(terminal, "out", Console(highlight=False))
        patch.setattr(terminal, "err", Console(stderr=True, highlight=False))
        patch.setattr(terminal, "verbosity", terminal.NORMAL)
        patch.setattr(PngImagePlugin, "MAX_TEXT_CHUNK", PngImagePlugin.MAX_TEXT_CHUNK)
        patch.setattr(interrupts, "start_watchdog", lambda: None)  # its thread would outlive the run
        code = app.main()
        sys.stdout.flush()
        sys.stderr.flush()
        texts = []
        for file in (out, err):
            file.seek(0)
            texts.append(file.read().decode())
    return Completed([str(argument) for argument in arguments], code, *texts)


@contextmanager
def _captured(patch: pytest.MonkeyPatch) -> Iterator[tuple[BinaryIO, BinaryIO]]:
    """Send both standard streams to files: Python's and the descriptors, to which records and C libraries write."""
    sys.stdout.flush()
    sys.stderr.flush()
    with TemporaryFile() as out, TemporaryFile() as err:
        before = os.dup(1), os.dup(2)
        try:
            for descriptor, (name, file) in enumerate((("stdout", out), ("stderr", err)), 1):
                os.dup2(file.fileno(), descriptor)
                stream = open(descriptor, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
                patch.setattr(sys, name, stream)
                patch.setattr(sys, f"__{name}__", stream)
            yield out, err
        finally:
            patch.undo()
            for descriptor, copy in enumerate(before, 1):
                os.dup2(copy, descriptor)
                os.close(copy)
