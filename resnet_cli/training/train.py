"""The use case: a folder a class -> a network that tells them apart, in a file."""

from collections.abc import Mapping
from dataclasses import asdict, astuple, dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from resnet_cli import architecture, checkpoints, datasets, files, labels, metrics, models
from resnet_cli.architecture import Head
from resnet_cli.checkpoints import Arrays
from resnet_cli.datasets import Tree
from resnet_cli.errors import UsageError
from resnet_cli.metadata import Metadata
from resnet_cli.metrics import Scores
from resnet_cli.models import Activity
from resnet_cli.pretrained import TORCHVISION
from resnet_cli.recipe import Epoch, Recipe

if TYPE_CHECKING:
    from resnet_cli.training import Progress, Run


@dataclass(frozen=True)
class Trained:
    """What a training came to; shares are 0 to 1.

    Args:
        path: the weights.
        architecture: the network's name.
        classes, images, validation_images: their numbers; bad images are not counted.
        bad: why images were left out, by name.
        epochs: how many it learned.
        val_accuracy, val_top5: of the weights in the file, over the validation images.
        val_loss: cross-entropy of the probabilities at `temperature`, in nats.
        val_loss_untempered: the same at temperature 1.
        temperature: what divides the logits.
        precision: what it computed in.
        images_per_second: mean over its epochs.
        seconds: wall time of its epochs.
    """

    path: str
    architecture: str
    classes: int
    images: int
    validation_images: int
    bad: dict[str, str]
    epochs: int
    val_accuracy: float
    val_top5: float
    val_loss: float
    val_loss_untempered: float
    temperature: float
    precision: str
    images_per_second: float
    seconds: float


def train(
    data: Path,
    out: Path,
    weights: str,
    asked: Mapping[str, Any],
    recipe: Mapping[str, Any],
    progress: "Progress",
    *,
    half: bool = False,
    resume: bool = False,
    force: bool = False,
) -> Trained:
    """Train a network on a tree of images.

    Beside `out` come its metrics (`.metrics.csv`), curves (`.curves.png`) and checkpoint (`.checkpoint.weights.h5`),
    which `resume` goes on from, also to more epochs than were planned.

    Args:
        data: folder of `train/CLASS/` and perhaps `val/CLASS/`.
        out: the weights to write, `.safetensors`.
        weights: `none` for random ones, `imagenet`, `tiny`, or a file to start from.
        asked: arguments of `architecture.resnet` that the user gave.
        recipe: fields of `Recipe` that the user gave; `precision` may be `auto`.
        progress: is told how far it is.
        half: whether 16-bit weights are written.
        resume: whether to go on from the checkpoint, with its network and recipe; what `recipe` has replaces its part.
        force: whether files of an earlier training are replaced.

    Raises:
        UsageError: the tree, the network or the recipe is none, or files are in the way.
        ModelError: weights or checkpoint are not to be had or do not fit.
    """
    paths = {kind: _beside(out, kind) for kind in ("metrics.csv", "curves.png", "checkpoint.weights.h5")}
    checkpoint = paths["checkpoint.weights.h5"]
    going_on = resume and checkpoint.exists()
    if not (going_on or force):
        for path in (out, checkpoint):
            if path.exists():
                raise UsageError(f"{path} exists; --resume goes on from its checkpoint, --force begins anew")
    if going_on:
        run, tree, parameters = *_resumed(data, checkpoint, asked, recipe, progress), None
    else:
        run, tree, parameters = _begun(data, weights, asked, recipe, progress)
    from resnet_cli import keras_model, training

    if run.recipe.precision == "auto":
        progress.report("Measuring precisions")
        run.recipe = replace(run.recipe, precision=training.faster_precision(run))
    for size, *_ in run.recipe.phases(run.architecture.image_size):
        replace(run.architecture, image_size=size)  # which raises where the network would have nothing left to see
    for path in (out, *paths.values()):
        files.remove_unfinished(path)
    if not going_on:
        checkpoint.unlink(missing_ok=True)

    def report(epoch: Epoch) -> None:
        files.write_csv(paths["metrics.csv"], [field.name for field in fields(Epoch)], map(astuple, run.history))
        if epoch.seconds > 10 or epoch.epoch == run.recipe.epochs:  # drawing takes half a second
            _draw(run.history, paths["curves.png"])

    progress.start(run, tree)
    model = training.learn(run, tree, parameters, checkpoint, progress, report)
    arrays = _narrow(keras_model.arrays(model), out, np.float16 if half else np.float32)
    for variable in model.variables:
        variable.assign(arrays[variable.path])  # what is measured now is what the file holds
    progress.report("Fitting the temperature")
    answers = training.predicted(model, tree.validation, run.preprocessing, run.architecture.image_size)
    trained = _trained(out, run, tree, metrics.score(answers, metrics.TEMPERATURES))
    _write_weights(out, arrays, run, trained)
    return trained


