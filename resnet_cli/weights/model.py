"""A model ready to answer: network, parameters, labels and preprocessing, found by name or file."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache as once
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from resnet_cli import __version__, architecture, cache, graph, labels, store
from resnet_cli.architecture import Architecture
from resnet_cli.errors import ModelError, UsageError
from resnet_cli.graph import Graph
from resnet_cli.metadata import Metadata
from resnet_cli.pretrained import PREPROCESSING, PRETRAINED, TINY, TORCHVISION, Pretrained, similar

if TYPE_CHECKING:
    from resnet_cli.checkpoints import Arrays, Checkpoint


Found = tuple[str, Path, Pretrained | None]  # the name that records report, the file, and its row if it is published


@dataclass(frozen=True)
class Model:
    """Everything that an answer depends on.

    Args:
        graph: the network.
        metadata: architecture, labels and preprocessing.
        weights: where the parameters come from, as records report it: a name or the file as it was named.
        path: the file of the parameters.
        read: reads that file; who has a compiled network never calls it.
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
            ModelError: the file cannot be read, or does not fit the network.
        """
        return _parameters(self.read(), self.graph)


class Activity(cache.Progress, Protocol):
    """Is told what goes on, and how far a download is."""

    def report(self, text: str) -> None:
        """Say what goes on now."""

    def warn(self, text: str) -> None:
        """Say what the user should know."""


def load(weights: str, asked: dict[str, Any], activity: Activity) -> Model:
    """Find weights and read them.

    Args:
        weights: `auto`, `imagenet`, `tiny`, a key of `PRETRAINED`, or a file.
        asked: arguments of `architecture.resnet` that the user gave; the rest is as the weights say.
        activity: is told what goes on.

    Raises:
        ModelError: the weights are not to be had, are damaged, or do not fit what was asked.
        UsageError: no network can be made of what was asked.
    """
    activity.report("Looking for weights")
    row: Pretrained | None = None
    if weights in NAMED:
        weights, path, row = NAMED[weights](asked, activity)
    elif weights in PRETRAINED:
        row = PRETRAINED[weights]
        path = cache.fetch(row, activity)
    elif os.path.exists(weights):  # noqa: PTH110 - Path.exists raises on a name that is too long
        path = Path(weights)
    else:
        raise ModelError(
            f"{weights}: neither a weights file nor one of {', '.join(NAMED)}, nor a name of `resnet weights list`"
            f"{similar(weights)}"
        )
    activity.report(f"Reading {path}")

    @once
    def read() -> "Checkpoint":
        from resnet_cli import checkpoints  # h5py takes a tenth of a second

        return checkpoints.read(path)

    own = _published(row) if row else _own_metadata(path, read, asked)
    try:
        network = graph.resnet(described(own.architecture if own else None, asked))
    except UsageError as error:
        if asked:
            raise
        raise ModelError(f"{path}: {error}") from error
    metadata = replace(own or default_metadata(network.architecture), architecture=network.architecture)
    return Model(network, metadata, weights, path, read)


def default_metadata(of: Architecture) -> Metadata:
    """Return what holds for a network that says nothing of itself: the preprocessing of its published kin."""
    variant = architecture.options(of).get("variant")
    return Metadata(of, labels.default_labels(of.head.classes), PREPROCESSING.get(variant or "", TORCHVISION))


def _published(row: Pretrained, classes: int = 1000) -> Metadata:
    described = architecture.resnet(name=row.network, classes=classes, image_size=row.image_size)
    return Metadata(described, labels.default_labels(classes), row.preprocessing)


def _own_metadata(path: Path, read: "Callable[[], Checkpoint]", asked: dict[str, Any]) -> Metadata | None:
    """Return what a file says of itself, else what its arrays say, else None."""

    def said(_: Path) -> list[str]:
        own = read().metadata
        return [metadata.to_json() for metadata in ([own] if own else _recognised(read()))]

    fitting = [Metadata.from_json(text) for text in store.remembered(path, f"networks {__version__}", said)]
    if len(fitting) < 2:
        return fitting[0] if fitting else None
    names = [metadata.architecture.name for metadata in fitting]
    agreed = [own for own in fitting if described(own.architecture, asked).name == own.architecture.name]
    if len(agreed) != 1:
        raise ModelError(
            f"{path}: its arrays fit {' and '.join(names)} alike, and it does not say which it is\n"
            f"`resnet build {names[-1]} --weights FILE -o OUT` writes a file that does"
        )
    return agreed[0]


def _recognised(checkpoint: "Checkpoint") -> list[Metadata]:
    """Return the published networks whose arrays these are; Keras's v1, which is told by its depth, is left out."""
    any_network = graph.resnet(architecture.resnet())  # all call the head alike
    bias = checkpoint.arrays.get(checkpoint.names(any_network)["predictions/bias"])
    if bias is None or bias.ndim != 1 or not 1 <= len(bias) <= architecture.MOST:
        return []
    fitting = []
    for name, (_, variant) in architecture.NETWORKS.items():
        if variant == "v1":
            continue
        network = graph.resnet(architecture.resnet(name=name, classes=len(bias)))
        if not checkpoint.faults(network):
            known = (_published(row, len(bias)) for row in PRETRAINED.values() if row.network == name)
            fitting.append(next(known, default_metadata(network.architecture)))
    return fitting


