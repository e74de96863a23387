"""Benchmarks on stdout."""

from dataclasses import asdict

from rich.table import Table
from rich.text import Text

from resnet_cli.output.tables import View
from resnet_cli.output.terminal import printable
from resnet_cli.tasks.benchmark import Benchmark

# By figure: its row name, and the format of its values.
FIGURES = {
    "engine_images_per_second": ("engine only, images/s", "{:.1f}"),
    "decode_images_per_second": ("decoding only, images/s", "{:.1f}"),
    "end_to_end_images_per_second": ("end to end, images/s", "{:.1f}"),
    "expected_images_per_second": ("end to end expected, images/s", "{:.1f}"),
    "share_of_expected": ("measured / expected", "{:.0%}"),
    "against_images_per_second": ("{against} only, images/s", "{:.1f}"),
    "ratio": ("speedup over {against}", "{:.2f}"),
    "cold_seconds": ("cold start, seconds", "{:.2f}"),
    "warm_seconds": ("warm start, seconds", "{:.2f}"),
    "cold_peak_bytes": ("cold start, peak MB", "{:.0f}"),
    "warm_peak_bytes": ("warm start, peak MB", "{:.0f}"),
}


def benchmark_table(benchmark: Benchmark) -> Table:
    """Return a benchmark as a table."""
    machine = benchmark.machine
    name = f"{benchmark.model}, {printable(benchmark.weights)}, {benchmark.engine} {benchmark.precision}"
    table = Table(
        title=Text(f"{name}, {benchmark.images} images", "bold"), title_justify="left", caption_justify="left"
    )
    versions = ", ".join(f"{library} {version}" for library, version in machine.versions.items())
    memory = f"{benchmark.peak_bytes / 1e6:.0f} MB in this process"
    table.caption = Text(f"{machine.processor}, {machine.cores} cores; {memory}; {versions}", "dim")
    table.add_column(f"runs: {len(benchmark.runs)}")
    for column in ("median", "min", "max"):
        table.add_column(column, justify="right")
    for figure, (title, form) in FIGURES.items():
        if spread := benchmark.figures.get(figure):
            scale = 1e6 if figure.endswith("bytes") else 1
            cells = (form.format(value / scale) for value in (spread.median, spread.min, spread.max))
            table.add_row(title.format(against=benchmark.against), *cells)
    return table


def benchmark_json(benchmark: Benchmark) -> dict[str, object]:
    """Return a benchmark as one JSON object."""
    fields = asdict(benchmark) | {"runs": len(benchmark.runs)}
    return fields | {name: asdict(spread) for name, spread in benchmark.figures.items()}


BENCHMARK = View(benchmark_table, benchmark_json)