def _scan(data: Path, recipe: Recipe, progress: Activity) -> Tree:
    progress.report("Listing images")
    return datasets.scan(data, recipe.validation_share)


def _trained(out: Path, run: "Run", tree: Tree, scores: Scores) -> Trained:
    """Sum a training up."""
    return Trained(
        path=str(out),
        architecture=run.architecture.name,
        classes=len(tree.classes),
        images=len(tree.train) - len(tree.train.bad),
        validation_images=scores.images,
        bad=tree.bad,
        epochs=len(run.history),
        val_accuracy=scores.accuracy,
        val_top5=scores.top5,
        val_loss=scores.losses[scores.temperature],
        val_loss_untempered=scores.losses[1],
        temperature=scores.temperature,
        precision=run.recipe.precision,
        images_per_second=float(np.mean([epoch.images_per_second for epoch in run.history])),
        seconds=sum(epoch.seconds for epoch in run.history),
    )


def _narrow(arrays: Arrays, out: Path, dtype: type[np.floating[Any]]) -> Arrays:
    narrow = {name: array.astype(dtype) for name, array in arrays.items()}
    if not all(np.isfinite(array).all() for array in narrow.values()):
        raise UsageError(f"{out}: the weights do not fit into 16 bits; --resume without --half writes them")
    return narrow


def _write_weights(out: Path, arrays: Arrays, run: "Run", trained: Trained) -> None:
    summary = {name: value for name, value in asdict(trained).items() if name not in ("path", "bad")}
    about = Metadata(
        run.architecture,
        labels.folder_labels(run.classes),
        run.preprocessing,
        trained.temperature,
        {"recipe": run.recipe.to_dict(), "summary": summary},
    )
    with files.replacing(out) as unfinished:
        checkpoints.write_safetensors(unfinished, arrays, about)


def _beside(out: Path, kind: str) -> Path:
    if out.suffix != ".safetensors":
        raise UsageError(f"{out}: the name must end with .safetensors")
    files.check(out)
    return out.with_name(f"{out.stem}.{kind}")


def _resumed(
    data: Path, checkpoint: Path, asked: Mapping[str, Any], recipe: Mapping[str, Any], progress: Activity
) -> "tuple[Run, Tree]":
    """Return the run of a checkpoint, with what was asked anew in place of its own, and its images."""
    progress.report("Importing Keras")
    from resnet_cli import training

    run = training.read_run(checkpoint)
    if models.described(run.architecture, asked) != run.architecture:
        raise UsageError(f"the checkpoint is of another network, {run.architecture.name}; leave out --resume")
    asked_anew = {name: value for name, value in recipe.items() if value != "auto"}
    run = replace(run, recipe=replace(run.recipe, **asked_anew))
    tree = _scan(data, run.recipe, progress)
    tree.leave_out(run.bad)
    if run.classes != tree.classes:
        raise UsageError(f"{data}: its classes are not those of {checkpoint}; leave out --resume")
    return run, tree


def _begun(
    data: Path, weights: str, asked: Mapping[str, Any], recipe: Mapping[str, Any], progress: Activity
) -> "tuple[Run, Tree, Arrays | None]":
    """Return a run that starts, its images and parameters; where the classes differ, without the last layer's."""
    tree = _scan(data, Recipe(**recipe), progress)
    chosen = Recipe.begin(len(tree.train), {"precision": "auto", **recipe})
    progress.report("Importing Keras")
    from resnet_cli.training import Run

    classes = tree.classes
    if weights == "none":
        described = architecture.resnet(**{"variant": "v1.5", **asked, "classes": len(classes)})
        return Run(described, classes, TORCHVISION, chosen, []), tree, None
    model = models.load(weights, dict(asked), progress)
    parameters = model.parameters
    if model.metadata.labels != labels.folder_labels(classes):
        parameters = {name: array for name, array in parameters.items() if not name.startswith("predictions/")}
    described = replace(model.metadata.architecture, head=Head(len(classes)))
    preprocessing = model.metadata.preprocessing
    resizing = replace(preprocessing.resizing, sampled=None)  # which was of the images that the weights are from
    return Run(described, classes, replace(preprocessing, resizing=resizing), chosen, []), tree, parameters


def _draw(history: list[Epoch], picture: Path) -> None:
    from resnet_cli import plots

    with files.replacing(picture) as unfinished:
        plots.curves(history, unfinished)
