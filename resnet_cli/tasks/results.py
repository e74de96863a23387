"""The results of classifying images."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resnet_cli.engines.probabilities import Prediction
from resnet_cli.errors import ImageError


@dataclass(frozen=True)
class Output:
    """The output of a network for one image.

    Args:
        probabilities: shape (classes,).
        features: input of the final layer, shape (channels,).
    """

    probabilities: NDArray[np.float32]
    features: NDArray[np.float32]


NamedOutput = tuple[str, Output | ImageError]


@dataclass(frozen=True)
class Result:
    """The result for one image.

    Args:
        image: its name as given or found.
        model, weights: names of the network and its weights.
        predictions: the most probable classes, best first; empty for a failed image.
        error: why it failed, or None.
        features: input of the final layer, shape (channels,); None for a failed image.
    """

    image: str
    model: str
    weights: str
    predictions: tuple[Prediction, ...] = ()
    error: ImageError | None = None
    features: NDArray[np.float32] | None = field(default=None, repr=False, compare=False)

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON object that docs/record.schema.json describes."""
        common: dict[str, Any] = {"image": self.image, "model": self.model, "weights": self.weights}
        if self.error:
            return common | {"error": {"kind": str(self.error.kind), "message": str(self.error)}}
        predictions = [
            {
                "rank": prediction.rank,
                "index": prediction.index,
                "wnid": prediction.label.wnid,
                "label": prediction.label.name,
                "probability": float(f"{prediction.probability:.5g}"),
            }
            for prediction in self.predictions
        ]
        return common | {"predictions": predictions}
