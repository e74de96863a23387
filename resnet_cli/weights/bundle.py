"""Weights in one file, for machines without internet: a zip of the files as they are, and a manifest of their hashes.

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

from resnet_cli import cache, files, hub, weights
from resnet_cli.errors import ModelError, ResnetError, UsageError
from resnet_cli.models import Activity
from resnet_cli.pretrained import PRETRAINED, similar

MANIFEST = "manifest.json"
FORMAT = {"format": "resnet weights", "version": 1}
MAX_MANIFEST = 2**20  # bytes
CHUNK = 2**20  # bytes in memory at once
SHOWN = 64  # characters, in errors, of what a bundle says


@dataclass(frozen=True)
class Packed:
    """A file of weights in a bundle.

    Args:
        name: of the weights.
        file: its name in the bundle, and in our own cache.
        size: bytes.
        sha256: its hash in hexadecimal digits.
    """

    name: str
    file: str
    size: int
    sha256: str


def pack(output: Path, names: Iterable[str], activity: Activity, *, force: bool = False) -> list[Packed]:
    """Write a bundle; what is not in the caches is downloaded first.

    Args:
        output: the file to write.
        names: of the weights.
        activity: is told what goes on.
        force: whether an existing file is replaced.

    Returns:
        What is in it.

    Raises:
        UsageError: the file exists, or cannot be written.
        ModelError: weights are unknown, not to be had, or damaged.
    """
    files.check(output)
    if output.exists() and not force:
        raise UsageError(f"{output} exists; --force replaces it")
    rows = weights.rows(names)
    for row in rows:
        cache.fetch(row, activity)
    packed = []
    with files.replacing(output) as unfinished, zipfile.ZipFile(unfinished, "w") as archive:
        for row in rows:
            activity.report(f"Packing {row.name}")
            kept = weights.kept(row)
            if fault := weights.fault(kept):
                raise ModelError(f"{kept.path}: {fault}\n`resnet weights download {row.name}` replaces it")
            member = zipfile.ZipInfo(row.file)  # without a date: the same files make the same bundle
            with kept.path.open("rb") as source, archive.open(member, "w", force_zip64=True) as target:
                size, sha256, _ = _copy(source, target)
            packed.append(Packed(row.name, row.file, size, sha256))
        manifest = FORMAT | {"weights": [asdict(each) for each in packed]}
        archive.writestr(zipfile.ZipInfo(MANIFEST), json.dumps(manifest, indent=1))
    return packed


def install(bundle: Path, activity: Activity) -> list[Path]:
    """Put the files of a bundle into our own cache, all of them or none.

    Args:
        bundle: the file; nothing in it is trusted.
        activity: is told what goes on.

    Returns:
        The files in the cache.

    Raises:
        ModelError: it is no bundle, is damaged, or has what does not belong there.
    """
    folder = cache.own_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise cache.unusable(folder, "RESNET_CACHE_DIR", error) from error
    try:
        with zipfile.ZipFile(bundle) as archive, ExitStack() as unfinished:
            packed = _contents(archive, bundle.stat().st_size)
            for each in packed:
                activity.report(f"Checking {each.name}")
                _unpack(archive, each, unfinished)
    except (zipfile.BadZipFile, RuntimeError, EOFError, ValueError, OverflowError) as error:
        raise ModelError(f"{bundle}: expected a whole bundle of `resnet weights bundle` ({error})") from error
    except OSError as error:
        raise ModelError(f"{bundle}: {error.strerror or error}") from error
    except ResnetError as error:
        raise ModelError(f"{bundle}: {error}") from error
    rows = [PRETRAINED[each.name] for each in packed]
    for row, each in zip(rows, packed, strict=True):
        if row.repository:
            cache.record(row, cache.own_file(row), each.sha256)
    return [cache.own_file(row) for row in rows]


def _contents(archive: zipfile.ZipFile, size: int) -> list[Packed]:
    """Compare what the archive says of itself, what the manifest says, and what belongs into the cache.

    Args:
        archive: the bundle.
        size: its bytes.

    Raises:
        ModelError: they differ.
    """
    members = {info.filename: info for info in archive.infolist()}
    for name, info in members.items():
        kind = stat.S_IFMT(info.external_attr >> 16)
        if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1 or kind not in (0, stat.S_IFREG):
            raise ModelError(f"expected plain files, neither compressed nor links; {name[:SHOWN]!r} is something else")
    if sum(info.file_size for info in archive.infolist()) > size:
        raise ModelError(f"expected at most {size} bytes in it, it declares more")
    if MANIFEST not in members:
        raise ModelError(f"expected a bundle of `resnet weights bundle`, it has no {MANIFEST}")
    packed = _manifest(archive)
    named, there = Counter([MANIFEST, *(each.file for each in packed)]), Counter(archive.namelist())
    if odd := sorted(name for name in {*named, *there} if not named[name] == there[name] == 1):
        raise ModelError(f"expected the same files in it and in its manifest, once each; look at {odd[0][:SHOWN]!r}")
    for each in packed:
        if each.size != members[each.file].file_size:
            raise ModelError(f"expected {each.size} bytes of {each.file}, it has {members[each.file].file_size}")
    return packed


def _manifest(archive: zipfile.ZipFile) -> list[Packed]:
    with archive.open(MANIFEST) as stream:
        text = stream.read(MAX_MANIFEST)
    try:
        manifest = json.loads(text)
        if {key: manifest[key] for key in FORMAT} != FORMAT:
            raise ModelError(f"expected version {FORMAT['version']} of bundles; another version of resnet made it")
        packed = [
            Packed(str(entry["name"]), str(entry["file"]), int(entry["size"]), str(entry["sha256"]))
            for entry in manifest["weights"]
        ]
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise ModelError(f"its {MANIFEST} is damaged ({type(error).__name__}: {error})") from error
    for each in packed:
        row = PRETRAINED.get(each.name)
        if not row:
            raise ModelError(f"{each.name[:SHOWN]!r} is no name of `resnet weights list`{similar(each.name[:SHOWN])}")
        if each.file != row.file:
            raise ModelError(f"expected the file {row.file} for {each.name}, its manifest says {each.file[:SHOWN]!r}")
    return packed


def _unpack(archive: zipfile.ZipFile, each: Packed, unfinished: ExitStack) -> None:
    """Write a file under a temporary name, check it, and have it moved into the cache when all are checked."""
    row = PRETRAINED[each.name]
    final = cache.own_file(row)
    path = unfinished.enter_context(files.replacing(final))
    try:
        source = archive.open(each.file)
    except OSError as error:  # which `replacing` would take for one of writing
        raise ModelError(f"{each.file} cannot be read: {error.strerror}") from error
    with source, path.open("wb") as target:
        _, sha256, md5 = _copy(source, target)
    if sha256 != each.sha256:
        raise ModelError(f"{each.file} is damaged: expected sha256:{each.sha256[:SHOWN]}, got {sha256}")
    if row.md5 and md5 != row.md5:
        raise ModelError(f"{each.file} is not the published file: expected md5:{row.md5}, got {md5}")
    if row.repository and not hub.whole(path):
        raise ModelError(f"{each.file} is not the published file: expected whole safetensors")


def _copy(source: IO[bytes], target: IO[bytes]) -> tuple[int, str, str]:
    """Copy a file, and return its bytes, SHA-256 and MD5."""
    size, hashes = 0, (hashlib.sha256(), hashlib.md5(usedforsecurity=False))
    while chunk := source.read(CHUNK):
        target.write(chunk)
        size += len(chunk)
        for each in hashes:
            each.update(chunk)
    return size, hashes[0].hexdigest(), hashes[1].hexdigest()
