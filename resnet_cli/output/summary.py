"""Networks and converted files on stdout."""

from dataclasses import asdict, astuple
from itertools import groupby
from typing import TYPE_CHECKING

from rich.filesize import decimal
from rich.table import Table
from rich.text import Text

from resnet_cli.network.graph import Graph
from resnet_cli.network.layers import totals
from resnet_cli.output.tables import View, add_columns
from resnet_cli.output.terminal import printable, thousands

if TYPE_CHECKING:
    from resnet_cli.tasks.convert import Converted


def stages_table(network: Graph) -> Table:
    """Return a network as a table with one row per stage."""
    return _table(network, expand=False)


def layers_table(network: Graph) -> Table:
    """Return a network as a table with one row per layer."""
    return _table(network, expand=True)


def _table(network: Graph, *, expand: bool) -> Table:
    architecture = network.architecture
    table = Table(title=f"{architecture.name}, {architecture.image_size} x {architecture.image_size}", show_footer=True)
    first = ("layer", "kind") if expand else ("stage", "blocks")
    costs = ("parameters", "trainable", "MACs")
    footers = dict(zip(costs, map(thousands, astuple(network.totals)), strict=True))
    rows = []
    for stage, group in groupby(network.ops, key=lambda op: op.stage):
        members = list(group)
        for op in members if expand else members[-1:]:
            cost = totals([op] if expand else members)
            blocks = sum(member.kind == "Add" for member in members)
            row = {
                "layer": op.name,
                "kind": op.kind,
                "stage": stage,
                "blocks": str(blocks or ""),
                "output": " x ".join(map(str, op.output_shape)),
                "parameters": thousands(cost.parameters),
                "trainable": thousands(cost.trainable),
                "MACs": thousands(cost.macs),
            }
            rows.append((row, expand and op is members[-1]))
    columns = add_columns(
        table,
        (*first, "output", *costs),
        [row for row, _ in rows],
        left=("layer", "stage", "kind"),
        drop=("kind", "trainable", "blocks", "output", "parameters", "MACs"),
        footers=footers | {first[0]: "total"},
    )
    for row, ends_section in rows:
        table.add_row(*(row[column] for column in columns), end_section=ends_section)
    return table


def summary_json(network: Graph) -> dict[str, object]:
    """Return a network's layers and totals as one JSON object."""
    architecture = network.architecture
    return {
        "model": architecture.name,
        "image_size": architecture.image_size,
        "classes": architecture.head.classes,
        "totals": asdict(network.totals),
        "layers": [
            {"name": op.name, "stage": op.stage, "kind": op.kind, "output_shape": op.output_shape}
            | asdict(totals([op]))
            for op in network.ops
        ],
    }


def conversion_line(converted: "Converted") -> Text:
    """Return a converted file as a line."""
    size, difference = decimal(converted.bytes), f"{converted.largest_difference:.1g}"
    labels = f"top label: {converted.top_label} (source: {converted.source_top_label})"
    return Text(printable(f"{converted.path}: {size}, largest probability difference: {difference}, {labels}"))


def conversion_json(converted: "Converted") -> dict[str, object]:
    """Return a converted file as one JSON object."""
    return asdict(converted)


BY_STAGE = View(stages_table, summary_json, rows="layers")
BY_LAYER = View(layers_table, summary_json, rows="layers")
CONVERSION = View(conversion_line, conversion_json)
