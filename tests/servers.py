"""Servers on this machine that respond properly, wrongly, slowly or not at all, and what tests of downloads share."""

import hashlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from resnet_cli.errors import ModelError
from resnet_cli.system.progress import SILENT, Progress
from resnet_cli.weights import download
from resnet_cli.weights.published import Pretrained

PAYLOAD = bytes(range(256)) * 400
LONG = 30.0  # seconds that no test waits
IMPATIENT = 0.6  # seconds in place of both timeouts of a download
PAUSE = 0.09  # seconds between the 16 parts of a slow response, in all longer than both timeouts
COMMIT = "5d9e13b8fdab4d9718bcf2c8f5c3af01878367e8"


class Handler(BaseHTTPRequestHandler):
    """Responds to `/BEHAVIOUR/FILE` with that behaviour, whatever the file."""

    server: "Site"

    def do_GET(self) -> None:
        behaviour = self.path.split("/")[1]
        self.server.requests.append(behaviour)
        getattr(self, behaviour)()

    def first(self) -> bool:
        """Return whether this is the first request of its kind."""
        return self.server.requests.count(self.server.requests[-1]) == 1

    def head(self, status: int = 200, length: int | None = None, **headers: str) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(self.server.payload) if length is None else length))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()

    def ok(self) -> None:
        self.head()
        self.wfile.write(self.server.payload)

    def slow(self) -> None:
        self.head()
        self.write_slowly()

    def write_slowly(self) -> None:
        step = len(self.server.payload) // 16
        for start in range(0, len(self.server.payload), step):
            self.wfile.write(self.server.payload[start : start + step])
            time.sleep(PAUSE)

    def truncated(self) -> None:
        self.head()
        self.wfile.write(self.server.payload[:20_000])

    def truncated_once(self) -> None:
        self.truncated() if self.first() else self.ok()

    def corrupted(self) -> None:
        self.head()
        self.wfile.write(self.server.payload[::-1])

    def corrupted_once(self) -> None:
        self.corrupted() if self.first() else self.ok()

    def missing(self) -> None:
        self.head(404, 0)

    def broken(self) -> None:
        self.head(500, 0)

    def broken_late(self) -> None:
        self.server.closing.wait(IMPATIENT * 0.7)
        self.broken()

    def recovering(self) -> None:
        self.broken() if self.first() else self.ok()

    def resetting(self) -> None:
        if not self.first():
            self.ok()

    def redirected(self) -> None:
        self.head(302, 0, Location="/ok/weights")

    def redirected_to_silence(self) -> None:
        self.head(302, 0, Location="/silent/weights")

    def silent(self) -> None:
        self.server.closing.wait(LONG)

    def stuck(self) -> None:
        self.head()
        self.wfile.write(self.server.payload[: len(self.server.payload) // 2])
        self.silent()

    def log_message(self, *_: object) -> None:
        """Print nothing."""


class HubHandler(Handler):
    """Responds to `/BEHAVIOUR/OWNER/NAME/resolve/main/FILE` like a Hugging Face Hub, as far as its library needs it."""

    server: "Site"

    def respond(self) -> None:
        behaviour = self.path.split("/")[1]
        self.server.requests.append(f"{self.command} {behaviour}")
        getattr(self, behaviour)()

    do_HEAD = do_GET = respond  # noqa: N815 - names of the standard library

    def describe(self, status: int = 200, **changed: str) -> None:
        headers = {"X_Repo_Commit": COMMIT, "ETag": f'"{sha256(self.server.payload)}"'}
        self.head(status, **headers | changed)

    def content(self, payload: bytes | None = None) -> None:
        """Describe the file, and send it from where the `Range` header starts."""
        payload = self.server.payload if payload is None else payload
        start = int(self.headers.get("Range", "bytes=0-")[6:].rstrip("-"))
        if self.command == "HEAD" or not start:
            self.describe()
        else:
            size = len(payload)
            self.head(206, size - start, Content_Range=f"bytes {start}-{size - 1}/{size}")
        if self.command == "GET":
            self.wfile.write(payload[start:])

    def ok(self) -> None:
        self.content()

    def redirected(self) -> None:
        """Redirect to another host, as the Hub does."""
        linked, size = sha256(self.server.payload), len(self.server.payload)
        location = f"http://localhost:{self.server.server_port}/ok"
        self.describe(302, ETag='"a"', X_Linked_Etag=f'"{linked}"', X_Linked_Size=str(size), Location=location)

    def slow(self) -> None:
        self.describe()
        if self.command == "GET":
            self.write_slowly()

    def interrupted(self) -> None:
        if self.command == "GET" and self.first():
            self.describe()
            self.wfile.write(self.server.payload[: len(self.server.payload) // 2])
        else:
            self.content()

    def recovering(self) -> None:
        self.broken() if self.command == "HEAD" and self.first() else self.content()

    def truncated(self) -> None:
        self.describe()
        if self.command == "GET":
            self.wfile.write(self.server.payload[:-1000])

    def corrupted(self) -> None:
        self.content(self.server.payload[::-1])

    def corrupted_once(self) -> None:
        self.content(self.server.payload[::-1] if self.first() else None)

    def stuck(self) -> None:
        self.describe()
        if self.command == "GET":
            self.wfile.write(self.server.payload[: len(self.server.payload) // 2])
            self.silent()

    def metadata_only(self) -> None:
        self.describe() if self.command == "HEAD" else self.silent()

    def without_hash(self) -> None:
        self.describe(ETag=f'"{"5" * 40}"')

    def portal(self) -> None:
        page = b"<!DOCTYPE html><title>Log in</title>"
        self.head(200, len(page))
        if self.command == "GET":
            self.wfile.write(page)

    def without_commit(self) -> None:
        self.head(200, 0, ETag=f'"{"5" * 64}"')


class Site(ThreadingHTTPServer):
    """Serves one file, and records the behaviour that each request named."""

    block_on_close = False  # a silent request outlives the client that gave up
    request_queue_size = 32

    def __init__(self, payload: bytes, handler: type[Handler]) -> None:
        super().__init__(("127.0.0.1", 0), handler)
        self.payload = payload
        self.requests: list[str] = []
        self.closing = threading.Event()

    def url(self, behaviour: str) -> str:
        return f"http://127.0.0.1:{self.server_port}/{behaviour}"


@contextmanager
def serve(payload: bytes = PAYLOAD, handler: type[Handler] = Handler) -> Iterator[Site]:
    """Start a server, and stop it in the end."""
    with Site(payload, handler) as site:
        threading.Thread(target=site.serve_forever, args=(0.01,), daemon=True).start()
        yield site
        site.closing.set()
        site.shutdown()


@cache
def sha256(payload: bytes) -> str:
    return hashlib.sha256(payload).hexdigest()


def use_hub(monkeypatch: pytest.MonkeyPatch, *, cache: Path | None = None, url: str | None = None) -> None:
    """Set the Hub's cache folder and URL in this process; `HF_HOME` and `HF_ENDPOINT` count only when it starts."""
    from huggingface_hub import constants

    if cache:
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    if url:
        monkeypatch.setattr(constants, "ENDPOINT", url)
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", f"{url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        )


class Recorder(Progress):
    """Records the progress of a download."""

    def __init__(self) -> None:
        self.calls: list[tuple[int, int | None]] = []

    def download(self, done: int, total: int | None) -> None:
        self.calls.append((done, total))


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def failure(row: Pretrained, *, retry: bool = False) -> str:
    """Fetch weights that are unavailable, and return the error message."""
    with pytest.raises(ModelError) as caught:
        download.fetch(row, SILENT, retry=retry)
    assert caught.value.exit_code == 3
    assert len(str(caught.value).splitlines()) <= 3
    return str(caught.value)


@contextmanager
def dead_network(monkeypatch: pytest.MonkeyPatch, site: Site) -> Iterator[tuple[str, ...]]:
    """Yield the names of hosts that do not work; all other names ending with `.test` lead to the site."""
    resolve, closing = socket.getaddrinfo, threading.Event()
    with socket.socket() as full, socket.socket() as client:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        client.connect(full.getsockname())  # fills the queue: no other client can connect, as behind a firewall
        port = full.getsockname()[1]

        def addresses(port: int) -> list[Any]:
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]

        hosts: dict[str, Callable[[], list[Any]]] = {
            "address.test": lambda: addresses(port),
            "addresses.test": lambda: addresses(port) * 20,
            "resolver.test": lambda: [closing.wait(LONG)] * 0,
        }

        def getaddrinfo(host: Any, *arguments: Any, **options: Any) -> list[Any]:
            name = host.decode() if isinstance(host, bytes) else host
            if name in hosts:
                return hosts[name]()
            return addresses(site.server_port) if name.endswith(".test") else resolve(host, *arguments, **options)

        monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
        yield tuple(hosts)
        closing.set()
