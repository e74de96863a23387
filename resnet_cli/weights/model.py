"""A model, found by the name of its weights or by its file: network, parameters, labels and preprocessing."""

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache as once
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from resnet_cli.errors import ModelError, UsageError
from resnet_cli.network import graph, labels, variants
from resnet_cli.network.architecture import MAX_VALUE, Architecture, NetworkOptions
from resnet_cli.network.graph import Graph
from resnet_cli.network.metadata import Metadata
from resnet_cli.network.preprocessing import PREPROCESSING, TORCHVISION
from resnet_cli.system import cache_folder
from resnet_cli.system.progress import SILENT, Progress
from resnet_cli.version import __version__
from resnet_cli.weights import download
from resnet_cli.weights.published import PRETRAINED, TINY, Pretrained, suggestion

if TYPE_CHECKING:
    from resnet_cli.weights.checkpoint import Arrays, Checkpoint


Found = tuple[str, Path, Pretrained | None]  # the name in records, the file, and its row if it is published

AS_STORED = NetworkOptions()


@dataclass(frozen=True)
class ModelFile:
    """Everything that a prediction depends on, except the engine.

    Args:
        graph: the network.
        metadata: architecture, labels and preprocessing.
        weights: the name of the weights, or their file as the user named it.
        path: the file.
        read: reads the file; not called if a compiled network is cached.
    """

    graph: Graph
    metadata: Metadata
    weights: str
    path: Path
    read: "Callable[[], Checkpoint]"

    @cached_property
    def parameters(self) -> "Arrays":
        """The network's arrays by name.

        Raises:
            ModelError: the file cannot be read, or does not match the network.
        """
        return _parameters(self.read(), self.graph)


def load_model(weights: str, requested: NetworkOptions = AS_STORED, progress: Progress = SILENT) -> ModelFile:
    """Find weights and read their metadata.

    Args:
        weights: `auto`, `imagenet`, `tiny`, a key of `PRETRAINED`, or a file.
        requested: options of the network; the others come from the weights.
        progress: receives the progress of a download.

    Raises:
        ModelError: the weights are unavailable or damaged, or do not match the requested network.
        UsageError: the requested network is invalid.
    """
    progress.report("Looking for weights")
    row: Pretrained | None = None
    if weights in FINDERS:
        weights, path, row = FINDERS[weights](requested, progress)
    elif weights in PRETRAINED:
        row = PRETRAINED[weights]
        path = download.fetch(row, progress)
    elif os.path.exists(weights):  # noqa: PTH110 - Path.exists raises on a name that is too long
        path = Path(weights)
    else:
        known = f"{', '.join(FINDERS)} or one from `resnet weights list`"
        raise ModelError(f"{weights}: neither a weights file nor a known name ({known}){suggestion(weights)}")
    progress.report(f"Reading {path}")

    @once
    def read() -> "Checkpoint":
        from resnet_cli.weights import checkpoint  # h5py takes a tenth of a second

        return checkpoint.read(path)

    stored = _published_metadata(row) if row else _file_metadata(path, read, requested)
    try:
        network = graph.resnet(resolve_architecture(stored.architecture if stored else None, requested))
    except UsageError as error:
        if requested:
            raise
        raise ModelError(f"{path}: {error}") from error
    metadata = replace(stored or default_metadata(network.architecture), architecture=network.architecture)
    return ModelFile(network, metadata, weights, path, read)


def default_metadata(architecture: Architecture) -> Metadata:
    """Return the metadata for a network without any: the preprocessing of the published networks of its variant."""
    classes, variant = architecture.head.classes, variants.options_of(architecture).variant
    return Metadata(architecture, labels.default_labels(classes), PREPROCESSING.get(variant or "", TORCHVISION))


def _published_metadata(row: Pretrained, classes: int = 1000) -> Metadata:
    architecture = variants.describe(name=row.network, classes=classes, image_size=row.image_size)
    return Metadata(architecture, labels.default_labels(classes), row.preprocessing)


