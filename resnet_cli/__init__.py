"""Classify images with a ResNet built from scratch; everything public is in `__all__`.

Names are imported when they are first used, so that importing this package loads nothing else.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from resnet_cli.version import __version__

if TYPE_CHECKING:
    from resnet_cli.engines.keras_engine import to_keras
    from resnet_cli.engines.probabilities import Prediction
    from resnet_cli.errors import EngineError, ImageError, ImageErrorKind, ModelError, ResnetError, UsageError
    from resnet_cli.network.graph import network
    from resnet_cli.network.labels import Label
    from resnet_cli.tasks.classify import Model, classify, load
    from resnet_cli.tasks.evaluate import Evaluation, evaluate
    from resnet_cli.tasks.results import Result

__all__ = [
    "EngineError",
    "Evaluation",
    "ImageError",
    "ImageErrorKind",
    "Label",
    "Model",
    "ModelError",
    "Prediction",
    "ResnetError",
    "Result",
    "UsageError",
    "__version__",
    "classify",
    "evaluate",
    "load",
    "network",
    "to_keras",
]

# By module: its public names.
_PUBLIC = {
    "engines.keras_engine": ("to_keras",),
    "engines.probabilities": ("Prediction",),
    "errors": (
        "EngineError",
        "ImageError",
        "ImageErrorKind",
        "ModelError",
        "ResnetError",
        "UsageError",
    ),
    "network.graph": ("network",),
    "network.labels": ("Label",),
    "tasks.classify": (
        "Model",
        "classify",
        "load",
    ),
    "tasks.evaluate": (
        "Evaluation",
        "evaluate",
    ),
    "tasks.results": ("Result",),
}
_MODULES = {name: module for module, names in _PUBLIC.items() for name in names}


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    return globals().setdefault(name, value)


def __dir__() -> list[str]:
    return sorted(__all__)
