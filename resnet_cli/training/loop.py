"""The network learns: Keras's optimiser, schedule and loop. Importing this module imports Keras."""

import io
import json
import math
import time
import timeit
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import h5py
import keras
import numpy as np
from keras import layers
from numpy.typing import NDArray

from resnet_cli import checkpoints, files, graph, keras_model, metrics
from resnet_cli.architecture import Architecture
from resnet_cli.batches import TrainingBatches, steps_per_epoch, validation_batches
from resnet_cli.checkpoints import Arrays
from resnet_cli.datasets import Split, Tree
from resnet_cli.errors import ModelError, UsageError
from resnet_cli.models import Activity
from resnet_cli.pretrained import Preprocessing
from resnet_cli.recipe import Epoch, Recipe

STATE = "resnet_cli_training"  # where a checkpoint holds what Keras does not

POLICIES = {"f32": "float32", "bf16": "mixed_bfloat16"}


@dataclass
class Run:
    """A training as it stands.

    Args:
        architecture: the network.
        classes: the folders' names, in the order of its outputs.
        preprocessing: what it wants done to pixels.
        recipe: how it is trained.
        history: the epochs that are done.
        bad: why images that were met in them cannot be read, by name.
    """

    architecture: Architecture
    classes: tuple[str, ...]
    preprocessing: Preprocessing
    recipe: Recipe
    history: list[Epoch]
    bad: dict[str, str] = field(default_factory=dict)

    def to_json(self) -> str:
        """Return it as one JSON object."""
        parts = {name: getattr(self, name).to_dict() for name in ("architecture", "preprocessing", "recipe")}
        history = [asdict(epoch) for epoch in self.history]
        return json.dumps(parts | {"classes": self.classes, "history": history, "bad": self.bad})

    @classmethod
    def from_json(cls, text: str) -> "Run":
        """Read what `to_json` wrote."""
        fields = json.loads(text)
        return cls(
            Architecture.from_dict(fields["architecture"]),
            tuple(fields["classes"]),
            Preprocessing.from_dict(fields["preprocessing"]),
            Recipe.from_dict(fields["recipe"]),
            [Epoch(**epoch) for epoch in fields["history"]],
            fields.get("bad", {}),
        )


class Progress(Activity, Protocol):
    """Is told what goes on and how far the training is."""

    def start(self, run: Run, tree: Tree) -> None:
        """Before the first step."""

    def step(self, done: float, loss: float, accuracy: float, images_per_second: float, seconds_left: float) -> None:
        """After each step: epochs done, loss and accuracy of this one, speed, and how long all of it still takes."""

    def epoch(self, epoch: Epoch) -> None:
        """After each epoch."""

    def bad_image(self, name: str, reason: str) -> None:
        """An image cannot be read and is left out."""


class WarmHoldCosine(keras.optimizers.schedules.LearningRateSchedule):  # type: ignore[misc]
    """Keras's warm-up and cosine decay, the clock stopped for `hold` steps at the highest rate.

    Until the decay begins nothing depends on its end, so that a run may be ended sooner or later than planned
    (Hägele et al. 2024, "Scaling Laws and Compute-Optimal Training Beyond Fixed Training Durations").

    Args:
        recipe: says how high, and how many epochs.
        steps: an epoch's.
    """

    def __init__(self, recipe: Recipe, steps: int) -> None:
        super().__init__()
        self.warmup, self.hold = recipe.rise * steps, recipe.hold * steps
        rise = {"warmup_target": recipe.learning_rate, "warmup_steps": self.warmup} if self.warmup else {}
        fall = max(1, recipe.epochs * steps - self.warmup - self.hold)
        self.cosine = keras.optimizers.schedules.CosineDecay(0.0 if rise else recipe.learning_rate, fall, **rise)

    def __call__(self, step: Any) -> Any:
        """Return the learning rate of a step, counted from 0; even the first one learns."""
        step = keras.ops.cast(step, "float32") + 1
        return self.cosine(step - keras.ops.clip(step - self.warmup, 0, self.hold))


def compiled(run: Run, steps: int, parameters: Arrays | None) -> keras.Model:
    """Build a network that is ready to learn.

    Args:
        run: says which network and recipe.
        steps: an epoch's.
        parameters: what to start from, by name; all others start at random.
    """
    recipe = run.recipe
    keras.config.set_dtype_policy(POLICIES[recipe.precision])
    keras.utils.set_random_seed(recipe.seed)
    network = graph.resnet(run.architecture)
    model = keras_model.build(network, any_size=True, kinds=_layers(network))
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


