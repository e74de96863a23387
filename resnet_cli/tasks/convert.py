"""Convert a model to another file format, and verify the predictions of the file on a photo."""

from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from resnet_cli.engines import exports
from resnet_cli.engines.engine import start_engine
from resnet_cli.engines.probabilities import top_k_predictions
from resnet_cli.errors import ImageError, ModelError, UsageError
from resnet_cli.images import inputs
from resnet_cli.network.architecture import NetworkOptions
from resnet_cli.network.metadata import Metadata
from resnet_cli.system import atomic
from resnet_cli.system.progress import Progress
from resnet_cli.weights.model import load_model

PHOTO = str(files("resnet_cli") / "data/photo.jpg")
TOLERANCE = 1e-4  # largest difference in probability between the source and the file


@dataclass(frozen=True)
class Converted:
    """A converted file.

    Args:
        path: the file.
        format: its suffix without the dot.
        model, weights: names of the network and its weights.
        bytes: size of the file and its companions.
        largest_difference: largest difference in probability between the source and the file, on the photo.
        top_label, source_top_label: the photo's top label by the file and by the source.
    """

    path: str
    format: str
    model: str
    weights: str
    bytes: int
    largest_difference: float
    top_label: str
    source_top_label: str


def convert_model(
    source: str,
    out: Path,
    requested: NetworkOptions,
    progress: Progress,
    *,
    names: str = "keras",
    image: str | None = None,
    labels: Path | None = None,
    force: bool = False,
) -> Converted:
    """Write a model in another format, and keep the file only if its predictions are the same.

    Args:
        source: a name of weights, or a file.
        out: the file to write; its suffix, a key of `exports.FILE_FORMATS`, selects the format.
        requested: options of the network.
        progress: receives the progress.
        names: naming of the arrays, a key of `exports.NAMES`.
        image: image to compare on; None for the photo in the package.
        labels: a file with one label per line, instead of those of the source.
        force: whether to overwrite existing files.

    Raises:
        UsageError: the suffix is unknown, a file exists, is the source or cannot be written, or there is no image.
        ModelError: the source is unavailable, the format cannot represent it, or the predictions differ.
    """
    suffix, row = exports.format_of(out, force=force, names=names)
    model = load_model(source, requested, progress, labels_file=labels)
    for file in row.files(out):
        if file.exists() and file.samefile(model.path):
            raise UsageError(f"{file} is the file to convert; choose another output name")
    pixels = _pixels(image, model.metadata)
    with atomic.atomic_write(*row.files(out)) as temporary:
        progress.report(f"Writing {out.name}")
        row.write(temporary, model.parameters, model.metadata)
        progress.report(f"Verifying {out.name}")
        try:
            converted = row.predict(temporary, model, pixels, progress)[0]
        except Exception as error:  # every reader has its own errors
            raise ModelError(f"{out} was discarded: it cannot be read back: {error}") from error
        original = start_engine("auto", model, progress=progress).predict(pixels)[0]
        difference = float(np.abs(converted - original).max())
        if not difference <= TOLERANCE:  # true for NaN, too
            fault = f"its probabilities differ by up to {difference:.1g} on the test image"
            raise ModelError(f"{out} was discarded: {fault}")
    tops = (top_k_predictions(each, model.metadata.labels, 1)[0].label.display for each in (converted, original))
    name, size = model.metadata.architecture.name, row.size(out)
    return Converted(str(out), suffix.removeprefix("."), name, model.weights, size, difference, *tops)


def _pixels(image: str | None, metadata: Metadata) -> NDArray[np.uint8]:
    """Return an image, or the photo in the package, as a batch of one."""
    try:
        return inputs.read_pixels(PHOTO if image is None else image, metadata.decoding())[None]
    except ImageError as error:
        raise UsageError(f"{image}: {error}") from error
