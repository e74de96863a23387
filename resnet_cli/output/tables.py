"""One way from a result to a table or JSON, tables that fit narrow terminals, and lists of networks and weights."""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Generic, Literal, TypeVar

from rich.cells import cell_len
from rich.console import RenderableType
from rich.filesize import decimal
from rich.table import Table
from rich.text import Text

from resnet_cli.output import terminal
from resnet_cli.output.terminal import printable, thousands

if TYPE_CHECKING:
    from resnet_cli.system.cache_folder import Part
    from resnet_cli.weights.inventory import PublishedNetwork, WeightsInfo

T = TypeVar("T")
ReportFormat = Literal["table", "json"]
FOLDED = 24  # columns on the terminal; a longer cell, such as a path, is folded before other columns give way


@dataclass(frozen=True)
class View(Generic[T]):
    """Two ways to show a result.

    Args:
        table: returns it as a table or a line.
        json: returns it as values for JSON.
        rows: the last member of the JSON object, if its items have one line each.
    """

    table: Callable[[T], RenderableType]
    json: Callable[[T], object]
    rows: str = ""

    def show(self, result: T, output_format: ReportFormat) -> None:
        """Print a result to stdout."""
        if output_format == "json":
            terminal.write_json(self.json(result), self.rows)
        else:
            shown = self.table(result)
            terminal.out.print(shown, soft_wrap=isinstance(shown, Text))


def fitting(widths: Mapping[str, int], drop: Iterable[str]) -> list[str]:
    """Return the columns that the terminal has room for.

    Args:
        widths: the width of each column, without its frame.
        drop: the columns that give way on a narrow terminal, the first one first.
    """
    kept = [*widths]
    for column in drop:
        if column in kept and sum(widths[each] + 3 for each in kept) >= terminal.out.width:  # with their frames
            kept.remove(column)
    return kept


def add_columns(
    table: Table,
    columns: Iterable[str],
    rows: Iterable[Mapping[str, str]],
    *,
    left: Collection[str],
    drop: Iterable[str],
    footers: Mapping[str, str] | None = None,
) -> list[str]:
    """Add columns to a table, as far as the terminal has room for them, and return them.

    Args:
        table: the table.
        columns: all columns.
        rows: the cells of all rows, by column.
        left: the columns that are aligned left.
        drop: the columns that give way on a narrow terminal, the first one first; all others fold.
        footers: the last row, by column.
    """
    cells = [footers or {}, *rows]
    longest = {
        column: max(cell_len(text) for text in (column, *(row.get(column, "") for row in cells))) for column in columns
    }
    kept = fitting({column: min(FOLDED, width) for column, width in longest.items()}, drop)
    for column in kept:
        justify: Literal["left", "right"] = "left" if column in left else "right"
        table.add_column(column, (footers or {}).get(column, ""), justify=justify, overflow="fold")
    return kept


def cache_table(parts: Iterable["Part"]) -> Table:
    """Return the parts of the cache folder as a table."""
    table = Table()
    rows = [
        {
            "part": part.name,
            "files": thousands(part.files),
            "size": decimal(part.bytes),
            "folder": printable(str(part.path)),
        }
        for part in parts
    ]
    drop = ("files", "folder", "size")
    columns = add_columns(table, ("part", "files", "size", "folder"), rows, left=("part", "folder"), drop=drop)
    for row in rows:
        table.add_row(*(Text(row[column]) for column in columns))
    return table


def cache_json(parts: Iterable["Part"]) -> dict[str, object]:
    """Return the parts of the cache folder as one JSON object."""
    return {part.name: {"path": str(part.path), "files": part.files, "bytes": part.bytes} for part in parts}


def networks_table(networks: Iterable["PublishedNetwork"]) -> Table:
    """Return published networks as a table, one row per weights file."""
    table = Table(caption="top-1: accuracy on ImageNet's validation set, in percent", caption_justify="left")
    rows = []
    for network in networks:
        cells = {
            "network": network.name,
            "variant": network.variant,
            "params": f"{network.totals.parameters / 1e6:.1f} M",
            "MACs": f"{network.totals.macs / 1e9:.2f} G",
        }
        for each in network.weights or (None,):
            published = {"top-1": f"{each.top1:.2f}", "weights": each.name} if each else {}
            rows.append(cells | published)
            cells = {}
    columns = add_columns(
        table,
        ("network", "variant", "params", "MACs", "top-1", "weights"),
        rows,
        left=("network", "variant", "weights"),
        drop=("variant", "MACs", "params", "top-1", "weights"),
    )
    for row in rows:
        table.add_row(*(row.get(column, "") for column in columns))
    return table


def networks_json(networks: Iterable["PublishedNetwork"]) -> list[dict[str, object]]:
    """Return published networks as a JSON array."""
    return [
        {"name": network.name, "depth": network.depth, "variant": network.variant, **asdict(network.totals)}
        | {"weights": [asdict(row) for row in network.weights]}
        for network in networks
    ]


def weights_table(weights: Iterable["WeightsInfo"]) -> Table:
    """Return weights as a table."""
    table = Table(caption="top-1: accuracy in percent, for tiny on its 200 classes, for all others on ImageNet's 1000")
    rows = [
        {
            "name": each.name,
            "network": each.network,
            "size": f"{each.size_mb} MB" if each.size_mb else "",
            "pixels": str(each.image_size),
            "top-1": f"{each.top1:.2f}",
            "licence": each.licence,
            "cached": "yes" if each.path else "",
        }
        for each in weights
    ]
    columns = add_columns(
        table,
        ("name", "network", "size", "pixels", "top-1", "licence", "cached"),
        rows,
        left=("name", "network", "licence", "cached"),
        drop=("network", "pixels", "licence", "size", "top-1", "cached"),
    )
    for row in rows:
        table.add_row(*(row[column] for column in columns))
    return table


def weights_json(weights: Iterable["WeightsInfo"]) -> list[dict[str, object]]:
    """Return weights as a JSON array."""
    return [asdict(each) | {"cached": each.path is not None, "path": each.path and str(each.path)} for each in weights]


CACHE_PARTS = View(cache_table, cache_json)
NETWORK_LIST = View(networks_table, networks_json)
WEIGHTS_LIST = View(weights_table, weights_json)
