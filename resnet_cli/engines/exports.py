"""File formats as rows: what writes a network, and how what was written is read back and asked."""

import os
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from resnet_cli import checkpoints, engines, files
from resnet_cli.checkpoints import Arrays
from resnet_cli.engines import Setup
from resnet_cli.errors import ModelError, UsageError
from resnet_cli.metadata import Metadata
from resnet_cli.models import Activity, Model

Images = NDArray[np.uint8]
Probabilities = NDArray[np.float32]


@dataclass(frozen=True)
class Format:
    """A row.

    Args:
        writer: the function that writes, imported when it is used, as some take seconds.
        answer: reads a file that was made of a model, and returns what it says of images (batch, size, size, 3):
            probabilities (batch, classes).
        companions: suffixes of files that belong to it.
    """

    writer: str
    answer: Callable[[Path, Model, Images, Activity], Probabilities]
    companions: tuple[str, ...] = ()

    def write(self, path: Path, parameters: Arrays, metadata: Metadata) -> None:
        """Write a network.

        Args:
            path: the file.
            parameters: its arrays by name.
            metadata: what the file is to say of itself.

        Raises:
            ModelError: the network has no place in this format, or a library that it needs cannot run here.
        """
        try:
            write = pkgutil.resolve_name(self.writer)
        except ImportError as error:
            raise ModelError(f"what writes such a file cannot run here: {error}") from error
        write(path, parameters, metadata)

    def files(self, path: Path) -> tuple[Path, ...]:
        """Return a file and those that belong to it."""
        return (path, *(path.with_suffix(suffix) for suffix in self.companions))

    def size(self, path: Path) -> int:
        """Return the bytes of a file and of those that belong to it."""
        return sum(file.stat().st_size for file in self.files(path))


def _reread(path: Path, model: Model) -> Model:
    """Read a weight file, and insist that it says what the model says, bit for bit."""
    checkpoint = checkpoints.read(path)
    parameters = checkpoint.parameters(model.graph)
    if changed := [name for name, array in model.parameters.items() if parameters[name].tobytes() != array.tobytes()]:
        raise ModelError(f"arrays came out changed: {', '.join(changed[:3])}")
    if checkpoint.metadata is None or checkpoint.metadata.to_json() != model.metadata.to_json():
        raise ModelError("the metadata came out changed")
    return Model(model.graph, checkpoint.metadata, str(path), path, lambda: checkpoint)


def _by_engine(path: Path, model: Model, images: Images, activity: Activity) -> Probabilities:
    return engines.start("auto", _reread(path, model), Setup(), activity).predict(images)


def _by_keras(path: Path, model: Model, images: Images, activity: Activity) -> Probabilities:
    from resnet_cli import keras_model

    return keras_model.answer(path, _reread(path, model).metadata, images)


def _by_openvino(path: Path, model: Model, images: Images, activity: Activity) -> Probabilities:
    from resnet_cli import compiled

    return compiled.answer(path, images)


def _by_onnx_runtime(path: Path, model: Model, images: Images, activity: Activity) -> Probabilities:
    from resnet_cli import onnx_model

    return onnx_model.answer(path, images)


# By suffix; of two that fit a name, the first is meant.
FORMATS = {
    ".keras": Format("resnet_cli.keras_model:write", _by_keras),
    ".weights.h5": Format("resnet_cli.checkpoints:write_weights_h5", _by_engine),
    ".h5": Format("resnet_cli.checkpoints:write_legacy_h5", _by_engine),
    ".safetensors": Format("resnet_cli.checkpoints:write_safetensors", _by_engine),
    ".xml": Format("resnet_cli.compiled:write", _by_openvino, companions=(".bin",)),
    ".onnx": Format("resnet_cli.onnx_model:write", _by_onnx_runtime),
}

# By whose names the arrays get.
NAMES = {
    "keras": FORMATS,
    "pytorch": {".safetensors": Format("resnet_cli.checkpoints:write_torch_safetensors", _by_engine)},
}


def chosen(path: Path, *, force: bool, names: str = "keras") -> tuple[str, Format]:
    """Return the format of a file to write, before the work that is to fill it.

    Args:
        path: the file; its suffix, a key of `FORMATS`, is its format.
        force: whether existing files are replaced.
        names: a key of `NAMES`.

    Returns:
        The suffix and its row.

    Raises:
        UsageError: the suffix is unknown, a file exists, or none can stand there.
    """
    suffix = next((suffix for suffix in NAMES[names] if path.name.endswith(suffix)), None)
    if suffix is None:
        given = "" if NAMES[names] is FORMATS else f", given --names {names}"
        raise UsageError(f"{path}: the name must end with {', '.join(NAMES[names])}{given}")
    row = NAMES[names][suffix]
    for file in row.files(path):
        files.check(file)
        if os.path.lexists(file) and not force:
            raise UsageError(f"{file} exists; --force replaces it")
    return suffix, row
