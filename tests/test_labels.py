"""Labels against Keras's own decoding and the published class table."""

from pathlib import Path

import numpy as np
import pytest

from resnet_cli import labels
from resnet_cli.errors import ModelError
from resnet_cli.labels import Label


def test_decoding_is_that_of_keras(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from keras.src.applications import imagenet_utils

    rows = [line.split("\t") for line in (shared / "facts/imagenet_classes.tsv").read_text().splitlines()[1:]]
    monkeypatch.setattr(imagenet_utils, "CLASS_INDEX", {index: [wnid, name] for index, wnid, name in rows})
    probabilities = np.random.default_rng(0).dirichlet(np.full(1000, 0.05), 20).astype(np.float32)
    for ours, theirs in zip(probabilities, imagenet_utils.decode_predictions(probabilities, top=5), strict=True):
        predictions = labels.top_k(ours, labels.imagenet(), 5)
        assert [(p.label.wnid, p.label.name, np.float32(p.probability)) for p in predictions] == theirs
        assert [p.rank for p in predictions] == [1, 2, 3, 4, 5]
        assert [labels.imagenet()[p.index] for p in predictions] == [p.label for p in predictions]


def test_equal_probabilities_come_in_the_order_of_classes() -> None:
    predictions = labels.top_k(np.array([0.25, 0.3, 0.2, 0.25], np.float32), labels.default_labels(4), 9)
    assert [p.index for p in predictions] == [1, 0, 3, 2]


def test_no_two_classes_of_imagenet_are_shown_alike() -> None:
    shown = [label.display for label in labels.imagenet()]
    assert len(set(shown)) == 1000
    assert shown[134] == "crane (bird)"
    assert shown[517] == "crane (machine)"
    assert shown[208] == "Labrador retriever"
    assert labels.imagenet()[134].name == "crane"


def test_labels_survive_their_own_json() -> None:
    table = (Label("a", "n1"), Label("b", None))
    assert labels.from_list(labels.to_list(table)) == table


@pytest.mark.parametrize("nonsense", [None, 3, "ab", [1], [["a"]], [["a", 1]], [[None, "n1"]], {"a": "b"}])
def test_nonsense_is_no_table(nonsense: object) -> None:
    with pytest.raises(ModelError):
        labels.from_list(nonsense)
