"""What other tools store beside the arrays: the input of a network and its labels (standard library only).

Keras describes its layers as JSON in the file; timm and transformers write JSON files next to it.
"""

import json
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from resnet_cli.errors import ModelError
from resnet_cli.network import labels
from resnet_cli.network.metadata import Metadata
from resnet_cli.network.preprocessing import Preprocessing

WITH_CONFIG = ("model.safetensors", "model.safetensors.index.json")  # on the Hub, config.json describes these files
RESAMPLING = {2: "bilinear", 3: "bicubic"}  # transformers uses Pillow's numbers
# Options of transformers' ResNets that change what the same arrays compute, and their only supported values.
SUPPORTED = {"downsample_in_bottleneck": False, "downsample_in_first_stage": False, "hidden_act": "relu"}
PROBABILITIES = ("softmax", "linear", None)  # activations of a final layer that softmax turns into probabilities


@dataclass(frozen=True)
class ForeignConfig:
    """What a file of another tool says of its network; None where it says nothing.

    Args:
        image_size: input width and height in pixels.
        preprocessing: fields of `Preprocessing` that replace the default's.
        names: names of the classes; empty if unknown.
    """

    image_size: int | None = None
    preprocessing: dict[str, Any] | None = None
    names: tuple[str, ...] = ()

    def apply(self, metadata: Metadata) -> Metadata:
        """Return the metadata with what the file says in place of the defaults.

        Raises:
            ModelError: it is invalid.
            UsageError: the network cannot have this image size.
        """
        size = self.image_size or metadata.architecture.image_size
        fields = metadata.preprocessing.to_dict() | (self.preprocessing or {})
        return replace(
            metadata,
            architecture=replace(metadata.architecture, image_size=size, options=None),
            labels=labels.folder_labels(self.names) if self.names else metadata.labels,
            preprocessing=Preprocessing.from_dict(fields) if self.preprocessing else metadata.preprocessing,
        )


UNKNOWN = ForeignConfig()


def from_keras(text: str) -> ForeignConfig:
    """Read Keras's description of a model.

    Raises:
        ModelError: it computes something else with the same arrays.
    """
    layers = list(_keras_layers(json.loads(text)))
    shapes = [config.get("batch_shape", config.get("batch_input_shape")) for _, config in layers]
    images = [shape[1:] for shape in shapes if isinstance(shape, list) and len(shape) == 4 and 3 in shape[1::2]]
    sizes = [shape[:2] if shape[2] == 3 else shape[1:] for shape in images]
    size = min(sizes[0]) if sizes and None not in sizes[0] else None
    activations = [config.get("activation") for kind, config in layers if kind == "Dense"]
    if activations and isinstance(activations[-1], str) and activations[-1] not in PROBABILITIES:
        raise ModelError(f"its final layer has the activation {activations[-1]}, expected softmax: one class per image")
    if any(kind == "GlobalMaxPooling2D" for kind, _ in layers):
        raise ModelError("it ends with GlobalMaxPooling2D, expected GlobalAveragePooling2D")
    scaled = [_rescaling(config["scale"], config["offset"]) for kind, config in layers if kind == "Rescaling"]
    if len(scaled) > 1:
        raise ModelError(f"it has {len(scaled)} Rescaling layers, expected at most one")
    return ForeignConfig(size, scaled[0] if scaled else None)


def _keras_layers(value: object) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the class and the configuration of each layer, at any depth, in order."""
    if isinstance(value, list):
        for each in value:
            yield from _keras_layers(each)
    elif isinstance(value, dict):
        config = value.get("config")
        if isinstance(config, dict) and isinstance(value.get("class_name"), str):
            yield value["class_name"], config
        for each in value.values():
            yield from _keras_layers(each)


def _rescaling(scale: Any, offset: Any) -> dict[str, Any]:
    """Return the preprocessing that a `Rescaling` layer computes: scale * pixel + offset."""
    scales, offsets = (values if isinstance(values, list) else [values] * 3 for values in (scale, offset))
    with suppress(TypeError, ValueError, ZeroDivisionError):
        mean = [-float(each) / float(by) for by, each in zip(scales, offsets, strict=True)]
        return {"channels": "RGB", "mean": mean, "std": [1 / float(by) for by in scales]}
    raise ModelError(f"its Rescaling layer is not supported: scale {scale!r}, offset {offset!r}")


def from_hub(weights: Path) -> ForeignConfig | None:
    """Read `config.json`, and transformers' `preprocessor_config.json`, next to a weights file from a Hub.

    A file with another name is not from a Hub.

    Raises:
        ModelError: a file is damaged, or the network is a variant that is not supported.
    """
    if weights.name not in WITH_CONFIG:
        return None
    path = weights.with_name("config.json")
    config, images = _read_json(path), _read_json(weights.with_name("preprocessor_config.json"))
    for option, supported in SUPPORTED.items():
        if (value := config.get(option, supported)) != supported:
            raise ModelError(f"{path}: {option} must be {supported}, got {value}: a variant that is not supported")
    try:
        timm = config.get("pretrained_cfg") or {}
        numbered = sorted((config.get("id2label") or {}).items(), key=lambda item: int(item[0]))
        names = config.get("label_names") or timm.get("label_names") or [name for _, name in numbered]
        size = images.get("size") or {}
        size = size if isinstance(size, int) else size.get("shortest_edge") or size.get("height")
        fields = {name: images.get(f"image_{name}") or timm.get(name) for name in ("mean", "std")}
        resizing = {
            "crop": images.get("crop_pct") or timm.get("crop_pct"),
            "interpolation": RESAMPLING.get(images.get("resample", -1), timm.get("interpolation")),
        }
        preprocessing = {name: [255 * share for share in shares] for name, shares in fields.items() if shares}
        return ForeignConfig(
            (timm.get("input_size") or [size])[-1],
            {"channels": "RGB", **preprocessing, **({"resizing": resizing} if all(resizing.values()) else {})},
            tuple(map(str, names)),
        )
    except (AttributeError, TypeError, ValueError) as error:
        raise ModelError(f"{path} is damaged: {error}") from error


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} cannot be read: {error}") from error
    return content if isinstance(content, dict) else {}
