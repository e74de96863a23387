"""The state of a training, and what it reports."""

import json
from dataclasses import asdict, dataclass, field

from resnet_cli.network.architecture import Architecture
from resnet_cli.network.preprocessing import Preprocessing
from resnet_cli.system.progress import Progress
from resnet_cli.training.dataset import Dataset
from resnet_cli.training.recipe import Epoch, Recipe


@dataclass
class TrainingRun:
    """The state of a training.

    Args:
        architecture: the network.
        classes: names of the class folders, in the order of the network's output.
        preprocessing: the input that the network expects.
        recipe: how it is trained.
        history: the completed epochs.
        bad: why images that were used cannot be read, by name.
    """

    architecture: Architecture
    classes: tuple[str, ...]
    preprocessing: Preprocessing
    recipe: Recipe
    history: list[Epoch]
    bad: dict[str, str] = field(default_factory=dict)

    def to_json(self) -> str:
        """Return one JSON object."""
        parts = {name: getattr(self, name).to_dict() for name in ("architecture", "preprocessing", "recipe")}
        history = [asdict(epoch) for epoch in self.history]
        return json.dumps(parts | {"classes": self.classes, "history": history, "bad": self.bad})

    @classmethod
    def from_json(cls, text: str) -> "TrainingRun":
        """Read the result of `to_json`."""
        fields = json.loads(text)
        return cls(
            Architecture.from_dict(fields["architecture"]),
            tuple(fields["classes"]),
            Preprocessing.from_dict(fields["preprocessing"]),
            Recipe.from_dict(fields["recipe"]),
            [Epoch(**epoch) for epoch in fields["history"]],
            fields.get("bad", {}),
        )


class TrainingProgress(Progress):
    """Receives reports of a training; this one shows nothing but warnings."""

    def start(self, run: TrainingRun, dataset: Dataset) -> None:
        """Report the start, before the first step."""

    def step(self, done: float, loss: float, accuracy: float, images_per_second: float, seconds_left: float) -> None:
        """Report a step: epochs done, its loss and accuracy, the speed, and the time left for the whole training."""

    def epoch(self, epoch: Epoch) -> None:
        """Report a completed epoch."""

    def warning(self, text: str) -> None:
        """Report something that may be wrong with the dataset."""

    def unreadable_image(self, name: str, reason: str) -> None:
        """Report an image that cannot be read and is skipped."""
