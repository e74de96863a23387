"""`resnet weights`: the names, the caches and bundles for machines without internet."""

import hashlib
import json
import os
import stat
import tracemalloc
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import Run
from hubs import COMMIT, Hub, running, write_torch

from resnet_cli import architecture, bundles, cache, graph, terminal
from resnet_cli.errors import ModelError
from resnet_cli.pretrained import PRETRAINED, TINY

NAME = "resnet18.tv_in1k"
FILE = f"{NAME}.safetensors"
CAT = Path(__file__).parents[1] / "sample_images/cat.jpg"
HEADER = json.dumps({"a": {"dtype": "U8", "shape": [4], "data_offsets": [0, 4]}}).encode()
WHOLE = len(HEADER).to_bytes(8, "little") + HEADER + b"abcd"  # a safetensors file


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of the published layout with random values, 47 MB."""
    network = graph.resnet(architecture.resnet(name="resnet18"))
    return write_torch(tmp_path_factory.mktemp("published") / "theirs.safetensors", network)


@pytest.fixture
def hub() -> Iterator[Hub]:
    with running(WHOLE) as hub:
        yield hub


@pytest.fixture
def online(hub: Hub) -> dict[str, str]:
    """Variables with which the hub is asked."""
    return {"RESNET_OFFLINE": "0", "HF_ENDPOINT": hub.mirror("well"), "NO_PROXY": "*"}


@pytest.fixture
def weights() -> Path:
    """The folder of weights in our own cache."""
    return cache.cache_dir() / "weights"


@pytest.fixture
def activity() -> terminal.Activity:
    return terminal.Activity("")


def kept(resnet: Run, name: str = NAME) -> Path:
    return Path(resnet("weights", "path", name).stdout.removesuffix("\n"))


def test_from_the_hub_to_a_machine_without_internet(
    resnet: Run, online: dict[str, str], published: Path, tmp_path: Path, hub: Hub
) -> None:
    hub.payload = published.read_bytes()
    predict = ("predict", "--weights", NAME, "--format", "json", CAT)
    assert resnet(*predict).returncode == 3
    downloaded = resnet("weights", "download", NAME, **online)
    assert downloaded.returncode == 0
    assert downloaded.stderr == "Downloading 46.8 MB of weights\n"
    assert Path(downloaded.stdout.strip()).read_bytes() == published.read_bytes()
    assert kept(resnet) == Path(downloaded.stdout.strip())

    here = resnet(*predict)
    record = json.loads(here.stdout)[0]
    named = json.loads(resnet("predict", "--weights", published, "--format", "json", CAT).stdout)[0]
    assert (record["model"], record["weights"], record["predictions"]) == ("resnet18", NAME, named["predictions"])

    packed = resnet("weights", "bundle", "-o", tmp_path / "b.zip", NAME)
    assert packed.returncode == 0, packed.stderr
    there = {name: str(tmp_path / name) for name in ("RESNET_CACHE_DIR", "HF_HOME")}
    installed = resnet("weights", "install", tmp_path / "b.zip", **there)
    assert installed.stdout == f"{tmp_path / 'RESNET_CACHE_DIR/weights' / FILE}\n", installed.stderr
    assert resnet(*predict, **there).stdout == here.stdout
    assert resnet("weights", "verify", **there).stdout == f"{NAME}: whole, {installed.stdout}"


def test_list(resnet: Run, online: dict[str, str]) -> None:
    file = resnet("weights", "download", NAME, **online).stdout.strip()
    listed = {row["name"]: row for row in json.loads(resnet("weights", "list", "--format", "json").stdout)}
    assert listed.keys() == {*PRETRAINED, "tiny"}
    assert {name for name, row in listed.items() if row["cached"]} == {NAME, "tiny"}
    assert (listed[NAME]["path"], listed["resnet50"]["path"]) == (file, None)
    tiny = json.loads(resnet("predict", "--weights", "tiny", "--format", "json", CAT).stdout)[0]
    assert (listed["tiny"]["network"], listed["tiny"]["classes"]) == (tiny["model"], 200)
    table = resnet("weights", "list").stdout
    for name, row in listed.items():
        [line] = [line for line in table.splitlines() if f"│ {name} " in line]
        assert f"{row['top1']:.2f}" in line
        assert row["licence"] in line
        assert ("yes" in line) == row["cached"]


def test_download_tries_all(resnet: Run, online: dict[str, str]) -> None:
    """And asks again at once what has failed a moment ago."""
    closed = online | {"HF_ENDPOINT": "http://127.0.0.1:9"}
    assert "not tried again" not in resnet("weights", "download", NAME, **closed).stderr
    assert "not tried again" in resnet("predict", "--weights", NAME, CAT, **closed).stderr
    assert "not tried again" not in resnet("weights", "download", NAME, **closed).stderr
    result = resnet("weights", "download", "resnet34", NAME, **online)
    assert result.returncode == 3
    assert "did you mean resnet34.tv_in1k?" in result.stderr
    assert result.stdout == f"{kept(resnet)}\n"


def test_verify_finds_what_is_damaged(resnet: Run, online: dict[str, str]) -> None:
    nothing = resnet("weights", "verify")
    assert (nothing.returncode, nothing.stdout, nothing.stderr) == (0, "", "files checked: 0\n")
    resnet("weights", "download", NAME, **online)
    file = kept(resnet)
    assert resnet("weights", "verify", NAME).returncode == 0
    before = file.stat()
    with file.open("rb+") as stream:
        stream.seek(-1, os.SEEK_END)
        stream.write(b"?")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))  # as a disk does it
    result = resnet("weights", "verify")
    assert result.returncode == 3
    assert result.stdout.startswith(f"{NAME}: damaged: expected sha256:")
    assert result.stdout.endswith(f", {file}\n")
    assert f"damaged: {NAME}\n`resnet weights download {NAME}`" in result.stderr
    assert f"{file} is damaged" in resnet("weights", "path", NAME).stderr
    packed = resnet("weights", "bundle", "-o", file.with_name("b.zip"), NAME)
    assert (packed.returncode, file.with_name("b.zip").exists()) == (3, False)
    assert resnet("weights", "download", NAME, **online).returncode == 0
    assert kept(resnet).read_bytes() == WHOLE


def test_remove(resnet: Run, online: dict[str, str], weights: Path, tmp_path: Path) -> None:
    resnet("weights", "download", NAME, **online)
    resnet("weights", "bundle", "-o", tmp_path / "b.zip", NAME)
    repository = kept(resnet).parents[2]
    resnet("weights", "install", tmp_path / "b.zip")
    other = repository.with_name("models--timm--resnet34.tv_in1k")
    other.mkdir()
    (weights / f"{FILE}.failed").touch()
    size = 2 * len(WHOLE) + (weights / f"{NAME}.json").stat().st_size + len(COMMIT)
    assert resnet("weights", "remove", NAME).stderr == f"{NAME}: deleted {size} bytes\n"
    assert not repository.exists()
    assert list(weights.iterdir()) == []
    assert other.exists()
    assert resnet("weights", "path", NAME).returncode == 3
    assert resnet("weights", "remove", NAME).stderr == f"{NAME}: deleted 0 bytes\n"


@pytest.mark.parametrize("command", [["download"], ["verify"], ["path"], ["remove"], ["bundle", "-o", "b.zip"]])
def test_unknown_names(command: list[str], resnet: Run) -> None:
    result = resnet("weights", *command, "resnet50.a1[b]")
    assert (result.returncode, result.stdout) == (3, "")
    assert result.stderr == (
        "error: 'resnet50.a1[b]' is no name of `resnet weights list`; did you mean resnet50.a1_in1k?\n"
    )
    if command[0] not in ("download", "bundle"):
        absent = resnet("weights", *command, "imagenet")
        assert absent.returncode == (0 if command == ["remove"] else 3)
        assert absent.stderr.startswith(("error: resnet50 is not in the cache;", "resnet50: deleted 0 bytes"))


def test_tiny_is_always_there(resnet: Run) -> None:
    assert kept(resnet, "tiny") == TINY.path
    assert resnet("weights", "remove", "tiny").returncode == 2
    assert TINY.path.exists()


def put(name: str, content: bytes = WHOLE) -> Path:
    """Put a file into our own cache by hand."""
    file = cache.own_file(PRETRAINED[name])
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
    return file


def test_bundle(tmp_path: Path, activity: terminal.Activity, resnet: Run) -> None:
    put(NAME)
    put("resnet34.tv_in1k", WHOLE[:-1] + b"?")
    bundle = tmp_path / "b.zip"
    bundles.pack(bundle, [NAME, "resnet34.tv_in1k", NAME], activity)
    first = bundle.read_bytes()
    with zipfile.ZipFile(bundle) as archive:
        assert archive.testzip() is None
        assert {info.compress_type for info in archive.infolist()} == {zipfile.ZIP_STORED}
        manifest = json.loads(archive.read("manifest.json"))
        assert [entry["name"] for entry in manifest["weights"]] == [NAME, "resnet34.tv_in1k"]
        for entry in manifest["weights"]:
            content = archive.read(entry["file"])
            assert (entry["size"], entry["sha256"]) == (len(content), hashlib.sha256(content).hexdigest())
    refused = resnet("weights", "bundle", "-o", bundle, NAME)
    assert (refused.returncode, bundle.read_bytes()) == (2, first)
    assert "--force" in refused.stderr
    resnet("weights", "bundle", "-o", bundle, "--force", NAME, "resnet34.tv_in1k")
    assert bundle.read_bytes() == first, "the same files make the same bundle"
    assert list(tmp_path.iterdir()) == [bundle]


def test_memory_is_bounded(published: Path, tmp_path: Path, activity: terminal.Activity) -> None:
    put(NAME, published.read_bytes())
    tracemalloc.start()
    bundles.pack(tmp_path / "b.zip", [NAME], activity)
    [file] = bundles.install(tmp_path / "b.zip", activity)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert file.stat().st_size > 46e6
    assert peak < 8e6


# Bundles that nobody should install


def entry(name: str = NAME, content: bytes = WHOLE, **changed: Any) -> dict[str, Any]:
    file = PRETRAINED[name].file if name in PRETRAINED else "a"
    return {"name": name, "file": file, "size": len(content), "sha256": hashlib.sha256(content).hexdigest()} | changed


def write(path: Path, entries: Any, files: list[tuple[str | zipfile.ZipInfo, bytes]], **changed: Any) -> None:
    """Write a bundle without the code under test."""
    manifest = {"format": "resnet weights", "version": 1, "weights": entries} | changed
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files:
            archive.writestr(name, content)
        archive.writestr("manifest.json", json.dumps(manifest))


def leaving(name: str) -> Callable[[Path], None]:
    return lambda path: write(path, [entry(file=name)], [(name, WHOLE)])


def link(path: Path) -> None:
    info = zipfile.ZipInfo(FILE)
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    write(path, [entry(content=b"/etc/passwd")], [(info, b"/etc/passwd")])


def bomb(path: Path) -> None:
    zeros = bytes(10_000_000)
    info = zipfile.ZipInfo(FILE)
    info.compress_type = zipfile.ZIP_DEFLATED
    write(path, [entry(content=zeros)], [(info, zeros)])


def overlapping(path: Path) -> None:
    """Let two names of the directory share one content."""
    write(path, [entry(), entry("resnet34.tv_in1k")], [(FILE, WHOLE), ("resnet34.tv_in1k.safetensors", WHOLE)])
    content = path.read_bytes()
    directory = content.rindex(b"PK\x01\x02", 0, content.rindex(b"manifest.json"))
    directory = content.rindex(b"PK\x01\x02", 0, content.rindex(b"resnet34.tv_in1k.safetensors"))
    path.write_bytes(content[: directory + 42] + bytes(4) + content[directory + 46 :])


def flipped(path: Path) -> None:
    write(path, [entry()], [(FILE, WHOLE)])
    path.write_bytes(path.read_bytes().replace(b"abcd", b"abce"))


def recomputed(path: Path) -> None:
    """Change the content and its checksum in the zip, but not in the manifest."""
    write(path, [entry()], [(FILE, WHOLE[:-1] + b"?")])


def truncated(path: Path) -> None:
    write(path, [entry()], [(FILE, WHOLE)])
    path.write_bytes(path.read_bytes()[:-30])


BAD = {
    "flipped bit": (flipped, "Bad CRC-32"),
    "changed content": (recomputed, "damaged: expected sha256:"),
    "cut short": (truncated, "expected a whole bundle"),
    "no zip": (lambda path: path.write_bytes(b"PK nothing"), "expected a whole bundle"),
    "empty": (lambda path: path.write_bytes(b""), "expected a whole bundle"),
    "nothing there": (lambda path: None, "No such file"),
    "a folder": (Path.mkdir, "Is a directory"),
    "another size": (lambda path: write(path, [entry(size=9)], [(FILE, WHOLE)]), "expected 9 bytes"),
    "more than it has": (lambda path: write(path, [entry()], []), f"look at '{FILE}'"),
    "less than it has": (lambda path: write(path, [entry()], [(FILE, WHOLE), ("x", b"")]), "look at 'x'"),
    "twice": (lambda path: write(path, [entry(), entry()], [(FILE, WHOLE)]), f"look at '{FILE}'"),
    "unknown": (lambda path: write(path, [entry("resnet51")], [("a", WHOLE)]), "did you mean resnet50?"),
    "long name": (lambda path: write(path, [entry("x" * 99_999)], [("a", WHOLE)]), "no name of `resnet weights list`"),
    "long hash": (lambda path: write(path, [entry(sha256="x" * 99_999)], [(FILE, WHOLE)]), "damaged: expected sha256:"),
    "tiny": (lambda path: write(path, [entry("tiny")], [("a", WHOLE)]), "no name of `resnet weights list`"),
    "Keras's file, another content": (
        lambda path: write(path, [entry("resnet50")], [(PRETRAINED["resnet50"].file, WHOLE)]),
        f"not the published file: expected md5:{PRETRAINED['resnet50'].md5}",
    ),
    "no safetensors": (lambda path: write(path, [entry(content=b"page")], [(FILE, b"page")]), "whole safetensors"),
    "above": (leaving(f"../{FILE}"), f"expected the file {FILE} for {NAME}"),
    "absolute": (leaving(f"/tmp/{FILE}"), f"expected the file {FILE} for {NAME}"),
    "drive": (leaving(f"C:\\{FILE}"), f"expected the file {FILE} for {NAME}"),
    "another's file": (leaving(PRETRAINED["resnet50"].file), f"expected the file {FILE} for {NAME}"),
    "link": (link, "neither compressed nor links"),
    "bomb": (bomb, "neither compressed nor links"),
    "overlap": (overlapping, "expected a whole bundle"),
    "no manifest": (lambda path: zipfile.ZipFile(path, "w").close(), "it has no manifest.json"),
    "another version": (lambda path: write(path, [entry()], [(FILE, WHOLE)], version=2), "another version of resnet"),
    "manifest without names": (lambda path: write(path, [{}], [(FILE, WHOLE)]), "its manifest.json is damaged"),
    "manifest of a list": (lambda path: write(path, 1, [(FILE, WHOLE)]), "its manifest.json is damaged"),
    "manifest without end": (
        lambda path: write(path, [entry(x="x" * bundles.MAX_MANIFEST)], [(FILE, WHOLE)]),
        "its manifest.json is damaged",
    ),
}


@pytest.mark.parametrize("fault", BAD)
def test_bad_bundles(fault: str, tmp_path: Path, weights: Path, activity: terminal.Activity) -> None:
    make, reason = BAD[fault]
    bundle = tmp_path / "bundle.zip"
    make(bundle)
    with pytest.raises(ModelError) as caught:
        bundles.install(bundle, activity)
    assert str(caught.value).startswith(f"{bundle}: ")
    assert reason in str(caught.value)
    assert len(str(caught.value).splitlines()) <= 3
    assert len(str(caught.value)) < 500
    assert not weights.exists() or list(weights.iterdir()) == []
    assert set(tmp_path.iterdir()) <= {bundle}


def test_verify_tells_a_copy_that_was_cut_short(resnet: Run) -> None:
    file = put(NAME, WHOLE[:-1])
    result = resnet("weights", "verify")
    assert (result.returncode, result.stdout) == (3, f"{NAME}: cut short, {file}\n")


def test_all_or_none(tmp_path: Path, weights: Path, activity: terminal.Activity, resnet: Run) -> None:
    kept = put(NAME)
    files = [(FILE, WHOLE[:-1] + b"!"), (PRETRAINED["resnet50"].file, WHOLE)]
    write(tmp_path / "b.zip", [entry(content=files[0][1]), entry("resnet50")], files)
    result = resnet("weights", "install", tmp_path / "b.zip")
    assert (result.returncode, result.stdout) == (3, "")
    assert list(weights.iterdir()) == [kept]
    assert kept.read_bytes() == WHOLE


def test_install_replaces(tmp_path: Path, activity: terminal.Activity, resnet: Run) -> None:
    """Whatever was there, and the note of its hash."""
    put(NAME)
    assert kept(resnet).read_bytes() == WHOLE
    newer = WHOLE[:-1] + b"!"
    write(tmp_path / "b.zip", [entry(content=newer)], [(FILE, newer)])
    assert bundles.install(tmp_path / "b.zip", activity)[0].read_bytes() == newer
    assert kept(resnet).read_bytes() == newer


def test_cache_that_cannot_be_written(tmp_path: Path, resnet: Run) -> None:
    write(tmp_path / "b.zip", [entry()], [(FILE, WHOLE)])
    (tmp_path / "file").touch()
    result = resnet("weights", "install", tmp_path / "b.zip", RESNET_CACHE_DIR=str(tmp_path / "file"))
    assert result.returncode == 3
    assert result.stderr.startswith(f"error: cannot write to the cache folder {tmp_path / 'file/weights'}: Not a dir")
    assert "RESNET_CACHE_DIR" in result.stderr


def test_a_file_that_cannot_be_read_hides_no_other(resnet: Run, weights: Path) -> None:
    put("resnet34.tv_in1k")
    odd = weights / FILE
    odd.mkdir()
    listed = resnet("weights", "list", "--format", "json")
    assert listed.returncode == 0
    assert {row["name"] for row in json.loads(listed.stdout) if row["cached"]} == {"resnet34.tv_in1k", "tiny"}
    assert listed.stderr == f"warning: cannot read {odd}: Is a directory\n"
    verified = resnet("weights", "verify")
    assert verified.returncode == 3
    assert f"{NAME}: cannot read {odd}: Is a directory, {odd}\n" in verified.stdout
    assert "resnet34.tv_in1k: whole" in verified.stdout


def test_without_a_command_it_shows_the_help(resnet: Run) -> None:
    result = resnet("weights")
    assert result.returncode == 2
    assert "download" in result.stdout + result.stderr
    assert "error" not in result.stderr
