"""`resnet models`: the published networks, what they cost, and the weights that are known."""

import json

import pytest
from conftest import Run

from resnet_cli import architecture
from resnet_cli.pretrained import PRETRAINED


def test_json_lists_each_network_and_each_file_of_weights(resnet: Run) -> None:
    result = resnet("models", "--format", "json")
    assert (result.returncode, result.stderr) == (0, "")
    rows = {row["name"]: row for row in json.loads(result.stdout)}
    assert list(rows) == list(architecture.NETWORKS)
    weights = {file["name"]: (file["top1"], file["top5"]) for row in rows.values() for file in row["weights"]}
    assert weights == {name: (row.top1, row.top5) for name, row in PRETRAINED.items()}
    summary = json.loads(resnet("summary", "resnext50_32x4d", "--format", "json").stdout)
    row = rows["resnext50_32x4d"]
    assert summary["totals"] == {key: row[key] for key in ("parameters", "trainable", "macs")}
    assert (row["depth"], row["variant"], row["weights"]) == (50, "32x4d", [])


@pytest.mark.parametrize("width", [60, 72, 80, 200])
def test_table_breaks_no_name_and_shows_no_more_than_fits(width: int, resnet: Run) -> None:
    lines = resnet("models", COLUMNS=str(width)).stdout.splitlines()
    assert max(map(len, lines)) <= width
    cells = {cell.strip() for line in lines for cell in line.split("│")}
    assert cells >= set(architecture.NETWORKS) | set(PRETRAINED)
