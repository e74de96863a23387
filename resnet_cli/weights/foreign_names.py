"""Parameter names in the files of other tools, as tables (standard library only)."""

from collections import Counter

from resnet_cli.network.graph import Graph

# Keras's published file calls the dense layer `probs` (keras-applications 1.0.8, resnet_common.py).
LEGACY_LAYERS = {"probs": "predictions"}

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


def legacy(path: str) -> str:
    """Convert Keras 2's `conv1_conv/conv1_conv/kernel:0` to `conv1_conv/kernel`."""
    layer, variable = path.split("/")[0], path.split("/")[-1]
    return f"{LEGACY_LAYERS.get(layer, layer)}/{variable.removesuffix(':0')}"


def torch(graph: Graph) -> dict[str, str]:
    """Return the names in PyTorch's ResNets (torchvision/models/resnet.py, timm/models/resnet.py).

    Parameters that those networks do not have keep the network's own names.
    """
    layers = _torch_layers(graph)
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
