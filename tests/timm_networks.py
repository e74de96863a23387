"""timm's networks with plausible weights, and its preprocessing, as oracles.

They run in a separate process: importing torchvision after TensorFlow crashes (0.29 after 2.21).
"""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image


class Results(NamedTuple):
    """Results of a network.

    Args:
        probabilities: shape (batch, classes).
        trainable, statistics: number of values in parameters, and in the statistics of batch norms.
        macs: multiply-accumulates per image.
    """

    probabilities: NDArray[np.float32]
    trainable: int
    statistics: int
    macs: int


def run(name: str, images: NDArray[np.uint8], path: Path) -> Results:
    """Classify RGB images (batch, height, width, 3) with a network, and write its weights to a file."""
    import timm
    import torch
    from safetensors.torch import save_file

    torch.manual_seed(0)
    with torch.inference_mode():
        published = (timm.data.constants.IMAGENET_DEFAULT_MEAN, timm.data.constants.IMAGENET_DEFAULT_STD)
        mean, std = (torch.tensor(values).view(3, 1, 1) for values in published)
        pixels = (torch.from_numpy(images).permute(0, 3, 1, 2) / 255 - mean) / std
        model = _plausible(timm.create_model(name), pixels)
        save_file(model.state_dict(), path)
        macs = 0

        def count(layer: Any, inputs: Any, output: Any) -> None:
            nonlocal macs
            macs += layer.weight.numel() * output[0, 0].numel()

        for layer in model.modules():
            if isinstance(layer, torch.nn.Conv2d | torch.nn.Linear):
                layer.register_forward_hook(count)
        probabilities = model(pixels).softmax(dim=-1).numpy()
        trainable = sum(parameter.numel() for parameter in model.parameters())
        statistics = sum(buffer.numel() for buffer in model.buffers() if buffer.ndim)
        return Results(probabilities, trainable, statistics, macs)


def _plausible(model: Any, pixels: Any) -> Any:
    """Do the same as `networks.plausible`, with timm's own random kernels and statistics near those of the images."""
    import torch

    last = {getattr(block, "bn3", None) or block.bn2 for block in model.modules() if hasattr(block, "bn2")}
    norms = [module for module in model.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 1.0
        norm.weight.uniform_(*((0.2, 0.6) if norm in last else (0.5, 1.5)))
        norm.bias.normal_(0, 0.3)
    model.train()(pixels)
    for norm in norms:
        norm.running_mean *= torch.empty_like(norm.running_mean).uniform_(0.8, 1.2)
        norm.running_var *= torch.empty_like(norm.running_var).uniform_(0.8, 1.2)
    model.fc.weight *= 3 / model.eval()(pixels).std(dim=-1).mean()
    return model


def pixels(name: str, size: int, paths: list[Path]) -> list[tuple[NDArray[np.uint8], NDArray[np.float32]]]:
    """Preprocess images to `size` pixels as the weights of a name require, without and with normalised values."""
    import timm

    published = timm.get_pretrained_cfg(name).to_dict()
    larger = published["input_size"][-1] != size  # some were evaluated on larger images than they were trained on
    config = timm.data.resolve_data_config(pretrained_cfg=published, use_test_size=larger)
    transforms = [timm.data.create_transform(**config, normalize=normalize) for normalize in (False, True)]
    images = [Image.open(path).convert("RGB") for path in paths]
    raw, normal = ([transform(image).numpy().transpose(1, 2, 0) for image in images] for transform in transforms)
    return list(zip(raw, normal, strict=True))
