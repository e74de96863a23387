"""Metadata of a weights file (importable without any file-format library)."""

import json
from dataclasses import dataclass, field
from typing import Any

from resnet_cli.errors import ModelError, ResnetError
from resnet_cli.network import labels as label_tables
from resnet_cli.network.architecture import Architecture
from resnet_cli.network.labels import Labels
from resnet_cli.network.preprocessing import Decoding, Fit, Preprocessing

METADATA_KEY = "resnet_cli"  # its name in files
MIN_TEMPERATURE, MAX_TEMPERATURE = 1e-6, 1e6  # beyond, 32-bit logits become zero or infinite


@dataclass(frozen=True)
class Metadata:
    """The description of a network that its weights file contains.

    Args:
        architecture: the network.
        labels: one per class.
        preprocessing: the input that the network expects.
        temperature: divides the logits, so that probabilities match accuracies.
        training: recipe and results of the training, ready for JSON; empty if unknown.
    """

    architecture: Architecture
    labels: Labels
    preprocessing: Preprocessing
    temperature: float = 1.0
    training: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> str:
        """Return one JSON object."""
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
        """Read the result of `to_json`.

        Raises:
            ModelError: a part is missing or invalid, or contradicts the others.
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
        if not MIN_TEMPERATURE <= metadata.temperature <= MAX_TEMPERATURE:  # true for NaN, too
            allowed = f"from {MIN_TEMPERATURE:g} to {MAX_TEMPERATURE:g}"
            raise ModelError(f"the metadata's temperature must be {allowed}, got {metadata.temperature}")
        return metadata

    def decoding(self, fit: Fit = Fit.CROP) -> Decoding:
        """Return how to turn an image into the network's input pixels."""
        return Decoding(self.architecture.image_size, fit, self.preprocessing.resizing)
