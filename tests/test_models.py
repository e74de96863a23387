"""`resnet models`: published networks with their cost and weights."""

import json

import pytest
from conftest import Run, run_main

from resnet_cli.network import variants
from resnet_cli.weights.published import PRETRAINED


def test_json_lists_all_networks_and_weights(resnet: Run) -> None:
    result = resnet("models", "--format", "json")
    assert (result.returncode, result.stderr) == (0, "")
    rows = {row["name"]: row for row in json.loads(result.stdout)}
    assert list(rows) == list(variants.NETWORKS)
    weights = {file["name"]: (file["top1"], file["top5"]) for row in rows.values() for file in row["weights"]}
    assert weights == {name: (row.top1, row.top5) for name, row in PRETRAINED.items()}
    summary = json.loads(run_main("summary", "resnext50_32x4d", "--format", "json").stdout)
    row = rows["resnext50_32x4d"]
    assert summary["totals"] == {key: row[key] for key in ("parameters", "trainable", "macs")}
    assert (row["depth"], row["variant"], row["weights"]) == (50, "32x4d", [])


FRAME = str.maketrans("", "", "┏┓┗┛┡┩└┘━─┃│┳╇┴╈┼├┤ \n")


@pytest.mark.parametrize("width", [10, 20, 30, 60, 80])
def test_lists_fold_names_and_cut_none(width: int) -> None:
    listed = run_main("weights", "list", COLUMNS=str(width)).stdout
    assert max(map(len, listed.splitlines())) <= width
    shown = listed.translate(FRAME)
    assert "\u2026" not in shown
    assert all(name in (listed.split() if width > 23 else shown) for name in [*PRETRAINED, "tiny"])
    networks = run_main("models", COLUMNS=str(width)).stdout
    assert max(map(len, networks.splitlines())) <= width
    assert all(name in networks.translate(FRAME) for name in variants.NETWORKS)


@pytest.mark.parametrize("width", [60, 72, 80, 200])
def test_table_fits_the_width_and_breaks_no_name(width: int) -> None:
    lines = run_main("models", COLUMNS=str(width)).stdout.splitlines()
    assert max(map(len, lines)) <= width
    cells = {cell.strip() for line in lines for cell in line.split("│")}
    assert cells >= set(variants.NETWORKS) | set(PRETRAINED)
