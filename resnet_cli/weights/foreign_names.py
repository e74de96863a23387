"""Parameter names of other tools' files, as tables (standard library only)."""

from collections import Counter

from resnet_cli.graph import Graph

# Keras's published file calls the dense layer `probs` (keras-applications 1.0.8, resnet_common.py).
LEGACY_LAYERS = {"probs": "predictions"}

# Keras 3 numbers layers of a class in the order of `Model.layers`: layers/conv2d_7/vars/0.
KERAS3_CLASSES = {"Conv2D": "conv2d", "BatchNormalization": "batch_normalization", "Dense": "dense"}

# A convolution's bias is not among them: batch norm has one.
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
    """Name parameters as the network does, as safetensors and (by way of `legacy`) Keras 2's `.h5` do."""
    return {name: name for name in graph.parameters}


def keras3(graph: Graph) -> dict[str, str]:
    """Name parameters in `.weights.h5`: layers numbered by class, arrays by position."""
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
    """Turn Keras 2's `conv1_conv/conv1_conv/kernel:0` into `conv1_conv/kernel`."""
    layer, variable = path.split("/")[0], path.split("/")[-1]
    return f"{LEGACY_LAYERS.get(layer, layer)}/{variable.removesuffix(':0')}"


def torch(graph: Graph) -> dict[str, str]:
    """Name parameters as PyTorch's ResNets do (torchvision/models/resnet.py, timm/models/resnet.py).

    Parameters that those networks do not have keep their own names.
    """
    layers = _torch_layers(graph)
    names = own(graph)
    for op in graph.ops:
        if layer := layers.get(op.name):
            names |= {f"{op.name}/{array}": f"{layer}.{theirs}" for array, theirs in TORCH_ARRAYS[op.kind].items()}
    return names


def _torch_layers(graph: Graph) -> dict[str, str]:
    stem, block = graph.architecture.stem, graph.architecture.block
    names = {"conv1_conv": "conv1", "conv1_bn": "bn1", "predictions": "fc"}
    if stem.convolutions > 1:  # a sequence of convolution, batch norm, ReLU, and so on; the last batch norm is outside
        names["conv1_conv"] = f"conv1.{3 * stem.convolutions - 3}"
        for i in range(1, stem.convolutions):
            names |= {f"conv1_{i}_conv": f"conv1.{3 * i - 3}", f"conv1_{i}_bn": f"conv1.{3 * i - 2}"}
    projection = 1 if block.pooled_shortcut else 0  # its place after the pooling
    for s, stage in enumerate(graph.architecture.stages, 1):
        for b in range(stage.blocks):
            ours, theirs = f"conv{s + 1}_block{b + 1}", f"layer{s}.{b}"
            names[f"{ours}_0_conv"] = f"{theirs}.downsample.{projection}"
            names[f"{ours}_0_bn"] = f"{theirs}.downsample.{projection + 1}"
            for i in range(1, len(block.kernel_sizes) + 1):
                names |= {f"{ours}_{i}_conv": f"{theirs}.conv{i}", f"{ours}_{i}_bn": f"{theirs}.bn{i}"}
    return names
