"""Weights files <-> {parameter name: array}; nothing is ever unpickled.

A checkpoint contains arrays with the names of its own format. `parameters` translates the network's names into these,
and requires that both sides match one to one.
"""

import io
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, deserialize, safe_open
from safetensors.numpy import save

from resnet_cli.errors import ModelError
from resnet_cli.network.graph import Graph, resnet
from resnet_cli.network.metadata import METADATA_KEY, Metadata
from resnet_cli.weights import foreign_config, foreign_files, foreign_names
from resnet_cli.weights.foreign_config import UNKNOWN, ForeignConfig

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
        config: what a file from another tool says of its network.
    """

    path: Path
    arrays: Arrays
    names: Callable[[Graph], dict[str, str]]
    metadata: Metadata | None
    config: ForeignConfig = UNKNOWN

    def parameters(self, graph: Graph) -> Arrays:
        """Return the parameters of a network by name, as float32.

        Raises:
            ModelError: an array is missing, unexpected or has another shape.
        """
        if mismatches := self.mismatches(graph):
            raise ModelError(f"{self.path} does not match {graph.architecture.name}; " + "; ".join(mismatches))
        return {name: self.arrays[stored] for name, stored in self.names(graph).items()}

    def check_values(self, graph: Graph) -> None:
        """Check the values of a network's parameters.

        Raises:
            ModelError: an array has NaN, infinite values or a negative variance, as after a training that diverged.
        """
        names = self.names(graph)
        faults = {name: fault for name, stored in names.items() if (fault := _fault(name, self.arrays[stored]))}
        if faults:
            name, fault = next(iter(faults.items()))
            stored = "" if names[name] == name else f" ({names[name]} in the file)"
            more = f", and {len(faults) - 1} more arrays are damaged" if len(faults) > 1 else ""
            raise ModelError(
                f"{self.path}: {name}{stored} {fault}{more}\n"
                "The training may have diverged, or the file is damaged; use weights from before that."
            )

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


def _fault(name: str, array: NDArray[Any]) -> str:
    """Return what is wrong with the values of a parameter, or an empty text."""
    lowest, highest = array.min(initial=0), array.max(initial=0)  # both are NaN if any value is
    if not np.isfinite([lowest, highest]).all():
        return "has NaN or infinite values"
    if name.endswith("/moving_variance") and lowest < 0:
        return f"has a negative variance, {lowest:.3g}"
    return ""


def _abbreviate(names: list[str], limit: int = 3) -> str:
    rest = len(names) - limit
    return ", ".join(names[:limit]) + (f" and {rest} more" if rest > 0 else "")


def read(path: Path) -> Checkpoint:
    """Read a weights file: `.safetensors`, Keras's `.keras` or `.weights.h5`, or Keras 2's `.h5`.

    The content determines the format, not the suffix.

    Raises:
        ModelError: the file does not exist, cannot be read, is damaged, has another format or no ResNet.
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
        got = foreign_files.describe(path) or f"a damaged or unsupported file ({error})"
        raise ModelError(f"{path}: expected .safetensors, .keras, .weights.h5 or .h5 weights, got {got}") from error


def _identify(path: Path, stored: Arrays, metadata: Metadata | None, config: ForeignConfig) -> Checkpoint:
    """Find the network among the arrays of a file, and give its head the name that its layout has for it.

    Raises:
        ModelError: there is no ResNet, or it is not the only one, or it has no head or several.
    """
    stored = {name: array for name, array in stored.items() if foreign_names.is_parameter(name)}
    layout, prefix = foreign_names.find_layout(stored) or (foreign_names.OWN, None)
    if not stored:
        raise ModelError("contains no arrays of a network")
    if metadata is None and prefix is None:
        raise ModelError(
            f"is not a ResNet that is known here; its arrays have names like {_abbreviate(sorted(stored), 2)}\n"
            "ResNets of Keras, torchvision, timm and transformers are recognised by the names of their arrays."
        )
    names = {name: name.removeprefix(prefix or "") for name in stored}
    if metadata is None:
        head = foreign_names.find_head({name: array.shape for name, array in stored.items()})
        names |= {name: known for name, known in zip(head, layout.head, strict=True) if name in stored}
        if beside := [name for name in stored if not name.startswith(prefix or "") and name not in head]:
            raise ModelError(f"has arrays beside those of the network: {_abbreviate(beside)}")
    arrays = {names[name]: array for name, array in _floats(stored).items()}
    if layout.torch_order:
        arrays = {name: from_torch(array) for name, array in arrays.items()}
    if metadata is None and arrays[layout.head[0]].shape[1] == 1:
        raise ModelError("its final layer has one output, expected one per class; two for a yes or no")
    return Checkpoint(path, arrays, layout.names, metadata, config)


