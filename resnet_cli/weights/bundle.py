"""Weights in one file for offline machines: a zip of the unchanged files and a manifest with their hashes.

{"format": "resnet weights", "version": 1, "weights": [{"name": ..., "file": ..., "size": ..., "sha256": ...}]}
"""

import hashlib
import json
import stat
import zipfile
from collections import Counter
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

from resnet_cli.errors import ModelError, ResnetError, UsageError
from resnet_cli.system import atomic
from resnet_cli.system.progress import Progress
from resnet_cli.weights import checkpoint, download, inventory, local
from resnet_cli.weights.published import PRETRAINED, suggestion

MANIFEST = "manifest.json"
FORMAT = {"format": "resnet weights", "version": 1}
MAX_MANIFEST = 2**20  # bytes
CHUNK = 2**20  # bytes in memory at once
MAX_SHOWN = 64  # characters of a bundle's content in an error


@dataclass(frozen=True)
class BundleEntry:
    """A weights file in a bundle.

    Args:
        name: name of the weights.
        file: its name in the bundle and in our own cache.
        size: size in bytes.
        sha256: its hash in hexadecimal.
    """

    name: str
    file: str
    size: int
    sha256: str


def pack(output: Path, names: Iterable[str], progress: Progress, *, force: bool = False) -> list[BundleEntry]:
    """Write a bundle and return its entries; weights that are not cached are downloaded first.

    Args:
        output: the file to write.
        names: names of the weights.
        progress: receives the progress.
        force: whether to overwrite an existing file.

    Raises:
        UsageError: the file exists or cannot be written.
        ModelError: weights are unknown, unavailable or damaged.
    """
    atomic.check_writable(output)
    if output.exists() and not force:
        raise UsageError(f"{output} already exists; use --force to overwrite it")
    rows = inventory.find_all(names)
    for row in rows:
        download.fetch(row, progress)
    packed = []
    with atomic.atomic_write(output) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        for row in rows:
            progress.report(f"Packing {row.name}")
            cached = inventory.cached_file(row)
            if fault := inventory.find_fault(cached):
                raise ModelError(f"{cached.path}: {fault}\nRun `resnet weights download {row.name}` to replace it.")
            member = zipfile.ZipInfo(row.file)  # without a date, so that the same files make the same bundle
            with cached.path.open("rb") as source, archive.open(member, "w", force_zip64=True) as target:
                size, sha256, _ = _copy(source, target)
            packed.append(BundleEntry(row.name, row.file, size, sha256))
        manifest = FORMAT | {"weights": [asdict(each) for each in packed]}
        archive.writestr(zipfile.ZipInfo(MANIFEST), json.dumps(manifest, indent=1))
    return packed


def install_bundle(bundle: Path, progress: Progress) -> list[Path]:
    """Install all files of a bundle into our own cache, or none of them.

    Args:
        bundle: the file; its content is not trusted.
        progress: receives the progress.

    Returns:
        The files in the cache.

    Raises:
        ModelError: it is not a bundle, is damaged, or contains anything unexpected.
    """
    folder = local.own_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise download.unwritable(folder, "RESNET_CACHE_DIR", error) from error
    try:
        with zipfile.ZipFile(bundle) as archive, ExitStack() as stack:
            packed = _checked_entries(archive, bundle.stat().st_size)
            for each in packed:
                progress.report(f"Checking {each.name}")
                _unpack(archive, each, stack)
    except (zipfile.BadZipFile, RuntimeError, EOFError, ValueError, OverflowError) as error:
        raise ModelError(f"{bundle}: expected a complete bundle from `resnet weights bundle` ({error})") from error
    except OSError as error:
        raise ModelError(f"{bundle}: {error.strerror or error}") from error
    except ResnetError as error:
        raise ModelError(f"{bundle}: {error}") from error
    rows = [PRETRAINED[each.name] for each in packed]
    for row, each in zip(rows, packed, strict=True):
        if row.repository:
            local.write_sidecar(row, local.own_file(row), each.sha256)
    return [local.own_file(row) for row in rows]


