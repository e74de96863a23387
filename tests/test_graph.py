"""The description against published counts."""

import itertools

import pytest

from resnet_cli import architecture, graph, ops
from resnet_cli.errors import UsageError

# parameters, trainable, MACs at 224 x 224 with 1000 classes
PUBLISHED = {
    (50, "v1"): (25_636_712, 25_583_592, 3_857_973_248),
    (101, "v1"): (44_707_176, 44_601_832, 7_570_194_432),
    (152, "v1"): (60_419_944, 60_268_520, 11_282_415_616),
    (50, "v1.5"): (25_610_152, 25_557_032, 4_089_184_256),
}


@pytest.mark.parametrize(("depth", "variant"), PUBLISHED)
def test_totals_are_the_published_ones(depth: int, variant: str) -> None:
    network = graph.resnet(architecture.resnet(depth, variant=variant))
    assert network.totals == ops.Totals(*PUBLISHED[depth, variant])


def test_each_op_comes_after_its_inputs() -> None:
    seen: set[str] = set()
    for op in graph.resnet(architecture.resnet(101)).ops:
        assert seen.issuperset(op.inputs)
        assert op.name not in seen
        seen.add(op.name)


def test_projection_shortcuts_stand_only_where_the_shape_changes() -> None:
    names = {op.name for op in graph.resnet(architecture.resnet(50)).ops}
    projections = {name for name in names if name.endswith("_0_conv")}
    assert projections == {f"conv{stage}_block1_0_conv" for stage in (2, 3, 4, 5)}


def test_architecture_survives_its_own_json() -> None:
    for variant, stem in itertools.product(architecture.VARIANTS, architecture.STEMS):
        described = architecture.resnet(stages=(1, 2), width=8, stem=stem, classes=3, image_size=40, variant=variant)
        assert architecture.Architecture.from_dict(described.to_dict()) == described
        assert architecture.resnet(**architecture.options(described)) == described


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"depth": 42}, "50, 101, 152, got 42"),
        ({"variant": "v9"}, "got 'v9'"),
        ({"stages": (3, 0, 6, 3)}, "from 1 to 1,000,000, got 0"),
        ({"stages": (3, -1)}, "got -1"),
        ({"stages": (1,) * 21}, "to 1,000,000, got"),
        ({"width": -64}, "width must be a whole number from 1 to 1,000,000, got -64"),
        ({"classes": 0}, "classes must be a whole number from 1 to 1,000,000, got 0"),
        ({"image_size": 31}, "at least 32 for this network, got 31"),
        ({"image_size": -224}, "got -224"),
    ],
)
def test_bad_values_are_refused_with_what_was_received(options: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        architecture.resnet(**options)


def test_an_image_of_32_pixels_ends_as_one_pixel() -> None:
    network = graph.resnet(architecture.resnet(image_size=32))
    assert next(op for op in network.ops if op.kind == "GlobalAveragePooling2D").input_shape == (1, 1, 2048)


def test_endless_networks_are_refused_before_they_are_written_out() -> None:
    with pytest.raises(UsageError, match="at most 10,000 layers"):
        graph.resnet(architecture.resnet(stages=(10**6, 1, 1, 1)))
