"""Weights of the Hugging Face hub against a hub on this machine that answers well, badly, slowly or not at all."""

import hashlib
import json
import os
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hubs import COMMIT, Hub, running
from huggingface_hub import constants, get_session, hf_hub_download
from test_cache import LONG, PAYLOAD, Bar, names, run

from resnet_cli import cache
from resnet_cli.errors import ModelError
from resnet_cli.pretrained import PRETRAINED

ROW = PRETRAINED["resnet18.tv_in1k"]
SHA256 = hashlib.sha256(PAYLOAD).hexdigest()
PART = "timm/resnet18.tv_in1k/resolve/main/model.safetensors"

Use = Callable[[str], None]


@pytest.fixture
def site() -> Iterator[Hub]:
    with running(PAYLOAD) as hub:
        yield hub


@pytest.fixture(autouse=True)
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of our own, of which the folder of weights is returned, and one of the hub."""
    monkeypatch.setenv("RESNET_CACHE_DIR", str(tmp_path / "ours"))
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.delenv("RESNET_OFFLINE", raising=False)
    monkeypatch.delenv("RESNET_WEIGHTS_MIRROR", raising=False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "ours" / "weights"


@pytest.fixture
def use(site: Hub, monkeypatch: pytest.MonkeyPatch) -> Use:
    """Set the hub's endpoint: `use("slow")`; a process that starts would read `HF_ENDPOINT`."""

    def set_endpoint(manner: str) -> None:
        monkeypatch.setattr(constants, "ENDPOINT", site.mirror(manner))
        template = site.mirror(manner) + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)

    return set_endpoint


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    get_session()  # it takes a moment to make, once
    monkeypatch.setattr(cache, "ANSWER_SECONDS", 1.0)
    monkeypatch.setattr(cache, "STALL_SECONDS", 1.0)


@pytest.fixture
def blob(tmp_path: Path) -> Path:
    """Where the hub's cache has the content."""
    return tmp_path / "hub" / "models--timm--resnet18.tv_in1k" / "blobs" / SHA256


def failure(**options: bool) -> str:
    """Fetch in vain and return the message."""
    with pytest.raises(ModelError) as caught:
        cache.fetch(ROW, **options)
    assert len(str(caught.value).splitlines()) <= 3
    return str(caught.value)


