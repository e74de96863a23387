"""A model, found by the name of its weights or by its file: network, parameters, labels and preprocessing."""

import os
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import cache as once
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resnet_cli.errors import ModelError, UsageError
from resnet_cli.network import graph, labels, variants
from resnet_cli.network.architecture import MAX_VALUE, Architecture, NetworkOptions
from resnet_cli.network.graph import Graph
from resnet_cli.network.metadata import Metadata
from resnet_cli.network.preprocessing import PREPROCESSING, TORCHVISION
from resnet_cli.system import cache_folder
from resnet_cli.system.progress import SILENT, Progress
from resnet_cli.weights import download, foreign_config, foreign_files
from resnet_cli.weights.foreign_config import ForeignConfig
from resnet_cli.weights.published import PRETRAINED, TINY, Pretrained, suggestion

if TYPE_CHECKING:
    from resnet_cli.weights.checkpoint import Arrays, Checkpoint


Found = tuple[str, Path, Pretrained | None]  # the name in records, the file, and its row if it is published

AS_STORED = NetworkOptions()
READER_VERSION = 2  # version of what is found in a file; what other versions have cached is ignored


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

    @property
    def digest(self) -> str:
        """A hash of the content of the file, with that of its shards."""
        return foreign_files.digest(self.path)

    @cached_property
    def parameters(self) -> "Arrays":
        """The network's arrays by name.

        Raises:
            ModelError: the file cannot be read, or does not match the network.
        """
        return _parameters(self.read(), self.graph)


def load_model(
    weights: str,
    requested: NetworkOptions = AS_STORED,
    progress: Progress = SILENT,
    *,
    labels_file: Path | None = None,
) -> ModelFile:
    """Find weights and read their metadata.

    Args:
        weights: `auto`, `imagenet`, `tiny`, a key of `PRETRAINED`, a file, or a folder from the Hugging Face Hub.
        requested: options of the network; the others come from the weights.
        progress: receives the progress of a download.
        labels_file: a file with one label per line, instead of those of the weights.

    Raises:
        ModelError: the weights are unavailable or damaged, or do not match the requested network.
        UsageError: the requested network is invalid, or there are not as many labels as classes.
    """
    progress.report("Looking for weights")
    row: Pretrained | None = None
    if weights in FINDERS:
        weights, path, row = FINDERS[weights](requested, progress)
    elif weights in PRETRAINED:
        row = PRETRAINED[weights]
        path = download.fetch(row, progress)
    elif os.path.exists(weights):  # noqa: PTH110 - Path.exists raises on a name that is too long
        path = foreign_files.find_weights(Path(weights))
    else:
        known = f"{', '.join(FINDERS)} or one from `resnet weights list`"
        raise ModelError(f"{weights}: neither a weights file nor a known name ({known}){suggestion(weights)}")
    progress.report(f"Reading {path}")

    @once
    def read() -> "Checkpoint":
        from resnet_cli.weights import checkpoint  # h5py takes a tenth of a second

        return checkpoint.read(path)

    try:
        if row:
            stored = _published_metadata(row)
            _cached_value(path, "values", lambda _: _checked(read(), graph.resnet(stored.architecture)))
        else:
            stored = _file_metadata(path, read, requested, progress)
        network = graph.resnet(resolve_architecture(stored.architecture, requested))
    except UsageError as error:
        if requested:
            raise
        raise ModelError(f"{path}: {error}") from error
    metadata = replace(stored, architecture=network.architecture)
    if labels_file:
        metadata = replace(metadata, labels=labels.read_labels(labels_file, network.architecture.head.classes))
    return ModelFile(network, metadata, weights, path, read)


def _checked(checkpoint: "Checkpoint", network: Graph) -> str:
    """Check that a file matches a network, and its values: once per file, so that cached starts need not.

    No engine does: OpenVINO computes confident predictions from NaN, and a cached network may be older than this check.
    """
    _parameters(checkpoint, network)
    checkpoint.check_values(network)
    return network.architecture.name


def _cached_value(path: Path, what: str, compute: Callable[[Path], Any]) -> Any:
    """Return what was found in a weights file, cached until it or one of its shards changes."""
    shards = foreign_files.digest(path) if len(foreign_files.shards(path)) > 1 else ""
    return cache_folder.cached_value(path, f"{what} {READER_VERSION} {shards}".rstrip(), compute)


def default_metadata(architecture: Architecture) -> Metadata:
    """Return the metadata for a network without any: the preprocessing of the published networks of its variant."""
    classes, variant = architecture.head.classes, variants.options_of(architecture).variant
    return Metadata(architecture, labels.default_labels(classes), PREPROCESSING.get(variant or "", TORCHVISION))


