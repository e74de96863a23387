"""The use case: describe -> build with Keras -> write a file."""

from pathlib import Path
from typing import Any

from resnet_cli import architecture, files, formats, graph, models
from resnet_cli.errors import UsageError
from resnet_cli.graph import Graph
from resnet_cli.models import Activity

MAX_PARAMETERS = 2 * 10**9  # 8 GB of float32


def build(
    out: Path, weights: str, asked: dict[str, Any], activity: Activity, *, force: bool = False
) -> tuple[Graph, int]:
    """Build a ResNet with Keras and write it to a file.

    Args:
        out: the file; its suffix, a key of `formats.FORMATS`, is its format.
        weights: `none` for random ones, `imagenet`, `tiny`, or a file to start from.
        asked: arguments of `architecture.resnet` that the user gave.
        activity: is told what goes on.
        force: whether an existing file is replaced.

    Returns:
        The network, and the bytes of what was written.

    Raises:
        UsageError: the suffix is unknown, the file exists, its folder does not, or no network can be made.
        ModelError: the weights are not to be had or do not fit the network, or this has no place in the format.
    """
    _, chosen = formats.chosen(out, force=force)
    with files.replacing(*chosen.files(out)) as unfinished:
        model = None if weights == "none" else models.load(weights, asked, activity)
        network = model.graph if model else graph.resnet(architecture.resnet(**asked))
        if (count := network.totals.parameters) > MAX_PARAMETERS:
            raise UsageError(f"a network to build may have at most {MAX_PARAMETERS:,} parameters, got {count:,}")
        if model:
            parameters, metadata = model.parameters, model.metadata
        else:
            activity.report("Importing Keras")
            from resnet_cli import keras_model

            activity.report(f"Building {network.architecture.name}")
            parameters = keras_model.arrays(keras_model.build(network))
            metadata = models.default_metadata(network.architecture)
        activity.report(f"Writing {out.name}")
        chosen.write(unfinished, parameters, metadata)
    return network, chosen.size(out)