@pytest.mark.parametrize(
    ("manner", "requests"),
    [
        ("well", ["HEAD well"] * 2 + ["GET mirror"]),
        ("mirror", ["HEAD mirror"] * 2 + ["GET mirror"]),
        ("interrupted", ["HEAD interrupted"] * 2 + ["GET interrupted"] * 2),
        ("recovering", ["HEAD recovering"] * 3 + ["GET recovering"]),
        ("lying_once", (["HEAD lying_once"] * 2 + ["GET lying_once"]) * 2),
    ],
)
def test_download(
    manner: str, requests: list[str], use: Use, site: Hub, weights: Path, blob: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    use(manner)
    file = cache.fetch(ROW)
    assert file.read_bytes() == PAYLOAD
    assert file == blob.parents[1] / "snapshots" / COMMIT / "model.safetensors", "other tools find it"
    assert file.resolve() == blob
    assert site.requests == requests
    assert names(weights) == {"resnet18.tv_in1k.json"}
    assert cache.fetch(ROW) == file
    assert site.requests == requests, "the second time it comes from the cache"
    assert capfd.readouterr() == ("", "")


def test_slow_hub_is_waited_for(use: Use, impatient: None) -> None:
    use("slow")
    started = time.monotonic()
    assert cache.fetch(ROW).read_bytes() == PAYLOAD
    assert time.monotonic() - started > cache.ANSWER_SECONDS + cache.STALL_SECONDS


def test_two_at_once(use: Use, site: Hub, impatient: None) -> None:
    """The second waits for the first, however long that takes."""
    use("slow")
    with ThreadPoolExecutor() as pool:
        files = [pool.submit(cache.fetch, ROW) for _ in range(2)]
    assert [file.result().read_bytes() == PAYLOAD for file in files] == [True, True]
    assert site.requests.count("GET slow") == 1


@pytest.mark.parametrize(
    ("manner", "requests", "reason"),
    [
        ("missing", 1, "the server answered 404"),
        ("broken", 2, "the server answered 500"),
        ("short", 8, f"cut short: got 98304 of {len(PAYLOAD)} bytes"),
        ("lying", 6, f"expected sha256:{SHA256} but got {hashlib.sha256(PAYLOAD[::-1]).hexdigest()}"),
        ("nameless", 1, "names no SHA-256 of the file, as a Hugging Face hub's does"),
        ("portal", 1, "names no SHA-256 of the file, as a Hugging Face hub's does"),
        ("uncommitted", 2, "127.0.0.1:PORT does not answer as a Hugging Face hub"),
    ],
)
def test_failure(
    manner: str,
    requests: int,
    reason: str,
    use: Use,
    site: Hub,
    weights: Path,
    blob: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    use(manner)
    first, advice = failure().splitlines()
    assert first.startswith(f"cannot download {site.mirror(manner)}/{PART}: ")
    assert first.endswith(reason.replace("PORT", str(site.server_port)))
    hints = (str(weights / ROW.file), ROW.url, "HF_ENDPOINT", "RESNET_WEIGHTS_MIRROR", "resnet weights install")
    assert all(hint in advice for hint in hints)
    assert len(site.requests) == requests
    assert names(weights) == {f"{ROW.file}.failed"}
    assert not blob.parent.exists() or names(blob.parent) == set()
    assert not list(blob.parents[1].glob("snapshots/*/*"))
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("manner", ["silent", "described_only", "stuck"])
def test_no_answer(manner: str, use: Use, site: Hub, impatient: None) -> None:
    use(manner)
    assert failure().splitlines()[0].endswith(f"127.0.0.1:{site.server_port} timed out")
    assert site.requests[-1] == f"{'HEAD' if manner == 'silent' else 'GET'} {manner}"


def test_closed_port(site: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        closed = f"127.0.0.1:{unused.getsockname()[1]}"
    template = f"http://someone:secret@{closed}/{{repo_id}}/{{revision}}/{{filename}}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    message = failure()
    assert f"no connection to {closed} (Connection refused)" in message
    assert "secret" not in message


def test_failure_is_remembered(use: Use, site: Hub) -> None:
    use("missing")
    first = failure()
    again = failure()
    assert "not tried again before" in again.splitlines()[1]
    assert "`resnet weights download resnet18.tv_in1k`" in again
    assert first.splitlines() == [again.splitlines()[0], again.splitlines()[2]]
    assert len(site.requests) == 1
    failure(retry=True)
    assert len(site.requests) == 2
    use("well")
    cache.fetch(ROW)
    assert len(site.requests) == 5, "another endpoint is asked at once"


def test_progress(use: Use) -> None:
    use("interrupted")
    bar = Bar()
    cache.fetch(ROW, bar)
    assert (bar.total, bar.done) == (len(PAYLOAD), len(PAYLOAD))
    assert bar.calls[0] == "reset"
    assert bar.calls.count("update") > 4
    assert bar.calls[-1] == "close"


@pytest.mark.parametrize("setting", ["RESNET_OFFLINE", "HF_HUB_OFFLINE"])
def test_offline(setting: str, use: Use, site: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use("well")
    with monkeypatch.context() as offline:
        offline.setenv("RESNET_OFFLINE", "1" if setting == "RESNET_OFFLINE" else "0")
        offline.setattr(constants, "HF_HUB_OFFLINE", setting == "HF_HUB_OFFLINE")
        assert f"{setting} is set" in failure(retry=True)
        assert site.requests == []
        assert names(tmp_path) == set(), "nothing was tried and nothing is remembered"
    file = cache.fetch(ROW)
    monkeypatch.setenv("RESNET_OFFLINE", "1")
    assert cache.fetch(ROW) == file


@pytest.mark.parametrize("links", [True, False])
def test_file_of_another_tool(links: bool, use: Use, site: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there are no links the cache does not tell the hash; so the hub is asked for it, but not for the file."""
    use("mirror")
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_SYMLINKS", not links)
    theirs = Path(hf_hub_download(ROW.repository, "model.safetensors"))
    assert theirs.is_symlink() == links
    site.requests.clear()
    monkeypatch.setenv("RESNET_OFFLINE", "1" if links else "0")
    assert cache.fetch(ROW) == theirs
    assert site.requests == ([] if links else ["HEAD mirror"] * 2)
    monkeypatch.setenv("RESNET_OFFLINE", "1")
    assert cache.fetch(ROW) == theirs, "the hash is remembered"


@pytest.mark.parametrize("links", [True, False])
@pytest.mark.parametrize("known", [True, False], ids=["known", "unknown"])
def test_damaged_file(links: bool, known: bool, use: Use, weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use("mirror")
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_SYMLINKS", not links)
    file = cache.fetch(ROW)
    file.write_bytes(b"?" + PAYLOAD[1:])
    if not known:
        (weights / "resnet18.tv_in1k.json").unlink()
    monkeypatch.setenv("RESNET_OFFLINE", "1")
    assert (f"{file} is damaged" in failure()) == (links or known)
    monkeypatch.delenv("RESNET_OFFLINE")
    assert cache.fetch(ROW).read_bytes() == PAYLOAD


def test_nonsense_in_the_caches(use: Use, weights: Path, blob: Path) -> None:
    """A note that cannot be understood is made anew; a reference that cannot is an error, as the library makes it."""
    use("mirror")
    weights.mkdir(parents=True)
    for note in (b"\xff", b"[]", b'{"path": 1, "sha256": 2}', b'{"path": "a", "sha256": "b"}'):
        (weights / "resnet18.tv_in1k.json").write_bytes(note)
        assert cache.fetch(ROW).read_bytes() == PAYLOAD
    (weights / "resnet18.tv_in1k.json").unlink()
    (blob.parents[1] / "refs/main").write_bytes(b"\xff")
    assert "huggingface_hub failed (" in failure()


def test_unfinished_files_of_killed_downloads_go(use: Use, blob: Path) -> None:
    use("mirror")
    blob.parent.mkdir(parents=True)
    killed, running = (blob.with_name(f"{blob.name}.{number}.incomplete") for number in "12")
    for file in (killed, running):
        file.write_bytes(PAYLOAD[:9])
    os.utime(killed, (0, time.time() - 2 * 3600))
    cache.fetch(ROW)
    assert names(blob.parent) == {blob.name, running.name}


def test_folder_that_cannot_be_made(use: Use, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use("mirror")
    (tmp_path / "file").touch()
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "file/hub"))
    assert f"cannot write to the cache folder {tmp_path / 'file/hub'}: Not a directory\nset HF_HOME" in failure()


@pytest.fixture
def safetensors(site: Hub) -> bytes:
    """Serve a small whole file."""
    header = json.dumps({"a": {"dtype": "U8", "shape": [4], "data_offsets": [0, 4]}}).encode()
    site.payload = len(header).to_bytes(8, "little") + header + b"abcd"
    return site.payload


def test_mirror(safetensors: bytes, site: Hub, weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It gives no hash: what it gave is kept by its own one."""
    monkeypatch.setenv("RESNET_WEIGHTS_MIRROR", site.mirror("mirror"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    file = cache.fetch(ROW)
    assert file == weights / ROW.file
    assert file.read_bytes() == safetensors
    assert site.requests == ["GET mirror"]
    assert names(weights) == {ROW.file, "resnet18.tv_in1k.json"}
    file.write_bytes(safetensors[:-1] + b"?")
    assert cache.fetch(ROW).read_bytes() == safetensors
    assert len(site.requests) == 2


@pytest.mark.parametrize("manner", ["portal", "short"])
def test_mirror_without_the_file(
    manner: str, safetensors: bytes, site: Hub, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.payload += bytes(2000)
    monkeypatch.setenv("RESNET_WEIGHTS_MIRROR", site.mirror(manner))
    message = failure()
    assert f"{site.mirror(manner)}/{ROW.file}: " in message
    assert {"portal": "expected a whole safetensors file", "short": "cut short"}[manner] in message
    assert names(weights) == {f"{ROW.file}.failed"}


def test_file_put_by_hand(safetensors: bytes, weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RESNET_OFFLINE", "1")
    weights.mkdir(parents=True)
    (weights / ROW.file).write_bytes(safetensors[:-1])
    assert f"{weights / ROW.file} is damaged" in failure(), "half of it has been copied"
    (weights / ROW.file).write_bytes(safetensors)
    assert cache.fetch(ROW) == weights / ROW.file
    (weights / ROW.file).write_bytes(safetensors[:-1] + b"?")
    assert f"{weights / ROW.file} is damaged" in failure(), "its hash was noted"


def test_dead_hub_ends_within_ten_seconds(site: Hub, tmp_path: Path) -> None:
    """The wait does, retries and threads that were given up included; imports are left a second."""
    script = """
import os, tempfile, time
os.environ["HF_ENDPOINT"] = ENDPOINT
os.environ["HF_HOME"] = os.environ["RESNET_CACHE_DIR"] = tempfile.mkdtemp(dir=FOLDER)
import huggingface_hub.file_download
from resnet_cli import cache, errors, pretrained
started = time.monotonic()
try:
    cache.fetch(pretrained.PRETRAINED["resnet18.tv_in1k"])
except errors.ModelError as error:
    print(str(error).splitlines()[0])
    print(time.monotonic() - started)
"""
    with socket.socket() as full, socket.socket() as client:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        client.connect(full.getsockname())  # fills the queue: from now on nobody is let in, as behind a firewall
        dead = f"http://127.0.0.1:{full.getsockname()[1]}"
        resolver = f"import socket, threading\nsocket.getaddrinfo = lambda *_, **__: threading.Event().wait({LONG})\n"
        scripts = {
            site.mirror("silent"): "",
            site.mirror("stuck"): "",
            site.mirror("described_only"): "",
            dead: "",
            "http://a.b": resolver,
        }
        with ThreadPoolExecutor() as pool:
            values = f"FOLDER = {str(tmp_path)!r}\nENDPOINT ="
            sources = [f"{values} {endpoint!r}\n{patch}{script}" for endpoint, patch in scripts.items()]
            for endpoint, result in zip(scripts, pool.map(run, sources), strict=True):
                first, seconds = result.stdout.splitlines()
                assert first.endswith("timed out"), endpoint
                assert float(seconds) < 9, endpoint


def test_known_file_needs_neither_hub_nor_requests(use: Use, weights: Path) -> None:
    """They take half a second to import."""
    use("mirror")
    file = cache.fetch(ROW)
    output = run(
        "import sys\nfrom resnet_cli import cache, pretrained\n"
        "print(cache.fetch(pretrained.PRETRAINED['resnet18.tv_in1k']))\n"
        "print(*{'huggingface_hub', 'requests', 'pooch', 'httpx2', 'numpy'} & set(sys.modules))"
    )
    assert output.stdout == f"{file}\n\n", output.stderr
