"""What a file of weights says of itself (importing it needs no file format's library)."""

import json
from dataclasses import dataclass, field
from typing import Any

from resnet_cli import labels as label_tables
from resnet_cli.architecture import Architecture
from resnet_cli.errors import ModelError, ResnetError
from resnet_cli.labels import Labels
from resnet_cli.pretrained import Preprocessing

METADATA_KEY = "resnet_cli"  # under which files hold it


@dataclass(frozen=True)
class Metadata:
    """What a file of weights says of itself.

    Args:
        architecture: the network.
        labels: one a class.
        preprocessing: what the network wants done to pixels.
        temperature: divides the logits, so that probabilities are as often right as they say.
        training: how it was trained and what came of it, ready for JSON; empty where nothing is known.
    """

    architecture: Architecture
    labels: Labels
    preprocessing: Preprocessing
    temperature: float = 1.0
    training: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> str:
        """Return it as one JSON object."""
        fields = {
            "architecture": self.architecture.to_dict(),
            "labels": label_tables.to_list(self.labels),
            "preprocessing": self.preprocessing.to_dict(),
            "temperature": self.temperature,
            "training": self.training,
        }
        return json.dumps(fields)

    @classmethod
    def from_json(cls, text: str) -> "Metadata":
        """Read what `to_json` wrote.

        Raises:
            ModelError: a part is missing, is not what it should be, or does not fit the others.
        """
        try:
            fields = json.loads(text)
            metadata = cls(
                Architecture.from_dict(fields["architecture"]),
                label_tables.from_list(fields["labels"]),
                Preprocessing.from_dict(fields["preprocessing"]),
                float(fields.get("temperature", 1)),
                dict(fields.get("training", {})),
            )
        except (ValueError, KeyError, TypeError, ResnetError) as error:
            raise ModelError(f"the metadata is damaged: {error}") from error
        classes = metadata.architecture.head.classes
        if len(metadata.labels) != classes:
            raise ModelError(f"the metadata has {len(metadata.labels)} labels for {classes} classes")
        if not 0 < metadata.temperature < float("inf"):
            raise ModelError(f"the metadata's temperature must be above zero, got {metadata.temperature}")
        return metadata