def _published_metadata(row: Pretrained, classes: int = 1000) -> Metadata:
    architecture = variants.describe(name=row.network, classes=classes, image_size=row.image_size)
    return Metadata(architecture, labels.default_labels(classes), row.preprocessing)


def _file_metadata(
    path: Path, read: "Callable[[], Checkpoint]", requested: NetworkOptions, progress: Progress
) -> Metadata:
    """Return the metadata in a file; for a file of another tool, what its arrays and its configuration tell."""

    def look(_: Path) -> dict[str, Any]:
        checkpoint = read()
        if checkpoint.metadata:
            network, seen = checkpoint.metadata.architecture, {"stored": checkpoint.metadata.to_json()}
        else:
            seen = _recognise(checkpoint)
            network = _choose(path, seen, requested).architecture
        _checked(checkpoint, graph.resnet(network))
        return seen

    seen = _cached_value(path, "networks", look)
    if "stored" in seen:
        return Metadata.from_json(seen["stored"])
    classes, metadata = seen["classes"], _choose(path, seen, requested)
    config = foreign_config.from_hub(path) or ForeignConfig(**seen["config"])
    if config.names and len(config.names) != classes:
        progress.warn(f"{path}: its configuration has {len(config.names)} labels for {classes} classes; ignoring them")
        config = replace(config, names=())
    usual, size = metadata.architecture.image_size, config.image_size
    if size not in (None, usual):
        progress.note(
            f"{path}: made for images of {size} x {size} pixels; using that size instead of {usual} x {usual}"
        )
    return config.apply(metadata)


def _recognise(checkpoint: "Checkpoint") -> dict[str, Any]:
    """Return what the arrays of a file tell of its network, ready for JSON."""
    classes = _classes(checkpoint)
    matching, nearest = _match(checkpoint, classes)
    return {
        "matching": [metadata.to_json() for metadata in matching],
        "nearest": nearest.to_json(),
        "classes": classes,
        "config": asdict(checkpoint.config),
    }


def _choose(path: Path, seen: dict[str, Any], requested: NetworkOptions) -> Metadata:
    """Return the network that a file's arrays match; if several or none do, the options decide."""
    matching = [Metadata.from_json(text) for text in seen["matching"]]
    if not matching and requested:
        return default_metadata(variants.describe(**{"classes": seen["classes"]} | requested.chosen))
    if not matching:
        return Metadata.from_json(seen["nearest"])  # an error will name the arrays that differ
    if len(matching) == 1:
        return matching[0]
    agreed = [
        metadata
        for metadata in matching
        if resolve_architecture(metadata.architecture, requested).name == metadata.architecture.name
    ]
    if len(agreed) != 1:
        names = [metadata.architecture.name for metadata in matching]
        raise ModelError(
            f"{path}: its arrays fit {' and '.join(names)}, and the file does not specify which\n"
            f"Run, for example, `resnet build {names[-1]} --weights FILE -o OUT` to write a file that does."
        )
    return agreed[0]


def _classes(checkpoint: "Checkpoint") -> int:
    """Return the number of classes of a file: the length of the bias of its head."""
    any_network = graph.resnet(variants.describe())  # the head has the same name in all of them
    bias = checkpoint.arrays.get(checkpoint.names(any_network)["predictions/bias"])
    if bias is None or bias.ndim != 1 or not 2 <= len(bias) <= MAX_VALUE:
        found = "none" if bias is None else f"{bias.shape}"
        raise ModelError(f"{checkpoint.path}: expected a bias for each class in the final layer, got {found}")
    return len(bias)


def _match(checkpoint: "Checkpoint", classes: int) -> tuple[list[Metadata], Metadata]:
    """Return the published networks that a file's arrays match, and the one that has the most names in common."""
    networks = [graph.resnet(variants.describe(name=name, classes=classes)) for name in variants.NETWORKS]
    distances = [len({*checkpoint.names(network).values()} ^ checkpoint.arrays.keys()) for network in networks]
    found = [network for network in networks if not checkpoint.mismatches(network)]
    nearest = networks[distances.index(min(distances))]
    return [_default_metadata(network, classes) for network in found], _default_metadata(nearest, classes)


def _default_metadata(network: Graph, classes: int) -> Metadata:
    published = (
        _published_metadata(row, classes) for row in PRETRAINED.values() if row.network == network.architecture.name
    )
    return next(published, default_metadata(network.architecture))


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


def resolve_architecture(stored: Architecture, requested: NetworkOptions) -> Architecture:
    """Return the requested network; anything not requested comes from that of the weights."""
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