def _checked_entries(archive: zipfile.ZipFile, size: int) -> list[BundleEntry]:
    """Check that the archive, its manifest and the published names agree.

    Args:
        archive: the bundle.
        size: its size in bytes.

    Raises:
        ModelError: they differ.
    """
    members = {info.filename: info for info in archive.infolist()}
    for name, info in members.items():
        kind = stat.S_IFMT(info.external_attr >> 16)
        if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1 or kind not in (0, stat.S_IFREG):
            fault = "is compressed, encrypted or not a regular file"
            raise ModelError(f"expected plain, uncompressed files; {name[:MAX_SHOWN]!r} {fault}")
    if sum(info.file_size for info in archive.infolist()) > size:
        raise ModelError(f"expected at most {size} bytes of content, but the bundle declares more")
    if MANIFEST not in members:
        raise ModelError(f"expected a bundle from `resnet weights bundle`, but it has no {MANIFEST}")
    packed = _manifest(archive)
    named, there = Counter([MANIFEST, *(each.file for each in packed)]), Counter(archive.namelist())
    if mismatches := sorted(name for name in {*named, *there} if not named[name] == there[name] == 1):
        raise ModelError(f"its files do not match its manifest; first mismatch: {mismatches[0][:MAX_SHOWN]!r}")
    for each in packed:
        if each.size != members[each.file].file_size:
            raise ModelError(f"expected {each.size} bytes for {each.file}, got {members[each.file].file_size}")
    return packed


def _manifest(archive: zipfile.ZipFile) -> list[BundleEntry]:
    with archive.open(MANIFEST) as stream:
        text = stream.read(MAX_MANIFEST)
    try:
        manifest = json.loads(text)
        if {key: manifest[key] for key in FORMAT} != FORMAT:
            raise ModelError(
                f"expected bundle version {FORMAT['version']}; this bundle was made by another version of resnet"
            )
        packed = [
            BundleEntry(str(entry["name"]), str(entry["file"]), int(entry["size"]), str(entry["sha256"]))
            for entry in manifest["weights"]
        ]
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise ModelError(f"its {MANIFEST} is damaged ({type(error).__name__}: {error})") from error
    for each in packed:
        row = PRETRAINED.get(each.name)
        if not row:
            name = each.name[:MAX_SHOWN]
            raise ModelError(f"{name!r} is not a name from `resnet weights list`{suggestion(name)}")
        if each.file != row.file:
            raise ModelError(
                f"expected the file {row.file} for {each.name}, got {each.file[:MAX_SHOWN]!r} in its manifest"
            )
    return packed


def _unpack(archive: zipfile.ZipFile, each: BundleEntry, stack: ExitStack) -> None:
    """Write a file under a temporary name and verify it; the stack moves it into the cache when all are verified."""
    row = PRETRAINED[each.name]
    final = local.own_file(row)
    path = stack.enter_context(atomic.atomic_write(final))
    try:
        source = archive.open(each.file)
    except OSError as error:  # or `atomic_write` would report it as a write error
        raise ModelError(f"{each.file} cannot be read: {error.strerror}") from error
    with source, path.open("wb") as target:
        _, sha256, md5 = _copy(source, target)
    if sha256 != each.sha256:
        raise ModelError(f"{each.file} is damaged: expected sha256:{each.sha256[:MAX_SHOWN]}, got {sha256}")
    if row.md5 and md5 != row.md5:
        raise ModelError(f"{each.file} is not the published file: expected md5:{row.md5}, got {md5}")
    if row.repository and not checkpoint.is_complete(path):
        raise ModelError(f"{each.file} is not the published file: expected a complete safetensors file")


def _copy(source: IO[bytes], target: IO[bytes]) -> tuple[int, str, str]:
    """Copy a file and return its size in bytes, SHA-256 and MD5."""
    size, hashes = 0, (hashlib.sha256(), hashlib.md5(usedforsecurity=False))
    while chunk := source.read(CHUNK):
        target.write(chunk)
        size += len(chunk)
        for each in hashes:
            each.update(chunk)
    return size, hashes[0].hexdigest(), hashes[1].hexdigest()