def _layers(network: graph.Graph) -> Mapping[str, Callable[[Any], layers.Layer]]:
    """Return Keras's layers, set up for learning.

    The last scale of each block is zero, so that a block begins as the identity (Goyal et al. 2017, "Accurate, Large
    Minibatch SGD", section 5.1). Probabilities are computed in f32 at any precision.
    """
    last = {op.inputs[1] for op in network.ops if op.kind == "Add"}
    faster: Any = layers
    if keras.backend.backend() == "torch":
        from resnet_cli import torch_layers as faster

    def convolution(op: Any) -> layers.Layer:
        padding = "same" if op.padding else "valid"
        window = {"kernel_size": op.kernel_size, "strides": op.stride, "padding": padding}
        return faster.Conv2D(op.filters, **window, groups=op.groups, use_bias=op.use_bias, name=op.name)

    def normalization(op: Any) -> layers.Layer:
        gamma = "zeros" if op.name in last else "ones"
        return faster.BatchNormalization(epsilon=op.epsilon, momentum=0.9, gamma_initializer=gamma, name=op.name)

    return keras_model.LAYERS | {
        "Conv2D": convolution,
        "BatchNormalization": normalization,
        "MaxPooling2D": lambda op: faster.MaxPooling2D(op.pool_size, strides=op.stride, name=op.name),
        "Dense": lambda op: layers.Dense(op.units, activation="softmax", dtype="float32", name=op.name),
    }


def faster_precision(run: Run, images: int = 8, steps: int = 3) -> str:
    """Return `bf16` where its best step is a tenth faster than that of `f32`, else `f32`.

    Steps are measured, which takes half a minute, only where a single convolution is a fifth faster in bf16, which is
    known within three seconds: without instructions for bf16 it is as slow as f32 or several times slower.

    Args:
        run: the training.
        images: in a step.
        steps: how many are measured, after one that is not.
    """
    if _convolution_seconds("bfloat16") > 0.8 * _convolution_seconds("float32"):
        return "f32"
    size, classes = run.architecture.image_size, len(run.classes)
    pixels = np.random.default_rng(0).standard_normal((images, size, size, 3), np.float32)
    truth = np.eye(classes, dtype=np.float32)[np.arange(images) % classes]
    best = {}
    for precision in POLICIES:
        model = compiled(replace(run, recipe=replace(run.recipe, precision=precision)), 1, None)
        model.train_on_batch(pixels, truth)
        best[precision] = min(timeit.repeat(partial(model.train_on_batch, pixels, truth), number=1, repeat=steps))
    return "bf16" if best["bf16"] < 0.9 * best["f32"] else "f32"


def _convolution_seconds(dtype: str) -> float:
    """Return the time of a convolution of 1.2 billion multiply-accumulates, the best of three."""
    images, kernel = keras.ops.ones((8, 32, 32, 128), dtype), keras.ops.ones((3, 3, 128, 128), dtype)

    def convolve() -> None:
        answer = keras.ops.conv(images, kernel, padding="same")
        keras.ops.convert_to_numpy(keras.ops.cast(answer[0, 0, 0, 0], "float32"))  # waits for a GPU

    return min(timeit.repeat(convolve, number=1, repeat=3))


def learn(
    run: Run,
    tree: Tree,
    parameters: Arrays | None,
    checkpoint: Path,
    progress: Progress,
    report: Callable[[Epoch], None],
) -> keras.Model:
    """Train a network to the end of its recipe, from the checkpoint where there is one.

    Args:
        run: what to train; its history grows.
        tree: the images.
        parameters: what to start from, where there is no checkpoint.
        checkpoint: where weights, optimiser and run are written after each epoch.
        progress: is told how far it is.
        report: is called after each epoch, before the checkpoint is written.

    Returns:
        The trained model.

    Raises:
        UsageError: the loss stops being a number.
        ModelError: the checkpoint cannot be read.
    """
    steps = steps_per_epoch(tree.train, run.recipe.batch_size)
    model = compiled(run, steps, parameters)
    if checkpoint.exists():
        model.optimizer.build(model.trainable_variables)
        try:
            model.load_weights(checkpoint)
        except (OSError, ValueError, KeyError) as error:
            raise ModelError(f"{checkpoint}: the checkpoint does not fit this training ({error})") from error
        model.optimizer.iterations.assign(len(run.history) * steps)  # an epoch may have other steps than before
    keeper = _Keeper(run, tree, steps, checkpoint, progress, report)
    for size, start, end in run.recipe.phases(run.architecture.image_size):
        first = max(start, len(run.history))
        if first < end:
            keeper.size = size
            batches = TrainingBatches(
                tree.train,
                run.preprocessing,
                classes=len(run.classes),
                batch_size=run.recipe.batch_size,
                size=size,
                crop=run.recipe.crop,
                seed=run.recipe.seed,
                first_epoch=first,
            )
            span = {"initial_epoch": first, "epochs": end, "steps_per_epoch": steps}
            model.fit(batches, callbacks=[keeper], shuffle=False, verbose=0, **span)
    return model


