"""File formats that a network can be written in, one row per format."""

import os
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from resnet_cli.engines.engine import start_engine
from resnet_cli.errors import ModelError, UsageError
from resnet_cli.network.metadata import Metadata
from resnet_cli.system import atomic
from resnet_cli.system.progress import Progress
from resnet_cli.weights import checkpoint
from resnet_cli.weights.checkpoint import Arrays
from resnet_cli.weights.model import ModelFile

Images = NDArray[np.uint8]
Probabilities = NDArray[np.float32]


@dataclass(frozen=True)
class FileFormat:
    """How to write a file, and how to read it back and run it.

    Args:
        writer: the function that writes it, imported when it is used, because some imports take seconds.
        predict: reads a file that was written from a model, and returns its probabilities (batch, classes) for images
            (batch, size, size, 3); reports its progress.
        companions: suffixes of the files that belong to it.
    """

    writer: str
    predict: Callable[[Path, ModelFile, Images, Progress], Probabilities]
    companions: tuple[str, ...] = ()

    def write(self, path: Path, parameters: Arrays, metadata: Metadata) -> None:
        """Write a network.

        Args:
            path: the file.
            parameters: the network's arrays by name.
            metadata: the metadata.

        Raises:
            ModelError: the format cannot represent the network, or needs a library that cannot run here.
        """
        try:
            write = pkgutil.resolve_name(self.writer)
        except ImportError as error:
            raise ModelError(f"cannot write this format here: {error}") from error
        write(path, parameters, metadata)

    def files(self, path: Path) -> tuple[Path, ...]:
        """Return a file and its companions."""
        return (path, *(path.with_suffix(suffix) for suffix in self.companions))

    def size(self, path: Path) -> int:
        """Return the size in bytes of a file and its companions."""
        return sum(file.stat().st_size for file in self.files(path))


def _read_back(path: Path, model: ModelFile) -> ModelFile:
    """Read a weights file, and check that its arrays and metadata are exactly the model's."""
    content = checkpoint.read(path)
    parameters = content.parameters(model.graph)
    if changed := [name for name, array in model.parameters.items() if parameters[name].tobytes() != array.tobytes()]:
        raise ModelError(f"arrays changed in the file: {', '.join(changed[:3])}")
    if content.metadata is None or content.metadata.to_json() != model.metadata.to_json():
        raise ModelError("the metadata changed in the file")
    return ModelFile(model.graph, content.metadata, str(path), path, lambda: content)


def _by_engine(path: Path, model: ModelFile, images: Images, progress: Progress) -> Probabilities:
    return start_engine("auto", _read_back(path, model), progress=progress).predict(images)


def _by_keras(path: Path, model: ModelFile, images: Images, progress: Progress) -> Probabilities:
    from resnet_cli.engines import keras_engine

    return keras_engine.predict_file(path, _read_back(path, model).metadata, images)


def _by_openvino(path: Path, model: ModelFile, images: Images, progress: Progress) -> Probabilities:
    from resnet_cli.engines import openvino_engine

    return openvino_engine.predict_file(path, images)


def _by_onnx_runtime(path: Path, model: ModelFile, images: Images, progress: Progress) -> Probabilities:
    from resnet_cli.engines import onnx_file

    return onnx_file.predict_file(path, images)


# By suffix; if several match, the first is used.
FILE_FORMATS = {
    ".keras": FileFormat("resnet_cli.engines.keras_engine:write", _by_keras),
    ".weights.h5": FileFormat("resnet_cli.weights.checkpoint:write_weights_h5", _by_engine),
    ".h5": FileFormat("resnet_cli.weights.checkpoint:write_legacy_h5", _by_engine),
    ".safetensors": FileFormat("resnet_cli.weights.checkpoint:write_safetensors", _by_engine),
    ".xml": FileFormat("resnet_cli.engines.openvino_engine:write", _by_openvino, companions=(".bin",)),
    ".onnx": FileFormat("resnet_cli.engines.onnx_file:write", _by_onnx_runtime),
}

# By the naming of the arrays.
NAMES = {
    "keras": FILE_FORMATS,
    "pytorch": {".safetensors": FileFormat("resnet_cli.weights.checkpoint:write_torch_safetensors", _by_engine)},
}


def format_of(path: Path, *, force: bool, names: str = "keras") -> tuple[str, FileFormat]:
    """Return the suffix and the format of a file, before the work that fills it.

    Args:
        path: the file; its suffix is a key of `FILE_FORMATS`.
        force: whether to overwrite existing files.
        names: a key of `NAMES`.

    Raises:
        UsageError: the suffix is unknown, a file exists, or cannot have this name.
    """
    suffix = next((suffix for suffix in NAMES[names] if path.name.endswith(suffix)), None)
    if suffix is None:
        suffix_note = "" if NAMES[names] is FILE_FORMATS else f" (with --names {names})"
        raise UsageError(f"{path}: the name must end with {', '.join(NAMES[names])}{suffix_note}")
    row = NAMES[names][suffix]
    for file in row.files(path):
        atomic.check_writable(file)
        if os.path.lexists(file) and not force:
            raise UsageError(f"{file} already exists; use --force to overwrite it")
    return suffix, row
