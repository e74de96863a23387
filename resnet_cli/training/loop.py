"""The training loop: Keras's optimiser, schedule and checkpoints. Importing this module imports Keras."""

import io
import math
import time
import timeit
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
from keras import layers
from numpy.typing import NDArray

from resnet_cli.engines import keras_engine, probabilities
from resnet_cli.errors import ModelError, UsageError
from resnet_cli.network import graph
from resnet_cli.network.layers import BatchNormalization, Conv2D
from resnet_cli.network.preprocessing import Preprocessing
from resnet_cli.system import atomic
from resnet_cli.training.batches import TrainingBatches, steps_per_epoch, validation_batches
from resnet_cli.training.dataset import Dataset, Split
from resnet_cli.training.recipe import Epoch, Recipe
from resnet_cli.training.run import TrainingProgress, TrainingRun
from resnet_cli.weights.checkpoint import Arrays, add_weights

STATE = "resnet_cli_training"  # the dataset in a checkpoint that contains the run

POLICIES = {"f32": "float32", "bf16": "mixed_bfloat16"}


class WarmHoldCosine(keras.optimizers.schedules.LearningRateSchedule):  # type: ignore[misc]
    """Keras's warm-up and cosine decay, with `hold` steps at the peak rate in between.

    Nothing before the decay depends on its end, so a training can end earlier or later than planned (Hägele et al.
    2024, "Scaling Laws and Compute-Optimal Training Beyond Fixed Training Durations").

    Args:
        recipe: peak rate and numbers of epochs.
        steps: steps per epoch.
    """

    def __init__(self, recipe: Recipe, steps: int) -> None:
        super().__init__()
        self.warmup, self.hold = recipe.warmup_epochs * steps, recipe.hold_epochs * steps
        rise = {"warmup_target": recipe.learning_rate, "warmup_steps": self.warmup} if self.warmup else {}
        fall = max(1, recipe.epochs * steps - self.warmup - self.hold)
        self.cosine = keras.optimizers.schedules.CosineDecay(0.0 if rise else recipe.learning_rate, fall, **rise)

    def __call__(self, step: Any) -> Any:
        """Return the learning rate of a step, counted from 0; it is above zero even for the first."""
        step = keras.ops.cast(step, "float32") + 1
        return self.cosine(step - keras.ops.clip(step - self.warmup, 0, self.hold))


def build_trainable(run: TrainingRun, steps: int, parameters: Arrays | None) -> keras.Model:
    """Build a network that is ready for training.

    Args:
        run: the network and the recipe.
        steps: steps per epoch.
        parameters: initial parameters by name; all others are random.
    """
    recipe = run.recipe
    keras.config.set_dtype_policy(POLICIES[recipe.precision])
    keras.utils.set_random_seed(recipe.seed)
    network = graph.resnet(run.architecture)
    model = keras_engine.to_keras(network, any_size=True, layer_types=_layer_types(network))
    for variable in model.variables:
        if parameters is not None and variable.path in parameters:
            variable.assign(parameters[variable.path])
    for layer in model.layers:
        layer.trainable = not recipe.freeze_backbone or layer.name == "predictions"

    schedule = WarmHoldCosine(recipe, steps)
    optimizer = keras.optimizers.SGD(schedule, recipe.momentum, nesterov=True, weight_decay=recipe.weight_decay)
    # Batch norm and biases do not decay (He et al. 2018, "Bag of Tricks for Image Classification", section 3.1).
    optimizer.exclude_from_weight_decay([v for v in model.trainable_variables if len(v.shape) == 1])
    loss = keras.losses.CategoricalCrossentropy(label_smoothing=recipe.label_smoothing)
    model.compile(optimizer, loss, metrics=["accuracy"])
    return model


