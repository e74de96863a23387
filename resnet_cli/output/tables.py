"""Results to stdout: records, summaries and reports as Rich tables or JSON."""

import sys
from collections.abc import Callable, Iterable
from dataclasses import asdict, astuple, dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from rich.bar import Bar
from rich.filesize import decimal
from rich.table import Table
from rich.text import Text

from resnet_cli import interrupts, terminal
from resnet_cli.graph import Graph
from resnet_cli.ops import totals
from resnet_cli.records import LAYOUTS, Layout, safe_json
from resnet_cli.terminal import printable

if TYPE_CHECKING:
    from resnet_cli.catalogue import Network
    from resnet_cli.convert import Converted
    from resnet_cli.output import Write
    from resnet_cli.predict import Record
    from resnet_cli.store import Part
    from resnet_cli.weights import Checked, Listed


def write_json(text: str) -> None:
    """Write JSON, which is UTF-8 whatever the locale."""
    sys.stdout.buffer.write(text.encode())
    sys.stdout.flush()


def count(number: int) -> str:
    """Return a number with commas between thousands."""
    return f"{number:,}"


def summary_json(network: Graph) -> None:
    """Print a network's layers and totals as one JSON object."""
    architecture = network.architecture
    layers = [
        {"name": op.name, "stage": op.stage, "kind": op.kind, "output_shape": op.output_shape, **asdict(totals([op]))}
        for op in network.ops
    ]
    fields = {
        "model": architecture.name,
        "image_size": architecture.image_size,
        "classes": architecture.head.classes,
        "totals": asdict(network.totals),
    }
    rows = ",\n".join(f"  {safe_json(layer)}" for layer in layers)
    write_json(f'{safe_json(fields)[:-1]}, "layers": [\n{rows}\n]}}\n')


def summary_table(network: Graph, *, expand: bool) -> None:
    """Print a network as a table, a row a stage or a row a layer, with totals."""
    architecture = network.architecture
    table = Table(title=f"{architecture.name}, {architecture.image_size} x {architecture.image_size}", show_footer=True)
    columns = ["layer", "kind"] if expand else ["stage", "blocks"]
    columns += ["output", "parameters", "trainable", "MACs"]
    footers = dict(zip(columns[3:], map(count, astuple(network.totals)), strict=True))
    for width, dropped in {110 if expand else 78: ("kind", "trainable"), 66: ("blocks",), 57: ("output",)}.items():
        if terminal.out.width < width:
            columns = [column for column in columns if column not in dropped]
    for column in columns:
        left = column in ("layer", "stage", "kind")
        footer = "total" if column == columns[0] else footers.get(column, "")
        table.add_column(column, footer, justify="left" if left else "right", overflow="fold")

    for stage, group in groupby(network.ops, key=lambda op: op.stage):
        members = list(group)
        for op in members if expand else members[-1:]:
            counts = totals([op] if expand else members)
            blocks = sum(member.kind == "Add" for member in members)
            cells = {
                "layer": op.name,
                "kind": op.kind,
                "stage": stage,
                "blocks": str(blocks or ""),
                "output": " x ".join(map(str, op.output_shape)),
                "parameters": count(counts.parameters),
                "trainable": count(counts.trainable),
                "MACs": count(counts.macs),
            }
            table.add_row(*(cells[column] for column in columns), end_section=expand and op is members[-1])
    terminal.out.print(table)


def complain(image: str, reason: Exception | None) -> None:
    """Say on stderr why an image failed, if it did."""
    if reason:
        terminal.error(f"{printable(image)}: {reason}")


@dataclass
class Count:
    """How many records have been written, and how many of them are of failures."""

    done: int = 0
    failed: int = 0


def write_records(
    records: Iterable["Record"], layout: Layout, write: "Write", count: Count, progress: Callable[[int], None]
) -> None:
    """Write records as they come, print failures to stderr, and count what is written.

    Args:
        records: what comes.
        layout: how they are written.
        write: writes a text as a whole.
        count: is kept up to date; what it counts already has been written by an earlier run.
        progress: is told how many are written.
    """
    ahead = "" if count.done else layout.begin
    try:
        for record in records:
            complain(record.image, record.error)
            text = ahead + layout.text(record)
            with interrupts.whole():
                write(text)
                count.done += 1
                count.failed += record.error is not None
                ahead = layout.between
            progress(count.done)
    finally:
        with interrupts.whole():
            write(("" if count.done else ahead) + layout.end)


def prediction_table(record: "Record") -> Table:
    """Return the table of an image that was answered."""
    wide = terminal.out.width >= 72
    table = Table(
        title=Text(printable(record.image), "bold"),
        title_justify="left",
        show_header=False,
        width=min(terminal.out.width, 88),
    )
    table.add_column(justify="right", style="dim", width=len(str(len(record.predictions))))
    table.add_column(ratio=1)
    table.add_column(width=20 if wide else 10)
    table.add_column(justify="right", width=7)
    if wide:
        table.add_column(style="dim", width=9)
    for prediction in record.predictions:
        probability = prediction.probability
        label = Text(printable(prediction.label.display), "bold" if prediction.rank == 1 else "")
        wnid = [prediction.label.wnid or ""] if wide else []
        table.add_row(str(prediction.rank), label, Bar(1, 0, probability, color="green"), f"{probability:.1%}", *wnid)
    return table


