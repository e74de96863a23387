"""The description against published counts."""

import json
from dataclasses import astuple
from typing import Any
from unittest.mock import ANY

import pytest

from resnet_cli import architecture, graph
from resnet_cli.architecture import NETWORKS, VARIANTS, Architecture, Block, Stage, Stem
from resnet_cli.errors import UsageError


def _torchvision(trainable: int, gmacs: float) -> tuple[Any, ...]:
    """Count as torchvision/models/resnet.py does: `num_params` and `_ops`."""
    return ANY, trainable, pytest.approx(gmacs * 1e9, abs=5e5)


def _timm(millions: float, gmacs: float) -> tuple[Any, ...]:
    """Count as timm's results/benchmark-infer-amp-nhwc-pt113-cu117-rtx3090.csv does: with batch norm among the MACs."""
    return ANY, pytest.approx(millions * 1e6, abs=5e3), pytest.approx(gmacs * 1e9, rel=0.01)


# Parameters, trainable ones, MACs at 224 x 224 with 1000 classes; where nothing is published, ANY. test_keras_model.py
# and test_torch.py count everything in the networks themselves.
PUBLISHED: dict[str, tuple[Any, ...]] = {
    "resnet50": (25_636_712, 25_583_592, 3_857_973_248),
    "resnet101": (44_707_176, 44_601_832, 7_570_194_432),
    "resnet152": (60_419_944, 60_268_520, 11_282_415_616),
    "resnet50v2": (25_613_800, 25_568_360, ANY),
    "resnet101v2": (44_675_560, 44_577_896, ANY),
    "resnet152v2": (60_380_648, 60_236_904, ANY),
    "resnet50v1.5": (25_610_152, 25_557_032, 4_089_184_256),
    "resnet18": _torchvision(11_689_512, 1.814),
    "resnet34": _torchvision(21_797_672, 3.664),
    "resnet101v1.5": _torchvision(44_549_160, 7.801),
    "resnet152v1.5": _torchvision(60_192_808, 11.514),
    "wide_resnet50_2": _torchvision(68_883_240, 11.398),
    "wide_resnet101_2": _torchvision(126_886_696, 22.753),
    "resnext50_32x4d": _torchvision(25_028_904, 4.23),
    "resnext101_32x8d": _torchvision(88_791_336, 16.414),
    "resnext101_64x4d": _torchvision(83_455_272, 15.46),
    "resnext101_32x4d": _timm(44.18, 8.01),
    "resnet50c": _timm(25.58, 4.35),
    "resnet101c": _timm(44.57, 8.08),
    "resnet152c": _timm(60.21, 11.8),
    "resnet18d": _timm(11.71, 2.06),
    "resnet34d": _timm(21.82, 3.91),
    "resnet50d": _timm(25.58, 4.35),
    "resnet101d": _timm(44.57, 8.08),
    "resnet152d": _timm(60.21, 11.8),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_totals_are_the_published_ones(name: str) -> None:
    assert astuple(graph.resnet(architecture.resnet(name=name)).totals) == PUBLISHED[name]


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_is_found_by_name_and_by_options(name: str) -> None:
    depth, variant = NETWORKS[name]
    described = architecture.resnet(name=name, classes=7, image_size=96)
    assert described == architecture.resnet(depth, variant=variant, classes=7, image_size=96)
    assert described == architecture.resnet(**architecture.options(described))
    assert described.name == name
    assert graph.resnet(described).ops[-1].name == "predictions"


def test_no_other_network_has_a_published_name() -> None:
    assert architecture.resnet(18, variant="v1").name == "resnet18v1"
    assert architecture.resnet(stages=(2, 2, 2, 2), block="basic").name == "resnet18v1"
    assert architecture.resnet(width=32).name == "resnet50_w32"
    assert architecture.resnet(50, stem="cifar").name == "resnet50_cifar"
    assert architecture.resnet(50, stem="imagenet").name == "resnet50"


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


@pytest.mark.parametrize("stem", architecture.STEMS)
@pytest.mark.parametrize("variant", VARIANTS)
def test_architecture_survives_its_own_json(variant: str, stem: str) -> None:
    described = architecture.resnet(stages=(1, 2), width=16, stem=stem, classes=3, image_size=40, variant=variant)
    assert Architecture.from_dict(json.loads(json.dumps(described.to_dict()))) == described
    assert architecture.resnet(**architecture.options(described)) == described


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"depth": 42}, "18, 34, 50, 101, 152, got 42"),
        ({"variant": "v9"}, "v1, v1.5, v2, c, d, wide, 32x4d, 32x8d, 64x4d, got 'v9'"),
        ({"name": "resnet51"}, "resnet50, .*, resnext101_64x4d, got 'resnet51'"),
        ({"block": "wide"}, "basic, bottleneck, got 'wide'"),
        ({"stem": "none"}, "imagenet, deep, small, cifar, got 'none'"),
        ({"depth": 18, "variant": "wide"}, "a basic block has none"),
        ({"width": 15, "variant": "32x4d"}, "at least 16 for a group to have a channel, got 15"),
        ({"width": 1, "variant": "d"}, "half the width.* from 1 to 1,000,000, got 0"),
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


@pytest.mark.parametrize(
    ("part", "fields", "message"),
    [
        (Stem, {"convolutions": 0}, "convolutions of the stem must be .* got 0"),
        (Block, {"kernel_sizes": (3,)}, r"2 to 8 convolutions of 1, 3, 5 or 7 pixels, got \(3,\)"),
        (Block, {"kernel_sizes": (1, 4, 1)}, r"got \(1, 4, 1\)"),
        (Block, {"expansion": 0}, "expansion must be .* got 0"),
        (Block, {"strided_conv": 4}, "one of 3, got 4"),
        (Block, {"groups": 0}, "number of groups must be .* got 0"),
        (Block, {"group_width": 1.5}, "width of a group must be .* got 1.5"),
        (Block, {"kernel_sizes": (3, 3), "groups": 32}, "a basic block has none"),
        (Block, {"preactivation": 1}, "preactivation must be true or false, got 1"),
        (Block, {"pooled_shortcut": "yes"}, "pooled_shortcut must be true or false, got 'yes'"),
        (Block, {"preactivation": True, "pooled_shortcut": True}, "has no pooled shortcut"),
        (Stage, {"filters": 64, "blocks": 2, "stride": 2, "strided_block": 3}, "one of 2, got 3"),
        (Stage, {"filters": 64, "blocks": 2, "stride": 2, "strided_block": 0}, "one of 2, got 0"),
    ],
)
def test_parts_refuse_nonsense(part: type, fields: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        part(**fields)


def test_an_image_of_32_pixels_ends_as_one_pixel() -> None:
    network = graph.resnet(architecture.resnet(image_size=32))
    assert next(op for op in network.ops if op.kind == "GlobalAveragePooling2D").input_shape == (1, 1, 2048)


def test_endless_networks_are_refused_before_they_are_written_out() -> None:
    with pytest.raises(UsageError, match="at most 10,000 layers"):
        graph.resnet(architecture.resnet(stages=(10**6, 1, 1, 1)))
