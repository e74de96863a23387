"""Parameter names in the files of other tools, as tables (standard library only)."""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from resnet_cli.errors import ModelError
from resnet_cli.network.graph import Graph

# Keras 3 numbers layers of a class in the order of `Model.layers`: layers/conv2d_7/vars/0.
KERAS3_CLASSES = {"Conv2D": "conv2d", "BatchNormalization": "batch_normalization", "Dense": "dense"}

# Without the bias of a convolution, because batch norm has one.
TORCH_ARRAYS = {
    "Conv2D": {"kernel": "weight"},
    "BatchNormalization": {
        "gamma": "weight",
        "beta": "bias",
        "moving_mean": "running_mean",
        "moving_variance": "running_var",
    },
    "Dense": {"kernel": "weight", "bias": "bias"},
}

# Not parameters of a network: counters, states of random layers, and what optimizers and metrics store beside it.
IGNORED = ("num_batches_tracked", "seed_generator", "optimizer", "metrics")


def is_parameter(name: str) -> bool:
    """Return whether an array is a parameter of a network, rather than state of its training."""
    parts = name.replace(".", "/").split("/")
    return not any(part.startswith(ignored) for part in parts for ignored in IGNORED)


def current(path: str) -> str:
    """Return the name in today's `.weights.h5` of an array in that of Keras 2.12 to 2.15."""
    return path.replace("_layer_checkpoint_dependencies", "layers")


def own(graph: Graph) -> dict[str, str]:
    """Return the network's own names, as in safetensors and, after `legacy`, in Keras 2's `.h5`."""
    return {name: name for name in graph.parameters}


def keras3(graph: Graph) -> dict[str, str]:
    """Return the names in `.weights.h5`: layers numbered by class, arrays by position."""
    names: dict[str, str] = {}
    seen: Counter[str] = Counter()
    for op in graph.ops:
        if op.parameters:
            number = f"_{seen[op.kind]}" if seen[op.kind] else ""
            layer = f"layers/{KERAS3_CLASSES[op.kind]}{number}"
            names |= {parameter.name: f"{layer}/vars/{i}" for i, parameter in enumerate(op.parameters)}
            seen[op.kind] += 1
    return names


def legacy(paths: Iterable[str]) -> dict[str, str]:
    """Convert Keras 2's `conv1_conv/conv1_conv/kernel:0` to `conv1_conv/kernel`, by path.

    A network that is a layer of another model has its layers one level down: `resnet50/conv1_conv/kernel:0`.
    """
    split = {path: path.removesuffix(":0").split("/") for path in paths}
    scopes: dict[str, set[str]] = {}
    for parts in split.values():
        if len(parts) > 2:
            scopes.setdefault(parts[0], set()).add(parts[-2])
    nested = {layer for layer, inner in scopes.items() if len(inner) > 1 and layer not in inner}
    return {
        path: "/".join(parts[-2:] if parts[0] in nested else (parts[0], parts[-1])) for path, parts in split.items()
    }


def torch(graph: Graph) -> dict[str, str]:
    """Return the names in PyTorch's ResNets (torchvision/models/resnet.py, timm/models/resnet.py).

    Parameters that those networks do not have keep the network's own names.
    """
    return _by_layer(graph, _torch_layers(graph))


def transformers(graph: Graph) -> dict[str, str]:
    """Return the names in Hugging Face's ResNets (transformers/models/resnet/modeling_resnet.py)."""
    parts = {"conv": "convolution", "bn": "normalization"}
    layers = {f"conv1_{kind}": f"embedder.embedder.{part}" for kind, part in parts.items()}
    layers["predictions"] = "classifier.1"
    for s, stage in enumerate(graph.architecture.stages):
        for b in range(stage.blocks):
            keras_name, block = f"conv{s + 2}_block{b + 1}", f"encoder.stages.{s}.layers.{b}"
            for kind, part in parts.items():
                layers[f"{keras_name}_0_{kind}"] = f"{block}.shortcut.{part}"
                for i in range(len(graph.architecture.block.kernel_sizes)):
                    layers[f"{keras_name}_{i + 1}_{kind}"] = f"{block}.layer.{i}.{part}"
    return _by_layer(graph, layers)


def _by_layer(graph: Graph, layers: dict[str, str]) -> dict[str, str]:
    """Return PyTorch's names of the parameters, from its names of the layers."""
    names = own(graph)
    for op in graph.ops:
        if layer := layers.get(op.name):
            names |= {
                f"{op.name}/{array}": f"{layer}.{torch_name}" for array, torch_name in TORCH_ARRAYS[op.kind].items()
            }
    return names


