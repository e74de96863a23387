"""What computes a model: the engines as rows, and the choice between them."""

import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from resnet_cli.errors import EngineError
from resnet_cli.metadata import Metadata
from resnet_cli.models import Activity, Model


class Precision(StrEnum):
    """What an engine computes in: 32-bit and 16-bit (bfloat16) floating point, 8-bit integers."""

    F32 = "f32"
    BF16 = "bf16"
    INT8 = "int8"


@dataclass(frozen=True)
class Setup:
    """What is asked of an engine.

    Args:
        precision: what to compute in.
        many: whether many images will come (then as many a second as can be) or one (then as soon as can be).
        calibration: gives, as a model wants them, the images that the ranges of `int8` are measured on: RGB uint8,
            shape (n, size, size, 3).
        calibrated_on: tells which images these are, ready for JSON; what was measured on the same ones is used again.
    """

    precision: Precision = Precision.F32
    many: bool = False
    calibration: Callable[[Metadata], NDArray[np.uint8]] | None = None
    calibrated_on: object = None


class Engine(Protocol):
    """Computes a model's probabilities.

    Attributes:
        precision: what it computes in, which may not be what was asked.
    """

    precision: Precision

    def __init__(self, model: Model, setup: Setup, activity: Activity) -> None:
        """Get ready.

        Raises:
            EngineError: it cannot run here.
            ModelError: the model's parameters cannot be read.
        """

    def embed(self, images: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Classify images; the answer to one does not depend on the others of its batch.

        Args:
            images: RGB, shape (batch, size, size, 3).

        Returns:
            Tempered probabilities (batch, classes), and the features that the head sees (batch, channels).
        """
        ...

    def predict(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return the first of what `embed` does."""
        return self.embed(images)[0]


# Best first. The modules are imported when they are used: some take seconds.
ENGINES = {
    "openvino": "resnet_cli.compiled:OpenVINOEngine",
    "keras": "resnet_cli.keras_model:KerasEngine",
}


def start(name: str, model: Model, setup: Setup, activity: Activity) -> Engine:
    """Get an engine ready.

    Args:
        name: a key of `ENGINES`, or `auto` for the first that can run here.
        model: what it is to compute.
        setup: what is asked of it.
        activity: is told what goes on.

    Raises:
        EngineError: the engine cannot run here.
        ModelError: the model's parameters cannot be read.
    """
    names = list(ENGINES) if name == "auto" else [name]
    for candidate in names:
        activity.report(f"Starting {candidate}")
        try:
            kind: type[Engine] = pkgutil.resolve_name(ENGINES[candidate])
            return kind(model, setup, activity)
        except (ImportError, EngineError) as error:
            reason = f"the engine {candidate} cannot run here: {' '.join(str(error).split())}"
            if candidate == names[-1]:
                raise EngineError(reason) from error
            activity.warn(f"{reason}; {names[names.index(candidate) + 1]} computes instead, which takes longer")
    raise AssertionError("no engine has a row")


def name_of(engine: Engine) -> str:
    """Return the key of `ENGINES` that an engine was started by."""
    place = f"{type(engine).__module__}:{type(engine).__name__}"
    return next(name for name, row in ENGINES.items() if row == place)
