"""Train a network on images sorted into class folders, and write it to a file."""

from dataclasses import asdict, astuple, dataclass, fields, replace
from pathlib import Path

import numpy as np

from resnet_cli.engines import probabilities
from resnet_cli.engines.probabilities import Scores
from resnet_cli.errors import UsageError
from resnet_cli.images import folders, inputs
from resnet_cli.network import labels, variants
from resnet_cli.network.architecture import Head, NetworkOptions
from resnet_cli.network.metadata import METADATA_KEY, Metadata
from resnet_cli.network.preprocessing import TORCHVISION
from resnet_cli.system import atomic
from resnet_cli.system.progress import Progress
from resnet_cli.training.dataset import Dataset, count_copies, find_folders, scan_dataset
from resnet_cli.training.recipe import Epoch, Recipe, RecipeOptions
from resnet_cli.training.run import TrainingProgress, TrainingRun
from resnet_cli.weights.checkpoint import Arrays, write_safetensors
from resnet_cli.weights.model import load_model, resolve_architecture

COLUMNS = tuple(field.name for field in fields(Epoch))  # of the metrics


@dataclass(frozen=True)
class TrainingResult:
    """The results of a training; shares are from 0 to 1.

    Args:
        path: the weights file.
        architecture: name of the network.
        classes, images, validation_images: their numbers, without unreadable images.
        bad: why images cannot be read, by name.
        epochs: number of epochs.
        kept_epoch: the epoch whose weights are saved.
        val_accuracy, val_top5: accuracy of the saved weights on the validation images.
        val_loss: cross-entropy of the probabilities at `temperature`, in nats.
        val_loss_untempered: the same at temperature 1.
        temperature: divides the logits.
        why_untempered: why no temperature was fitted, or an empty text.
        precision: precision of the computation.
        images_per_second: mean over the epochs.
        seconds: wall time of the epochs.
    """

    path: str
    architecture: str
    classes: int
    images: int
    validation_images: int
    bad: dict[str, str]
    epochs: int
    kept_epoch: int
    val_accuracy: float
    val_top5: float
    val_loss: float
    val_loss_untempered: float
    temperature: float
    why_untempered: str
    precision: str
    images_per_second: float
    seconds: float


def train_model(
    data: Path,
    out: Path,
    weights: str,
    requested: NetworkOptions,
    recipe: RecipeOptions,
    progress: TrainingProgress,
    *,
    half: bool = False,
    resume: bool = False,
    force: bool = False,
) -> TrainingResult:
    """Train a network on a folder of images.

    Next to `out` are written: metrics (`.metrics.csv`), curves (`.curves.png`) and a checkpoint
    (`.checkpoint.weights.h5`), from which `resume` continues, also with more epochs than planned.

    Args:
        data: folder with `train/CLASS/` and, optionally, `val/CLASS/`, or with `CLASS/`.
        out: the weights file to write, `.safetensors`.
        weights: `none` for random initial weights, a name, or a file.
        requested: options of the network.
        recipe: options of the recipe.
        progress: receives the progress.
        half: whether to save 16-bit weights.
        resume: whether to continue from the checkpoint, with its network and recipe; options in `recipe` override it.
        force: whether to overwrite the files of an earlier training.

    Raises:
        UsageError: the dataset, the network or the recipe is invalid, or files exist.
        ModelError: weights or checkpoint are unavailable or do not match.
    """
    paths = {kind: _sibling(out, kind) for kind in ("metrics.csv", "curves.png", "checkpoint.weights.h5")}
    checkpoint = paths["checkpoint.weights.h5"]
    resuming = resume and checkpoint.exists()
    if not (resuming or force):
        for path in (out, checkpoint):
            if path.exists():
                raise UsageError(
                    f"{path} already exists; use --resume to continue from its checkpoint, or --force to start over"
                )
    if resuming:
        atomic.check_replaceable(out, lambda head: METADATA_KEY.encode() in head, force=force)
    atomic.check_replaceable(paths["metrics.csv"], atomic.has_header(COLUMNS), force=force)
    atomic.check_replaceable(paths["curves.png"], atomic.is_our_png, force=force)
    splits = find_folders(data)
    classes = [path for split in (splits.train, splits.validation) if split for path in folders.subfolders(split)]
    inputs.check_outputs([out, *paths.values()], [*classes, weights])
    if resuming:
        run, dataset, parameters = *_resume(data, checkpoint, requested, recipe, progress), None
    else:
        run, dataset, parameters = _start(data, weights, requested, recipe, progress)
        progress.report("Importing Keras")
    from resnet_cli.engines import keras_engine
    from resnet_cli.training import loop

    if run.recipe.precision == "auto":
        progress.report("Choosing the precision")
        run.recipe = replace(run.recipe, precision=loop.faster_precision())
    for size, *_ in run.recipe.phases(run.architecture.image_size):
        replace(run.architecture, image_size=size)  # raises if the images are too small for the network
    for path in (out, *paths.values()):
        atomic.remove_leftovers(path)
    if not resuming:
        checkpoint.unlink(missing_ok=True)

    def report(epoch: Epoch) -> None:
        atomic.write_csv(paths["metrics.csv"], COLUMNS, map(astuple, run.history))
        if epoch.seconds > 10 or epoch.epoch == run.recipe.epochs:  # drawing takes half a second
            _draw(run, paths["curves.png"])

    progress.start(run, dataset)
    if dataset.unused and not resuming:
        progress.warning(f"not used: {', '.join(f'{data / name}' for name in dataset.unused)}")
    if not resuming and (copies := count_copies(dataset)):
        progress.warning(f"{copies:,} validation images are also among the training images; the accuracy is too high")
    model, kept = loop.fit(run, dataset, parameters, checkpoint, progress, report)
    arrays = _cast(keras_engine.arrays(model), out, np.float16 if half else np.float32)
    for variable in model.variables:
        variable.assign(arrays[variable.path])  # so that the file's weights are validated
    progress.report("Fitting the temperature")
    predicted = loop.predict_split(model, dataset.validation, run.preprocessing, run.architecture.image_size)
    result = _result(out, run, dataset, kept, probabilities.score(predicted, probabilities.TEMPERATURES))
    _write_weights(out, arrays, run, result)
    return result


