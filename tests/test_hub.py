"""Downloads of weights from a Hugging Face Hub that responds properly, wrongly, slowly or not at all."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from huggingface_hub import constants, get_session, hf_hub_download
from servers import (
    COMMIT,
    IMPATIENT,
    PAYLOAD,
    HubHandler,
    Recorder,
    Site,
    dead_network,
    failure,
    names,
    serve,
    sha256,
    use_hub,
)

from resnet_cli.system import http
from resnet_cli.weights import download
from resnet_cli.weights.published import PRETRAINED

ROW = PRETRAINED["resnet18.tv_in1k"]
SHA256 = sha256(PAYLOAD)
PART = "timm/resnet18.tv_in1k/resolve/main/model.safetensors"

Use = Callable[[str], None]


@pytest.fixture
def site() -> Iterator[Site]:
    with serve(PAYLOAD, HubHandler) as site:
        yield site


@pytest.fixture(autouse=True)
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The weights folder of an empty cache of our own, next to an empty cache of the Hub."""
    monkeypatch.setenv("RESNET_CACHE_DIR", str(tmp_path / "ours"))
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.delenv("RESNET_OFFLINE", raising=False)
    monkeypatch.delenv("RESNET_WEIGHTS_MIRROR", raising=False)
    use_hub(monkeypatch, cache=tmp_path / "hub")
    return tmp_path / "ours" / "weights"


@pytest.fixture
def use(site: Site, monkeypatch: pytest.MonkeyPatch) -> Use:
    """Set the Hub: `use("slow")`."""
    return lambda behaviour: use_hub(monkeypatch, url=site.url(behaviour))


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    get_session()  # is slow the first time
    monkeypatch.setattr(download, "RESPONSE_SECONDS", IMPATIENT)
    monkeypatch.setattr(http, "STALL_SECONDS", IMPATIENT)


@pytest.fixture
def blob(tmp_path: Path) -> Path:
    """The path of the content in the Hub's cache."""
    return tmp_path / "hub" / "models--timm--resnet18.tv_in1k" / "blobs" / SHA256


