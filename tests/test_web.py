"""Images from addresses, against a real server that answers well, badly, slowly or not at all."""

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
from corpus import encoded
from odd_images import PICTURE, SCENE, SIDE

from resnet_cli import download, inputs
from resnet_cli.errors import ImageError
from resnet_cli.pretrained import Fit

CONTENT = encoded(PICTURE)
BOMB = gzip.compress(bytes(2 * download.MAX_BYTES), 1)


class Handler(BaseHTTPRequestHandler):
    """Answers `/MANNER` in that manner."""

    server: "Site"

    def do_GET(self) -> None:
        self.server.requests.append(self.path)
        manner, *rest = self.path[1:].split("/")
        getattr(self, manner)(*rest)

    def head(self, status: int = 200, **headers: object) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()

    def well(self) -> None:
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
        self.wfile.write(BOMB)

    def page(self) -> None:
        self.head(Content_Type="image/png")
        self.wfile.write(b"<!DOCTYPE html><title>Log in</title>")

    def answer(self, status: str) -> None:
        self.head(int(status), Content_Type="image/png")
        self.wfile.write(CONTENT)

    def loop(self) -> None:
        self.head(302, Location="/loop")

    def hops(self, number: str) -> None:
        self.head(302, Location=f"/hops/{int(number) - 1}" if int(number) else "/well")

    def away(self, scheme: str) -> None:
        self.head(302, Location=f"{scheme}:///etc/passwd")

    def short(self) -> None:
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

    def garbage(self) -> None:
        self.wfile.write(b"\x00\x01 no HTTP at all\r\n\r\n")

    def log_message(self, *_: object) -> None:
        pass


class Site(ThreadingHTTPServer):
    """A server that knows what was asked of it."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.requests: list[str] = []
        self.closing = threading.Event()

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.server_port}/{path}"

    def handle_error(self, *_: object) -> None:
        """A client that hangs up is no news."""


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.delenv("RESNET_OFFLINE", raising=False)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with Site() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.closing.set()
        server.shutdown()


def failure(address: str) -> tuple[str, str]:
    with pytest.raises(ImageError) as caught:
        inputs.decode(address, SIDE, Fit.CROP)
    assert str(caught.value).isprintable()
    return caught.value.kind, str(caught.value)


@pytest.mark.parametrize("manner", ["well", "mislabelled", "compressed", "hops/4"])
def test_good_answers(site: Site, manner: str) -> None:
    np.testing.assert_array_equal(inputs.decode(site.url(manner), SIDE, Fit.CROP), SCENE)
    np.testing.assert_array_equal(inputs.decode(site.url(manner).replace("http:", "HTTP:"), SIDE, Fit.CROP), SCENE)


@pytest.mark.parametrize(
    ("manner", "kind", "message"),
    [
        ("answer/404", "download_failed", "answered 404"),
        ("answer/500", "download_failed", "answered 500"),
        ("answer/403", "download_failed", "answered 403"),
        ("loop", "download_failed", "redirects"),
        ("hops/5", "download_failed", "redirects"),
        ("away/file", "download_failed", "another scheme"),
        ("away/ftp", "download_failed", "another scheme"),
        ("short", "download_failed", f"got {len(CONTENT)} of {2 * len(CONTENT)} bytes"),
        ("compressed_badly", "download_failed", "compression"),
        ("garbage", "download_failed", "connection"),
        ("understated", "unreadable_image", "damaged"),
        ("page", "not_an_image", "<!DOCTYPE"),
        ("endless", "too_large", "at most 64 MiB"),
        ("compressed_bomb", "too_large", "at most 64 MiB"),
    ],
)
def test_bad_answers(site: Site, manner: str, kind: str, message: str) -> None:
    received = failure(site.url(manner))
    assert received[0] == kind
    assert message in received[1]


def test_five_redirects_are_followed(site: Site) -> None:
    failure(site.url("loop"))
    assert len(site.requests) == 1 + download.MAX_REDIRECTS


@pytest.mark.parametrize("manner", ["stalled", "silent"])
def test_a_stall_ends_it(site: Site, manner: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "STALL_SECONDS", 0.3)
    started = time.monotonic()
    assert failure(site.url(manner)) == ("download_failed", f"127.0.0.1:{site.server_port} timed out")
    assert time.monotonic() - started < 3


@pytest.mark.parametrize("manner", ["drip", "drip_headers"])
def test_the_deadline_holds_for_all_of_it(site: Site, manner: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "DEADLINE_SECONDS", 1.0)
    started = time.monotonic()
    kind, message = failure(site.url(manner))
    assert (kind, "longer than 1 s" in message) == ("download_failed", True)
    assert time.monotonic() - started < 4


def test_nobody_listens(site: Site) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        assert failure(f"http://127.0.0.1:{taken.getsockname()[1]}/dog.png")[0] == "download_failed"


@pytest.mark.parametrize(
    "address",
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
def test_malformed_addresses(address: str, site: Site) -> None:
    kind, message = failure(address)
    assert kind == "download_failed"
    assert "secret" not in message


def test_passwords_are_not_shown(site: Site) -> None:
    for manner in ("answer/404", "short", "loop"):
        _, message = failure(site.url(manner).replace("http://", "http://someone:secret@"))
        assert "secret" not in message


def test_offline_nothing_is_asked(site: Site, resnet: Run) -> None:
    result = resnet("predict", "--weights", "tiny", "--format", "json", site.url("well"))
    (record,) = json.loads(result.stdout)
    assert result.returncode == 1
    assert record["error"]["kind"] == "download_failed"
    assert "RESNET_OFFLINE" in record["error"]["message"]
    assert site.requests == []


def test_the_command_takes_addresses(site: Site, resnet: Run) -> None:
    addresses = [site.url("well"), site.url("answer/404")]
    result = resnet("predict", "--weights", "tiny", "--format", "json", *addresses, RESNET_OFFLINE="")
    first, second = json.loads(result.stdout)
    assert [first["image"], second["image"]] == addresses
    assert len(first["predictions"]) == 3
    assert second["error"]["kind"] == "download_failed"