def _scan(data: Path, recipe: Recipe, progress: Progress) -> Dataset:
    progress.report("Listing images")
    return scan_dataset(data, recipe.validation_share)


def _result(out: Path, run: TrainingRun, dataset: Dataset, kept: int, scores: Scores) -> TrainingResult:
    """Return the results of a training."""
    return TrainingResult(
        path=str(out),
        architecture=run.architecture.name,
        classes=len(dataset.classes),
        images=len(dataset.train) - len(dataset.train.unreadable),
        validation_images=scores.images,
        bad=dataset.unreadable,
        epochs=len(run.history),
        kept_epoch=kept,
        val_accuracy=scores.accuracy,
        val_top5=scores.top5,
        val_loss=scores.losses[scores.temperature],
        val_loss_untempered=scores.losses[1],
        temperature=scores.temperature,
        why_untempered=scores.why_untempered,
        precision=run.recipe.precision,
        images_per_second=float(np.mean([epoch.images_per_second for epoch in run.history])),
        seconds=sum(epoch.seconds for epoch in run.history),
    )


def _cast(arrays: Arrays, out: Path, dtype: type[np.float16 | np.float32]) -> Arrays:
    narrow = {name: array.astype(dtype) for name, array in arrays.items()}
    if not all(np.isfinite(array).all() for array in narrow.values()):
        raise UsageError(f"{out}: the weights do not fit in 16 bits; run again with --resume and without --half")
    return narrow


def _write_weights(out: Path, arrays: Arrays, run: TrainingRun, result: TrainingResult) -> None:
    summary = {name: value for name, value in asdict(result).items() if name not in ("path", "bad")}
    about = Metadata(
        run.architecture,
        labels.folder_labels(run.classes),
        run.preprocessing,
        result.temperature,
        {"recipe": run.recipe.to_dict(), "summary": summary},
    )
    with atomic.atomic_write(out) as temporary:
        write_safetensors(temporary, arrays, about)


def _sibling(out: Path, kind: str) -> Path:
    if out.suffix != ".safetensors":
        raise UsageError(f"{out}: the name must end with .safetensors")
    atomic.check_writable(out)
    return out.with_name(f"{out.stem}.{kind}")


def _resume(
    data: Path, checkpoint: Path, requested: NetworkOptions, recipe: RecipeOptions, progress: Progress
) -> tuple[TrainingRun, Dataset]:
    """Return the run of a checkpoint, updated with the options of the recipe, and its dataset."""
    progress.report("Importing Keras")
    from resnet_cli.training import loop

    start_over = "use --force instead of --resume to start over"
    run = loop.read_run(checkpoint)
    if resolve_architecture(run.architecture, requested) != run.architecture:
        raise UsageError(f"the checkpoint is for another network, {run.architecture.name}; {start_over}")
    overrides = {name: value for name, value in recipe.chosen.items() if value != "auto"}
    run = replace(run, recipe=replace(run.recipe, **overrides))
    dataset = _scan(data, run.recipe, progress)
    dataset.exclude(run.bad)
    if run.classes != dataset.classes:
        raise UsageError(f"{data}: its classes differ from those in {checkpoint}; {start_over}")
    return run, dataset


def _start(
    data: Path, weights: str, requested: NetworkOptions, recipe: RecipeOptions, progress: Progress
) -> tuple[TrainingRun, Dataset, Arrays | None]:
    """Return a new run, its dataset and its initial parameters, without the final layer's if the classes differ."""
    dataset = _scan(data, Recipe(**recipe.chosen), progress)
    chosen = Recipe.for_images(len(dataset.train), recipe)
    classes = dataset.classes
    if weights == "none":
        if chosen.freeze_backbone:
            raise UsageError(
                "--freeze-backbone trains only the final layer of trained weights; add --weights NAME|FILE"
            )
        architecture = variants.describe(**{"variant": "v1.5", **requested.chosen, "classes": len(classes)})
        return TrainingRun(architecture, classes, TORCHVISION, chosen, []), dataset, None
    model = load_model(weights, requested, progress)
    parameters = model.parameters
    if model.metadata.labels != labels.folder_labels(classes):
        parameters = {name: array for name, array in parameters.items() if not name.startswith("predictions/")}
    architecture = replace(model.metadata.architecture, head=Head(len(classes)), options=None)
    # Subsampling suits only the images that the weights were trained on.
    resizing = replace(model.metadata.preprocessing.resizing, sampled=None)
    preprocessing = replace(model.metadata.preprocessing, resizing=resizing)
    return TrainingRun(architecture, classes, preprocessing, chosen, []), dataset, parameters


def _draw(run: TrainingRun, path: Path) -> None:
    from resnet_cli.training import curves

    with atomic.atomic_write(path) as temporary:
        curves.draw(run.history, temporary, top5=len(run.classes) > 5)
