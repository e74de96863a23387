"""Options that several tasks share (importable without heavy libraries)."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from resnet_cli.engines.precision import Precision
from resnet_cli.network.preprocessing import Fit


@dataclass(frozen=True)
class InferenceOptions:
    """How to decode images and run inference.

    Args:
        fit: how to make images square.
        engine: a key of `engine.ENGINES`, or `auto` for the first that can run here.
        precision: the numbers to compute with.
        calibrate: images to calibrate `int8` on; None for the first input images.
        batch_size: images per batch, at most; a batch does not wait for images that are not decoded yet.
        workers: decoding threads; None for one per processor core.
        labels: a file with one label per line, instead of those of the weights.
    """

    fit: Fit = Fit.CROP
    engine: str = "auto"
    precision: Precision = Precision.F32
    calibrate: Sequence[str] | None = None
    batch_size: int = 32
    workers: int | None = None
    labels: Path | None = None

    @property
    def calibration_key(self) -> list[str] | None:
        """The files of `calibrate`, which identify a network that was calibrated on them."""
        return [os.path.realpath(name) for name in self.calibrate] if self.calibrate else None

    @property
    def files(self) -> list[str]:
        """The files that are read, besides the weights and the images that are classified."""
        return [*(self.calibrate or ()), *([str(self.labels)] if self.labels else [])]
