"""The description of networks against published counts."""

import json
from dataclasses import astuple, replace
from typing import Any
from unittest.mock import ANY

import pytest

from resnet_cli.errors import UsageError
from resnet_cli.network import graph, variants
from resnet_cli.network.architecture import Architecture, Block, NetworkOptions, Stage, Stem
from resnet_cli.network.variants import NETWORKS, VARIANTS


def _torchvision(trainable: int, gmacs: float) -> tuple[Any, ...]:
    """Count like `num_params` and `_ops` in torchvision/models/resnet.py."""
    return ANY, trainable, pytest.approx(gmacs * 1e9, abs=5e5)


def _timm(millions: float, gmacs: float) -> tuple[Any, ...]:
    """Count like timm's results/benchmark-infer-amp-nhwc-pt113-cu117-rtx3090.csv, which includes batch norm in MACs."""
    return ANY, pytest.approx(millions * 1e6, abs=5e3), pytest.approx(gmacs * 1e9, rel=0.01)


# Parameters, trainable parameters, MACs at 224 x 224 pixels with 1000 classes; ANY if nothing is published.
# test_keras_engine.py and test_torch.py count all of them in the other libraries' networks.
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
    assert astuple(graph.resnet(variants.describe(name=name)).totals) == PUBLISHED[name]


def _from_file(architecture: Architecture) -> Architecture:
    """Return an architecture that went through JSON, which does not contain its options."""
    return Architecture.from_dict(json.loads(json.dumps(architecture.to_dict())))


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_is_found_by_name_and_by_options(name: str) -> None:
    depth, variant = NETWORKS[name]
    described = variants.describe(name=name, classes=7, image_size=96)
    assert described == variants.describe(depth, variant=variant, classes=7, image_size=96)
    for architecture in (described, _from_file(described)):
        assert variants.describe(**variants.options_of(architecture).chosen) == described
    assert described.name == name
    assert graph.resnet(described).ops[-1].name == "predictions"


def test_no_other_network_has_a_published_name() -> None:
    assert variants.describe(18, variant="v1").name == "resnet18v1"
    assert variants.describe(stages=(2, 2, 2, 2), block="basic").name == "resnet18v1"
    assert variants.describe(width=32).name == "resnet50_w32"
    assert variants.describe(50, stem="cifar").name == "resnet50_cifar"
    assert variants.describe(50, stem="imagenet").name == "resnet50"


def test_an_architecture_remembers_its_options() -> None:
    described = variants.describe(34, width=32, classes=7)
    options = NetworkOptions(
        variant="v1.5",
        stages=(3, 4, 6, 3),
        block="basic",
        width=32,
        stem="imagenet",
        classes=7,
        image_size=224,
    )
    assert described.options == variants.options_of(described) == options
    assert _from_file(described).options is None
    assert variants.options_of(_from_file(described)) == options


def test_equality_ignores_the_options() -> None:
    described = variants.describe(50)
    for options in (None, NetworkOptions(classes=3)):
        same = replace(described, options=options)
        assert same == described
        assert hash(same) == hash(described)
    assert replace(described, epsilon=1e-3) != described


def test_options_of_an_architecture_that_no_row_matches() -> None:
    """Sizes are still known."""
    described = replace(variants.describe(stages=(1, 2), width=16, classes=3, image_size=40), epsilon=1e-3)
    sizes = NetworkOptions(stages=(1, 2), width=16, classes=3, image_size=40)
    assert variants.options_of(_from_file(described)) == sizes


def test_network_and_its_description_take_the_same_arguments() -> None:
    assert graph.network(18, classes=3) == graph.resnet(variants.describe(18, classes=3))


def test_each_op_comes_after_its_inputs() -> None:
    seen: set[str] = set()
    for op in graph.resnet(variants.describe(101)).ops:
        assert seen.issuperset(op.inputs)
        assert op.name not in seen
        seen.add(op.name)


def test_projection_shortcuts_exist_only_if_the_shape_changes() -> None:
    names = {op.name for op in graph.resnet(variants.describe(50)).ops}
    projections = {name for name in names if name.endswith("_0_conv")}
    assert projections == {f"conv{stage}_block1_0_conv" for stage in (2, 3, 4, 5)}


