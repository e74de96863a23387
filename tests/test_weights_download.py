"""Downloads of weights into our own cache, from a server that responds properly, wrongly, slowly or not at all."""

import hashlib
import os
import re
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import run_main
from servers import IMPATIENT, LONG, PAYLOAD, Recorder, Site, dead_network, failure, names, serve

from resnet_cli.system import http
from resnet_cli.system.cache_folder import cache_dir
from resnet_cli.weights import download
from resnet_cli.weights.published import PRETRAINED

FILE = "weights.h5"
ROW = replace(PRETRAINED["resnet50"], file=FILE, md5=hashlib.md5(PAYLOAD).hexdigest(), url=f"http://home/{FILE}")

Use = Callable[[str], None]


@pytest.fixture
def site() -> Iterator[Site]:
    with serve() as site:
        yield site


@pytest.fixture(autouse=True)
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The weights folder of an empty cache, without a proxy or settings of the user."""
    monkeypatch.setenv("RESNET_CACHE_DIR", str(tmp_path))
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.delenv("RESNET_OFFLINE", raising=False)
    monkeypatch.delenv("RESNET_WEIGHTS_MIRROR", raising=False)
    return tmp_path / "weights"


@pytest.fixture
def use(site: Site, monkeypatch: pytest.MonkeyPatch) -> Use:
    """Set the mirror: `use("slow")`."""
    return lambda behaviour: monkeypatch.setenv("RESNET_WEIGHTS_MIRROR", site.url(behaviour))


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "RESPONSE_SECONDS", IMPATIENT)
    monkeypatch.setattr(http, "STALL_SECONDS", IMPATIENT)


def test_cache_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cache_dir() == tmp_path
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RESNET_CACHE_DIR", "here")
    assert cache_dir() == tmp_path / "here"
    for unset in ("", None):
        monkeypatch.setenv("RESNET_CACHE_DIR", unset) if unset is not None else monkeypatch.delenv("RESNET_CACHE_DIR")
        assert cache_dir().is_absolute()
        assert cache_dir().name == "resnet-cli"


@pytest.mark.parametrize(
    ("behaviour", "requests"),
    [
        ("ok", ["ok"]),
        ("ok/", ["ok"]),
        ("redirected", ["redirected", "ok"]),
        ("recovering", ["recovering"] * 2),
        ("resetting", ["resetting"] * 2),
        ("truncated_once", ["truncated_once"] * 2),
        ("corrupted_once", ["corrupted_once"] * 2),
    ],
)
def test_download(
    behaviour: str, requests: list[str], use: Use, site: Site, weights: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    use(behaviour)
    file = download.fetch(ROW)
    assert file == weights / FILE
    assert file.read_bytes() == PAYLOAD
    assert names(weights) == {FILE}
    assert site.requests == requests
    assert file.stat().st_mode & 0o444 == 0o444, "other users of a shared cache can read it"
    assert download.fetch(ROW) == file
    assert site.requests == requests, "the second time it comes from the cache"
    assert capfd.readouterr() == ("", "")


def test_download_from_home(site: Site) -> None:
    row = replace(ROW, url=f"{site.url('ok')}/{FILE}")
    assert download.fetch(row).read_bytes() == PAYLOAD


def test_slow_response_is_no_timeout(use: Use, impatient: None) -> None:
    use("slow")
    started = time.monotonic()
    assert download.fetch(ROW).read_bytes() == PAYLOAD
    assert time.monotonic() - started > download.RESPONSE_SECONDS + http.STALL_SECONDS


def test_two_at_once(use: Use, site: Site, weights: Path) -> None:
    use("slow")
    with ThreadPoolExecutor() as pool:
        files = [pool.submit(download.fetch, ROW) for _ in range(2)]
    assert [file.result().read_bytes() == PAYLOAD for file in files] == [True, True]
    assert len(site.requests) == 2
    assert names(weights) == {FILE}


@pytest.mark.parametrize(
    ("behaviour", "requests", "reason"),
    [
        ("missing", 1, "the server returned HTTP 404"),
        ("broken", 2, "the server returned HTTP 500"),
        ("truncated", 2, f"incomplete: got 20000 of {len(PAYLOAD)} bytes"),
        ("corrupted", 2, f"expected md5:{ROW.md5}, got {hashlib.md5(PAYLOAD[::-1]).hexdigest()}"),
        ("silent", 1, "127.0.0.1:PORT timed out"),
        ("redirected_to_silence", 2, "127.0.0.1:PORT timed out"),
        ("stuck", 1, "127.0.0.1:PORT timed out"),
        ("broken_late", 2, "127.0.0.1:PORT timed out"),
    ],
)
def test_failure(
    behaviour: str,
    requests: int,
    reason: str,
    use: Use,
    site: Site,
    weights: Path,
    impatient: None,
    capfd: pytest.CaptureFixture[str],
) -> None:
    use(behaviour)
    first, advice = failure(ROW).splitlines()
    assert f"{site.url(behaviour)}/{FILE}" in first
    assert first.endswith(reason.replace("PORT", str(site.server_port)))
    assert all(hint in advice for hint in (str(weights / FILE), ROW.url, "RESNET_WEIGHTS_MIRROR"))
    assert len(site.requests) == requests
    assert names(weights) == {f"{FILE}.failed"}
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("mirror", "reason"),
    [
        ("http://127.0.0.1:{closed}", "cannot connect to 127.0.0.1:{closed} (Connection refused)"),
        ("http://someone:secret@127.0.0.1:{closed}/a", "cannot connect to 127.0.0.1:{closed} (Connection refused)"),
        ("someone:secret@no/scheme", "the URL or the proxy's URL is malformed"),
        ("http://[::", "the URL or the proxy's URL is malformed"),
        ("http://someone:secret@two..dots", "the URL is malformed"),
    ],
    ids=["closed port", "password", "no scheme", "no host", "host with an empty label"],
)
def test_no_server(mirror: str, reason: str, weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        closed = unused.getsockname()[1]
    monkeypatch.setenv("RESNET_WEIGHTS_MIRROR", mirror.format(closed=closed))
    message = failure(ROW)
    assert reason.format(closed=closed) in message
    assert "secret" not in message + (weights / f"{FILE}.failed").read_text()


@pytest.mark.parametrize("mirror", ["{}", "{}/", "file://{}", "file://localhost{}", "~/a mirror", "./a mirror"])
def test_a_mirror_can_be_a_folder(mirror: str, weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = weights.parent / "a mirror"
    folder.mkdir()
    (folder / FILE).write_bytes(PAYLOAD)
    monkeypatch.setenv("HOME", str(weights.parent))
    monkeypatch.chdir(weights.parent)
    path = folder.as_uri().removeprefix("file://") if "file" in mirror else folder
    monkeypatch.setenv("RESNET_WEIGHTS_MIRROR", mirror.format(path))
    monkeypatch.setenv("RESNET_OFFLINE", "1")
    assert download.fetch(ROW) == weights / FILE
    assert names(weights) == {FILE}
    (folder / FILE).unlink()
    assert download.fetch(ROW).read_bytes() == PAYLOAD


def test_a_folder_as_a_mirror_is_used_in_place_if_the_cache_is_not_writable(
    weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (weights.parent / FILE).write_bytes(PAYLOAD)
    monkeypatch.setenv("RESNET_WEIGHTS_MIRROR", str(weights.parent))
    monkeypatch.setenv("RESNET_CACHE_DIR", os.devnull)
    assert download.fetch(ROW) == weights.parent / FILE


@pytest.mark.parametrize("mirror", ["{}/none", "file://{}/none", "file://another{}", "~/none"])
def test_a_missing_mirror_folder_is_named_and_not_remembered(
    mirror: str, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(weights.parent))
    monkeypatch.setenv("RESNET_WEIGHTS_MIRROR", mirror.format(weights.parent))
    assert "there is no folder" in failure(ROW).splitlines()[0]
    monkeypatch.setenv("RESNET_WEIGHTS_MIRROR", str(weights.parent))
    assert f"cannot copy {weights.parent / FILE}: No such file" in failure(ROW)
    (weights.parent / FILE).write_bytes(PAYLOAD[::-1])
    assert f"expected md5:{ROW.md5}, got {hashlib.md5(PAYLOAD[::-1]).hexdigest()}" in failure(ROW)
    (weights.parent / FILE).write_bytes(PAYLOAD)
    assert download.fetch(ROW).read_bytes() == PAYLOAD


def test_cached_file_needs_no_network(use: Use, site: Site, weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use("ok")
    weights.mkdir()
    (weights / FILE).write_bytes(PAYLOAD)
    assert download.fetch(ROW) == weights / FILE
    monkeypatch.setenv("RESNET_OFFLINE", "1")
    assert download.fetch(ROW) == weights / FILE
    assert site.requests == []


def test_damaged_file_is_replaced(use: Use, weights: Path) -> None:
    use("ok")
    weights.mkdir()
    (weights / FILE).write_bytes(PAYLOAD[:-1])
    assert download.fetch(ROW).read_bytes() == PAYLOAD


def test_damaged_file_is_never_returned(use: Use, weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use("missing")
    weights.mkdir()
    (weights / FILE).write_bytes(PAYLOAD[:-1])
    assert f"{weights / FILE} is damaged" in failure(ROW)
    assert f"{weights / FILE} is damaged" in failure(ROW), "a cached failure reports it, too"
    monkeypatch.setenv("RESNET_OFFLINE", "1")
    assert f"{weights / FILE} is damaged" in failure(ROW)


@pytest.mark.parametrize("content", [b"", b"<html>Not found</html>", PAYLOAD])
def test_auto_mentions_a_wrong_file_at_the_place_where_it_looks(content: bytes, weights: Path) -> None:
    """Such as a page of an error, or the file without the final layer; the prediction is still made."""
    weights.mkdir()
    file = weights / PRETRAINED["resnet50"].file
    file.write_bytes(content)
    sample = Path(__file__).parents[1] / "sample_images/cat.jpg"
    result = run_main("predict", sample)
    assert (result.returncode, result.stderr.count("warning: ")) == (0, 1)
    assert f"warning: {file} is damaged or another file (expected md5:{PRETRAINED['resnet50'].md5});" in result.stderr
    assert "using the small built-in network" in result.stderr
    assert file.read_bytes() == content
    assert f"{file} is damaged" in run_main("predict", "--weights", "imagenet", sample).stderr


@pytest.mark.parametrize(("value", "offline"), [("1", True), ("yes", True), ("0", False), ("", False)])
def test_offline(
    value: str, offline: bool, use: Use, site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use("ok")
    monkeypatch.setenv("RESNET_OFFLINE", value)
    if offline:
        assert "RESNET_OFFLINE is set" in failure(ROW, retry=True)
        assert names(tmp_path) == set(), "no attempt, and no marker of a failure"
    else:
        download.fetch(ROW)
    assert site.requests == ([] if offline else ["ok"])


def test_failure_is_not_retried_at_once(use: Use, site: Site, weights: Path) -> None:
    use("missing")
    first = failure(ROW)
    again = failure(ROW)
    assert again.splitlines()[0] == first.splitlines()[0]
    assert re.search(r"\nNot retried before \d\d:\d\d; run `resnet weights download resnet50` to retry now\.\n", again)
    assert again.splitlines()[2] == first.splitlines()[1]
    assert site.requests == ["missing"]
    failure(ROW, retry=True)
    assert site.requests == ["missing"] * 2
    use("ok")
    download.fetch(ROW)
    assert names(weights) == {FILE}, "success removes the marker"


@pytest.mark.parametrize("minutes", [-16, 16])
def test_failure_is_retried_later(minutes: int, use: Use, site: Site, weights: Path) -> None:
    use("missing")
    failure(ROW)
    then = time.time() + minutes * 60
    os.utime(weights / f"{FILE}.failed", (then, then))
    failure(ROW)
    assert site.requests == ["missing"] * 2
    (weights / f"{FILE}.failed").write_bytes(b"\xff\0")
    failure(ROW)
    assert site.requests == ["missing"] * 3, "a damaged marker does not count"


def test_progress(use: Use) -> None:
    use("truncated_once")
    recorder = Recorder()
    download.fetch(ROW, recorder)
    size = len(PAYLOAD)
    assert {total for _, total in recorder.calls} == {size}
    done = [done for done, _ in recorder.calls]
    again = done.index(0, 1)
    assert done[0] < done[again - 1] <= 20_000, "the first attempt"
    assert done[again:] == sorted(set(done[again:])), "the second starts over"
    assert len(done[again:]) > 4
    assert done[-1] == size


def test_folder_that_cannot_be_created(use: Use, site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use("ok")
    (tmp_path / "file").touch()
    monkeypatch.setenv("RESNET_CACHE_DIR", str(tmp_path / "file"))
    message = failure(ROW)
    assert f"cannot write to the cache folder {tmp_path / 'file' / 'weights'}: Not a directory" in message
    assert site.requests == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root can write anywhere")
def test_folder_that_is_not_writable(use: Use, weights: Path) -> None:
    use("ok")
    weights.mkdir(mode=0o500)
    message = failure(ROW)
    assert f"cannot write to the cache folder {weights}: Permission denied" in message
    assert "RESNET_CACHE_DIR" in message


def test_full_disk(use: Use, weights: Path) -> None:
    """The system refuses to write more than half of the file, which takes the place of a full disk."""
    use("ok")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(PAYLOAD) // 2, limits[1]))
    try:
        message = failure(ROW)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert f"cannot write to the cache folder {weights}: File too large\nSet RESNET_CACHE_DIR" in message
    assert names(weights) == set()


def test_dead_network_fails_within_ten_seconds(site: Site, weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With all attempts, for responses that never come or stall, and for hosts that cannot be reached or found."""

    def try_host(host: str) -> tuple[str, float]:
        behaviour, started = host.removesuffix(".test"), time.monotonic()
        message = failure(replace(ROW, file=behaviour, url=f"http://{host}/{behaviour}"))
        return message.splitlines()[0], time.monotonic() - started

    with dead_network(monkeypatch, site) as dead, ThreadPoolExecutor() as pool:
        hosts = ("silent.test", "stuck.test", *dead)
        for host, (first, seconds) in zip(hosts, pool.map(try_host, hosts), strict=True):
            assert first.endswith(f"{host} timed out")
            assert seconds < 9, host
    assert sorted(site.requests) == ["silent", "stuck"]
    assert names(weights) == {f"{host.removesuffix('.test')}.failed" for host in hosts}


