"""Weights files <-> {parameter name: array}; nothing is ever unpickled.

A checkpoint contains arrays with the names of its own format. `parameters` translates the network's names into these,
and requires that both sides match one to one.
"""

import io
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from resnet_cli.errors import ModelError
from resnet_cli.network.graph import Graph, resnet
from resnet_cli.network.metadata import METADATA_KEY, Metadata
from resnet_cli.weights import foreign_names

Arrays = dict[str, NDArray[Any]]

CHUNK = 1 << 15  # bytes of names per HDF5 attribute, whose limit is 64 KB
KERAS_MEMBER = "resnet_cli.json"  # the file in a .keras archive that contains the metadata


@dataclass(frozen=True)
class Checkpoint:
    """The content of a weights file.

    Args:
        path: the file.
        arrays: its arrays by their names in the file; kernels have Keras's shapes.
        names: returns the name in the file of each parameter of a network.
        metadata: its metadata; None for a file from another tool.
    """

    path: Path
    arrays: Arrays
    names: Callable[[Graph], dict[str, str]]
    metadata: Metadata | None

    def parameters(self, graph: Graph) -> Arrays:
        """Return the parameters of a network by name, as float32.

        Raises:
            ModelError: an array is missing, unexpected or has another shape.
        """
        if mismatches := self.mismatches(graph):
            raise ModelError(f"{self.path} does not match {graph.architecture.name}; " + "; ".join(mismatches))
        return {name: self.arrays[stored] for name, stored in self.names(graph).items()}

    def mismatches(self, graph: Graph) -> list[str]:
        """Return the differences between the file and a network; empty if both sides match one to one."""
        known = self.names(graph)
        missing = [name for name, stored in known.items() if stored not in self.arrays]
        unexpected = sorted(self.arrays.keys() - set(known.values()))
        wrong_shape = [
            f"{name} has {self.arrays[stored].shape}, expected {graph.parameters[name].shape}"
            for name, stored in known.items()
            if stored in self.arrays and self.arrays[stored].shape != graph.parameters[name].shape
        ]
        found = {"missing": missing, "unexpected": unexpected, "wrong shape": wrong_shape}
        return [f"{fault}: {_abbreviate(listed)}" for fault, listed in found.items() if listed]


def _abbreviate(names: list[str], limit: int = 3) -> str:
    rest = len(names) - limit
    return ", ".join(names[:limit]) + (f" and {rest} more" if rest > 0 else "")


def read(path: Path) -> Checkpoint:
    """Read a weights file: `.safetensors`, Keras's `.keras` or `.weights.h5`, or Keras 2's `.h5`.

    The content determines the format, not the suffix.

    Raises:
        ModelError: the file does not exist, cannot be read, is damaged or has another format.
    """
    if not path.is_file():
        raise ModelError(
            f"{path}: expected a weights file, {'got a folder or a pipe' if path.exists() else 'found none'}"
        )
    try:
        if zipfile.is_zipfile(path):
            return _read_keras(path)
        if h5py.is_hdf5(path):
            with h5py.File(path) as file:
                return _read_hdf5(path, file)
        return _read_safetensors(path)
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from error
    except Exception as error:  # damaged files raise nearly any error in zipfile, HDF5 and safetensors
        expected = "expected .safetensors, .keras, .weights.h5 or .h5 weights"
        raise ModelError(f"{path}: {expected}, got a damaged or unsupported file ({error})") from error


def _floats(arrays: Mapping[str, NDArray[Any]]) -> Arrays:
    for name, array in arrays.items():
        if array.dtype.kind != "f" and array.dtype.name != "bfloat16":
            raise ModelError(f"{name}: expected floating-point values, got {array.dtype}")
    return {name: np.asarray(array, np.float32) for name, array in arrays.items()}


def _read_safetensors(path: Path) -> Checkpoint:
    with safe_open(path, framework="numpy") as file:
        arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
        text = (file.metadata() or {}).get(METADATA_KEY)
    metadata = None if text is None else Metadata.from_json(text)
    if any(name.endswith(".running_var") for name in arrays):
        selected = {name: array for name, array in arrays.items() if not name.endswith(".num_batches_tracked")}
        ordered = {name: from_torch(array) for name, array in _floats(selected).items()}
        return Checkpoint(path, ordered, foreign_names.torch, metadata)
    return Checkpoint(path, _floats(arrays), foreign_names.own, metadata)


def from_torch(array: NDArray[Any]) -> NDArray[Any]:
    """Convert an array from PyTorch's order of dimensions (out, in, height, width) to Keras's."""
    return array.transpose({1: (0,), 2: (1, 0), 4: (2, 3, 1, 0)}[array.ndim])


def _read_keras(path: Path) -> Checkpoint:
    with zipfile.ZipFile(path) as archive, h5py.File(io.BytesIO(archive.read("model.weights.h5"))) as file:
        checkpoint = _read_hdf5(path, file)
        if KERAS_MEMBER not in archive.namelist():
            return checkpoint
        return replace(checkpoint, metadata=Metadata.from_json(archive.read(KERAS_MEMBER).decode()))


