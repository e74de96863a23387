"""Labels against Keras's own `decode_predictions` and the published class table."""

from pathlib import Path

import numpy as np
import pytest

from resnet_cli.engines.probabilities import top_k_predictions
from resnet_cli.errors import ModelError
from resnet_cli.network import labels
from resnet_cli.network.labels import Label


def test_predictions_are_those_of_keras(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from keras.src.applications import imagenet_utils

    rows = [line.split("\t") for line in (shared / "facts/imagenet_classes.tsv").read_text().splitlines()[1:]]
    monkeypatch.setattr(imagenet_utils, "CLASS_INDEX", {index: [wnid, name] for index, wnid, name in rows})
    probabilities = np.random.default_rng(0).dirichlet(np.full(1000, 0.05), 20).astype(np.float32)
    for ours, theirs in zip(probabilities, imagenet_utils.decode_predictions(probabilities, top=5), strict=True):
        predictions = top_k_predictions(ours, labels.imagenet(), 5)
        assert [(p.label.wnid, p.label.name, np.float32(p.probability)) for p in predictions] == theirs
        assert [p.rank for p in predictions] == [1, 2, 3, 4, 5]
        assert [labels.imagenet()[p.index] for p in predictions] == [p.label for p in predictions]


def test_equal_probabilities_are_in_the_order_of_classes() -> None:
    predictions = top_k_predictions(np.array([0.25, 0.3, 0.2, 0.25], np.float32), labels.default_labels(4), 9)
    assert [p.index for p in predictions] == [1, 0, 3, 2]


def test_no_two_classes_of_imagenet_have_the_same_display_name() -> None:
    names = [label.display for label in labels.imagenet()]
    assert len(set(names)) == 1000
    assert names[134] == "crane (bird)"
    assert names[517] == "crane (machine)"
    assert names[208] == "Labrador retriever"
    assert labels.imagenet()[134].name == "crane"


def test_labels_are_read_back() -> None:
    table = (Label("a", "n1"), Label("b", None))
    assert labels.from_list(labels.to_list(table)) == table


@pytest.mark.parametrize("nonsense", [None, 3, "ab", [1], [["a"]], [["a", 1]], [[None, "n1"]], {"a": "b"}])
def test_anything_else_is_rejected(nonsense: object) -> None:
    with pytest.raises(ModelError):
        labels.from_list(nonsense)
