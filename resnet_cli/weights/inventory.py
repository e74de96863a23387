"""Weights by name: what there is, what is in the caches, and whether it is whole."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from resnet_cli import cache, models, store
from resnet_cli.errors import ModelError, UsageError
from resnet_cli.models import Activity
from resnet_cli.pretrained import PRETRAINED, TINY, Pretrained, similar


@dataclass(frozen=True)
class Listed:
    """What is told of weights.

    Args:
        name: what `--weights` calls them.
        network: what `resnet summary` calls their network.
        classes: how many they know.
        size_mb: megabytes (10^6 bytes) of the file, None where unknown.
        image_size: side in pixels of the images that accuracy was measured on.
        top1, top5: accuracy in percent on images of their classes, None where unknown.
        licence: SPDX identifier.
        path: the file, None where it is not in the caches, or damaged.
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
class Checked:
    """A file that was checked.

    Args:
        name: of the weights.
        path: the file.
        fault: what is wrong with it, nothing where it is whole.
    """

    name: str
    path: Path
    fault: str


def listed(activity: Activity) -> Iterator[Listed]:
    """Tell of all weights that have a name.

    Args:
        activity: is told what goes on.
    """
    for row in PRETRAINED.values():
        try:
            found = cache.find(row)
        except ModelError as error:
            activity.warn(str(error))
            found = None
        path = found.path if found and found.whole else None
        yield Listed(row.name, row.network, 1000, row.size_mb, row.image_size, row.top1, row.top5, row.licence, path)
    tiny = models.load(TINY.name, {}, activity).metadata.architecture
    size_mb = round(TINY.path.stat().st_size / 1e6)
    yield Listed(TINY.name, tiny.name, TINY.classes, size_mb, tiny.image_size, TINY.top1, TINY.top5, "MIT", TINY.path)


def row(name: str) -> Pretrained:
    """Return the row of a name.

    Args:
        name: a key of `PRETRAINED`, or `imagenet`.

    Raises:
        ModelError: there are no weights of that name.
        UsageError: the weights are part of the package.
    """
    if name == TINY.name:
        raise UsageError(f"{name} is part of the package, at {TINY.path}: it is always there, and never downloaded")
    found = PRETRAINED.get("resnet50" if name == "imagenet" else name)
    if not found:
        raise ModelError(f"{name!r} is no name of `resnet weights list`{similar(name)}")
    return found


def rows(names: Iterable[str]) -> list[Pretrained]:
    """Return the rows of names, each once."""
    return list(dict.fromkeys(map(row, names)))


def kept(row: Pretrained) -> cache.Kept:
    """Return the file of a row, without downloading it.

    Args:
        row: which weights.

    Raises:
        ModelError: it is not in the caches, or damaged.
    """
    found = cache.find(row)
    if not found:
        raise ModelError(f"{row.name} is not in the cache; `resnet weights download {row.name}` gets it")
    if not found.whole:
        raise ModelError(f"{found.path} is damaged; `resnet weights download {row.name}` replaces it")
    return found


def path(name: str) -> Path:
    """Return the file of weights, without downloading it.

    Args:
        name: of the weights.

    Raises:
        ModelError: they are unknown, not in the caches, or damaged.
    """
    return TINY.path if name == TINY.name else kept(row(name)).path


def verify(names: Iterable[str]) -> Iterator[Checked]:
    """Read files in the caches and compare their hashes.

    Args:
        names: of the weights; where there are none, all that are in the caches.

    Raises:
        ModelError: a name is unknown, or its file is in no cache.
    """
    chosen = rows(names)
    for row in chosen or PRETRAINED.values():
        try:
            found = cache.find(row)
        except ModelError as error:
            yield Checked(row.name, cache.own_file(row), str(error))
            continue
        if found or chosen:
            checked = found or kept(row)
            yield Checked(row.name, checked.path, fault(checked))


def fault(kept: cache.Kept) -> str:
    """Read a file and say what is wrong with it, nothing where it is whole.

    Args:
        kept: the file and its hash.
    """
    try:
        digest = store.digest(kept.path, kept.algorithm, anew=True)
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    if digest == kept.hash:
        return ""
    return f"damaged: expected {kept.algorithm}:{kept.hash}, got {digest}" if kept.hash else "cut short"
