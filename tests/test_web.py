"""Images from URLs, against a real server whose responses are correct, wrong, slow or missing."""

import gzip
import json
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from conftest import Run
from image_helpers import encoded
from odd_images import IMAGE, SCENE, SIDE

from resnet_cli.errors import ImageError
from resnet_cli.images import inputs, web
from resnet_cli.network.preprocessing import Decoding
from resnet_cli.system import http

CONTENT = encoded(IMAGE)


class Handler(BaseHTTPRequestHandler):
    """Responds to `/METHOD/ARGUMENT` with that method."""

    server: "Site"

    def do_GET(self) -> None:
        self.server.requests.append(self.path)
        method, *arguments = self.path[1:].split("/")
        getattr(self, method)(*arguments)

    def head(self, status: int = 200, **headers: object) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()

    def correct(self) -> None:
        self.head(Content_Length=len(CONTENT), Content_Type="image/png")
        self.wfile.write(CONTENT)

    def mislabelled(self) -> None:
        self.head(Content_Type="text/html; charset=utf-16")
        self.wfile.write(CONTENT)

    def compressed(self) -> None:
        self.head(Content_Encoding="gzip")
        self.wfile.write(gzip.compress(CONTENT))

    def compressed_badly(self) -> None:
        self.head(Content_Encoding="gzip")
        self.wfile.write(CONTENT)

    def compressed_bomb(self) -> None:
        self.head(Content_Encoding="gzip")
        self.wfile.write(gzip.compress(bytes(2 * web.MAX_BYTES), 1))

    def page(self) -> None:
        self.head(Content_Type="image/png")
        self.wfile.write(b"<!DOCTYPE html><title>Log in</title>")

    def status(self, status: str) -> None:
        self.head(int(status), Content_Type="image/png")
        self.wfile.write(CONTENT)

    def loop(self) -> None:
        self.head(302, Location="/loop")

    def hops(self, number: str) -> None:
        self.head(302, Location=f"/hops/{int(number) - 1}" if int(number) else "/correct")

    def away(self, scheme: str) -> None:
        self.head(302, Location=f"{scheme}:///etc/passwd")

    def incomplete(self) -> None:
        self.head(Content_Length=2 * len(CONTENT))
        self.wfile.write(CONTENT)

    def understated(self) -> None:
        self.head(Content_Length=len(CONTENT) // 2)
        self.wfile.write(CONTENT)

    def nonsense(self) -> None:
        self.head(Content_Length="many")
        self.wfile.write(CONTENT)

    def endless(self) -> None:
        self.head()
        while True:
            self.wfile.write(bytes(1 << 16))

    def stalled(self) -> None:
        self.head(Content_Length=len(CONTENT))
        self.wfile.write(CONTENT[:50])
        self.server.closing.wait(60)

    def silent(self) -> None:
        self.server.closing.wait(60)

    def drip(self) -> None:
        self.head(Content_Length=len(CONTENT))
        for byte in CONTENT:
            self.wfile.write(bytes([byte]))
            self.wfile.flush()
            self.server.closing.wait(0.1)

    def drip_headers(self) -> None:
        self.wfile.write(b"HTTP/1.0 200 OK\r\n")
        while not self.server.closing.wait(0.1):
            self.wfile.write(b"X: y\r\n")

    def not_http(self) -> None:
        self.wfile.write(b"\x00\x01 not HTTP\r\n\r\n")

    def log_message(self, *_: object) -> None:
        pass


class Site(ThreadingHTTPServer):
    """A server that records its requests."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.requests: list[str] = []
        self.closing = threading.Event()

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.server_port}/{path}"

    def handle_error(self, *_: object) -> None:
        """Do not print that a client closed the connection."""


@pytest.fixture(scope="module")
def server() -> Iterator[Site]:
    with Site() as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server
        server.closing.set()
        server.shutdown()


@pytest.fixture
def site(server: Site, monkeypatch: pytest.MonkeyPatch) -> Site:
    monkeypatch.delenv("RESNET_OFFLINE", raising=False)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    server.requests.clear()
    return server


def download_error(url: str) -> tuple[str, str]:
    with pytest.raises(ImageError) as caught:
        inputs.read_pixels(url, Decoding(SIDE))
    assert str(caught.value).isprintable()
    return caught.value.kind, str(caught.value)


@pytest.mark.parametrize("path", ["correct", "mislabelled", "compressed", "hops/4"])
def test_good_responses(site: Site, path: str) -> None:
    for url in (site.url(path), site.url(path).replace("http:", "HTTP:")):
        np.testing.assert_array_equal(inputs.read_pixels(url, Decoding(SIDE)), SCENE)


@pytest.mark.parametrize(
    ("path", "kind", "message"),
    [
        ("status/404", "download_failed", "the server returned HTTP 404"),
        ("status/500", "download_failed", "the server returned HTTP 500"),
        ("status/403", "download_failed", "the server returned HTTP 403"),
        ("loop", "download_failed", "redirects"),
        ("hops/5", "download_failed", "redirects"),
        ("away/file", "download_failed", "another scheme"),
        ("away/ftp", "download_failed", "another scheme"),
        ("incomplete", "download_failed", f"got {len(CONTENT)} of {2 * len(CONTENT)} bytes"),
        ("compressed_badly", "download_failed", "the compressed response is damaged"),
        ("not_http", "download_failed", "cannot connect to 127.0.0.1"),
        ("understated", "unreadable_image", "damaged"),
        ("page", "not_an_image", "<!DOCTYPE"),
        ("endless", "too_large", "at most 64 MiB"),
        ("compressed_bomb", "too_large", "at most 64 MiB"),
    ],
)
def test_bad_responses(site: Site, path: str, kind: str, message: str) -> None:
    received = download_error(site.url(path))
    assert received[0] == kind
    assert message in received[1]


def test_five_redirects_are_followed(site: Site) -> None:
    download_error(site.url("loop"))
    assert len(site.requests) == 1 + web.MAX_REDIRECTS


@pytest.mark.parametrize("path", ["stalled", "silent"])
def test_stalled_downloads_time_out(site: Site, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "STALL_SECONDS", 0.3)
    started = time.monotonic()
    assert download_error(site.url(path)) == ("download_failed", f"127.0.0.1:{site.server_port} timed out")
    assert time.monotonic() - started < 3


@pytest.mark.parametrize("path", ["drip", "drip_headers"])
def test_the_deadline_covers_the_entire_download(site: Site, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "DEADLINE_SECONDS", 1.0)
    started = time.monotonic()
    kind, message = download_error(site.url(path))
    assert (kind, "longer than 1 s" in message) == ("download_failed", True)
    assert time.monotonic() - started < 4


def test_no_server(site: Site) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        assert download_error(f"http://127.0.0.1:{taken.getsockname()[1]}/dog.png")[0] == "download_failed"


@pytest.mark.parametrize(
    "url",
    [
        "http://",
        "https://",
        "http:///dog.png",
        "http://[::/",
        "http://127.0.0.1:99999/x",
        "http://.../x",
        "http://a b/x",
        "http://me:secret@[::/x",
        "http://" + "a" * 300 + "/",
        "http://\ud800/x",
        "http://127.0.0.1:port/\x1b[31m",
    ],
)
def test_malformed_urls(url: str, site: Site) -> None:
    kind, message = download_error(url)
    assert kind == "download_failed"
    assert "secret" not in message


def test_passwords_are_not_shown(site: Site) -> None:
    for path in ("status/404", "incomplete", "loop"):
        _, message = download_error(site.url(path).replace("http://", "http://someone:secret@"))
        assert "secret" not in message


def test_offline_nothing_is_requested(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RESNET_OFFLINE", "1")
    kind, message = download_error(site.url("correct"))
    assert kind == "download_failed"
    assert "RESNET_OFFLINE" in message
    assert site.requests == []


def test_predict_downloads_urls(site: Site, resnet: Run) -> None:
    urls = [site.url("correct"), site.url("status/404")]
    result = resnet("predict", "--weights", "tiny", "--format", "json", *urls, RESNET_OFFLINE="")
    assert result.returncode == 1
    first, second = json.loads(result.stdout)
    assert [first["image"], second["image"]] == urls
    assert len(first["predictions"]) == 3
    assert second["error"]["kind"] == "download_failed"