def table_text(record: "Record") -> str:
    """Return the table of an image that was answered, as `terminal.out` shows it; nothing for a failure."""
    if record.error:
        return ""
    with terminal.out.capture() as table:
        terminal.out.print(prediction_table(record))
    return table.get()


RECORDS = {"table": Layout(table_text), **LAYOUTS}


def built(network: Graph, path: Path, bytes_written: int) -> None:
    """Say on stderr what was written."""
    if terminal.verbosity > terminal.QUIET:
        parameters = count(network.totals.parameters)
        size = decimal(bytes_written)
        text = f"{printable(str(path))}: {network.architecture.name}, {parameters} parameters, {size}"
        terminal.err.print(Text(text), soft_wrap=True)


def converted_json(converted: "Converted") -> None:
    """Print what was converted as one JSON object."""
    write_json(safe_json(asdict(converted)) + "\n")


def converted_line(converted: "Converted") -> None:
    """Print what was converted as a line."""
    size, difference = decimal(converted.bytes), f"{converted.largest_difference:.1g}"
    labels = f"{converted.top_label} (before: {converted.source_top_label})"
    text = f"{converted.path}: {size}, largest difference of probability {difference}, {labels}"
    terminal.out.print(Text(printable(text)), soft_wrap=True)


CONVERSIONS = {"table": converted_line, "json": converted_json}


def cache_json(parts: Iterable["Part"]) -> None:
    """Print what is in the cache folder as one JSON object."""
    rows = {part.name: {"path": str(part.path), "files": part.files, "bytes": part.bytes} for part in parts}
    write_json(safe_json(rows) + "\n")


def cache_table(parts: Iterable["Part"]) -> None:
    """Print what is in the cache folder as a table."""
    table = Table()
    for column in ("part", "files", "size", "folder"):
        table.add_column(column, justify="right" if column in ("files", "size") else "left", overflow="fold")
    for part in parts:
        table.add_row(part.name, count(part.files), decimal(part.bytes), Text(printable(str(part.path))))
    terminal.out.print(table)


CACHES = {"table": cache_table, "json": cache_json}


def models_json(networks: Iterable["Network"]) -> None:
    """Print published networks as a JSON array."""
    rows = [
        {"name": network.name, "depth": network.depth, "variant": network.variant, **asdict(network.totals)}
        | {"weights": [asdict(row) for row in network.weights]}
        for network in networks
    ]
    write_json("[\n" + ",\n".join(map(safe_json, rows)) + "\n]\n")


def models_table(networks: Iterable["Network"]) -> None:
    """Print published networks as a table: a row a file of weights."""
    table = Table(caption="Top-1 accuracy on ImageNet's validation set, in percent.", caption_justify="left")
    columns = ["network", "variant", "params", "MACs", "top-1", "weights"]
    for width, dropped in {79: "variant", 69: "MACs"}.items():
        if terminal.out.width < width:
            columns.remove(dropped)
    for column in columns:
        left = column in ("network", "variant", "weights")
        table.add_column(column, justify="left" if left else "right", overflow="fold")
    for network in networks:
        cells = {
            "network": network.name,
            "variant": network.variant,
            "params": f"{network.totals.parameters / 1e6:.1f} M",
            "MACs": f"{network.totals.macs / 1e9:.2f} G",
        }
        for row in network.weights or (None,):
            known = {"top-1": f"{row.top1:.2f}", "weights": row.name} if row else {}
            table.add_row(*((cells | known).get(column, "") for column in columns))
            cells = {}
    terminal.out.print(table)


MODELS = {"table": models_table, "json": models_json}


def weights_json(listed: Iterable["Listed"]) -> None:
    """Print what weights there are as one JSON array."""
    rows = [asdict(each) | {"cached": each.path is not None, "path": each.path and str(each.path)} for each in listed]
    write_json("[\n" + ",\n".join(map(safe_json, rows)) + "\n]\n")


def weights_table(listed: Iterable["Listed"]) -> None:
    """Print what weights there are as a table."""
    table = Table(caption="top-1 in %: of tiny on 200 classes, of all others on ImageNet's 1000")
    columns = ["name", "network", "size", "image", "top-1", "licence", "cached"]
    if terminal.out.width < 92:
        columns.remove("network")
    for column in columns:
        table.add_column(column, justify="right" if column in ("size", "image", "top-1") else "left")
    for each in listed:
        cells = {
            "name": each.name,
            "network": each.network,
            "size": f"{each.size_mb} MB" if each.size_mb else "",
            "image": str(each.image_size),
            "top-1": f"{each.top1:.2f}",
            "licence": each.licence,
            "cached": "yes" if each.path else "",
        }
        table.add_row(*(cells[column] for column in columns))
    terminal.out.print(table)


WEIGHTS = {"table": weights_table, "json": weights_json}


def path(path: Path) -> None:
    """Print the name of a file."""
    terminal.out.print(Text(printable(str(path))), soft_wrap=True)


def checked(checked: "Checked") -> None:
    """Print whether a file of weights is whole."""
    terminal.out.print(Text(printable(f"{checked.name}: {checked.fault or 'whole'}, {checked.path}")), soft_wrap=True)