def _floats(arrays: Mapping[str, NDArray[Any]]) -> Arrays:
    for name, array in arrays.items():
        if array.dtype.kind != "f":
            raise ModelError(f"{name}: expected floating-point values, got {array.dtype}")
    with np.errstate(over="ignore"):  # values that are too large become infinite, and are refused later
        return {name: np.asarray(array, np.float32) for name, array in arrays.items()}


def _widen(values: NDArray[Any]) -> NDArray[np.float32]:
    """Convert the bits of bfloat16 values, which NumPy does not know, to float32: they are its upper 16 bits."""
    return (values.astype(np.uint32) << 16).view(np.float32)


def _read_safetensors(path: Path) -> Checkpoint:
    arrays: Arrays = {}
    text = None
    for file in foreign_files.shards(path):
        arrays |= read_arrays(file)
        with safe_open(file, framework="numpy") as opened:
            text = (opened.metadata() or {}).get(METADATA_KEY, text)
    return _identify(path, arrays, None if text is None else Metadata.from_json(text), UNKNOWN)


def read_arrays(path: Path) -> Arrays:
    """Return the arrays of a safetensors file as they are stored, but bfloat16 as float32."""
    with safe_open(path, framework="numpy") as file:
        types = {name: file.get_slice(name).get_dtype() for name in file.keys()}  # noqa: SIM118 - not a mapping
        arrays = {name: file.get_tensor(name) for name, kind in types.items() if kind != "BF16"}
    if len(arrays) < len(types):
        content = deserialize(path.read_bytes())  # type: ignore[no-untyped-call]
        for name, each in content:
            if name not in arrays:
                arrays[name] = _widen(np.frombuffer(each["data"], "<u2").reshape(each["shape"]))
    return arrays


def from_torch(array: NDArray[Any]) -> NDArray[Any]:
    """Convert an array from PyTorch's order of dimensions (out, in, height, width) to Keras's."""
    return array.transpose({2: (1, 0), 4: (2, 3, 1, 0)}.get(array.ndim, range(array.ndim)))


def _read_keras(path: Path) -> Checkpoint:
    with zipfile.ZipFile(path) as archive, h5py.File(io.BytesIO(archive.read("model.weights.h5"))) as file:
        members = {
            name: archive.read(name).decode() for name in ("config.json", KERAS_MEMBER) if name in archive.NameToInfo
        }
        return _read_hdf5(path, file, members.get("config.json"), members.get(KERAS_MEMBER))


def _read_hdf5(path: Path, file: h5py.File, config: str | None = None, text: str | None = None) -> Checkpoint:
    """Read an open HDF5 file.

    Args:
        path: its path, or that of the archive which contains it.
        file: the file.
        config: Keras's description of the model, if it is not in the file.
        text: our metadata, if it is not in the file.
    """
    if METADATA_KEY in file:
        text = file[METADATA_KEY].asstr()[()]
    metadata = None if text is None else Metadata.from_json(text)
    config = config or file.attrs.get("model_config")
    root = file.get("model_weights", file)  # a complete model saved by Keras 2 has its weights one level down
    arrays: Arrays = {}
    root.visititems(lambda name, node: arrays.update({name: node[()]}) if _is_parameter(name, node) else None)
    arrays = {
        foreign_names.current(name): _widen(array.view("<u2")) if array.dtype == "V2" else array
        for name, array in arrays.items()
    }
    if not any(name.endswith("/vars/0") for name in arrays):
        renamed = foreign_names.legacy(arrays)
        if repeated := [name for name, count in Counter(renamed.values()).items() if count > 1]:
            raise ModelError(f"duplicate arrays: {_abbreviate(repeated)}")
        arrays = {renamed[name]: array for name, array in arrays.items()}
    foreign = UNKNOWN if metadata or not config else foreign_config.from_keras(config)
    return _identify(path, arrays, metadata, foreign)


def _is_parameter(name: str, node: object) -> bool:
    return isinstance(node, h5py.Dataset) and name != METADATA_KEY and foreign_names.is_parameter(name)


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
