"""Networks with plausible weights, made by Keras alone, as oracles."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
from keras.src.legacy.saving import legacy_h5_format

from resnet_cli import checkpoints, engines, models, terminal
from resnet_cli.checkpoints import Arrays
from resnet_cli.graph import Graph

Preprocess = Callable[[Any], Any]  # 0 to 255 to what a network wants

# Networks of Keras, and what they want done to pixels.
APPLICATIONS: dict[str, tuple[Callable[..., keras.Model], Preprocess]] = {
    "resnet50": (keras.applications.ResNet50, keras.applications.resnet.preprocess_input),
    "resnet101": (keras.applications.ResNet101, keras.applications.resnet.preprocess_input),
    "resnet152": (keras.applications.ResNet152, keras.applications.resnet.preprocess_input),
    "resnet50v2": (keras.applications.ResNet50V2, keras.applications.resnet_v2.preprocess_input),
    "resnet101v2": (keras.applications.ResNet101V2, keras.applications.resnet_v2.preprocess_input),
    "resnet152v2": (keras.applications.ResNet152V2, keras.applications.resnet_v2.preprocess_input),
}


def plausible(
    model: keras.Model, seed: int = 0, preprocess: Preprocess = keras.applications.resnet.preprocess_input
) -> keras.Model:
    """Give a model random kernels, and batch norm statistics near those of its own activations.

    So activations neither die nor explode on the way, and the statistics still matter: they are off by up to 20 %.
    As in trained networks, a block changes what it is given less than it passes on, or rounding would grow with depth;
    and answers are clear: the logits of 1000 classes deviate by 3, those of 10 by 1.
    """
    rng = np.random.default_rng(seed)
    adds = [layer for layer in model.layers if isinstance(layer, keras.layers.Add)]
    # The end of each block: a batch norm or, where that comes first, a convolution.
    last = {id(add.input[1]._keras_history.operation) for add in adds}
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.0
            low, high = (0.2, 0.6) if id(layer) in last else (0.5, 1.5)
            layer.gamma.assign(rng.uniform(low, high, layer.gamma.shape))
            layer.beta.assign(rng.normal(0, 0.3, layer.beta.shape))
        elif layer.weights:
            scale = (0.4 if id(layer) in last else 1) * np.sqrt(2 / np.prod(layer.kernel.shape[:-1]))
            layer.kernel.assign(rng.normal(0, scale, layer.kernel.shape))
            if layer.bias is not None:
                layer.bias.assign(rng.normal(0, 0.1, layer.bias.shape))
    pixels = rng.uniform(0, 255, (4, *model.input_shape[1:])).astype("float32")
    answers = keras.ops.convert_to_numpy(model(preprocess(pixels), training=True))
    head = model.layers[-1]
    head.kernel.assign(head.kernel * np.log10(answers.shape[-1]) / np.log(answers).std(axis=-1).mean())
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.moving_mean.assign(layer.moving_mean * rng.uniform(0.8, 1.2, layer.moving_mean.shape))
            layer.moving_variance.assign(layer.moving_variance * rng.uniform(0.8, 1.2, layer.moving_mean.shape))
    return model


def write_legacy(model: keras.Model, path: Path) -> Path:
    """Write weights as Keras 2 did, which is the layout of the published files."""
    with h5py.File(path, "w") as file:
        legacy_h5_format.save_weights_to_hdf5_group(file, model)
    return path


def start(engine: str, network: Graph, parameters: Arrays, folder: Path, **setup: object) -> engines.Engine:
    """Start an engine on a weight file with these parameters."""
    metadata = models.default_metadata(network.architecture)
    checkpoints.write_safetensors(folder / "weights.safetensors", parameters, metadata)
    with terminal.Activity("") as activity:
        model = models.load(str(folder / "weights.safetensors"), {}, activity)
        return engines.start(engine, model, engines.Setup(many=True, **setup), activity)