FETCH = f"""
import dataclasses, sys
from resnet_cli.weights import download, published
row = dataclasses.replace(published.PRETRAINED["resnet50"], file="{FILE}", md5="{ROW.md5}", url=sys.argv[1])
print(download.fetch(row))
"""


@contextmanager
def stuck_download(site: Site, weights: Path) -> Iterator[subprocess.Popen[str]]:
    """Start a process whose download has written something and does not continue."""

    def sizes() -> dict[Path, int]:
        return {path: path.stat().st_size for path in weights.glob(f".resnet-*/{FILE}")}

    before = sizes().keys()
    command = [sys.executable, "-c", FETCH, f"{site.url('stuck')}/{FILE}"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            deadline = time.monotonic() + LONG
            while not any(size for path, size in sizes().items() if path not in before):
                assert time.monotonic() < deadline
                time.sleep(0.01)
            yield process
        finally:
            process.kill()


def test_interrupt_leaves_nothing(site: Site, weights: Path) -> None:
    with stuck_download(site, weights) as process:
        process.send_signal(signal.SIGINT)
        assert "KeyboardInterrupt" in process.communicate(timeout=LONG)[1]
    assert names(weights) == set()


def test_leftovers_of_killed_downloads_are_removed(use: Use, site: Site, weights: Path) -> None:
    with stuck_download(site, weights) as killed:
        killed.kill()
        killed.wait(LONG)
        [leftover] = names(weights)
    with stuck_download(site, weights):
        [running] = names(weights) - {leftover}
        use("ok")
        download.fetch(ROW)
        assert names(weights) == {FILE, running}


def test_cached_file_needs_no_requests(weights: Path) -> None:
    weights.mkdir()
    (weights / FILE).write_bytes(PAYLOAD)
    script = f"{FETCH}\nprint(*{{'requests', 'huggingface_hub', 'numpy'}} & set(sys.modules))"
    command = [sys.executable, "-c", script, ROW.url]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert result.stdout == f"{weights / FILE}\n\n", result.stderr