@pytest.mark.parametrize(
    ("behaviour", "requests"),
    [
        ("redirected", ["HEAD redirected"] * 2 + ["GET ok"]),
        ("ok", ["HEAD ok"] * 2 + ["GET ok"]),
        ("interrupted", ["HEAD interrupted"] * 2 + ["GET interrupted"] * 2),
        ("recovering", ["HEAD recovering"] * 3 + ["GET recovering"]),
        ("corrupted_once", (["HEAD corrupted_once"] * 2 + ["GET corrupted_once"]) * 2),
    ],
)
def test_download(
    behaviour: str,
    requests: list[str],
    use: Use,
    site: Site,
    weights: Path,
    blob: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    use(behaviour)
    file = download.fetch(ROW)
    assert file.read_bytes() == PAYLOAD
    assert file == blob.parents[1] / "snapshots" / COMMIT / "model.safetensors", "other tools find it"
    assert file.resolve() == blob
    assert site.requests == requests
    assert names(weights) == {"resnet18.tv_in1k.json"}
    assert download.fetch(ROW) == file
    assert site.requests == requests, "the second time it comes from the cache"
    assert capfd.readouterr() == ("", "")


def test_slow_response_is_no_timeout(use: Use, impatient: None) -> None:
    use("slow")
    started = time.monotonic()
    assert download.fetch(ROW).read_bytes() == PAYLOAD
    assert time.monotonic() - started > download.RESPONSE_SECONDS + http.STALL_SECONDS


def test_two_at_once(use: Use, site: Site, impatient: None) -> None:
    """The second waits for the first as long as that progresses."""
    use("slow")
    with ThreadPoolExecutor() as pool:
        files = [pool.submit(download.fetch, ROW) for _ in range(2)]
    assert [file.result().read_bytes() == PAYLOAD for file in files] == [True, True]
    assert site.requests.count("GET slow") == 1


@pytest.mark.parametrize(
    ("behaviour", "requests", "reason"),
    [
        ("missing", 1, "the server returned HTTP 404"),
        ("broken", 2, "the server returned HTTP 500"),
        ("truncated", 8, f"incomplete: got 98304 of {len(PAYLOAD)} bytes"),
        ("corrupted", 6, f"expected sha256:{SHA256}, got {sha256(PAYLOAD[::-1])}"),
        ("without_hash", 1, "the response has no SHA-256 for the file, unlike a Hugging Face Hub's"),
        ("portal", 1, "the response has no SHA-256 for the file, unlike a Hugging Face Hub's"),
        ("without_commit", 2, "127.0.0.1:PORT does not respond like a Hugging Face Hub"),
    ],
)
def test_failure(
    behaviour: str,
    requests: int,
    reason: str,
    use: Use,
    site: Site,
    weights: Path,
    blob: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    use(behaviour)
    first, advice = failure(ROW).splitlines()
    assert first.startswith(f"cannot download {site.url(behaviour)}/{PART}: ")
    assert first.endswith(reason.replace("PORT", str(site.server_port)))
    hints = (str(weights / ROW.file), ROW.url, "HF_ENDPOINT", "RESNET_WEIGHTS_MIRROR", "resnet weights install")
    assert all(hint in advice for hint in hints)
    assert len(site.requests) == requests
    assert names(weights) == {f"{ROW.file}.failed"}
    assert not blob.parent.exists() or names(blob.parent) == set()
    assert not list(blob.parents[1].glob("snapshots/*/*"))
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("behaviour", ["silent", "metadata_only", "stuck"])
def test_no_response(behaviour: str, use: Use, site: Site, impatient: None) -> None:
    use(behaviour)
    assert failure(ROW).splitlines()[0].endswith(f"127.0.0.1:{site.server_port} timed out")
    assert site.requests[-1] == f"{'HEAD' if behaviour == 'silent' else 'GET'} {behaviour}"


def test_closed_port(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        closed = f"127.0.0.1:{unused.getsockname()[1]}"
    template = f"http://someone:secret@{closed}/{{repo_id}}/{{revision}}/{{filename}}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    message = failure(ROW)
    assert f"cannot connect to {closed} (Connection refused)" in message
    assert "secret" not in message


def test_failure_is_not_retried_at_once(use: Use, site: Site) -> None:
    use("missing")
    first = failure(ROW)
    again = failure(ROW)
    assert "Not retried before" in again.splitlines()[1]
    assert "`resnet weights download resnet18.tv_in1k`" in again
    assert first.splitlines() == [again.splitlines()[0], again.splitlines()[2]]
    assert len(site.requests) == 1
    failure(ROW, retry=True)
    assert len(site.requests) == 2
    use("ok")
    download.fetch(ROW)
    assert len(site.requests) == 5, "another endpoint is tried at once"


def test_progress(use: Use) -> None:
    use("interrupted")
    recorder = Recorder()
    download.fetch(ROW, recorder)
    size = len(PAYLOAD)
    assert {total for _, total in recorder.calls} == {size}
    done = [done for done, _ in recorder.calls]
    assert (done[0], done[-1]) == (0, size)
    assert done == sorted(done)
    assert len(set(done)) > 4


@pytest.mark.parametrize("setting", ["RESNET_OFFLINE", "HF_HUB_OFFLINE"])
def test_offline(setting: str, use: Use, site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use("ok")
    with monkeypatch.context() as offline:
        offline.setenv("RESNET_OFFLINE", "1" if setting == "RESNET_OFFLINE" else "0")
        offline.setattr(constants, "HF_HUB_OFFLINE", setting == "HF_HUB_OFFLINE")
        assert f"{setting} is set" in failure(ROW, retry=True)
        assert site.requests == []
        assert names(tmp_path) == set(), "no attempt, and no marker of a failure"
    file = download.fetch(ROW)
    monkeypatch.setenv("RESNET_OFFLINE", "1")
    assert download.fetch(ROW) == file


@pytest.mark.parametrize("links", [True, False])
def test_file_of_another_tool(links: bool, use: Use, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without links, the cache does not contain the hash, which is then requested from the Hub, unlike the file."""
    use("ok")
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_SYMLINKS", not links)
    theirs = Path(hf_hub_download(ROW.repository, "model.safetensors"))
    assert theirs.is_symlink() == links
    site.requests.clear()
    monkeypatch.setenv("RESNET_OFFLINE", "1" if links else "0")
    assert download.fetch(ROW) == theirs
    assert site.requests == ([] if links else ["HEAD ok"] * 2)
    monkeypatch.setenv("RESNET_OFFLINE", "1")
    assert download.fetch(ROW) == theirs, "the hash is cached"


@pytest.mark.parametrize("links", [True, False])
@pytest.mark.parametrize("known", [True, False], ids=["known", "unknown"])
def test_damaged_file(links: bool, known: bool, use: Use, weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use("ok")
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_SYMLINKS", not links)
    file = download.fetch(ROW)
    file.write_bytes(b"?" + PAYLOAD[1:])
    if not known:
        (weights / "resnet18.tv_in1k.json").unlink()
    monkeypatch.setenv("RESNET_OFFLINE", "1")
    assert (f"{file} is damaged" in failure(ROW)) == (links or known)
    monkeypatch.delenv("RESNET_OFFLINE")
    assert download.fetch(ROW).read_bytes() == PAYLOAD


def test_invalid_files_in_the_caches(use: Use, weights: Path, blob: Path) -> None:
    """An invalid note is replaced; an invalid reference is an error, as in the library."""
    use("ok")
    weights.mkdir(parents=True)
    for note in (b"\xff", b"[]", b'{"path": 1, "sha256": 2}', b'{"path": "a", "sha256": "b"}'):
        (weights / "resnet18.tv_in1k.json").write_bytes(note)
        assert download.fetch(ROW).read_bytes() == PAYLOAD
    (weights / "resnet18.tv_in1k.json").unlink()
    (blob.parents[1] / "refs/main").write_bytes(b"\xff")
    assert "huggingface_hub failed (" in failure(ROW)


def test_leftovers_of_killed_downloads_are_removed(use: Use, blob: Path) -> None:
    use("ok")
    blob.parent.mkdir(parents=True)
    killed, running = (blob.with_name(f"{blob.name}.{number}.incomplete") for number in "12")
    for file in (killed, running):
        file.write_bytes(PAYLOAD[:9])
    os.utime(killed, (0, time.time() - 2 * 3600))
    download.fetch(ROW)
    assert names(blob.parent) == {blob.name, running.name}


def test_folder_that_cannot_be_created(use: Use, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use("ok")
    (tmp_path / "file").touch()
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "file/hub"))
    assert f"cannot write to the cache folder {tmp_path / 'file/hub'}: Not a directory\nSet HF_HOME" in failure(ROW)


@pytest.fixture
def safetensors(site: Site) -> bytes:
    """Serve a small, complete file."""
    header = json.dumps({"a": {"dtype": "U8", "shape": [4], "data_offsets": [0, 4]}}).encode()
    site.payload = len(header).to_bytes(8, "little") + header + b"abcd"
    return site.payload


def test_mirror(safetensors: bytes, site: Site, weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A mirror states no hash, so the file is cached with its own."""
    monkeypatch.setenv("RESNET_WEIGHTS_MIRROR", site.url("ok"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    file = download.fetch(ROW)
    assert file == weights / ROW.file
    assert file.read_bytes() == safetensors
    assert site.requests == ["GET ok"]
    assert names(weights) == {ROW.file, "resnet18.tv_in1k.json"}
    file.write_bytes(safetensors[:-1] + b"?")
    assert download.fetch(ROW).read_bytes() == safetensors
    assert len(site.requests) == 2


@pytest.mark.parametrize("behaviour", ["portal", "truncated"])
def test_mirror_without_the_file(
    behaviour: str, safetensors: bytes, site: Site, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.payload += bytes(2000)
    monkeypatch.setenv("RESNET_WEIGHTS_MIRROR", site.url(behaviour))
    message = failure(ROW)
    assert f"{site.url(behaviour)}/{ROW.file}: " in message
    reason = {"portal": "expected a complete safetensors file", "truncated": "incomplete: got 1072 of 2072 bytes"}
    assert reason[behaviour] in message
    assert names(weights) == {f"{ROW.file}.failed"}


def test_file_copied_by_hand(safetensors: bytes, weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RESNET_OFFLINE", "1")
    weights.mkdir(parents=True)
    (weights / ROW.file).write_bytes(safetensors[:-1])
    assert f"{weights / ROW.file} is damaged" in failure(ROW), "it is incomplete"
    (weights / ROW.file).write_bytes(safetensors)
    assert download.fetch(ROW) == weights / ROW.file
    (weights / ROW.file).write_bytes(safetensors[:-1] + b"?")
    assert f"{weights / ROW.file} is damaged" in failure(ROW), "its hash was recorded"


def test_dead_hub_fails_within_ten_seconds(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """With all attempts, for responses that never come or stall, and for hosts that cannot be reached or found."""
    get_session()  # is slow the first time
    template = "http://{repo_id}/resolve/{revision}/{filename}"  # the owner in a repository's name is the host
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)

    def try_host(host: str) -> tuple[str, float]:
        behaviour, started = host.removesuffix(".test"), time.monotonic()
        message = failure(replace(ROW, file=behaviour, repository=f"{host}/{behaviour}"))
        return message.splitlines()[0], time.monotonic() - started

    with dead_network(monkeypatch, site) as dead, ThreadPoolExecutor() as pool:
        hosts = ("silent.test", "stuck.test", "metadata_only.test", *dead)
        for host, (first, seconds) in zip(hosts, pool.map(try_host, hosts), strict=True):
            assert first.endswith(f"{host} timed out")
            assert seconds < 9, host
    assert {"HEAD silent", "GET stuck", "GET metadata_only"} <= set(site.requests)


def test_cached_file_needs_neither_hub_nor_requests(use: Use) -> None:
    """They take half a second to import."""
    use("ok")
    file = download.fetch(ROW)
    script = (
        "import sys\nfrom resnet_cli.weights import download, published\n"
        f"print(download.fetch(published.PRETRAINED['{ROW.name}']))\n"
        "print(*{'huggingface_hub', 'requests', 'httpx', 'httpx2', 'numpy'} & set(sys.modules))"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert result.stdout == f"{file}\n\n", result.stderr