def _read_hdf5(path: Path, file: h5py.File) -> Checkpoint:
    metadata = Metadata.from_json(file[METADATA_KEY].asstr()[()]) if METADATA_KEY in file else None
    root = file.get("model_weights", file)  # a complete model saved by Keras 2 has its weights one level down
    datasets: dict[str, h5py.Dataset] = {}
    root.visititems(lambda name, node: datasets.update({name: node}) if isinstance(node, h5py.Dataset) else None)
    selected = {name: node for name, node in datasets.items() if name.split("/")[0] not in ("optimizer", METADATA_KEY)}
    arrays = _floats({name: np.asarray(node[()]) for name, node in selected.items()})
    if "layers" in root:
        return Checkpoint(path, arrays, foreign_names.keras3, metadata)
    renamed = {foreign_names.legacy(name): array for name, array in arrays.items()}
    if len(renamed) < len(arrays):
        counts = Counter(map(foreign_names.legacy, arrays))
        raise ModelError(f"duplicate arrays: {_abbreviate([name for name, count in counts.items() if count > 1])}")
    return Checkpoint(path, renamed, foreign_names.own, metadata)


def is_complete(path: Path) -> bool:
    """Return whether a file is a safetensors file as long as its header says."""
    try:
        with safe_open(path, "numpy"):
            return True
    except (SafetensorError, OSError):
        return False


def write_safetensors(path: Path, arrays: Mapping[str, NDArray[Any]], metadata: Metadata) -> None:
    """Write arrays with the network's names, and the metadata in the header."""
    ordered = {
        name: np.ascontiguousarray(array) for name, array in arrays.items()
    }  # otherwise `save` mixes up the values
    path.write_bytes(save(ordered, metadata={METADATA_KEY: metadata.to_json()}))


def write_torch_safetensors(path: Path, arrays: Mapping[str, NDArray[Any]], metadata: Metadata) -> None:
    """Write arrays with PyTorch's names and order of dimensions, and the metadata in the header.

    Raises:
        ModelError: the network has arrays that no PyTorch ResNet has.
    """
    stored = foreign_names.torch(resnet(metadata.architecture))
    if nameless := [name for name in arrays if stored[name] == name]:
        raise ModelError(
            f"{metadata.architecture.name} has arrays that no PyTorch ResNet has: {_abbreviate(nameless)}\n"
            "PyTorch's ResNets have no convolution biases and no pre-activation, unlike Keras's v1 and v2."
        )
    write_safetensors(path, {stored[name]: to_torch(array) for name, array in arrays.items()}, metadata)


def to_torch(array: NDArray[Any]) -> NDArray[Any]:
    """Convert an array from Keras's order of dimensions (height, width, in, out) to PyTorch's."""
    return array.transpose({1: (0,), 2: (1, 0), 4: (3, 2, 0, 1)}[array.ndim])


def write_weights_h5(path: Path, arrays: Mapping[str, NDArray[Any]], metadata: Metadata) -> None:
    """Write arrays like `keras.Model.save_weights`, and the metadata next to them."""
    with _hdf5(path, metadata) as file:
        add_weights(file, resnet(metadata.architecture), arrays)


def write_legacy_h5(path: Path, arrays: Mapping[str, NDArray[Any]], metadata: Metadata) -> None:
    """Write arrays like Keras 2, which `load_weights` still reads, and the metadata next to them."""
    layers = [op for op in resnet(metadata.architecture).ops if op.parameters]
    with _hdf5(path, metadata) as file:
        # What `load_weights` reads: keras/src/legacy/saving/legacy_h5_format.py.
        file.attrs["backend"], file.attrs["keras_version"] = b"tensorflow", b"2.15.0"
        layer_names = np.array([layer.name.encode() for layer in layers])
        chunks = np.array_split(layer_names, 1 + layer_names.nbytes // CHUNK)
        for i, chunk in enumerate(chunks):
            file.attrs["layer_names" if len(chunks) == 1 else f"layer_names{i}"] = chunk
        for layer in layers:
            group = file.create_group(layer.name)
            group.attrs["weight_names"] = np.array([f"{parameter.name}:0".encode() for parameter in layer.parameters])
            for parameter in layer.parameters:
                group[f"{parameter.name}:0"] = arrays[parameter.name]


@contextmanager
def _hdf5(path: Path, metadata: Metadata) -> Iterator[h5py.File]:
    content = io.BytesIO()  # HDF5 crashes if the disk is full
    with h5py.File(content, "w") as file:
        yield file
        file[METADATA_KEY] = metadata.to_json()
    path.write_bytes(content.getvalue())


def add_weights(file: h5py.File, graph: Graph, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Add a network's parameters to an open HDF5 file, like `keras.Model.save_weights`."""
    for name, stored in foreign_names.keras3(graph).items():
        file[stored] = arrays[name]
