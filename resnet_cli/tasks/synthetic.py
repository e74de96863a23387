"""Generated photos and random weights, for benchmarks."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from resnet_cli.network.graph import Graph
from resnet_cli.weights import checkpoint
from resnet_cli.weights.model import default_metadata

SIDES = (500, 375)  # pixels; the most common size in ImageNet
QUALITY = 95  # JPEG quality; 80 kB per file, close to ImageNet's mean of 110 kB
PATCH_COUNTS = (4, 16, 64, 256)  # patches across a photo; like a real one, it has coarse shapes and fine detail
COARSE_WEIGHT = 0.3  # how much stronger coarse shapes are


def write_photos(folder: Path, count: int) -> None:
    """Write JPEG photos of random smooth patches, always the same ones, into a new folder."""
    folder.mkdir()
    for index in range(count):
        rng = np.random.default_rng(index)
        photo = np.zeros((*SIDES[::-1], 3))
        for grain in PATCH_COUNTS:
            patches = rng.integers(0, 256, (grain * SIDES[1] // SIDES[0], grain, 3), np.uint8)
            photo += np.asarray(Image.fromarray(patches).resize(SIDES, Image.Resampling.BICUBIC)) / grain**COARSE_WEIGHT
        photo *= 255 / photo.max()
        Image.fromarray(photo.astype(np.uint8)).save(folder / f"{index:04}.jpg", quality=QUALITY)


def parameters(network: Graph) -> dict[str, NDArray[np.float32]]:
    """Return random parameters by name, always the same ones: kernels as in He et al. 2015, batch norm untrained."""
    rng = np.random.default_rng(0)
    drawn = {}
    for name, parameter in network.parameters.items():
        kind = name.rpartition("/")[2]
        if kind == "kernel":
            deviation = np.float32(np.sqrt(2 / np.prod(parameter.shape[:-1])))
            drawn[name] = rng.standard_normal(parameter.shape, np.float32) * deviation
        else:
            # Half of the usual gamma, or activations would grow with the depth of the untrained network.
            value = {"gamma": 0.5, "moving_variance": 1.0}.get(kind, 0.0)
            drawn[name] = np.full(parameter.shape, value, np.float32)
    return drawn


def write_weights(path: Path, network: Graph) -> None:
    """Write random parameters of a network; the suffix, `.safetensors` or `.weights.h5`, selects the format."""
    write = checkpoint.write_weights_h5 if path.name.endswith(".h5") else checkpoint.write_safetensors
    write(path, parameters(network), default_metadata(network.architecture))