class _Keeper(keras.callbacks.Callback):  # type: ignore[misc]
    """Reports each step; after each epoch validates and keeps weights, optimiser and history."""

    def __init__(
        self,
        run: Run,
        tree: Tree,
        steps: int,
        checkpoint: Path,
        progress: Progress,
        report: Callable[[Epoch], None],
    ) -> None:
        super().__init__()
        self.run, self.tree, self.steps, self.checkpoint = run, tree, steps, checkpoint
        self.progress, self.report = progress, report
        self.size = run.architecture.image_size
        self.images_a_step = min(run.recipe.batch_size, len(tree.train))

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Start the clock."""
        self.started = time.perf_counter()

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Report a step."""
        if not math.isfinite(logs["loss"]):
            raise UsageError(f"in epoch {len(self.run.history) + 1} the loss stopped being a number; lower --lr")
        seconds, share = time.perf_counter() - self.started, (batch + 1) / self.steps
        before, full = len(self.run.history), self.run.architecture.image_size
        left = self.run.recipe.work(full, before + share) * seconds / (share * self.size**2)
        speed = (batch + 1) * self.images_a_step / seconds
        self.progress.step(before + share, float(logs["loss"]), float(logs["accuracy"]), speed, left)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Validate, write the checkpoint, report."""
        seconds = time.perf_counter() - self.started
        scores = metrics.score(predicted(self.model, self.tree.validation, self.run.preprocessing, self.size))
        done = Epoch(
            epoch=epoch + 1,
            image_size=self.size,
            learning_rate=float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate)),
            loss=float(logs["loss"]),
            accuracy=float(logs["accuracy"]),
            val_loss=scores.losses[1],
            val_accuracy=scores.accuracy,
            val_top5=scores.top5,
            images_per_second=self.steps * self.images_a_step / seconds,
            seconds=time.perf_counter() - self.started,
        )
        self.run.history.append(done)
        met, self.run.bad = self.run.bad, self.tree.bad
        self.report(done)
        write_checkpoint(self.checkpoint, self.model, self.run)
        self.progress.epoch(done)
        for name in sorted(self.run.bad.keys() - met.keys()):
            self.progress.bad_image(name, self.run.bad[name])


def predicted(
    model: keras.Model, split: Split, preprocessing: Preprocessing, size: int
) -> Iterator[tuple[NDArray[np.float32], NDArray[np.int32]]]:
    """Classify the images of a split.

    Yields:
        Probabilities (batch, classes) and true classes (batch,) of the images that can be read; at least one pair.

    Raises:
        UsageError: there are none, or a probability is not a number.
    """
    empty = True
    for pixels, classes in validation_batches(split, preprocessing, 128, size):
        probabilities = np.asarray(model.predict_on_batch(pixels))
        if not np.isfinite(probabilities).all():
            raise UsageError("the network's output stopped being a number; lower --lr")
        yield probabilities, classes
        empty = False
    if empty:
        raise UsageError(f"{split.folder}: none of the images to validate with can be read")


def write_checkpoint(path: Path, model: keras.Model, run: Run) -> None:
    """Write weights and optimiser as Keras does, and the run; killed at any moment, it leaves a whole file."""
    content = io.BytesIO()  # HDF5 itself does not survive a full disk
    with h5py.File(content, "w") as file:
        checkpoints.add_weights(file, graph.resnet(run.architecture), keras_model.arrays(model))
        for index, variable in enumerate(model.optimizer.variables):
            file[f"optimizer/vars/{index}"] = keras.ops.convert_to_numpy(variable)
        file[STATE] = run.to_json()
    with files.replacing(path) as unfinished:
        unfinished.write_bytes(content.getbuffer())


def read_run(path: Path) -> Run:
    """Read what a checkpoint says of its training.

    Raises:
        ModelError: it says nothing, or cannot be read.
    """
    try:
        with h5py.File(path) as file:
            return Run.from_json(file[STATE].asstr()[()])
    except (OSError, KeyError, ValueError, TypeError) as error:
        raise ModelError(f"{path}: expected a checkpoint of a training, got a damaged or foreign file") from error
