"""A Hugging Face hub on this machine, of as much as huggingface_hub asks, in good and in bad manners."""

import hashlib
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file
from test_cache import Handler, Site

from resnet_cli import names, synthetic
from resnet_cli.graph import Graph

COMMIT = "5d9e13b8fdab4d9718bcf2c8f5c3af01878367e8"


@cache
def sha256(payload: bytes) -> str:
    return hashlib.sha256(payload).hexdigest()


class HubHandler(Handler):
    """Answers `/MANNER/OWNER/NAME/resolve/main/FILE`, and `/MANNER/FILE` as a mirror, in that manner."""

    server: "Hub"

    def answer(self) -> None:
        manner = self.path.split("/")[1]
        self.server.requests.append(f"{self.command} {manner}")
        getattr(self, manner)()

    do_HEAD = do_GET = answer  # noqa: N815 - names of the standard library

    def first(self) -> bool:
        """Tell whether nobody has asked for this before."""
        return self.server.requests.count(self.server.requests[-1]) == 1

    def describe(self, status: int = 200, **changed: str) -> None:
        payload = self.server.payload
        described = {"X_Repo_Commit": COMMIT, "ETag": f'"{sha256(payload)}"'} | changed
        self.head(status, len(payload), **{name.replace("_", "-"): value for name, value in described.items()})

    def content(self, payload: bytes | None = None) -> None:
        """Describe the file, and send it, or what `Range` asks of it."""
        payload = self.server.payload if payload is None else payload
        start = int(self.headers.get("Range", "bytes=0-")[6:].rstrip("-"))
        if self.command == "HEAD" or not start:
            self.describe()
        else:
            self.head(
                206, len(payload) - start, **{"Content-Range": f"bytes {start}-{len(payload) - 1}/{len(payload)}"}
            )
        if self.command == "GET":
            self.wfile.write(payload[start:])

    def well(self) -> None:
        """Send the client to another host, as the hub does."""
        linked = sha256(self.server.payload)
        away = f"http://localhost:{self.server.server_port}/mirror"
        size = str(len(self.server.payload))
        self.describe(302, ETag='"a"', X_Linked_Etag=f'"{linked}"', X_Linked_Size=size, Location=away)

    def mirror(self) -> None:
        self.content()

    def slow(self) -> None:
        self.describe()
        step = len(self.server.payload) // 16 + 1
        for start in range(0, len(self.server.payload), step) if self.command == "GET" else ():
            self.wfile.write(self.server.payload[start : start + step])
            time.sleep(0.15)

    def interrupted(self) -> None:
        if self.command == "GET" and self.first():
            self.describe()
            self.wfile.write(self.server.payload[: len(self.server.payload) // 2])
        else:
            self.content()

    def recovering(self) -> None:
        self.broken() if self.command == "HEAD" and self.first() else self.content()

    def short(self) -> None:
        self.describe()
        if self.command == "GET":
            self.wfile.write(self.server.payload[:-1000])

    def lying(self) -> None:
        self.content(self.server.payload[::-1])

    def lying_once(self) -> None:
        self.content(self.server.payload[::-1] if self.first() else None)

    def stuck(self) -> None:
        self.describe()
        if self.command == "GET":
            self.wfile.write(self.server.payload[: len(self.server.payload) // 2])
            self.silent()

    def described_only(self) -> None:
        self.describe() if self.command == "HEAD" else self.silent()

    def nameless(self) -> None:
        self.describe(ETag=f'"{"5" * 40}"')

    def portal(self) -> None:
        page = b"<!DOCTYPE html><title>Log in</title>"
        self.head(200, len(page))
        if self.command == "GET":
            self.wfile.write(page)

    def uncommitted(self) -> None:
        self.head(200, 0, ETag=f'"{"5" * 64}"')


class Hub(Site):
    """Serves one file, whatever the repository."""

    def __init__(self, payload: bytes) -> None:
        super().__init__()
        self.RequestHandlerClass = HubHandler
        self.payload = payload


@contextmanager
def running(payload: bytes) -> Iterator[Hub]:
    """Start a hub and stop it."""
    with Hub(payload) as hub:
        threading.Thread(target=hub.serve_forever, args=(0.01,), daemon=True).start()
        yield hub
        hub.closing.set()
        hub.shutdown()


def write_torch(path: Path, network: Graph) -> Path:
    """Write a network's random parameters as PyTorch names and orders them."""
    orders = {1: (0,), 2: (1, 0), 4: (3, 2, 0, 1)}
    arrays = synthetic.parameters(network)
    theirs = {
        name: np.ascontiguousarray(arrays[ours].transpose(orders[arrays[ours].ndim]))
        for ours, name in names.torch(network).items()
    }
    save_file(theirs, path)
    return path