def _torch_layers(graph: Graph) -> dict[str, str]:
    stem, block = graph.architecture.stem, graph.architecture.block
    names = {"conv1_conv": "conv1", "conv1_bn": "bn1", "predictions": "fc"}
    if stem.convolutions > 1:  # conv1 is a sequence of convolutions, batch norms and ReLUs, without the last batch norm
        names["conv1_conv"] = f"conv1.{3 * stem.convolutions - 3}"
        for i in range(1, stem.convolutions):
            names |= {f"conv1_{i}_conv": f"conv1.{3 * i - 3}", f"conv1_{i}_bn": f"conv1.{3 * i - 2}"}
    projection = 1 if block.pooled_shortcut else 0  # its position after the pooling
    for s, stage in enumerate(graph.architecture.stages, 1):
        for b in range(stage.blocks):
            keras_name, torch_name = f"conv{s + 1}_block{b + 1}", f"layer{s}.{b}"
            names[f"{keras_name}_0_conv"] = f"{torch_name}.downsample.{projection}"
            names[f"{keras_name}_0_bn"] = f"{torch_name}.downsample.{projection + 1}"
            for i in range(1, len(block.kernel_sizes) + 1):
                names |= {
                    f"{keras_name}_{i}_conv": f"{torch_name}.conv{i}",
                    f"{keras_name}_{i}_bn": f"{torch_name}.bn{i}",
                }
    return names


@dataclass(frozen=True)
class Layout:
    """How a tool names the arrays of a ResNet.

    Args:
        names: returns the name of each parameter of a network.
        anchor: the name of an array that every network has; in a network inside another model, a prefix precedes it.
        head: the names of the final layer's kernel and bias.
        torch_order: whether kernels have PyTorch's order of dimensions.
    """

    names: Callable[[Graph], dict[str, str]]
    anchor: str
    head: tuple[str, str]
    torch_order: bool = False


OWN = Layout(own, "conv2_block1_1_conv/kernel", ("predictions/kernel", "predictions/bias"))
LAYOUTS = (
    OWN,
    Layout(keras3, "layers/conv2d_1/vars/0", ("layers/dense/vars/0", "layers/dense/vars/1")),
    Layout(torch, "layer1.0.conv1.weight", ("fc.weight", "fc.bias"), torch_order=True),
    Layout(
        transformers,
        "encoder.stages.0.layers.0.layer.0.convolution.weight",
        ("classifier.1.weight", "classifier.1.bias"),
        torch_order=True,
    ),
)


def find_layout(names: Iterable[str]) -> tuple[Layout, str] | None:
    """Return the layout of a file's names and the prefix of the network's, or None if it contains no ResNet.

    Raises:
        ModelError: there are several networks.
    """
    found = [
        (layout, name.removesuffix(layout.anchor))
        for name in names
        for layout in LAYOUTS
        if name.endswith(layout.anchor) and name.removesuffix(layout.anchor)[-1:] in ("", ".", "/")
    ]
    if len(found) > 1:
        prefixes = " and ".join(sorted(prefix or "no prefix" for _, prefix in found))
        raise ModelError(f"contains {len(found)} networks ({prefixes}), expected one")
    return found[0] if found else None


def find_head(shapes: dict[str, tuple[int, ...]]) -> tuple[str, str]:
    """Return the names of the kernel and the bias of the final layer: the only dense layer, whatever its name.

    Args:
        shapes: the shapes of all arrays by name.

    Raises:
        ModelError: there is no dense layer, or there are several.
    """
    kernels = sorted(name for name, shape in shapes.items() if len(shape) == 2)
    if not kernels:
        raise ModelError(
            "has no classification head: it was saved without a final layer, so it has no classes\n"
            "Save the whole network, with the layer that was trained for your classes."
        )
    if len(kernels) > 1:
        heads = "two heads, or a hidden layer before its head" if len(kernels) == 2 else f"{len(kernels)} dense layers"
        raise ModelError(
            f"has {heads} ({', '.join(kernels[:3])}), expected one final layer, directly after the average pooling"
        )
    layer = _layer(kernels[0])
    biases = [name for name, shape in shapes.items() if len(shape) == 1 and _layer(name) == layer]
    return kernels[0], biases[0] if biases else f"{layer}bias"


def _layer(name: str) -> str:
    """Return the part of an array's name that it shares with the other arrays of its layer."""
    return name[: max(map(name.rfind, "./")) + 1]
