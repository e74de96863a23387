"""The use case: load -> write in another format -> read back and compare on a photo."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resnet_cli import engines, files, formats, inputs, labels, models
from resnet_cli.engines import Setup
from resnet_cli.errors import ImageError, ModelError, UsageError
from resnet_cli.metadata import Metadata
from resnet_cli.models import Activity
from resnet_cli.pretrained import Fit

PHOTO = Path(__file__).with_name("data") / "photo.jpg"
TOLERANCE = 1e-4  # of probability, between what computes the source and what reads the written file


@dataclass(frozen=True)
class Converted:
    """What was written.

    Args:
        path: the file.
        format: its suffix without the dot.
        model, weights: what it was made of.
        bytes: of the file and those that belong to it.
        largest_difference: of a class's probability on the photo, between source and file.
        top_label, source_top_label: what the file and the source take the photo for.
    """

    path: str
    format: str
    model: str
    weights: str
    bytes: int
    largest_difference: float
    top_label: str
    source_top_label: str


def convert(
    source: str,
    out: Path,
    asked: dict[str, Any],
    activity: Activity,
    *,
    names: str = "keras",
    image: str | None = None,
    force: bool = False,
) -> Converted:
    """Write a model in another format, and keep the file only if it answers as the source does.

    Args:
        source: what `models.load` takes: a name or a file.
        out: the file to write; its suffix, a key of `formats.FORMATS`, is its format.
        asked: arguments of `architecture.resnet` that the user gave.
        activity: is told what goes on.
        names: whose names the arrays get, a key of `formats.NAMES`.
        image: what to compare on; where None, the photo inside the package.
        force: whether existing files are replaced.

    Raises:
        UsageError: the suffix is unknown, a file exists, is the source or cannot be written, or there is no image.
        ModelError: the source is not to be had, has no place in the format, or the file answers something else.
    """
    suffix, row = formats.chosen(out, force=force, names=names)
    model = models.load(source, asked, activity)
    for file in row.files(out):
        if file.exists() and file.samefile(model.path):
            raise UsageError(f"{file} is what is to be converted; give the result another name")
    pixels = _pixels(image, model.metadata)
    with files.replacing(*row.files(out)) as unfinished:
        activity.report(f"Writing {out.name}")
        row.write(unfinished, model.parameters, model.metadata)
        activity.report(f"Reading {out.name} back")
        try:
            theirs = row.answer(unfinished, model, pixels, activity)[0]
        except Exception as error:  # each reader has its own
            raise ModelError(f"{out} is not kept, as it cannot be read back: {error}") from error
        ours = engines.start("auto", model, Setup(), activity).predict(pixels)[0]
        difference = float(np.abs(theirs - ours).max())
        if not difference <= TOLERANCE:  # it may be no number
            raise ModelError(f"{out} is not kept, as its probabilities are off by up to {difference:.1g} on the photo")
    tops = (labels.top_k(each, model.metadata.labels, 1)[0].label.display for each in (theirs, ours))
    name, size = model.metadata.architecture.name, row.size(out)
    return Converted(str(out), suffix.removeprefix("."), name, model.weights, size, difference, *tops)


def _pixels(image: str | None, metadata: Metadata) -> NDArray[np.uint8]:
    """Return the photo as a batch of one, as the network wants it."""
    size, resizing = metadata.architecture.image_size, metadata.preprocessing.resizing
    try:
        return inputs.decode(str(PHOTO) if image is None else image, size, Fit.CROP, resizing)[None]
    except ImageError as error:
        raise UsageError(f"{image}: {error}") from error
