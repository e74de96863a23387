"""A model ready to answer: network, parameters, labels and preprocessing, found by name or file."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache as once
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from resnet_cli import architecture, cache, graph, labels, store
from resnet_cli.architecture import Architecture
from resnet_cli.errors import ModelError
from resnet_cli.graph import Graph
from resnet_cli.metadata import Metadata
from resnet_cli.pretrained import CAFFE, IMAGENET, TINY

if TYPE_CHECKING:
    from resnet_cli.checkpoints import Arrays, Checkpoint


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
        weights: `auto`, `imagenet`, `tiny`, or a file.
        asked: arguments of `architecture.resnet` that the user gave; the rest is as the weights say.
        activity: is told what goes on.

    Raises:
        ModelError: the weights are not to be had, are damaged, or do not fit what was asked.
        UsageError: no network can be made of what was asked.
    """
    activity.report("Looking for weights")
    if weights in NAMED:
        weights, path = NAMED[weights](asked, activity)
    elif os.path.exists(weights):  # noqa: PTH110 - Path.exists raises on a name that is too long
        path = Path(weights)
    else:
        raise ModelError(f"{weights}: neither a weights file nor one of {', '.join(NAMED)}")
    activity.report(f"Reading {path}")

    @once
    def read() -> "Checkpoint":
        from resnet_cli import checkpoints  # h5py takes a tenth of a second

        return checkpoints.read(path)

    def own_metadata(_: Path) -> str | None:
        metadata = read().metadata
        return metadata.to_json() if metadata else None

    text = store.remembered(path, "metadata", own_metadata)
    own = None if text is None else Metadata.from_json(text)
    network = graph.resnet(described(own.architecture if own else None, asked))
    metadata = replace(own or default_metadata(network.architecture), architecture=network.architecture)
    return Model(network, metadata, weights, path, read)


def default_metadata(of: Architecture) -> Metadata:
    """Return what holds for a network that says nothing of itself: Keras's v1 preprocessing."""
    return Metadata(of, labels.default_labels(of.head.classes), CAFFE)


def _imagenet(asked: dict[str, Any], activity: Activity) -> tuple[str, Path]:
    wanted = architecture.resnet(**asked)
    for row in IMAGENET.values():
        if replace(wanted, image_size=224) == architecture.resnet(row.depth, variant=row.variant):
            return row.name, cache.fetch(row, activity)
    raise ModelError(f"no ImageNet weights are published for {wanted.name} with {wanted.head.classes} classes")


def _tiny(asked: dict[str, Any], activity: Activity) -> tuple[str, Path]:
    return TINY.name, TINY.path


def _auto(asked: dict[str, Any], activity: Activity) -> tuple[str, Path]:
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


NAMED: dict[str, Callable[[dict[str, Any], Activity], tuple[str, Path]]] = {
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
    if "depth" in asked:
        del options["stages"]
    return architecture.resnet(**{**options, **asked})


def _parameters(checkpoint: "Checkpoint", network: Graph) -> "Arrays":
    """Match file and network, and say which depth the file has where that is what went wrong."""
    try:
        return checkpoint.parameters(network)
    except ModelError as error:
        for depth in architecture.BLOCKS:
            if set(checkpoint.names(graph.resnet(architecture.resnet(depth))).values()) == checkpoint.arrays.keys():
                raise ModelError(f"{error}\nIts layers are those of --depth {depth}.") from error
        raise