def _file_metadata(path: Path, read: "Callable[[], Checkpoint]", requested: NetworkOptions) -> Metadata | None:
    """Return the metadata in a file, otherwise that of the published network that its arrays match, otherwise None."""

    def matching(_: Path) -> list[str]:
        stored = read().metadata
        return [metadata.to_json() for metadata in ([stored] if stored else _matching_networks(read()))]

    cached = cache_folder.cached_value(path, f"networks {__version__}", matching)
    found = [Metadata.from_json(text) for text in cached]
    if len(found) < 2:
        return found[0] if found else None
    names = [metadata.architecture.name for metadata in found]
    agreed = [
        metadata
        for metadata in found
        if resolve_architecture(metadata.architecture, requested).name == metadata.architecture.name
    ]
    if len(agreed) != 1:
        raise ModelError(
            f"{path}: its arrays fit {' and '.join(names)}, and the file does not specify which\n"
            f"Run, for example, `resnet build {names[-1]} --weights FILE -o OUT` to write a file that does."
        )
    return agreed[0]


def _matching_networks(checkpoint: "Checkpoint") -> list[Metadata]:
    """Return the published networks that a file's arrays match, except Keras's v1, for which `--depth` decides."""
    any_network = graph.resnet(variants.describe())  # the head has the same name in all of them
    bias = checkpoint.arrays.get(checkpoint.names(any_network)["predictions/bias"])
    if bias is None or bias.ndim != 1 or not 1 <= len(bias) <= MAX_VALUE:
        return []
    found = []
    for name, (_, variant) in variants.NETWORKS.items():
        if variant == "v1":
            continue
        network = graph.resnet(variants.describe(name=name, classes=len(bias)))
        if not checkpoint.mismatches(network):
            published = (_published_metadata(row, len(bias)) for row in PRETRAINED.values() if row.network == name)
            found.append(next(published, default_metadata(network.architecture)))
    return found


def _imagenet(requested: NetworkOptions, progress: Progress) -> Found:
    architecture = variants.describe(**requested.chosen)
    for row in PRETRAINED.values():
        if replace(architecture, image_size=224) == variants.describe(name=row.network):
            return "imagenet", download.fetch(row, progress), row
    classes = architecture.head.classes
    raise ModelError(f"no ImageNet weights are published for {architecture.name} with {classes} classes")


def _tiny(requested: NetworkOptions, progress: Progress) -> Found:
    return TINY.name, TINY.path, None


def _auto(requested: NetworkOptions, progress: Progress) -> Found:
    """Find the default weights: ImageNet's, or the built-in ones unless a network was requested."""
    try:
        return _imagenet(requested, progress)
    except ModelError as error:
        if requested:
            raise
        reason = str(error).splitlines()[0]
        quality = f"{TINY.classes} classes, {TINY.top1:.0f} % top-1 and {TINY.top5:.0f} % top-5 accuracy"
        advice = "run `resnet weights download imagenet` to get the full network"
        progress.warn(f"{reason}; using the small built-in network ({quality}); {advice}")
        return _tiny(requested, progress)


FINDERS: dict[str, Callable[[NetworkOptions, Progress], Found]] = {
    "auto": _auto,
    "imagenet": _imagenet,
    "tiny": _tiny,
}

# By requested option: the stored options that it replaces.
REPLACED = {"depth": ("stages", "block"), "name": ("stages", "block", "variant", "stem"), "variant": ("stem",)}


def resolve_architecture(stored: Architecture | None, requested: NetworkOptions) -> Architecture:
    """Return the requested network; anything not requested comes from the weights.

    Args:
        stored: the network of the weights, or None if they do not describe it.
        requested: the requested options.
    """
    if stored is None:
        return variants.describe(**requested.chosen)
    if not requested:
        return stored
    replaced = {name for option in requested.chosen for name in REPLACED.get(option, ())}
    kept = {name: value for name, value in variants.options_of(stored).chosen.items() if name not in replaced}
    return variants.describe(**kept | requested.chosen)


def _parameters(checkpoint: "Checkpoint", network: Graph) -> "Arrays":
    """Return a file's parameters; if they do not match, look for a depth that they match."""
    try:
        return checkpoint.parameters(network)
    except ModelError as error:
        for depth in variants.DEPTHS:
            if set(checkpoint.names(graph.resnet(variants.describe(depth))).values()) == checkpoint.arrays.keys():
                raise ModelError(f"{error}\nIts layers match --depth {depth}.") from error
        raise
