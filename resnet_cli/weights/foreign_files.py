"""Files of other tools: found in folders, read in shards, or named for what they are if they cannot be read."""

import hashlib
import json
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from resnet_cli.errors import ModelError
from resnet_cli.system import cache_folder

INDEX = ".safetensors.index.json"  # lists the shards of a file
# Weights in a snapshot of a repository on the Hub; the last one is never loaded, but recognised.
IN_FOLDER = ("model.safetensors", f"model{INDEX}", "pytorch_model.bin")
HEAD = 4096  # bytes that tell what a file is

ONNX_FIELDS = b"\x12\x1a\x22\x2a\x32\x3a\x42"  # the fields that can follow the version of an ONNX file
EXPORT_ONLY = "which is for export only: it is written but never read\nUse the weights file that it was made from."
PICKLE = (
    "a PyTorch pickle, which could run any code and is never loaded. If you trust it, save its arrays in Python:\n"
    'safetensors.torch.save_file(torch.load(FILE, weights_only=True), "model.safetensors")'
)
SAVED_MODEL = (
    'a TensorFlow SavedModel\nLoad it with the version of Keras that saved it, and run `model.save("model.h5")`.'
)

# What a file is, and whether its path, its first bytes or, in a zip, the names of its members say so.
KINDS: tuple[tuple[str, Callable[[Path, bytes, str], bool]], ...] = (
    (PICKLE, lambda path, head, members: head[:1] == b"\x80" and head[1:2] in (b"\2", b"\3", b"\4", b"\5")),
    (PICKLE, lambda path, head, members: "data.pkl" in members or "constants.pkl" in members),
    (
        "a bundle of weights\nRun `resnet weights install FILE`, then use their names.",
        lambda path, head, members: "manifest.json" in members,
    ),
    ("NumPy arrays, which name no network", lambda path, head, members: head[:6] == b"\x93NUMPY" or ".npy" in members),
    (
        "a placeholder of Git LFS\nRun `git lfs pull` to get the file itself.",
        lambda path, head, members: head.startswith(b"version https://git-lfs"),
    ),
    (f"an ONNX file, {EXPORT_ONLY}", lambda path, head, members: path.suffix == ".onnx" or _is_onnx(head)),
    (f"an OpenVINO file, {EXPORT_ONLY}", lambda path, head, members: b"<net " in head),
    (
        f"an OpenVINO file, {EXPORT_ONLY}",
        lambda path, head, members: path.suffix == ".bin" and path.with_suffix(".xml").exists(),
    ),
    (f"a TensorFlow Lite file, {EXPORT_ONLY}", lambda path, head, members: head[4:8] == b"TFL3"),
    (SAVED_MODEL, lambda path, head, members: path.suffix == ".pb"),
    ("a web page", lambda path, head, members: head.lstrip()[:14].lower().startswith((b"<!doctype html", b"<html"))),
    (
        "an image",
        lambda path, head, members: head.startswith((b"\xff\xd8\xff", b"\x89PNG", b"GIF8")) or head[8:12] == b"WEBP",
    ),
)


def _is_onnx(head: bytes) -> bool:
    """Return whether a file starts with a small version number and another field of ONNX's."""
    return head[:1] == b"\x08" and 1 <= head[1] <= 20 and head[2:3] in [bytes([field]) for field in ONNX_FIELDS]


def describe(path: Path) -> str:
    """Return in plain words what a file is that cannot be read, or an empty text; "FILE" stands for its name."""
    with path.open("rb") as file:
        head = file.read(HEAD)
    members = ""
    with suppress(zipfile.BadZipFile, OSError), zipfile.ZipFile(path) as archive:
        members = "\n".join(archive.namelist())
    return next((kind for kind, matches in KINDS if matches(path, head, members)), "")


def find_weights(path: Path) -> Path:
    """Return a weights file: the path itself or, in a folder, the file that a Hub's repository has.

    Raises:
        ModelError: the folder contains none.
    """
    if not path.is_dir():
        return path
    for name in IN_FOLDER:
        if (file := path / name).is_file():
            return file
    if (path / "saved_model.pb").exists():
        raise ModelError(f"{path}: expected a weights file, got {SAVED_MODEL}")
    raise ModelError(f"{path}: expected a weights file, got a folder without {IN_FOLDER[0]}; name a file in it")


def shards(path: Path) -> tuple[Path, ...]:
    """Return the files that an index lists; a file of any other kind is its own only shard.

    Raises:
        ModelError: the index is damaged, or a shard is missing.
    """
    if not path.name.endswith(INDEX):
        return (path,)
    try:
        names = sorted({*json.loads(path.read_text("utf-8"))["weight_map"].values()})
        if any(Path(name).name != name for name in names):
            raise ValueError("its files are not next to it")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"{path}: expected an index of safetensors files ({error})") from error
    files = tuple(path.with_name(name) for name in names)
    if missing := [file.name for file in files if not file.is_file()]:
        raise ModelError(f"{path}: {missing[0]}, which it lists, is missing")
    return files


def digest(path: Path) -> str:
    """Return a hash of the content of a weights file, with that of its shards.

    Raises:
        OSError: a file cannot be read.
    """
    files = shards(path)
    hashes = [cache_folder.digest(file) for file in files]
    return hashes[0] if len(files) == 1 else hashlib.sha256("".join(hashes).encode()).hexdigest()
