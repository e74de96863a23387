"""The use case: describe -> build with Keras -> write a file."""

import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resnet_cli import architecture, checkpoints, files, graph, models
from resnet_cli.checkpoints import Arrays
from resnet_cli.errors import UsageError
from resnet_cli.graph import Graph
from resnet_cli.metadata import Metadata
from resnet_cli.models import Activity

if TYPE_CHECKING:
    import keras

Writer = Callable[["keras.Model", Path, Metadata], None]

MAX_PARAMETERS = 2 * 10**9  # 8 GB of float32


def _write_keras(model: "keras.Model", path: Path, metadata: Metadata) -> None:
    model.save(path)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(checkpoints.KERAS_MEMBER, metadata.to_json())


def _write_arrays(write: Callable[[Path, Arrays, Metadata], None]) -> Writer:
    def write_model(model: "keras.Model", path: Path, metadata: Metadata) -> None:
        from resnet_cli import keras_model

        write(path, keras_model.arrays(model), metadata)

    return write_model


WRITERS: dict[str, Writer] = {
    ".keras": _write_keras,
    ".weights.h5": _write_arrays(checkpoints.write_weights_h5),
    ".safetensors": _write_arrays(checkpoints.write_safetensors),
}


def build(out: Path, weights: str, asked: dict[str, Any], activity: Activity, *, force: bool = False) -> Graph:
    """Build a ResNet with Keras and write it to a file.

    Args:
        out: the file; its suffix, a key of `WRITERS`, is its format.
        weights: `none` for random ones, `imagenet`, `tiny`, or a file to start from.
        asked: arguments of `architecture.resnet` that the user gave.
        activity: is told what goes on.
        force: whether an existing file is replaced.

    Returns:
        The network.

    Raises:
        UsageError: the suffix is unknown, the file exists, its folder does not, or no network can be made.
        ModelError: the weights are not to be had or do not fit the network.
    """
    write = next((writer for suffix, writer in WRITERS.items() if out.name.endswith(suffix)), None)
    if write is None:
        raise UsageError(f"{out}: the name must end with {', '.join(WRITERS)}")
    if os.path.lexists(out) and not force:
        raise UsageError(f"{out} exists; --force replaces it")

    with files.replacing(out) as unfinished:
        if weights == "none":
            network = graph.resnet(architecture.resnet(**asked))
            parameters, metadata = None, models.default_metadata(network.architecture)
        else:
            model = models.load(weights, asked, activity)
            network, parameters, metadata = model.graph, model.parameters, model.metadata
        if (count := network.totals.parameters) > MAX_PARAMETERS:
            raise UsageError(f"a network to build may have at most {MAX_PARAMETERS:,} parameters, got {count:,}")

        activity.report("Importing Keras")
        from resnet_cli import keras_model

        activity.report(f"Building {network.architecture.name}")
        keras_network = keras_model.build(network, parameters)
        activity.report(f"Writing {out.name}")
        write(keras_network, unfinished, metadata)
    return network