def _layer_types(network: graph.Graph) -> Mapping[str, Callable[..., layers.Layer]]:
    """Return Keras's layers, prepared for training.

    The last scale of each block is zero, so that a block starts as the identity (Goyal et al. 2017, "Accurate, Large
    Minibatch SGD", section 5.1). Probabilities are computed in f32 at any precision.
    """
    last = {op.inputs[1] for op in network.ops if op.kind == "Add"}
    fastest: Any = layers
    if keras.backend.backend() == "torch":
        from resnet_cli.training import torch_layers

        fastest = torch_layers

    def convolution(op: Conv2D) -> layers.Layer:
        padding = "same" if op.padding else "valid"
        window = {"kernel_size": op.kernel_size, "strides": op.stride, "padding": padding}
        return fastest.Conv2D(op.filters, **window, groups=op.groups, use_bias=op.use_bias, name=op.name)

    def normalization(op: BatchNormalization) -> layers.Layer:
        gamma = "zeros" if op.name in last else "ones"
        return fastest.BatchNormalization(epsilon=op.epsilon, momentum=0.9, gamma_initializer=gamma, name=op.name)

    return keras_engine.LAYERS | {
        "Conv2D": convolution,
        "BatchNormalization": normalization,
        "MaxPooling2D": lambda op: fastest.MaxPooling2D(op.pool_size, strides=op.stride, name=op.name),
        "Dense": lambda op: layers.Dense(op.units, activation="softmax", dtype="float32", name=op.name),
    }


def faster_precision(run: TrainingRun, images: int = 8, steps: int = 3) -> str:
    """Return `bf16` if its best step is a tenth faster than that of `f32`, otherwise `f32`.

    Timing steps takes half a minute, so a single convolution is timed first (three seconds). Unless it is a fifth
    faster in bf16, the result is `f32`: without bf16 instructions, bf16 is as slow as f32 or several times slower.

    Args:
        run: the training.
        images: images per step.
        steps: number of timed steps, after one that is not timed.
    """
    if _convolution_seconds("bfloat16") > 0.8 * _convolution_seconds("float32"):
        return "f32"
    size, classes = run.architecture.image_size, len(run.classes)
    pixels = np.random.default_rng(0).standard_normal((images, size, size, 3), np.float32)
    truth = np.eye(classes, dtype=np.float32)[np.arange(images) % classes]
    best = {}
    for precision in POLICIES:
        model = build_trainable(replace(run, recipe=replace(run.recipe, precision=precision)), 1, None)
        model.train_on_batch(pixels, truth)
        best[precision] = min(timeit.repeat(partial(model.train_on_batch, pixels, truth), number=1, repeat=steps))
    return "bf16" if best["bf16"] < 0.9 * best["f32"] else "f32"


def _convolution_seconds(dtype: str) -> float:
    """Return the best of three times of a convolution with 1.2 billion multiply-accumulates."""
    images, kernel = keras.ops.ones((8, 32, 32, 128), dtype), keras.ops.ones((3, 3, 128, 128), dtype)

    def convolve() -> None:
        output = keras.ops.conv(images, kernel, padding="same")
        keras.ops.convert_to_numpy(keras.ops.cast(output[0, 0, 0, 0], "float32"))  # waits for a GPU

    return min(timeit.repeat(convolve, number=1, repeat=3))


def fit(
    run: TrainingRun,
    dataset: Dataset,
    parameters: Arrays | None,
    checkpoint: Path,
    progress: TrainingProgress,
    report: Callable[[Epoch], None],
) -> keras.Model:
    """Train a network to the end of its recipe, from the checkpoint if there is one, and return it.

    Args:
        run: the training; its history grows.
        dataset: the images.
        parameters: initial parameters, if there is no checkpoint.
        checkpoint: the file for weights, optimiser and run, written after each epoch.
        progress: receives the progress.
        report: called after each epoch, before the checkpoint is written.

    Raises:
        UsageError: the loss becomes NaN or infinite.
        ModelError: the checkpoint cannot be read.
    """
    steps = steps_per_epoch(dataset.train, run.recipe.batch_size)
    model = build_trainable(run, steps, parameters)
    if checkpoint.exists():
        model.optimizer.build(model.trainable_variables)
        try:
            model.load_weights(checkpoint)
        except (OSError, ValueError, KeyError) as error:
            raise ModelError(f"{checkpoint}: the checkpoint does not match this run ({error})") from error
        model.optimizer.iterations.assign(len(run.history) * steps)  # the number of steps per epoch may have changed
    callback = _CheckpointCallback(run, dataset, steps, checkpoint, progress, report)
    for size, start, end in run.recipe.phases(run.architecture.image_size):
        first = max(start, len(run.history))
        if first < end:
            callback.size = size
            batches = TrainingBatches(
                dataset.train,
                run.preprocessing,
                classes=len(run.classes),
                batch_size=run.recipe.batch_size,
                size=size,
                crop=run.recipe.crop,
                seed=run.recipe.seed,
                first_epoch=first,
            )
            span = {"initial_epoch": first, "epochs": end, "steps_per_epoch": steps}
            model.fit(batches, callbacks=[callback], shuffle=False, verbose=0, **span)
    return model


