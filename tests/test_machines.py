"""Machines without a home folder, what stays in the cache, and progress whose total becomes known."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path

import platformdirs
import pytest
from conftest import run_main

from resnet_cli.images import inputs
from resnet_cli.output.progress import ProgressBar
from resnet_cli.system.cache_folder import cache_dir
from resnet_cli.system.prefetch import Prefetcher

SAMPLES = Path(__file__).parents[1] / "sample_images"
TINY = ("predict", "--weights", "tiny", "--format", "csv")


# No home

# The user's number has no name, as in a container.
IMPORT_KERAS = """
import pwd
def getpwuid(uid):
    raise KeyError(uid)
pwd.getpwuid = getpwuid
import resnet_cli.engines.keras_engine
"""


@pytest.fixture
def nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder, of a user without a name or a home."""
    import pwd

    def getpwuid(uid: int) -> None:
        raise KeyError(uid)

    monkeypatch.setattr(pwd, "getpwuid", getpwuid)
    for name in ("HOME", "RESNET_CACHE_DIR", "HF_HOME", "XDG_CACHE_HOME"):
        monkeypatch.setenv(name, "")  # so that it is restored
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("home", [None, "~"])
def test_without_a_home_images_are_classified_and_nothing_is_left(
    home: str | None, nobody: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if home is not None:
        monkeypatch.setenv("HOME", home)
    result = run_main(*TINY, SAMPLES / "cat.jpg")
    assert (result.returncode, "Egyptian_cat" in result.stdout) == (0, True)
    assert [line[:9] for line in result.stderr.splitlines()] == ["warning: "]
    assert run_main("cache", "clear").returncode == 0
    assert list(nobody.iterdir()) == []
    assert not Path(os.environ["HOME"], "anything").exists()
    with pytest.raises(OSError, match=os.devnull):
        Path(os.environ["HOME"], "anything").mkdir(parents=True)


def test_keras_leaves_nothing_without_a_home(tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "HOME"}
    command = [sys.executable, "-c", IMPORT_KERAS]
    subprocess.run(command, cwd=tmp_path, env=environment, check=True, capture_output=True)
    assert list(tmp_path.iterdir()) == []


def test_a_cache_that_cannot_be_read_is_as_good_as_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Such as another user's home; a name that is too long has the same effect, also for root."""
    monkeypatch.setenv("RESNET_CACHE_DIR", str(tmp_path / ("x" * 300)))
    for arguments in (TINY, ("predict", "--format", "csv")):
        result = run_main(*arguments, SAMPLES / "cat.jpg")
        assert (result.returncode, "Egyptian_cat" in result.stdout) == (0, True)
        assert {line[:9] for line in result.stderr.splitlines()} == {"warning: "}
    assert "0 bytes" in run_main("cache", "info").stdout
    assert "RESNET_OFFLINE" in run_main("predict", "--weights", "imagenet", SAMPLES / "cat.jpg").stderr


def test_the_home_of_the_user_database_replaces_an_unusable_one(monkeypatch: pytest.MonkeyPatch) -> None:
    import pwd

    monkeypatch.delenv("RESNET_CACHE_DIR")
    for home in ("", "relative"):
        monkeypatch.setenv("HOME", home)
        assert cache_dir() == platformdirs.user_cache_path("resnet-cli")
        assert os.environ["HOME"] == pwd.getpwuid(os.getuid()).pw_dir


def test_a_tilde_in_the_cache_folder_is_the_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("RESNET_CACHE_DIR", "~/x")
    assert cache_dir() == tmp_path / "x"


# The cache


def test_weights_are_only_cleared_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RESNET_CACHE_DIR", str(tmp_path))
    for part in ("weights", "compiled", "remembered"):
        (tmp_path / part).mkdir()
        (tmp_path / part / "file").touch()
    cleared = run_main("cache", "clear").stderr
    assert [path.name for path in tmp_path.iterdir()] == ["weights"]
    assert "deleted 2 files" in cleared
    assert "`resnet cache clear weights`" in cleared
    assert len(cleared.splitlines()) == 1
    assert run_main("cache", "clear", "weights").stderr == "deleted 1 files (0 bytes)\n"
    assert list(tmp_path.iterdir()) == []


# Progress


@pytest.fixture
def counts(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int | None]]:
    """What the progress of a run on a terminal shows."""
    shown: list[tuple[int, int | None]] = []
    monkeypatch.setenv("FORCE_COLOR", "1")  # Rich takes any stream for a terminal
    monkeypatch.setattr(ProgressBar, "count", lambda _, done, total=None: shown.append((done, total)))
    return shown


@pytest.mark.usefixtures("shared_cache")
def test_a_quick_walk_is_counted_first(counts: list[tuple[int, int | None]], tmp_path: Path) -> None:
    output = tmp_path / "a.jsonl"
    assert run_main(*TINY, SAMPLES, SAMPLES).returncode == 0
    total = 2 * len([*SAMPLES.glob("*.jpg")])
    assert counts == [(done, total) for done in range(total + 1)]
    counts.clear()
    half = ("predict", "--weights", "tiny", "--shard", "1/2", "-o", output, SAMPLES, SAMPLES)
    assert run_main(*half).returncode == 0
    assert counts == [(done, total // 2) for done in range(total // 2 + 1)]
    counts.clear()
    assert run_main(*half, "--resume").returncode == 0
    assert counts == [(total // 2, total // 2)]


@pytest.mark.usefixtures("shared_cache")
def test_the_total_of_a_slow_walk_is_shown_when_it_ends(
    counts: list[tuple[int, int | None]], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = threading.Event()

    def walk(names: Iterable[str], *_: object) -> Iterator[str]:
        (name,) = names
        yield name
        first.wait(20)
        yield from [name] * 5

    def count(_: ProgressBar, done: int, total: int | None = None) -> None:
        counts.append((done, total))
        if done:
            first.set()

    monkeypatch.setattr(inputs, "find", walk)
    monkeypatch.setattr(ProgressBar, "count", count)
    assert run_main(*TINY, SAMPLES / "cat.jpg").returncode == 0
    assert counts[:2] == [(0, None), (1, None)]
    assert counts[-1] == (6, 6)


def test_a_prefetched_iterator_is_counted_when_it_has_ended() -> None:
    more = threading.Event()

    def items() -> Iterator[int]:
        yield 1
        more.wait(20)
        yield 2

    items_ahead = Prefetcher(items(), 10)
    items_ahead.wait(0.01)
    assert items_ahead.total is None
    more.set()
    items_ahead.wait(20)
    assert items_ahead.total == 2
    assert list(items_ahead) == [1, 2]
