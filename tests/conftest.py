"""What several tests share: the installed command, the shared files, networks with plausible weights."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

SHARED = Path(__file__).parents[2] / "shared"
RESNET = Path(sys.executable).with_name("resnet")

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of photographs, facts and data beside the checkout."""
    if not SHARED.is_dir():
        pytest.skip(f"needs the photographs and facts of {SHARED}")
    return SHARED


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no test see what another one, or the user, has in the cache folders."""
    monkeypatch.setenv("RESNET_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.setenv("HF_HOME", str(tmp_path_factory.mktemp("hub")))
    for name in ("HF_HUB_CACHE", "HF_HUB_OFFLINE", "HF_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def resnet() -> Run:
    """Run the installed `resnet` command with an empty cache and no network."""

    def run(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
        fixed = {"RESNET_OFFLINE": "1", "COLUMNS": "100"}
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("TF_", "KERAS_"))}
        return subprocess.run(
            [RESNET, *map(str, arguments)],
            env=inherited | fixed | environment,
            capture_output=True,
            text=True,
            timeout=300,
        )

    return run
