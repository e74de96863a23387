"""The training loop: Keras's optimiser, schedule and checkpoints. Importing this module imports Keras."""

import io
import math
import time
import timeit
from collections.abc import Callable, Iterator, Mapping
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
BEST = "resnet_cli_best"  # the group that contains the weights of the best epoch, if it is not the last one

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


def faster_precision() -> str:
    """Return `bf16` if a convolution is much faster than in f32, otherwise `f32`; takes at most three seconds.

    Without bf16 instructions, bf16 is as slow as f32 or many times slower. Other layers gain less than convolutions.
    """
    return "bf16" if _convolution_seconds("bfloat16") < 0.6 * _convolution_seconds("float32") else "f32"


def _convolution_seconds(dtype: str) -> float:
    """Return the best of at most four times of a convolution with 0.3 billion multiply-accumulates."""
    images, kernel = keras.ops.ones((8, 32, 32, 64), dtype), keras.ops.ones((3, 3, 64, 64), dtype)

    def convolve() -> None:
        output = keras.ops.conv(images, kernel, padding="same", data_format="channels_last")
        keras.ops.convert_to_numpy(keras.ops.cast(output[0, 0, 0, 0], "float32"))  # waits for a GPU

    started = time.perf_counter()
    seconds: list[float] = []
    while len(seconds) < 4 and time.perf_counter() - started < 1:
        seconds.append(timeit.timeit(convolve, number=1))
    return min(seconds)


def fit(
    run: TrainingRun,
    dataset: Dataset,
    parameters: Arrays | None,
    checkpoint: Path,
    progress: TrainingProgress,
    report: Callable[[Epoch], None],
) -> tuple[keras.Model, int]:
    """Train a network to the end of its recipe, from the checkpoint if there is one.

    Returns:
        The network with the weights of the epoch that the recipe keeps, and the number of that epoch.

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
    best = _Best(model, run, checkpoint)
    callback = _CheckpointCallback(run, dataset, steps, checkpoint, progress, report, best)
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
    return model, best.restore()


class _Best:
    """The weights of the best epoch so far, and what a checkpoint has of it.

    Args:
        model: the model, with the weights of the last epoch.
        run: the training.
        checkpoint: the file that the training continues from, if it exists.
    """

    def __init__(self, model: keras.Model, run: TrainingRun, checkpoint: Path) -> None:
        self.model, self.run = model, run
        self.epoch, self.arrays = len(run.history), None
        if checkpoint.exists() and run.recipe.keep == "best":
            with h5py.File(checkpoint) as file:
                if BEST in file:
                    self.epoch = int(file[BEST].attrs["epoch"])
                    self.arrays = {v.path: file[BEST][v.path][()] for v in model.variables}

    def update(self) -> None:
        """Compare the epoch that has just ended, which is the best one if losses are not comparable."""
        *_, last = self.run.history
        earlier = self.run.history[self.epoch - 1]
        comparable = self.run.recipe.keep == "best" and earlier.image_size == last.image_size
        if self.epoch and self.epoch != last.epoch and comparable and earlier.val_loss <= last.val_loss:
            return
        self.epoch, self.arrays = last.epoch, None

    def before_epoch(self) -> None:
        """Save the weights if those of the last epoch are the best, before they change."""
        if self.epoch and self.arrays is None and self.run.recipe.keep == "best":
            self.arrays = {v.path: np.array(keras.ops.convert_to_numpy(v)) for v in self.model.variables}

    def write(self, file: h5py.File) -> None:
        """Write the weights to a checkpoint, unless they are those of its last epoch."""
        if self.arrays is not None:
            for name, array in self.arrays.items():
                file[f"{BEST}/{name}"] = array
            file[BEST].attrs["epoch"] = self.epoch

    def restore(self) -> int:
        """Give the model the best weights, and return their epoch."""
        if self.arrays is not None:
            for variable in self.model.variables:
                variable.assign(self.arrays[variable.path])
        return self.epoch


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
        best: _Best,
    ) -> None:
        super().__init__()
        self.best = best
        self.run, self.dataset, self.steps, self.checkpoint = run, dataset, steps, checkpoint
        self.progress, self.report = progress, report
        self.size = run.architecture.image_size
        self.images_per_step = min(run.recipe.batch_size, len(dataset.train))

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Start the clock."""
        self.best.before_epoch()
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
        self.best.update()
        known, self.run.bad = self.run.bad, self.dataset.unreadable
        self.report(done)
        write_checkpoint(self.checkpoint, self.model, self.run, self.best)
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


def write_checkpoint(path: Path, model: keras.Model, run: TrainingRun, best: _Best) -> None:
    """Write weights, optimiser, run and the best weights atomically, in Keras's format."""
    content = io.BytesIO()  # HDF5 crashes if the disk is full
    with h5py.File(content, "w") as file:
        add_weights(file, graph.resnet(run.architecture), keras_engine.arrays(model))
        for index, variable in enumerate(model.optimizer.variables):
            file[f"optimizer/vars/{index}"] = keras.ops.convert_to_numpy(variable)
        best.write(file)
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
