"""The weight cache against a real server that answers well, badly, slowly or not at all."""

import dataclasses
import hashlib
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pooch
import pytest

from resnet_cli import cache
from resnet_cli.errors import ModelError
from resnet_cli.pretrained import PRETRAINED

PAYLOAD = bytes(range(256)) * 400
FILE = "weights.h5"
ROW = dataclasses.replace(
    PRETRAINED["resnet50"], file=FILE, md5=hashlib.md5(PAYLOAD).hexdigest(), url=f"http://home/{FILE}"
)
LONG = 30.0

Use = Callable[[str], None]


class Handler(BaseHTTPRequestHandler):
    """Answers `/MANNER/weights.h5` in that manner."""

    server: "Site"

    def do_GET(self) -> None:
        manner = self.path.split("/")[1]
        self.server.requests.append(manner)
        getattr(self, manner)()

    def head(self, status: int = 200, length: int = len(PAYLOAD), **headers: str) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(length))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def well(self) -> None:
        self.head()
        self.wfile.write(PAYLOAD)

    def slow(self) -> None:
        self.head()
        for start in range(0, len(PAYLOAD), len(PAYLOAD) // 16):
            self.wfile.write(PAYLOAD[start : start + len(PAYLOAD) // 16])
            time.sleep(0.1)

    def short(self) -> None:
        self.head()
        self.wfile.write(PAYLOAD[:1000])

    def lying(self) -> None:
        self.head()
        self.wfile.write(PAYLOAD[::-1])

    def missing(self) -> None:
        self.head(404, 0)

    def broken(self) -> None:
        self.head(500, 0)

    def recovering(self) -> None:
        self.well() if len(self.server.requests) > 1 else self.broken()

    def resetting(self) -> None:
        if len(self.server.requests) > 1:
            self.well()

    def moved(self) -> None:
        self.head(302, 0, Location=f"/well/{FILE}")

    def moved_away(self) -> None:
        self.head(302, 0, Location=f"/silent/{FILE}")

    def silent(self) -> None:
        self.server.closing.wait(LONG)

    def stuck(self) -> None:
        self.head()
        self.wfile.write(PAYLOAD[: len(PAYLOAD) // 2])
        self.silent()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class Site(ThreadingHTTPServer):
    """Counts requests; its mirrors are named by the manner of their answers."""

    block_on_close = False  # a silent request outlives the client that gave up

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.requests: list[str] = []
        self.closing = threading.Event()

    def mirror(self, manner: str) -> str:
        return f"http://127.0.0.1:{self.server_port}/{manner}"


@pytest.fixture
def site() -> Iterator[Site]:
    with Site() as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server
        server.closing.set()
        server.shutdown()


@pytest.fixture(autouse=True)
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, of which the folder of weights is returned; no proxy, no settings of the user."""
    monkeypatch.setenv("RESNET_CACHE_DIR", str(tmp_path))
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.delenv("RESNET_OFFLINE", raising=False)
    monkeypatch.delenv("RESNET_WEIGHTS_MIRROR", raising=False)
    return tmp_path / "weights"


@pytest.fixture
def use(site: Site, monkeypatch: pytest.MonkeyPatch) -> Use:
    """Set the mirror: `use("slow")`."""
    return lambda manner: monkeypatch.setenv("RESNET_WEIGHTS_MIRROR", site.mirror(manner))


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "ANSWER_SECONDS", 0.5)
    monkeypatch.setattr(cache, "STALL_SECONDS", 0.5)


class Bar:
    """A progress bar that writes down what it is told."""

    def __init__(self) -> None:
        self.total, self.done, self.calls = 0, 0, list[str]()

    def update(self, n: int) -> None:
        self.done += n
        self.calls.append("update")

    def reset(self) -> None:
        self.done = 0
        self.calls.append("reset")

    def close(self) -> None:
        self.calls.append("close")


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def failure(**options: bool) -> str:
    """Fetch in vain and return the message."""
    with pytest.raises(ModelError) as caught:
        cache.fetch(ROW, **options)
    message = str(caught.value)
    assert caught.value.exit_code == 3
    assert len(message.splitlines()) <= 3
    return message


def test_cache_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cache.cache_dir() == tmp_path
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RESNET_CACHE_DIR", "here")
    assert cache.cache_dir() == tmp_path / "here"
    for unset in ("", None):
        monkeypatch.setenv("RESNET_CACHE_DIR", unset) if unset is not None else monkeypatch.delenv("RESNET_CACHE_DIR")
        assert cache.cache_dir().is_absolute()
        assert cache.cache_dir().name == "resnet-cli"


@pytest.mark.parametrize(
    ("manner", "requests"),
    [
        ("well", ["well"]),
        ("well/", ["well"]),
        ("moved", ["moved", "well"]),
        ("recovering", ["recovering"] * 2),
        ("resetting", ["resetting"] * 2),
    ],
)
def test_download(
    manner: str, requests: list[str], use: Use, site: Site, weights: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    use(manner)
    file = cache.fetch(ROW)
    assert file == weights / FILE
    assert file.read_bytes() == PAYLOAD
    assert names(weights) == {FILE}
    assert site.requests == requests
    assert file.stat().st_mode & 0o444 == 0o444, "other users of a shared cache may read it"
    assert cache.fetch(ROW) == file
    assert site.requests == requests, "the second time it comes from the cache"
    assert capfd.readouterr() == ("", "")


def test_what_killed_downloads_left_goes_with_the_next(use: Use, weights: Path) -> None:
    weights.mkdir()
    old, recent = weights / "tmpold", weights / "tmprecent"
    old.touch()
    os.utime(old, (0, 0))
    recent.touch()  # somebody may still write it
    use("well")
    cache.fetch(ROW)
    assert names(weights) == {FILE, recent.name}


def test_download_from_home(site: Site) -> None:
    row = dataclasses.replace(ROW, url=f"{site.mirror('well')}/{FILE}")
    assert cache.fetch(row).read_bytes() == PAYLOAD


def test_slow_server_is_waited_for(use: Use, impatient: None) -> None:
    use("slow")
    started = time.monotonic()
    assert cache.fetch(ROW).read_bytes() == PAYLOAD
    assert time.monotonic() - started > cache.ANSWER_SECONDS + cache.STALL_SECONDS


def test_two_at_once(use: Use, site: Site, weights: Path) -> None:
    use("slow")
    with ThreadPoolExecutor() as pool:
        files = [pool.submit(cache.fetch, ROW) for _ in range(2)]
    assert [file.result().read_bytes() == PAYLOAD for file in files] == [True, True]
    assert len(site.requests) == 2
    assert names(weights) == {FILE}


@pytest.mark.parametrize(
    ("manner", "requests", "reason"),
    [
        ("missing", 1, "the server answered 404"),
        ("broken", 2, "the server answered 500"),
        ("short", 2, f"cut short: got 1000 of {len(PAYLOAD)} bytes"),
        ("lying", 2, f"expected md5:{ROW.md5} but got {hashlib.md5(PAYLOAD[::-1]).hexdigest()}"),
        ("silent", 1, "127.0.0.1:PORT timed out"),
        ("moved_away", 2, "127.0.0.1:PORT timed out"),
        ("stuck", 1, "127.0.0.1:PORT timed out"),
    ],
)
def test_failure(
    manner: str,
    requests: int,
    reason: str,
    use: Use,
    site: Site,
    weights: Path,
    impatient: None,
    capfd: pytest.CaptureFixture[str],
) -> None:
    use(manner)
    message = failure()
    first, advice = message.splitlines()
    assert f"{site.mirror(manner)}/{FILE}" in first
    assert first.endswith(reason.replace("PORT", str(site.server_port)))
    assert all(hint in advice for hint in (str(weights / FILE), ROW.url, "RESNET_WEIGHTS_MIRROR"))
    assert len(site.requests) == requests
    assert names(weights) == {f"{FILE}.failed"}
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("mirror", "reason"),
    [
        ("http://127.0.0.1:{closed}", "no connection to 127.0.0.1:{closed} (Connection refused)"),
        ("http://someone:secret@127.0.0.1:{closed}/a", "no connection to 127.0.0.1:{closed} (Connection refused)"),
        ("someone:secret@no/scheme", "the address, or that of the proxy, is malformed"),
        ("http://[::", "the address, or that of the proxy, is malformed"),
        ("file:///tmp", "the address, or that of the proxy, is malformed"),
    ],
    ids=["closed port", "password", "no scheme", "no host", "folder"],
)
def test_no_server(mirror: str, reason: str, weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        closed = unused.getsockname()[1]
    monkeypatch.setenv("RESNET_WEIGHTS_MIRROR", mirror.format(closed=closed))
    message = failure()
    assert reason.format(closed=closed) in message
    assert "secret" not in message + (weights / f"{FILE}.failed").read_text()


def test_cached_file_needs_no_network(use: Use, site: Site, weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use("well")
    weights.mkdir()
    (weights / FILE).write_bytes(PAYLOAD)
    assert cache.fetch(ROW) == weights / FILE
    monkeypatch.setenv("RESNET_OFFLINE", "1")
    assert cache.fetch(ROW) == weights / FILE
    assert site.requests == []


def test_damaged_file_is_replaced(use: Use, weights: Path) -> None:
    use("well")
    weights.mkdir()
    (weights / FILE).write_bytes(PAYLOAD[:-1])
    assert cache.fetch(ROW).read_bytes() == PAYLOAD


def test_damaged_file_is_never_returned(use: Use, weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use("missing")
    weights.mkdir()
    (weights / FILE).write_bytes(PAYLOAD[:-1])
    assert f"{weights / FILE} is damaged" in failure()
    assert f"{weights / FILE} is damaged" in failure(), "a remembered failure says so too"
    monkeypatch.setenv("RESNET_OFFLINE", "1")
    assert f"{weights / FILE} is damaged" in failure()


@pytest.mark.parametrize(("value", "offline"), [("1", True), ("yes", True), ("0", False), ("", False)])
def test_offline(
    value: str, offline: bool, use: Use, site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use("well")
    monkeypatch.setenv("RESNET_OFFLINE", value)
    if offline:
        assert "RESNET_OFFLINE is set" in failure(retry=True)
        assert names(tmp_path) == set(), "nothing was tried and nothing is remembered"
    else:
        cache.fetch(ROW)
    assert site.requests == ([] if offline else ["well"])


def test_failure_is_remembered(use: Use, site: Site, weights: Path) -> None:
    use("missing")
    first = failure()
    again = failure()
    assert again.splitlines()[0] == first.splitlines()[0]
    assert re.search(r"\nnot tried again before \d\d:\d\d, but by `resnet weights download resnet50`\n", again)
    assert again.splitlines()[2] == first.splitlines()[1]
    assert site.requests == ["missing"]
    failure(retry=True)
    assert site.requests == ["missing"] * 2
    use("well")
    cache.fetch(ROW)
    assert names(weights) == {FILE}, "success forgets"


@pytest.mark.parametrize("minutes", [-16, 16])
def test_failure_is_forgotten(minutes: int, use: Use, site: Site, weights: Path) -> None:
    use("missing")
    failure()
    then = time.time() + minutes * 60
    os.utime(weights / f"{FILE}.failed", (then, then))
    failure()
    assert site.requests == ["missing"] * 2
    (weights / f"{FILE}.failed").write_bytes(b"\xff\0")
    failure()
    assert site.requests == ["missing"] * 3, "a damaged marker says nothing"


def test_progress(use: Use) -> None:
    use("recovering")
    bar = Bar()
    cache.fetch(ROW, bar)
    assert (bar.total, bar.done) == (len(PAYLOAD), len(PAYLOAD))
    assert bar.calls[0] == "reset"
    assert bar.calls.count("update") > 2
    assert bar.calls[-3:] == ["reset", "update", "close"]


def test_folder_that_cannot_be_made(use: Use, site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use("well")
    (tmp_path / "file").touch()
    monkeypatch.setenv("RESNET_CACHE_DIR", str(tmp_path / "file"))
    assert f"cannot write to the cache folder {tmp_path / 'file' / 'weights'}: Not a directory" in failure()
    assert site.requests == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_folder_that_cannot_be_written(use: Use, weights: Path) -> None:
    use("well")
    weights.mkdir(mode=0o500)
    message = failure()
    assert f"cannot write to the cache folder {weights}: Permission denied" in message
    assert "RESNET_CACHE_DIR" in message


def test_full_disk(use: Use, weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    use("well")
    monkeypatch.setattr(pooch.HTTPDownloader, "__call__", full)
    assert f"cannot write to the cache folder {weights}: No space left on device" in failure()
    assert names(weights) == set()


def run(script: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)


FETCH = f"""
import dataclasses, socket, threading, time
from resnet_cli import cache, errors, pretrained
def fetch(url):
    row = dataclasses.replace(pretrained.PRETRAINED['resnet50'], file=url.split("/")[3], md5="{ROW.md5}", url=url)
    started = time.monotonic()
    try:
        print(cache.fetch(row))
    except errors.ModelError as error:
        print(error)
        print(time.monotonic() - started)
"""


def test_dead_network_ends_within_ten_seconds(site: Site, weights: Path) -> None:
    """The wait does, retries and threads that were given up included; starting the process is left a second."""
    with socket.socket() as full, socket.socket() as client:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        client.connect(full.getsockname())  # fills the queue: from now on nobody is let in, as behind a firewall
        dead = f"127.0.0.1:{full.getsockname()[1]}"
        many = f"socket.getaddrinfo = lambda *_: [(2, 1, 6, '', ('127.0.0.1', {full.getsockname()[1]}))] * 20\n"
        scripts = {
            "silent": f"fetch('{site.mirror('silent')}')",
            "stuck": f"fetch('{site.mirror('stuck')}')",
            "address": f"fetch('http://{dead}/address')",
            "addresses": f"{many}fetch('http://{dead}/addresses')",
            "resolver": f"socket.getaddrinfo = lambda *_: threading.Event().wait({LONG})\nfetch('http://a.b/resolver')",
        }

        with ThreadPoolExecutor() as pool:
            results = pool.map(lambda script: run(FETCH + script), scripts.values())
            for name, result in zip(scripts, results, strict=True):
                first, *_, seconds = result.stdout.splitlines()
                assert first.endswith("timed out"), name
                assert float(seconds) < 9, name
    assert names(weights) == {f"{name}.failed" for name in scripts}


def test_interrupt_leaves_nothing(site: Site, weights: Path) -> None:
    interruptible = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"  # even in the background
    script = f"{interruptible}\n{FETCH}fetch('{site.mirror('stuck')}')"
    with subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + LONG
        while not (weights.is_dir() and any(file.stat().st_size for file in weights.iterdir())):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        assert "KeyboardInterrupt" in process.communicate(timeout=LONG)[1]
    assert names(weights) == set()


def test_cached_file_needs_no_requests(weights: Path) -> None:
    weights.mkdir()
    (weights / FILE).write_bytes(PAYLOAD)
    output = run(f"import sys\n{FETCH}fetch('http://home/{FILE}')\nprint(*{{'requests', 'pooch'}} & set(sys.modules))")
    assert output.stdout == f"{weights / FILE}\n\n", output.stderr