def _imagenet(asked: dict[str, Any], activity: Activity) -> Found:
    wanted = architecture.resnet(**asked)
    for row in PRETRAINED.values():
        if replace(wanted, image_size=224) == architecture.resnet(name=row.network):
            return "imagenet", cache.fetch(row, activity), row
    raise ModelError(f"no ImageNet weights are published for {wanted.name} with {wanted.head.classes} classes")


def _tiny(asked: dict[str, Any], activity: Activity) -> Found:
    return TINY.name, TINY.path, None


def _auto(asked: dict[str, Any], activity: Activity) -> Found:
    """Find the weights that answer when none are named: the embedded ones where no network was asked for."""
    try:
        return _imagenet(asked, activity)
    except ModelError as error:
        if asked:
            raise
        reason = str(error).splitlines()[0]
        activity.warn(
            f"{reason}; the small embedded network answers ({TINY.classes} classes, {TINY.top1:.0f} % right at first, "
            f"{TINY.top5:.0f} % among five); `resnet predict --weights imagenet` says how to get the full one"
        )
        return _tiny(asked, activity)


NAMED: dict[str, Callable[[dict[str, Any], Activity], Found]] = {
    "auto": _auto,
    "imagenet": _imagenet,
    "tiny": _tiny,
}


def described(own: Architecture | None, asked: Mapping[str, Any]) -> Architecture:
    """Return the network that was asked for; what was not asked is as the weights say.

    Args:
        own: the network of the weights, or None where they say nothing.
        asked: arguments of `architecture.resnet` that the user gave.
    """
    if own is None:
        return architecture.resnet(**asked)
    if not asked:
        return own
    options = architecture.options(own)
    replaced = {"depth": ("stages", "block"), "name": ("stages", "block", "variant", "stem"), "variant": ("stem",)}
    for name in asked.keys() & replaced.keys():
        options = {key: value for key, value in options.items() if key not in replaced[name]}
    return architecture.resnet(**{**options, **asked})


def _parameters(checkpoint: "Checkpoint", network: Graph) -> "Arrays":
    """Match file and network, and say which depth the file has where that is what went wrong."""
    try:
        return checkpoint.parameters(network)
    except ModelError as error:
        for depth in architecture.DEPTHS:
            if set(checkpoint.names(graph.resnet(architecture.resnet(depth))).values()) == checkpoint.arrays.keys():
                raise ModelError(f"{error}\nIts layers are those of --depth {depth}.") from error
        raise
