"""The network read as a Keras model, and Keras as an engine. Importing this module imports Keras."""

import os
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resnet_cli import metrics
from resnet_cli.checkpoints import KERAS_MEMBER, Arrays
from resnet_cli.engines import Engine, Precision, Setup
from resnet_cli.errors import EngineError
from resnet_cli.graph import Graph, resnet
from resnet_cli.metadata import Metadata
from resnet_cli.models import Activity, Model
from resnet_cli.pretrained import Preprocessing

os.environ.setdefault("KERAS_BACKEND", "tensorflow")  # the one that is installed, whatever ~/.keras/keras.json says
try:
    import keras
    from keras import layers
except (ImportError, ValueError) as error:
    raise EngineError(f"Keras cannot start with KERAS_BACKEND={os.environ['KERAS_BACKEND']}: {error}") from error

BATCH_SIZE = 32  # images that Keras computes at once where many come

# One Keras layer for each kind of op.
LAYERS: dict[str, Callable[[Any], layers.Layer]] = {
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


def build(
    graph: Graph,
    parameters: Mapping[str, NDArray[Any]] | None = None,
    *,
    any_size: bool = False,
    kinds: Mapping[str, Callable[[Any], layers.Layer]] = LAYERS,
) -> keras.Model:
    """Build the Keras model of a network.

    Args:
        graph: the network.
        parameters: its arrays by name; where None, Keras's own random initialisation.
        any_size: whether images of other sides than the network's are taken too.
        kinds: makes the layer of each kind of op.

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
        tensors[op.name] = kinds[op.kind](op)(inputs if len(inputs) > 1 else inputs[0])
    model = keras.Model(tensors[first.name], tensors[ops[-1].name], name=graph.architecture.name)
    if parameters is not None:
        for variable in model.variables:
            variable.assign(parameters[variable.path])
    return model


def arrays(model: keras.Model) -> Arrays:
    """Return the parameters of a model that `build` made, by name."""
    return {variable.path: keras.ops.convert_to_numpy(variable) for variable in model.variables}


def write(path: Path, parameters: Arrays, metadata: Metadata) -> None:
    """Write a network as a `.keras` file, with the metadata as one more member of the archive.

    Args:
        path: the file to write.
        parameters: its arrays by name.
        metadata: what the file is to say of itself.
    """
    build(resnet(metadata.architecture), parameters).save(path)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(KERAS_MEMBER, metadata.to_json())


def answer(path: Path, metadata: Metadata, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Classify images as whoever loads a `.keras` file would.

    Args:
        path: the file.
        metadata: its preprocessing and temperature.
        images: RGB, shape (batch, size, size, 3).

    Returns:
        Tempered probabilities, shape (batch, classes).
    """
    model = keras.saving.load_model(path)
    probabilities = model.predict_on_batch(preprocess(images, metadata.preprocessing))
    return metrics.tempered(probabilities, metadata.temperature)


def preprocess(images: NDArray[np.uint8], preprocessing: Preprocessing) -> NDArray[np.float32]:
    """Turn pixels into what the network wants.

    Args:
        images: RGB, shape (batch, height, width, 3).
        preprocessing: order of the channels, means and standard deviations.

    Returns:
        float32 of the same shape.
    """
    ordered = images[..., ::-1] if preprocessing.channels == "BGR" else images
    mean, std = (np.asarray(values, np.float32) for values in (preprocessing.mean, preprocessing.std))
    return (ordered.astype(np.float32) - mean) / std


class KerasEngine(Engine):
    """Computes probabilities with Keras, in 32 bits: what every other engine is compared with."""

    precision = Precision.F32

    def __init__(self, model: Model, setup: Setup, activity: Activity) -> None:
        if setup.precision != self.precision:
            activity.warn(f"the engine keras computes in f32, not in {setup.precision}")
        network = build(model.graph, model.parameters)
        features = network.get_layer(model.graph.features).output
        self.model = keras.Model(network.inputs, [network.output, features])
        self.metadata = model.metadata
        self.batch_size = BATCH_SIZE if setup.many else 1

    def embed(self, images: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Classify images, in batches of one size: how Keras adds up may depend on it.

        Args:
            images: RGB, shape (batch, size, size, 3).

        Returns:
            Tempered probabilities (batch, classes), and the features that the head sees (batch, channels).
        """
        batches = [self._computed(images[i : i + self.batch_size]) for i in range(0, len(images), self.batch_size)]
        probabilities, features = (np.concatenate(each) for each in zip(*batches, strict=True))
        return metrics.tempered(probabilities, self.metadata.temperature), features

    def _computed(self, images: NDArray[np.uint8]) -> tuple[NDArray[np.float32], ...]:
        padding = np.zeros((self.batch_size - len(images), *images.shape[1:]), np.uint8)
        pixels = preprocess(np.concatenate([images, padding]), self.metadata.preprocessing)
        return tuple(np.asarray(output[: len(images)]) for output in self.model.predict_on_batch(pixels))
