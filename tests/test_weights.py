"""`resnet weights`: names, caches, and bundles for machines without internet."""

import hashlib
import json
import os
import stat
import tracemalloc
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Run, run_main
from safetensors import safe_open
from safetensors.numpy import save_file
from servers import COMMIT, HubHandler, Site, serve, use_hub

from resnet_cli.errors import ModelError
from resnet_cli.network import graph, variants
from resnet_cli.system.cache_folder import cache_dir
from resnet_cli.system.progress import SILENT
from resnet_cli.tasks import synthetic
from resnet_cli.weights import bundle, foreign_names, local
from resnet_cli.weights.published import PRETRAINED, TINY

NAME = "resnet18.tv_in1k"
FILE = f"{NAME}.safetensors"
CAT = Path(__file__).parents[1] / "sample_images/cat.jpg"
HEADER = json.dumps({"a": {"dtype": "U8", "shape": [4], "data_offsets": [0, 4]}}).encode()
COMPLETE = len(HEADER).to_bytes(8, "little") + HEADER + b"abcd"  # a safetensors file


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file in PyTorch's layout, like the published ones, with random values, 47 MB."""
    network = graph.resnet(variants.describe(name="resnet18"))
    orders = {1: (0,), 2: (1, 0), 4: (3, 2, 0, 1)}
    arrays = synthetic.parameters(network)
    stored = {
        name: np.ascontiguousarray(arrays[own].transpose(orders[arrays[own].ndim]))
        for own, name in foreign_names.torch(network).items()
    }
    path = tmp_path_factory.mktemp("published") / "theirs.safetensors"
    save_file(stored, path)
    return path


