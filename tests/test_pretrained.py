"""The rows of published weights against the facts, and preprocessing as data."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from resnet_cli.errors import ModelError
from resnet_cli.pretrained import CAFFE, IMAGENET, Preprocessing


def test_pretrained_needs_the_standard_library_only() -> None:
    script = "import sys; before = set(sys.modules); import resnet_cli.pretrained; print(*set(sys.modules) - before)"
    printed = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    roots = {name.partition(".")[0] for name in printed.split()}
    assert roots - sys.stdlib_module_names == {"resnet_cli"}


def test_rows_are_the_published_ones(shared: Path) -> None:
    facts = (shared / "facts" / "weights.md").read_text("utf-8")
    home = re.search(r"https://\S+/resnet/", facts)[0]
    for depth, row in IMAGENET.items():
        name, size, md5, top1, top5 = re.search(
            rf"\| resnet{depth} \| (\S+?\.h5)(?: \(([\d,]+) bytes\))? \| (\w+) \| (\S+) \| (\S+) \|", facts
        ).groups()
        assert (row.name, row.depth, row.variant, row.preprocessing) == ("imagenet", depth, "v1", CAFFE)
        assert (row.file, row.url, row.md5) == (name, home + name, md5)
        assert (row.top1, row.top5) == (float(top1), float(top5))
        assert row.size_mb == (size and round(int(size.replace(",", "")) / 1e6))


def test_preprocessing_goes_through_json() -> None:
    assert Preprocessing.from_dict(json.loads(json.dumps(CAFFE.to_dict()))) == CAFFE


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
    ],
)
def test_preprocessing_refuses_nonsense(change: dict[str, object]) -> None:
    with pytest.raises(ModelError, match="preprocessing"):
        Preprocessing.from_dict(CAFFE.to_dict() | change)


@pytest.mark.parametrize("fields", [None, [], "RGB", {}, {1: 2}])
def test_preprocessing_refuses_what_is_none(fields: object) -> None:
    with pytest.raises(ModelError, match="must have the fields channels, mean, std"):
        Preprocessing.from_dict(fields)
