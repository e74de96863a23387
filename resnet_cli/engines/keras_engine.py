"""The network as a Keras model, and Keras as an engine. Importing this module imports Keras."""

import os
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resnet_cli.engines.engine import Engine, EngineOptions
from resnet_cli.engines.precision import Precision
from resnet_cli.engines.probabilities import apply_temperature
from resnet_cli.errors import EngineError
from resnet_cli.network.graph import Graph, resnet
from resnet_cli.network.metadata import Metadata
from resnet_cli.network.preprocessing import Preprocessing
from resnet_cli.system import paths
from resnet_cli.system.progress import Progress
from resnet_cli.weights.checkpoint import KERAS_MEMBER, Arrays
from resnet_cli.weights.model import ModelFile

paths.ensure_home()  # Keras writes its settings there
try:
    import keras
    from keras import layers
except (ImportError, ValueError) as error:
    backend = os.environ.get("KERAS_BACKEND", "")
    advice = "install what is missing, or unset KERAS_BACKEND"
    raise EngineError(f"Keras cannot start with KERAS_BACKEND={backend}: {error}; {advice}") from error

BATCH_SIZE = 32  # images per batch, for throughput

# By op, the Keras layer that computes it.
LAYERS: dict[str, Callable[..., layers.Layer]] = {
    "ZeroPadding2D": lambda op: layers.ZeroPadding2D(op.padding, name=op.name),
    "Conv2D": lambda op: layers.Conv2D(
        op.filters,
        op.kernel_size,
        strides=op.stride,
        padding="same" if op.padding else "valid",
        groups=op.groups,
        use_bias=op.use_bias,
        name=op.name,
    ),
    "BatchNormalization": lambda op: layers.BatchNormalization(epsilon=op.epsilon, name=op.name),
    "ReLU": lambda op: layers.ReLU(name=op.name),
    "MaxPooling2D": lambda op: layers.MaxPooling2D(op.pool_size, strides=op.stride, name=op.name),
    "AveragePooling2D": lambda op: layers.AveragePooling2D(
        op.pool_size, strides=op.stride, padding="same", name=op.name
    ),
    "Add": lambda op: layers.Add(name=op.name),
    "GlobalAveragePooling2D": lambda op: layers.GlobalAveragePooling2D(name=op.name),
    "Dense": lambda op: layers.Dense(op.units, activation="softmax", name=op.name),
}


def to_keras(
    graph: Graph,
    parameters: Mapping[str, NDArray[Any]] | None = None,
    *,
    any_size: bool = False,
    layer_types: Mapping[str, Callable[..., layers.Layer]] = LAYERS,
) -> keras.Model:
    """Build the Keras model of a network.

    Args:
        graph: the network.
        parameters: its arrays by name; None for Keras's random initialisation.
        any_size: whether to accept images of other sizes than the network's.
        layer_types: the function that makes the layer, by op.

    Returns:
        A functional model from preprocessed images, float32 (batch, size, size, 3), to probabilities.
    """
    keras.config.set_image_data_format("channels_last")
    keras.config.set_floatx("float32")
    first, *ops = graph.ops
    shape = (None, None, first.output_shape[-1]) if any_size else first.output_shape
    tensors = {first.name: keras.Input(shape, name=first.name)}
    for op in ops:
        inputs = [tensors[name] for name in op.inputs]
        tensors[op.name] = layer_types[op.kind](op)(inputs if len(inputs) > 1 else inputs[0])
    model = keras.Model(tensors[first.name], tensors[ops[-1].name], name=graph.architecture.name)
    if parameters is not None:
        for variable in model.variables:
            variable.assign(parameters[variable.path])
    return model


def arrays(model: keras.Model) -> Arrays:
    """Return the parameters of a model from `to_keras`, by name."""
    return {variable.path: keras.ops.convert_to_numpy(variable) for variable in model.variables}


def write(path: Path, parameters: Arrays, metadata: Metadata) -> None:
    """Write a network as a `.keras` file, with the metadata as an additional file in the archive."""
    to_keras(resnet(metadata.architecture), parameters).save(path)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(KERAS_MEMBER, metadata.to_json())


def predict_file(path: Path, metadata: Metadata, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the probabilities (batch, classes) that a `.keras` file computes for RGB images (batch, size, size, 3)."""
    model = keras.saving.load_model(path)
    predicted = np.asarray(model.predict_on_batch(preprocess(images, metadata.preprocessing)))
    return apply_temperature(predicted, metadata.temperature)


def preprocess(images: NDArray[np.uint8], preprocessing: Preprocessing) -> NDArray[np.float32]:
    """Convert RGB images (batch, height, width, 3) to a network's input, float32 of the same shape."""
    ordered = images[..., ::-1] if preprocessing.channels == "BGR" else images
    mean, std = (np.asarray(values, np.float32) for values in (preprocessing.mean, preprocessing.std))
    return (ordered.astype(np.float32) - mean) / std


class KerasEngine(Engine):
    """Runs a Keras model in 32-bit floats: the reference for all other engines."""

    precision = Precision.F32

    def __init__(self, model: ModelFile, options: EngineOptions, progress: Progress) -> None:
        if options.precision != self.precision:
            progress.warn(f"the keras engine only supports f32; ignoring --precision {options.precision}")
        network = to_keras(model.graph, model.parameters)
        features = network.get_layer(model.graph.features_op).output
        self.model = keras.Model(network.inputs, [network.output, features])
        self.metadata = model.metadata
        self.batch_size = BATCH_SIZE if options.throughput else 1

    def embed(self, images: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Classify images in batches of a fixed size, because the size can affect how Keras rounds; see `Engine`."""
        batches = [self._predict(images[i : i + self.batch_size]) for i in range(0, len(images), self.batch_size)]
        probabilities, features = (np.concatenate(each) for each in zip(*batches, strict=True))
        return apply_temperature(probabilities, self.metadata.temperature), features

    def _predict(self, images: NDArray[np.uint8]) -> tuple[NDArray[np.float32], ...]:
        padding = np.zeros((self.batch_size - len(images), *images.shape[1:]), np.uint8)
        pixels = preprocess(np.concatenate([images, padding]), self.metadata.preprocessing)
        return tuple(np.asarray(output[: len(images)]) for output in self.model.predict_on_batch(pixels))