@pytest.mark.parametrize("stem", variants.STEMS)
@pytest.mark.parametrize("variant", VARIANTS)
def test_an_architecture_is_read_back_from_its_json(variant: str, stem: str) -> None:
    described = variants.describe(stages=(1, 2), width=16, stem=stem, classes=3, image_size=40, variant=variant)
    assert _from_file(described) == described
    for architecture in (described, _from_file(described)):
        assert variants.describe(**variants.options_of(architecture).chosen) == described


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"depth": 42}, "18, 34, 50, 101, 152, got 42"),
        ({"variant": "v9"}, "v1, v1.5, v2, c, d, wide, 32x4d, 32x8d, 64x4d, got 'v9'"),
        ({"name": "resnet51"}, "resnet50, .*, resnext101_64x4d, got 'resnet51'"),
        ({"block": "wide"}, "basic, bottleneck, got 'wide'"),
        ({"stem": "none"}, "imagenet, deep, small, cifar, got 'none'"),
        ({"depth": 18, "variant": "wide"}, "a basic block has none"),
        ({"width": 15, "variant": "32x4d"}, "at least 16 so that each group has a channel, got 15"),
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
def test_an_error_names_the_invalid_value(options: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        variants.describe(**options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"depth": 50, "stages": (3, 4, 6, 3)}, "--depth and --stages both set the number of blocks"),
        ({"name": "resnet50", "depth": 50}, "resnet50 already sets --depth"),
        ({"name": "resnet50", "stages": (1, 1), "variant": "v2"}, "resnet50 already sets --stages"),
        ({"name": "resnet50", "variant": "v1"}, "resnet50 already sets --variant"),
        ({"name": "resnet50", "block": "basic"}, "resnet50 already sets --block"),
    ],
)
def test_options_that_contradict_each_other_are_rejected(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=f"{message}.* use only one of them"):
        NetworkOptions(**options)


@pytest.mark.parametrize(
    ("part", "fields", "message"),
    [
        (Stem, {"convolutions": 0}, "number of stem convolutions must be .* got 0"),
        (Block, {"kernel_sizes": (3,)}, r"2 to 8 convolutions with kernel sizes 1, 3, 5 or 7, got \(3,\)"),
        (Block, {"kernel_sizes": (1, 4, 1)}, r"got \(1, 4, 1\)"),
        (Block, {"expansion": 0}, "expansion must be .* got 0"),
        (Block, {"strided_conv": 4}, "strided_conv must be from 1 to 3, got 4"),
        (Block, {"groups": 0}, "number of groups must be .* got 0"),
        (Block, {"group_width": 1.5}, "group width must be .* got 1.5"),
        (Block, {"kernel_sizes": (3, 3), "groups": 32}, "a basic block has none"),
        (Block, {"preactivation": 1}, "preactivation must be true or false, got 1"),
        (Block, {"pooled_shortcut": "yes"}, "pooled_shortcut must be true or false, got 'yes'"),
        (Block, {"preactivation": True, "pooled_shortcut": True}, "cannot have a pooled shortcut"),
        (
            Stage,
            {"filters": 64, "blocks": 2, "stride": 2, "strided_block": 3},
            "strided_block must be from 1 to 2, got 3",
        ),
        (
            Stage,
            {"filters": 64, "blocks": 2, "stride": 2, "strided_block": 0},
            "strided_block must be from 1 to 2, got 0",
        ),
    ],
)
def test_parts_reject_invalid_values(part: type, fields: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        part(**fields)


def test_an_image_of_32_pixels_is_reduced_to_one_pixel() -> None:
    network = graph.resnet(variants.describe(image_size=32))
    assert next(op for op in network.ops if op.kind == "GlobalAveragePooling2D").input_shape == (1, 1, 2048)


def test_a_network_with_too_many_layers_is_rejected_before_it_is_built() -> None:
    with pytest.raises(UsageError, match="at most 10,000 layers"):
        graph.resnet(variants.describe(stages=(10**6, 1, 1, 1)))