@pytest.fixture
def hub(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """A Hub that serves a small file, and its cache folder, empty; `RESNET_OFFLINE="0"` lets a command use it."""
    with serve(COMPLETE, HubHandler) as hub:
        monkeypatch.setenv("NO_PROXY", "*")
        use_hub(monkeypatch, cache=Path(os.environ["HF_HOME"]) / "hub", url=hub.url("redirected"))
        yield hub


@pytest.fixture
def weights() -> Path:
    """The weights folder in our own cache."""
    return cache_dir() / "weights"


def download(*names: str) -> str:
    """Download weights and return stdout."""
    return run_main("weights", "download", *names, RESNET_OFFLINE="0").stdout


def cached(name: str = NAME) -> Path:
    return Path(run_main("weights", "path", name).stdout.removesuffix("\n"))


def test_from_the_hub_to_an_offline_machine(
    resnet: Run, hub: Site, published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.payload = published.read_bytes()
    predict = ("predict", "--weights", NAME, "--format", "json", CAT)
    assert run_main(*predict).returncode == 3
    downloaded = resnet("weights", "download", NAME, RESNET_OFFLINE="0", HF_ENDPOINT=hub.url("redirected"))
    assert downloaded.returncode == 0
    assert downloaded.stderr == "Downloading 46.8 MB of weights\n"
    assert Path(downloaded.stdout.strip()).read_bytes() == published.read_bytes()
    assert cached() == Path(downloaded.stdout.strip())

    here = run_main(*predict)
    record = json.loads(here.stdout)[0]
    from_file = json.loads(run_main("predict", "--weights", published, "--format", "json", CAT).stdout)[0]
    assert (record["model"], record["weights"], record["predictions"]) == ("resnet18", NAME, from_file["predictions"])

    packed = run_main("weights", "bundle", "-o", tmp_path / "b.zip", NAME)
    assert packed.returncode == 0, packed.stderr
    there = {name: str(tmp_path / name) for name in ("RESNET_CACHE_DIR", "HF_HOME")}
    installed = resnet("weights", "install", tmp_path / "b.zip", **there)
    assert installed.stdout == f"{tmp_path / 'RESNET_CACHE_DIR/weights' / FILE}\n", installed.stderr
    use_hub(monkeypatch, cache=tmp_path / "HF_HOME/hub")
    assert run_main(*predict, **there).stdout == here.stdout
    assert run_main("weights", "verify", **there).stdout == f"{NAME}: ok, {installed.stdout}"


def test_list(hub: Site) -> None:
    file = download(NAME).strip()
    listed = {row["name"]: row for row in json.loads(run_main("weights", "list", "--format", "json").stdout)}
    assert listed.keys() == {*PRETRAINED, "tiny"}
    assert {name for name, row in listed.items() if row["cached"]} == {NAME, "tiny"}
    assert (listed[NAME]["path"], listed["resnet50"]["path"]) == (file, None)
    with safe_open(TINY.path, "numpy") as tiny:
        metadata = json.loads(tiny.metadata()["resnet_cli"])
        classes = len(tiny.get_slice("predictions/bias")[:])
    assert (listed["tiny"]["network"], listed["tiny"]["classes"]) == (metadata["architecture"]["name"], classes)
    table = run_main("weights", "list").stdout
    for name, row in listed.items():
        [line] = [line for line in table.splitlines() if f"│ {name} " in line]
        assert f"{row['top1']:.2f}" in line
        assert row["licence"] in line
        assert ("yes" in line) == row["cached"]


def test_download_tries_all(hub: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """It also retries at once what has just failed."""
    with monkeypatch.context() as closed:
        use_hub(closed, url="http://127.0.0.1:9")
        for command, retried in {
            ("weights", "download", NAME): True,
            ("predict", "--weights", NAME, CAT): False,
        }.items():
            for _ in range(2):
                failed = run_main(*command, RESNET_OFFLINE="0")
                assert failed.returncode == 3
                assert ("Not retried before" not in failed.stderr) == retried
    result = run_main("weights", "download", "resnet34", NAME, RESNET_OFFLINE="0")
    assert result.returncode == 3
    assert "did you mean resnet34.tv_in1k?" in result.stderr
    assert result.stdout == f"{cached()}\n"


def test_verify_finds_damage(hub: Site) -> None:
    nothing = run_main("weights", "verify")
    assert (nothing.returncode, nothing.stdout, nothing.stderr) == (0, "", "files checked: 0\n")
    download(NAME)
    file = cached()
    assert run_main("weights", "verify", NAME).returncode == 0
    before = file.stat()
    with file.open("rb+") as stream:
        stream.seek(-1, os.SEEK_END)
        stream.write(b"?")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))  # as when a disk fails
    result = run_main("weights", "verify")
    assert result.returncode == 3
    assert result.stdout.startswith(f"{NAME}: damaged: expected sha256:")
    assert result.stdout.endswith(f", {file}\n")
    assert f"damaged: {NAME}\nRun `resnet weights download {NAME}`" in result.stderr
    assert f"{file} is damaged" in run_main("weights", "path", NAME).stderr
    packed = run_main("weights", "bundle", "-o", file.with_name("b.zip"), NAME)
    assert (packed.returncode, file.with_name("b.zip").exists()) == (3, False)
    assert download(NAME) == f"{file}\n"
    assert cached().read_bytes() == COMPLETE


def test_remove(hub: Site, weights: Path, tmp_path: Path) -> None:
    download(NAME)
    run_main("weights", "bundle", "-o", tmp_path / "b.zip", NAME)
    repository = cached().parents[2]
    run_main("weights", "install", tmp_path / "b.zip")
    other = repository.with_name("models--timm--resnet34.tv_in1k")
    other.mkdir()
    (weights / f"{FILE}.failed").touch()
    size = 2 * len(COMPLETE) + (weights / f"{NAME}.json").stat().st_size + len(COMMIT)
    assert run_main("weights", "remove", NAME).stderr == f"{NAME}: deleted {size} bytes\n"
    assert not repository.exists()
    assert list(weights.iterdir()) == []
    assert other.exists()
    assert run_main("weights", "path", NAME).returncode == 3
    assert run_main("weights", "remove", NAME).stderr == f"{NAME}: deleted 0 bytes\n"


@pytest.mark.parametrize("command", [["download"], ["verify"], ["path"], ["remove"], ["bundle", "-o", "b.zip"]])
def test_unknown_names(command: list[str], hub: Site) -> None:
    result = run_main("weights", *command, "resnet50.a1[b]")
    assert (result.returncode, result.stdout) == (3, "")
    assert result.stderr == (
        "error: 'resnet50.a1[b]' is not a name from `resnet weights list`; did you mean resnet50.a1_in1k?\n"
    )
    if command[0] not in ("download", "bundle"):
        absent = run_main("weights", *command, "imagenet")
        assert absent.returncode == (0 if command == ["remove"] else 3)
        assert absent.stderr.startswith(("error: resnet50 is not in the cache;", "resnet50: deleted 0 bytes"))


def test_tiny_is_built_in(resnet: Run) -> None:
    assert cached("tiny") == TINY.path
    removed = resnet("weights", "remove", "tiny")
    assert (removed.returncode, removed.stderr.count("is built into the package")) == (2, 1)
    assert TINY.path.exists()


def put(name: str, content: bytes = COMPLETE) -> Path:
    """Copy a file into our own cache, like a user."""
    file = local.own_file(PRETRAINED[name])
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
    return file


def test_bundle(tmp_path: Path) -> None:
    put(NAME)
    put("resnet34.tv_in1k", COMPLETE[:-1] + b"?")
    path = tmp_path / "b.zip"
    bundle.pack(path, [NAME, "resnet34.tv_in1k", NAME], SILENT)
    first = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        assert {info.compress_type for info in archive.infolist()} == {zipfile.ZIP_STORED}
        manifest = json.loads(archive.read("manifest.json"))
        assert [entry["name"] for entry in manifest["weights"]] == [NAME, "resnet34.tv_in1k"]
        for entry in manifest["weights"]:
            content = archive.read(entry["file"])
            assert (entry["size"], entry["sha256"]) == (len(content), hashlib.sha256(content).hexdigest())
    refused = run_main("weights", "bundle", "-o", path, NAME)
    assert (refused.returncode, path.read_bytes()) == (2, first)
    assert "--force" in refused.stderr
    run_main("weights", "bundle", "-o", path, "--force", NAME, "resnet34.tv_in1k")
    assert path.read_bytes() == first, "the same files make the same bundle"
    assert list(tmp_path.iterdir()) == [path]


def test_memory_is_bounded(published: Path, tmp_path: Path) -> None:
    put(NAME, published.read_bytes())
    tracemalloc.start()
    bundle.pack(tmp_path / "b.zip", [NAME], SILENT)
    [file] = bundle.install_bundle(tmp_path / "b.zip", SILENT)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert file.stat().st_size > 46e6
    assert peak < 8e6


# Bundles that must be refused


def entry(name: str = NAME, content: bytes = COMPLETE, **changed: Any) -> dict[str, Any]:
    file = PRETRAINED[name].file if name in PRETRAINED else "a"
    return {"name": name, "file": file, "size": len(content), "sha256": hashlib.sha256(content).hexdigest()} | changed


def write(path: Path, entries: Any, files: list[tuple[str | zipfile.ZipInfo, bytes]], **changed: Any) -> None:
    """Write a bundle without the code under test."""
    manifest = {"format": "resnet weights", "version": 1, "weights": entries} | changed
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files:
            archive.writestr(name, content)
        archive.writestr("manifest.json", json.dumps(manifest))


def misplaced(name: str) -> Callable[[Path], None]:
    return lambda path: write(path, [entry(file=name)], [(name, COMPLETE)])


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
    """Let two names in the zip's directory share one content."""
    write(path, [entry(), entry("resnet34.tv_in1k")], [(FILE, COMPLETE), ("resnet34.tv_in1k.safetensors", COMPLETE)])
    content = path.read_bytes()
    directory = content.rindex(b"PK\x01\x02", 0, content.rindex(b"manifest.json"))
    directory = content.rindex(b"PK\x01\x02", 0, content.rindex(b"resnet34.tv_in1k.safetensors"))
    path.write_bytes(content[: directory + 42] + bytes(4) + content[directory + 46 :])


def flipped(path: Path) -> None:
    write(path, [entry()], [(FILE, COMPLETE)])
    path.write_bytes(path.read_bytes().replace(b"abcd", b"abce"))


def recomputed(path: Path) -> None:
    """Change the content and its checksum in the zip, but not in the manifest."""
    write(path, [entry()], [(FILE, COMPLETE[:-1] + b"?")])


def truncated(path: Path) -> None:
    write(path, [entry()], [(FILE, COMPLETE)])
    path.write_bytes(path.read_bytes()[:-30])


BAD = {
    "flipped bit": (flipped, "Bad CRC-32"),
    "changed content": (recomputed, "damaged: expected sha256:"),
    "incomplete": (truncated, "expected a complete bundle"),
    "not a zip": (lambda path: path.write_bytes(b"PK nothing"), "expected a complete bundle"),
    "empty": (lambda path: path.write_bytes(b""), "expected a complete bundle"),
    "no file": (lambda path: None, "No such file"),
    "a folder": (Path.mkdir, "Is a directory"),
    "wrong size": (lambda path: write(path, [entry(size=9)], [(FILE, COMPLETE)]), "expected 9 bytes"),
    "in the manifest only": (lambda path: write(path, [entry()], []), f"first mismatch: '{FILE}'"),
    "in the zip only": (lambda path: write(path, [entry()], [(FILE, COMPLETE), ("x", b"")]), "first mismatch: 'x'"),
    "duplicate": (lambda path: write(path, [entry(), entry()], [(FILE, COMPLETE)]), f"first mismatch: '{FILE}'"),
    "unknown name": (lambda path: write(path, [entry("resnet51")], [("a", COMPLETE)]), "did you mean resnet50?"),
    "long name": (
        lambda path: write(path, [entry("x" * 99_999)], [("a", COMPLETE)]),
        "is not a name from `resnet weights list`",
    ),
    "long hash": (
        lambda path: write(path, [entry(sha256="x" * 99_999)], [(FILE, COMPLETE)]),
        "damaged: expected sha256:",
    ),
    "built-in weights": (
        lambda path: write(path, [entry("tiny")], [("a", COMPLETE)]),
        "is not a name from `resnet weights list`",
    ),
    "Keras's file, other content": (
        lambda path: write(path, [entry("resnet50")], [(PRETRAINED["resnet50"].file, COMPLETE)]),
        f"not the published file: expected md5:{PRETRAINED['resnet50'].md5}",
    ),
    "not safetensors": (
        lambda path: write(path, [entry(content=b"page")], [(FILE, b"page")]),
        "expected a complete safetensors file",
    ),
    "parent folder": (misplaced(f"../{FILE}"), f"expected the file {FILE} for {NAME}"),
    "absolute path": (misplaced(f"/tmp/{FILE}"), f"expected the file {FILE} for {NAME}"),
    "Windows drive": (misplaced(f"C:\\{FILE}"), f"expected the file {FILE} for {NAME}"),
    "file of other weights": (misplaced(PRETRAINED["resnet50"].file), f"expected the file {FILE} for {NAME}"),
    "link": (link, "is compressed, encrypted or not a regular file"),
    "bomb": (bomb, "is compressed, encrypted or not a regular file"),
    "overlap": (overlapping, "expected a complete bundle"),
    "no manifest": (lambda path: zipfile.ZipFile(path, "w").close(), "but it has no manifest.json"),
    "another version": (
        lambda path: write(path, [entry()], [(FILE, COMPLETE)], version=2),
        "another version of resnet",
    ),
    "manifest without names": (lambda path: write(path, [{}], [(FILE, COMPLETE)]), "its manifest.json is damaged"),
    "manifest without a list": (lambda path: write(path, 1, [(FILE, COMPLETE)]), "its manifest.json is damaged"),
    "manifest that is too long": (
        lambda path: write(path, [entry(x="x" * bundle.MAX_MANIFEST)], [(FILE, COMPLETE)]),
        "its manifest.json is damaged",
    ),
}


@pytest.mark.parametrize("fault", BAD)
def test_bad_bundles(fault: str, tmp_path: Path, weights: Path) -> None:
    make, reason = BAD[fault]
    path = tmp_path / "bundle.zip"
    make(path)
    with pytest.raises(ModelError) as caught:
        bundle.install_bundle(path, SILENT)
    assert str(caught.value).startswith(f"{path}: ")
    assert reason in str(caught.value)
    assert len(str(caught.value).splitlines()) <= 3
    assert len(str(caught.value)) < 500
    assert not weights.exists() or list(weights.iterdir()) == []
    assert set(tmp_path.iterdir()) <= {path}


def test_verify_finds_an_incomplete_copy(hub: Site) -> None:
    file = put(NAME, COMPLETE[:-1])
    result = run_main("weights", "verify")
    assert (result.returncode, result.stdout) == (3, f"{NAME}: incomplete, {file}\n")


def test_all_or_none(tmp_path: Path, weights: Path) -> None:
    existing = put(NAME)
    files = [(FILE, COMPLETE[:-1] + b"!"), (PRETRAINED["resnet50"].file, COMPLETE)]
    write(tmp_path / "b.zip", [entry(content=files[0][1]), entry("resnet50")], files)
    result = run_main("weights", "install", tmp_path / "b.zip")
    assert (result.returncode, result.stdout) == (3, "")
    assert list(weights.iterdir()) == [existing]
    assert existing.read_bytes() == COMPLETE


def test_install_replaces(tmp_path: Path, hub: Site) -> None:
    """Existing files are replaced together with their recorded hashes."""
    put(NAME)
    assert cached().read_bytes() == COMPLETE
    newer = COMPLETE[:-1] + b"!"
    write(tmp_path / "b.zip", [entry(content=newer)], [(FILE, newer)])
    assert bundle.install_bundle(tmp_path / "b.zip", SILENT)[0].read_bytes() == newer
    assert cached().read_bytes() == newer


def test_cache_that_is_not_writable(tmp_path: Path) -> None:
    write(tmp_path / "b.zip", [entry()], [(FILE, COMPLETE)])
    (tmp_path / "file").touch()
    result = run_main("weights", "install", tmp_path / "b.zip", RESNET_CACHE_DIR=str(tmp_path / "file"))
    assert result.returncode == 3
    assert result.stderr.startswith(f"error: cannot write to the cache folder {tmp_path / 'file/weights'}: Not a dir")
    assert "RESNET_CACHE_DIR" in result.stderr


def test_unreadable_file_hides_no_other(hub: Site, weights: Path) -> None:
    put("resnet34.tv_in1k")
    unreadable = weights / FILE
    unreadable.mkdir()
    listed = run_main("weights", "list", "--format", "json")
    assert listed.returncode == 0
    assert {row["name"] for row in json.loads(listed.stdout) if row["cached"]} == {"resnet34.tv_in1k", "tiny"}
    assert listed.stderr == f"warning: cannot read {unreadable}: Is a directory\n"
    verified = run_main("weights", "verify")
    assert verified.returncode == 3
    assert f"{NAME}: cannot read {unreadable}: Is a directory, {unreadable}\n" in verified.stdout
    assert "resnet34.tv_in1k: ok" in verified.stdout


def test_help_without_a_command(resnet: Run) -> None:
    result = resnet("weights")
    assert result.returncode == 2
    assert "download" in result.stdout + result.stderr
    assert "error" not in result.stderr
