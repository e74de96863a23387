"""The rows of published weights against their sources, and preprocessing as data."""

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from resnet_cli.errors import ModelError
from resnet_cli.network import graph, variants
from resnet_cli.network.preprocessing import CAFFE, INCEPTION, TORCHVISION, Preprocessing, Resizing
from resnet_cli.weights.published import PRETRAINED


def test_rows_need_only_the_standard_library() -> None:
    script = (
        "import sys; before = set(sys.modules); import resnet_cli.weights.published; print(*set(sys.modules) - before)"
    )
    printed = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    roots = {name.partition(".")[0] for name in printed.split()}
    assert roots - sys.stdlib_module_names == {"resnet_cli"}


def test_rows_of_keras_match_their_source(shared: Path) -> None:
    facts = (shared / "facts" / "weights.md").read_text("utf-8")
    home = re.search(r"https://\S+/resnet/", facts)[0]
    published = re.findall(r"\| (\w+) \| (\S+?\.h5)(?: \(([\d,]+) bytes\))? \| (\w+) \| (\S+) \| (\S+) \|", facts)
    assert len(published) == 6
    for network, file, size, md5, top1, top5 in published:
        row = PRETRAINED[network]
        assert (row.file, row.url, row.md5, row.network) == (file, home + file, md5, network)
        assert (row.top1, row.top5) == (float(top1), float(top5))
        assert row.size_mb == (round(int(size.replace(",", "")) / 1e6) if size else None)
        assert row.preprocessing == (INCEPTION if "v2" in network else CAFFE)
        assert row.image_size == (299 if "v2" in network else 224)


def test_rows_of_the_hub_match_their_source(shared: Path) -> None:
    facts = (shared / "facts" / "weights.md").read_text("utf-8")
    evaluated = r"\| ([\w., ]+_in1k) \| .* \| (\d+), (\w+), crop (\S+?)(?: \(.*\))? \| (\S.*?) \| (.*?) ?\|"
    published = {}
    for names, *fields in re.findall(evaluated, facts):
        for name, top1, top5 in zip(names.split(", "), *(field.split(", ") for field in fields[3:]), strict=True):
            published[name] = (*fields[:3], top1, top5)  # the last of two evaluations, which is the better one
    rows = {name: row for name, row in PRETRAINED.items() if row.repository}
    assert rows.keys() == published.keys()
    for name, (size, interpolation, crop, top1, top5) in published.items():
        row = rows[name]
        assert row.preprocessing.resizing == Resizing(float(crop), interpolation)
        assert (row.image_size, row.top1, row.top5) == (int(size), float(top1), float(top5) if top5 else None)
        assert (row.repository, row.preprocessing.mean) == (f"timm/{name}", TORCHVISION.mean)
        assert row.network.removesuffix("v1.5") == name.partition(".")[0]


def test_sizes_match_the_parameters() -> None:
    for row in PRETRAINED.values():
        if row.size_mb:
            parameters = graph.resnet(variants.describe(name=row.network)).totals.parameters
            assert abs(row.size_mb - 4 * parameters / 1e6) < 0.6, row.name


def test_each_row_has_a_known_network() -> None:
    assert {row.network for row in PRETRAINED.values()} <= variants.NETWORKS.keys()


def test_preprocessing_survives_json() -> None:
    sampled = replace(CAFFE, resizing=Resizing(1.0, "bilinear", 64))
    for preprocessing in (CAFFE, sampled):
        assert Preprocessing.from_dict(json.loads(json.dumps(preprocessing.to_dict()))) == preprocessing
    older = {"resizing": {"crop": 0.875, "interpolation": "bicubic"}}
    assert Preprocessing.from_dict(CAFFE.to_dict() | older) == CAFFE


@pytest.mark.parametrize(
    "change",
    [
        {"channels": "GRB"},
        {"channels": ["RGB"]},
        {"mean": "123"},
        {"mean": [1, 2]},
        {"mean": [1, 2, None]},
        {"mean": [1, 2, float("nan")]},
        {"mean": [1, 2, 10**400]},
        {"std": [1, 0, 1]},
        {"more": 1},
        {"resizing": None},
        {"resizing": {"crop": 0.875}},
        {"resizing": {"crop": 0, "interpolation": "bicubic"}},
        {"resizing": {"crop": 1.5, "interpolation": "bicubic"}},
        {"resizing": {"crop": 1, "interpolation": "nearest"}},
        {"resizing": {"crop": 1, "interpolation": "bicubic", "sampled": 0}},
        {"resizing": {"crop": 1, "interpolation": "bicubic", "sampled": True}},
        {"resizing": {"crop": 1, "interpolation": "bicubic", "more": 64}},
    ],
)
def test_preprocessing_refuses_invalid_values(change: dict[str, object]) -> None:
    with pytest.raises(ModelError, match=r"preprocessing|resizing"):
        Preprocessing.from_dict(CAFFE.to_dict() | change)


@pytest.mark.parametrize("fields", [None, [], "RGB", {}, {1: 2}])
def test_preprocessing_refuses_other_objects(fields: object) -> None:
    with pytest.raises(ModelError, match="must have the fields channels, mean, resizing, std"):
        Preprocessing.from_dict(fields)
