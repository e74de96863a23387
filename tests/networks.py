"""Networks with plausible weights, built by Keras alone, as oracles."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
from keras.src.legacy.saving import legacy_h5_format

from resnet_cli.engines.engine import Engine, EngineOptions, start_engine
from resnet_cli.network.graph import Graph
from resnet_cli.weights import checkpoint
from resnet_cli.weights.checkpoint import Arrays
from resnet_cli.weights.model import default_metadata, load_model

Preprocess = Callable[[Any], Any]  # from pixels, 0 to 255, to the input of a network

# The networks of keras.applications, with their preprocessing.
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

    Activations then neither vanish nor explode, and the statistics still matter: they are off by up to 20 %. As in
    trained networks, a block changes its input less than it preserves, or rounding errors would grow with depth.
    Predictions are clear: the logits of 1000 classes deviate by 3, those of 10 by 1.
    """
    rng = np.random.default_rng(seed)
    adds = [layer for layer in model.layers if isinstance(layer, keras.layers.Add)]
    # The last layer of each block: a batch norm or, with pre-activation, a convolution.
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
    probabilities = keras.ops.convert_to_numpy(model(preprocess(pixels), training=True))
    head = model.layers[-1]
    head.kernel.assign(head.kernel * np.log10(probabilities.shape[-1]) / np.log(probabilities).std(axis=-1).mean())
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.moving_mean.assign(layer.moving_mean * rng.uniform(0.8, 1.2, layer.moving_mean.shape))
            layer.moving_variance.assign(layer.moving_variance * rng.uniform(0.8, 1.2, layer.moving_mean.shape))
    return model


def write_legacy(model: keras.Model, path: Path) -> Path:
    """Write weights like Keras 2, in the layout of the published files."""
    with h5py.File(path, "w") as file:
        legacy_h5_format.save_weights_to_hdf5_group(file, model)
    return path


def start(engine: str, network: Graph, parameters: Arrays, folder: Path, **engine_options: object) -> Engine:
    """Write a weights file with these parameters, and start an engine on it, by default for throughput."""
    path = folder / "weights.safetensors"
    checkpoint.write_safetensors(path, parameters, default_metadata(network.architecture))
    return start_engine(engine, load_model(str(path)), EngineOptions(**{"throughput": True} | engine_options))
