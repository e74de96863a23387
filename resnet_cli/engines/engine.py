"""The engines that run a network, one row per engine, and the choice between them."""

import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from resnet_cli.engines.precision import Precision
from resnet_cli.errors import EngineError
from resnet_cli.network.metadata import Metadata
from resnet_cli.system.progress import SILENT, Progress
from resnet_cli.weights.model import ModelFile


@dataclass(frozen=True)
class EngineOptions:
    """How to start an engine.

    Args:
        precision: the requested precision.
        throughput: whether to optimise for throughput (many images) rather than latency (one image).
        calibration: returns the images to calibrate `int8` on, as a model needs them: RGB uint8 (n, size, size, 3).
        calibration_key: JSON value that identifies these images; a network calibrated on the same ones is reused.
    """

    precision: Precision = Precision.F32
    throughput: bool = False
    calibration: Callable[[Metadata], NDArray[np.uint8]] | None = None
    calibration_key: object = None


class Engine(Protocol):
    """Runs a network.

    Attributes:
        precision: the precision in use, which may differ from the requested one.
    """

    precision: Precision

    def __init__(self, model: ModelFile, options: EngineOptions, progress: Progress) -> None:
        """Prepare the network.

        Raises:
            EngineError: the engine cannot run here.
            ModelError: the model's parameters cannot be read.
        """

    def embed(self, images: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Run inference; the result for an image does not depend on the others in its batch.

        Args:
            images: RGB (batch, size, size, 3).

        Returns:
            Probabilities after temperature scaling (batch, classes), and features (batch, channels).
        """
        ...

    def predict(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return only the probabilities of `embed`."""
        return self.embed(images)[0]


# Best first. Modules are imported when they are used, because some take seconds.
ENGINES = {
    "openvino": "resnet_cli.engines.openvino_engine:OpenVINOEngine",
    "keras": "resnet_cli.engines.keras_engine:KerasEngine",
}


def start_engine(
    name: str, model: ModelFile, options: EngineOptions = EngineOptions(), progress: Progress = SILENT
) -> Engine:
    """Start an engine.

    Args:
        name: a key of `ENGINES`, or `auto` for the first that can run here.
        model: the model to run.
        options: how to start it.
        progress: receives the progress.

    Raises:
        EngineError: the engine cannot run here.
        ModelError: the model's parameters cannot be read.
    """
    names = list(ENGINES) if name == "auto" else [name]
    for candidate in names:
        progress.report(f"Starting {candidate}")
        try:
            kind: type[Engine] = pkgutil.resolve_name(ENGINES[candidate])
            return kind(model, options, progress)
        except (ImportError, EngineError) as error:
            reason = f"the {candidate} engine cannot run here: {' '.join(str(error).split())}"
            if candidate == names[-1]:
                raise EngineError(reason) from error
            progress.warn(f"{reason}; using {names[names.index(candidate) + 1]}, which is slower")
    raise AssertionError("no engine has a row")


def engine_name(engine: Engine) -> str:
    """Return the key of `ENGINES` for an engine."""
    place = f"{type(engine).__module__}:{type(engine).__name__}"
    return next(name for name, row in ENGINES.items() if row == place)