class _CheckpointCallback(keras.callbacks.Callback):  # type: ignore[misc]
    """Reports each step; after each epoch, validates and writes the checkpoint."""

    def __init__(
        self,
        run: TrainingRun,
        dataset: Dataset,
        steps: int,
        checkpoint: Path,
        progress: TrainingProgress,
        report: Callable[[Epoch], None],
    ) -> None:
        super().__init__()
        self.run, self.dataset, self.steps, self.checkpoint = run, dataset, steps, checkpoint
        self.progress, self.report = progress, report
        self.size = run.architecture.image_size
        self.images_per_step = min(run.recipe.batch_size, len(dataset.train))

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Start the clock."""
        self.started = time.perf_counter()

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Report a step."""
        if not math.isfinite(logs["loss"]):
            raise UsageError(f"the loss became NaN or infinite in epoch {len(self.run.history) + 1}; lower --lr")
        seconds, share = time.perf_counter() - self.started, (batch + 1) / self.steps
        before, full = len(self.run.history), self.run.architecture.image_size
        left = self.run.recipe.remaining_work(full, before + share) * seconds / (share * self.size**2)
        speed = (batch + 1) * self.images_per_step / seconds
        self.progress.step(before + share, float(logs["loss"]), float(logs["accuracy"]), speed, left)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Validate, write the checkpoint and report."""
        seconds = time.perf_counter() - self.started
        scores = probabilities.score(
            predict_split(self.model, self.dataset.validation, self.run.preprocessing, self.size)
        )
        done = Epoch(
            epoch=epoch + 1,
            image_size=self.size,
            learning_rate=float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate)),
            loss=float(logs["loss"]),
            accuracy=float(logs["accuracy"]),
            val_loss=scores.losses[1],
            val_accuracy=scores.accuracy,
            val_top5=scores.top5,
            images_per_second=self.steps * self.images_per_step / seconds,
            seconds=time.perf_counter() - self.started,
        )
        self.run.history.append(done)
        known, self.run.bad = self.run.bad, self.dataset.unreadable
        self.report(done)
        write_checkpoint(self.checkpoint, self.model, self.run)
        self.progress.epoch(done)
        for name in sorted(self.run.bad.keys() - known.keys()):
            self.progress.unreadable_image(name, self.run.bad[name])


def predict_split(
    model: keras.Model, split: Split, preprocessing: Preprocessing, size: int
) -> Iterator[tuple[NDArray[np.float32], NDArray[np.int32]]]:
    """Yield the probabilities (batch, classes) and true classes (batch,) of a split's readable images.

    Raises:
        UsageError: no image can be read, or a probability is NaN or infinite.
    """
    empty = True
    for pixels, classes in validation_batches(split, preprocessing, 128, size):
        predicted = np.asarray(model.predict_on_batch(pixels))
        if not np.isfinite(predicted).all():
            raise UsageError("the network returned NaN or infinite values; lower --lr")
        yield predicted, classes
        empty = False
    if empty:
        raise UsageError(f"{split.folder}: none of the validation images can be read")


def write_checkpoint(path: Path, model: keras.Model, run: TrainingRun) -> None:
    """Write weights, optimiser and run atomically, in Keras's format."""
    content = io.BytesIO()  # HDF5 crashes if the disk is full
    with h5py.File(content, "w") as file:
        add_weights(file, graph.resnet(run.architecture), keras_engine.arrays(model))
        for index, variable in enumerate(model.optimizer.variables):
            file[f"optimizer/vars/{index}"] = keras.ops.convert_to_numpy(variable)
        file[STATE] = run.to_json()
    with atomic.atomic_write(path) as temporary:
        temporary.write_bytes(content.getbuffer())


def read_run(path: Path) -> TrainingRun:
    """Read the run of a checkpoint.

    Raises:
        ModelError: the file is not a training checkpoint, or cannot be read.
    """
    try:
        with h5py.File(path) as file:
            return TrainingRun.from_json(file[STATE].asstr()[()])
    except (OSError, KeyError, ValueError, TypeError) as error:
        raise ModelError(f"{path}: expected a training checkpoint, got a damaged or unsupported file") from error
