"""Build a ResNet from scratch with Keras and write it to a file."""

from pathlib import Path

from resnet_cli.engines import exports
from resnet_cli.errors import UsageError
from resnet_cli.network import graph, variants
from resnet_cli.network.architecture import NetworkOptions
from resnet_cli.network.graph import Graph
from resnet_cli.system import atomic
from resnet_cli.system.progress import Progress
from resnet_cli.weights.model import default_metadata, load_model

MAX_PARAMETERS = 2 * 10**9  # 8 GB of float32


def build_model(
    out: Path, weights: str, requested: NetworkOptions, progress: Progress, *, force: bool = False
) -> tuple[Graph, int]:
    """Build a ResNet with Keras, write it to a file, and return the network and the size of the file in bytes.

    Args:
        out: the file; its suffix, a key of `exports.FILE_FORMATS`, selects the format.
        weights: `none` for random ones, a name, or a file.
        requested: options of the network.
        progress: receives the progress.
        force: whether to overwrite an existing file.

    Raises:
        UsageError: the suffix is unknown, the file exists, its folder does not, or the requested network is invalid.
        ModelError: the weights are unavailable or do not match the network, or the format cannot represent it.
    """
    _, row = exports.format_of(out, force=force)
    with atomic.atomic_write(*row.files(out)) as temporary:
        model = None if weights == "none" else load_model(weights, requested, progress)
        network = model.graph if model else graph.resnet(variants.describe(**requested.chosen))
        if (count := network.totals.parameters) > MAX_PARAMETERS:
            raise UsageError(f"a network can have at most {MAX_PARAMETERS:,} parameters, got {count:,}")
        if model:
            parameters, metadata = model.parameters, model.metadata
        else:
            progress.report("Importing Keras")
            from resnet_cli.engines import keras_engine

            progress.report(f"Building {network.architecture.name}")
            parameters = keras_engine.arrays(keras_engine.to_keras(network))
            metadata = default_metadata(network.architecture)
        progress.report(f"Writing {out.name}")
        row.write(temporary, parameters, metadata)
    return network, row.size(out)
