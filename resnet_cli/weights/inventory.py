"""Networks and weights by name: what is published, what is cached, and whether it is complete."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from resnet_cli.errors import ModelError, UsageError
from resnet_cli.network import graph, variants
from resnet_cli.network.layers import Totals
from resnet_cli.system import cache_folder
from resnet_cli.system.progress import Progress
from resnet_cli.weights.local import CachedFile, find_cached, own_file
from resnet_cli.weights.model import load_model
from resnet_cli.weights.published import PRETRAINED, TINY, Pretrained, suggestion


@dataclass(frozen=True)
class PublishedNetwork:
    """A published network.

    Args:
        name: a key of `variants.NETWORKS`.
        depth, variant: keys of `variants.DEPTHS` and `variants.VARIANTS`.
        totals: its cost with 224 x 224 pixels and 1000 classes.
        weights: its published weights.
    """

    name: str
    depth: int
    variant: str
    totals: Totals
    weights: tuple[Pretrained, ...]


@dataclass(frozen=True)
class WeightsInfo:
    """Weights that are available by name.

    Args:
        name: their name in `--weights`.
        network: the name of their network in `resnet summary`.
        classes: number of classes.
        size_mb: size in megabytes (10^6 bytes), or None if unknown.
        image_size: input width and height in pixels, at which the accuracy was measured.
        top1, top5: accuracy in percent on their classes, or None if unknown.
        licence: SPDX identifier.
        path: the file, or None if it is damaged or not cached.
    """

    name: str
    network: str
    classes: int
    size_mb: int | None
    image_size: int
    top1: float
    top5: float | None
    licence: str
    path: Path | None


@dataclass(frozen=True)
class Verified:
    """The result of verifying cached weights.

    Args:
        name: name of the weights.
        path: the file.
        fault: what is wrong with it, or empty.
    """

    name: str
    path: Path
    fault: str


def list_networks() -> tuple[PublishedNetwork, ...]:
    """Return the published networks, variant by variant."""
    return tuple(
        PublishedNetwork(
            name,
            depth,
            variant,
            graph.resnet(variants.describe(name=name)).totals,
            tuple(row for row in PRETRAINED.values() if row.network == name),
        )
        for name, (depth, variant) in variants.NETWORKS.items()
    )


def list_weights(progress: Progress) -> Iterator[WeightsInfo]:
    """Yield all weights that are available by name."""
    for row in PRETRAINED.values():
        try:
            found = find_cached(row)
        except ModelError as error:
            progress.warn(str(error))
            found = None
        path = found.path if found and found.complete else None
        yield WeightsInfo(
            row.name, row.network, 1000, row.size_mb, row.image_size, row.top1, row.top5, row.licence, path
        )
    tiny = load_model(TINY.name, progress=progress).metadata.architecture
    size_mb = round(TINY.path.stat().st_size / 1e6)
    yield WeightsInfo(
        TINY.name, tiny.name, TINY.classes, size_mb, tiny.image_size, TINY.top1, TINY.top5, "MIT", TINY.path
    )


def find(name: str) -> Pretrained:
    """Return the row of a key of `PRETRAINED`, or of `imagenet`.

    Raises:
        ModelError: there are no weights with this name.
        UsageError: the weights are built into the package.
    """
    if name == TINY.name:
        raise UsageError(f"{name} is built into the package ({TINY.path}) and is never downloaded, bundled or removed")
    found = PRETRAINED.get("resnet50" if name == "imagenet" else name)
    if not found:
        raise ModelError(f"{name!r} is not a name from `resnet weights list`{suggestion(name)}")
    return found


def find_all(names: Iterable[str]) -> list[Pretrained]:
    """Return the rows of names, without duplicates."""
    return list(dict.fromkeys(map(find, names)))


def cached_file(row: Pretrained) -> CachedFile:
    """Return the file of a row, without downloading it.

    Raises:
        ModelError: it is damaged or not cached.
    """
    found = find_cached(row)
    if not found:
        raise ModelError(f"{row.name} is not in the cache; run `resnet weights download {row.name}` to get it")
    if not found.complete:
        raise ModelError(f"{found.path} is damaged; run `resnet weights download {row.name}` to replace it")
    return found


def path(name: str) -> Path:
    """Return the file of weights by name, without downloading it.

    Raises:
        ModelError: they are unknown, damaged or not cached.
    """
    return TINY.path if name == TINY.name else cached_file(find(name)).path


def verify(names: Iterable[str]) -> Iterator[Verified]:
    """Read weights in the caches and compare their hashes; without names, all that are cached.

    Raises:
        ModelError: a name is unknown, or its weights are not cached.
    """
    chosen = find_all(names)
    for row in chosen or PRETRAINED.values():
        try:
            found = find_cached(row)
        except ModelError as error:
            yield Verified(row.name, own_file(row), str(error))
            continue
        if found or chosen:
            file = found or cached_file(row)
            yield Verified(row.name, file.path, find_fault(file))


def find_fault(file: CachedFile) -> str:
    """Read a file and return what is wrong with it, or an empty text."""
    try:
        digest = cache_folder.digest(file.path, file.algorithm, refresh=True)
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    if digest == file.hash:
        return ""
    return f"damaged: expected {file.algorithm}:{file.hash}, got {digest}" if file.hash else "incomplete"
