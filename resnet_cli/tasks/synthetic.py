"""Photos and weights of random values, to measure with where there are none."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from resnet_cli import checkpoints
from resnet_cli.graph import Graph
from resnet_cli.models import default_metadata

SIDES = (500, 375)  # pixels, ImageNet's commonest
QUALITY = 95  # of JPEG: files of 80 kB, near ImageNet's mean of 110 kB
GRAINS = (4, 16, 64, 256)  # patches across a photo: like a real one it has coarse shapes and fine detail
COARSENESS = 0.3  # how much stronger the coarse shapes are


def write_photos(folder: Path, count: int) -> None:
    """Write JPEG photos of random smooth patches, the same ones every time.

    Args:
        folder: where to; it is made.
        count: how many.
    """
    folder.mkdir()
    for index in range(count):
        rng = np.random.default_rng(index)
        photo = np.zeros((*SIDES[::-1], 3))
        for grain in GRAINS:
            patches = rng.integers(0, 256, (grain * SIDES[1] // SIDES[0], grain, 3), np.uint8)
            photo += np.asarray(Image.fromarray(patches).resize(SIDES, Image.Resampling.BICUBIC)) / grain**COARSENESS
        photo *= 255 / photo.max()
        Image.fromarray(photo.astype(np.uint8)).save(folder / f"{index:04}.jpg", quality=QUALITY)


def parameters(network: Graph) -> dict[str, NDArray[np.float32]]:
    """Draw a network's parameters, the same ones every time: kernels as in He et al. 2015, batch norm as it starts.

    Args:
        network: the network.

    Returns:
        Its arrays by name.
    """
    rng = np.random.default_rng(0)
    drawn = {}
    for name, parameter in network.parameters.items():
        kind = name.rpartition("/")[2]
        if kind == "kernel":
            deviation = np.float32(np.sqrt(2 / np.prod(parameter.shape[:-1])))
            drawn[name] = rng.standard_normal(parameter.shape, np.float32) * deviation
        else:
            # Half of the usual gamma: in an untrained network, activations would else grow with the depth.
            value = {"gamma": 0.5, "moving_variance": 1.0}.get(kind, 0.0)
            drawn[name] = np.full(parameter.shape, value, np.float32)
    return drawn


def write_weights(path: Path, network: Graph) -> None:
    """Write a network's random parameters.

    Args:
        path: the file to write; its suffix, `.safetensors` or `.weights.h5`, is its format.
        network: the network.
    """
    write = checkpoints.write_weights_h5 if path.name.endswith(".h5") else checkpoints.write_safetensors
    write(path, parameters(network), default_metadata(network.architecture))
