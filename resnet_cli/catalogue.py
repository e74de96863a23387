"""All published networks: what they cost, and what weights there are for them (standard library only)."""

from dataclasses import dataclass

from resnet_cli import architecture, graph
from resnet_cli.ops import Totals
from resnet_cli.pretrained import PRETRAINED, Pretrained


@dataclass(frozen=True)
class Network:
    """A published network.

    Args:
        name: a key of `architecture.NETWORKS`.
        depth, variant: keys of `architecture.DEPTHS` and `architecture.VARIANTS`.
        totals: what it costs at 224 x 224 pixels with 1000 classes.
        weights: published files that are known.
    """

    name: str
    depth: int
    variant: str
    totals: Totals
    weights: tuple[Pretrained, ...]


def networks() -> tuple[Network, ...]:
    """Return the published networks, variant by variant."""
    return tuple(
        Network(
            name,
            depth,
            variant,
            graph.resnet(architecture.resnet(name=name)).totals,
            tuple(row for row in PRETRAINED.values() if row.network == name),
        )
        for name, (depth, variant) in architecture.NETWORKS.items()
    )
