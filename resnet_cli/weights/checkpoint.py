"""Weight files <-> {parameter name: array}. Never unpickles.

A checkpoint holds arrays under the names of its own format; `parameters` translates the names of the network
into those of the format, and insists that both sides match one to one.
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
from safetensors import safe_open
from safetensors.numpy import save

from resnet_cli import names
from resnet_cli.errors import ModelError
from resnet_cli.graph import Graph, resnet
from resnet_cli.metadata import METADATA_KEY, Metadata

Arrays = dict[str, NDArray[Any]]

CHUNK = 1 << 15  # bytes, about, of names in an attribute of HDF5, which holds 64 KB
KERAS_MEMBER = "resnet_cli.json"  # where a .keras archive holds it


@dataclass(frozen=True)
class Checkpoint:
    """A weight file as it was read.

    Args:
        path: the file.
        arrays: its arrays by the file's own names, kernels as Keras shapes them.
        names: gives the file's name of each parameter of a network.
        metadata: what it says of itself; None for a file of another tool.
    """

    path: Path
    arrays: Arrays
    names: Callable[[Graph], dict[str, str]]
    metadata: Metadata | None

    def parameters(self, graph: Graph) -> Arrays:
        """Return the network's parameters as float32, named and shaped as `graph` says.

        Args:
            graph: the network.

        Raises:
            ModelError: an array is missing, left over or of another shape; all are named.
        """
        if faults := self.faults(graph):
            raise ModelError(f"{self.path} does not fit {graph.architecture.name}; " + "; ".join(faults))
        return {name: self.arrays[theirs] for name, theirs in self.names(graph).items()}

    def faults(self, graph: Graph) -> list[str]:
        """Say what keeps the file from being the network's.

        Args:
            graph: the network.

        Returns:
            Kinds of faults with the arrays that have them; empty where both sides match one to one.
        """
        known = self.names(graph)
        missing = [name for name, theirs in known.items() if theirs not in self.arrays]
        unexpected = sorted(self.arrays.keys() - set(known.values()))
        misshapen = [
            f"{name} with shape {self.arrays[theirs].shape} in place of {graph.parameters[name].shape}"
            for name, theirs in known.items()
            if theirs in self.arrays and self.arrays[theirs].shape != graph.parameters[name].shape
        ]
        found = {"missing": missing, "unexpected": unexpected, "wrong": misshapen}
        return [f"{fault}: {_few(listed)}" for fault, listed in found.items() if listed]


def _few(names: list[str], most: int = 3) -> str:
    rest = len(names) - most
    return ", ".join(names[:most]) + (f" and {rest} more" if rest > 0 else "")


def read(path: Path) -> Checkpoint:
    """Read a weight file: `.safetensors`, Keras's `.keras` or `.weights.h5`, or Keras 2's `.h5`.

    Args:
        path: the file; its format is told by its content.

    Raises:
        ModelError: the file is not there, cannot be read, is damaged or is of another format.
    """
    if not path.is_file():
        raise ModelError(f"{path}: expected a weights file, got {'a folder or a pipe' if path.exists() else 'nothing'}")
    try:
        if zipfile.is_zipfile(path):
            return _read_keras(path)
        if h5py.is_hdf5(path):
            with h5py.File(path) as file:
                return _read_hdf5(path, file)
        return _read_safetensors(path)
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from error
    except Exception as error:  # zip, HDF5 and safetensors name a damaged file in nearly every way there is
        expected = "expected .safetensors, .keras, .weights.h5 or .h5 weights"
        raise ModelError(f"{path}: {expected}, got a damaged or foreign file ({error})") from error


def _floats(arrays: Mapping[str, NDArray[Any]]) -> Arrays:
    for name, array in arrays.items():
        if array.dtype.kind != "f" and array.dtype.name != "bfloat16":
            raise ModelError(f"{name} holds {array.dtype}, expected floating point")
    return {name: np.asarray(array, np.float32) for name, array in arrays.items()}


def _read_safetensors(path: Path) -> Checkpoint:
    with safe_open(path, framework="numpy") as file:
        arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
        text = (file.metadata() or {}).get(METADATA_KEY)
    metadata = None if text is None else Metadata.from_json(text)
    if any(name.endswith(".running_var") for name in arrays):
        kept = {name: array for name, array in arrays.items() if not name.endswith(".num_batches_tracked")}
        ordered = {name: from_torch(array) for name, array in _floats(kept).items()}
        return Checkpoint(path, ordered, names.torch, metadata)
    return Checkpoint(path, _floats(arrays), names.own, metadata)


def from_torch(array: NDArray[Any]) -> NDArray[Any]:
    """Turn a kernel (out, in, height, width) or (out, in) into Keras's order of dimensions.

    Args:
        array: any array of a network; those of one dimension stay as they are.
    """
    return array.transpose({1: (0,), 2: (1, 0), 4: (2, 3, 1, 0)}[array.ndim])


def _read_keras(path: Path) -> Checkpoint:
    with zipfile.ZipFile(path) as archive, h5py.File(io.BytesIO(archive.read("model.weights.h5"))) as file:
        checkpoint = _read_hdf5(path, file)
        if KERAS_MEMBER not in archive.namelist():
            return checkpoint
        return replace(checkpoint, metadata=Metadata.from_json(archive.read(KERAS_MEMBER).decode()))


def _read_hdf5(path: Path, file: h5py.File) -> Checkpoint:
    metadata = Metadata.from_json(file[METADATA_KEY].asstr()[()]) if METADATA_KEY in file else None
    root = file.get("model_weights", file)  # a whole model saved by Keras 2 keeps its weights one level down
    datasets: dict[str, h5py.Dataset] = {}
    root.visititems(lambda name, node: datasets.update({name: node}) if isinstance(node, h5py.Dataset) else None)
    kept = {name: node for name, node in datasets.items() if name.split("/")[0] not in ("optimizer", METADATA_KEY)}
    arrays = _floats({name: np.asarray(node[()]) for name, node in kept.items()})
    if "layers" in root:
        return Checkpoint(path, arrays, names.keras3, metadata)
    renamed = {names.legacy(name): array for name, array in arrays.items()}
    if len(renamed) < len(arrays):
        counts = Counter(map(names.legacy, arrays))
        raise ModelError(f"several arrays are called {_few([name for name, count in counts.items() if count > 1])}")
    return Checkpoint(path, renamed, names.own, metadata)


def write_safetensors(path: Path, arrays: Mapping[str, NDArray[Any]], metadata: Metadata) -> None:
    """Write arrays under the network's names, with the metadata in the header.

    Args:
        path: the file to write.
        arrays: the network's parameters by name.
        metadata: what the file is to say of itself.
    """
    ordered = {name: np.ascontiguousarray(array) for name, array in arrays.items()}  # or `save` mixes up the values
    path.write_bytes(save(ordered, metadata={METADATA_KEY: metadata.to_json()}))


def write_torch_safetensors(path: Path, arrays: Mapping[str, NDArray[Any]], metadata: Metadata) -> None:
    """Write arrays under PyTorch's names and in its order of dimensions, with the metadata in the header.

    Args:
        path: the file to write.
        arrays: the network's parameters by name.
        metadata: what the file is to say of itself.

    Raises:
        ModelError: the network has arrays that those of PyTorch lack.
    """
    theirs = names.torch(resnet(metadata.architecture))
    if nameless := [name for name in arrays if theirs[name] == name]:
        raise ModelError(
            f"{metadata.architecture.name} has arrays that no ResNet of PyTorch has: {_few(nameless)}\n"
            "It has none with biases of convolutions or with batch norm before them, such as Keras's v1 and v2."
        )
    write_safetensors(path, {theirs[name]: to_torch(array) for name, array in arrays.items()}, metadata)


def to_torch(array: NDArray[Any]) -> NDArray[Any]:
    """Turn a kernel (height, width, in, out) or (in, out) into PyTorch's order of dimensions.

    Args:
        array: any array of a network; those of one dimension stay as they are.
    """
    return array.transpose({1: (0,), 2: (1, 0), 4: (3, 2, 0, 1)}[array.ndim])


def write_weights_h5(path: Path, arrays: Mapping[str, NDArray[Any]], metadata: Metadata) -> None:
    """Write arrays as `keras.Model.save_weights` does, with the metadata beside them.

    Args:
        path: the file to write.
        arrays: the network's parameters by name.
        metadata: what the file is to say of itself.
    """
    with _hdf5(path, metadata) as file:
        add_weights(file, resnet(metadata.architecture), arrays)


def write_legacy_h5(path: Path, arrays: Mapping[str, NDArray[Any]], metadata: Metadata) -> None:
    """Write arrays as Keras 2 did and `load_weights` still reads them, with the metadata beside them.

    Args:
        path: the file to write.
        arrays: the network's parameters by name.
        metadata: what the file is to say of itself.
    """
    layers = [op for op in resnet(metadata.architecture).ops if op.parameters]
    with _hdf5(path, metadata) as file:
        # What `load_weights` goes by: keras/src/legacy/saving/legacy_h5_format.py.
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
    content = io.BytesIO()  # HDF5 itself does not survive a full disk
    with h5py.File(content, "w") as file:
        yield file
        file[METADATA_KEY] = metadata.to_json()
    path.write_bytes(content.getvalue())


def add_weights(file: h5py.File, graph: Graph, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Add a network's parameters to an HDF5 file as `keras.Model.save_weights` does.

    Args:
        file: open for writing.
        graph: the network.
        arrays: its parameters by name.
    """
    for name, theirs in names.keras3(graph).items():
        file[theirs] = arrays[name]
