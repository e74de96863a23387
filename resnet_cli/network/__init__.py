"""What a ResNet is: data only, importable with the standard library.

The package can be called: `resnet_cli.network(50, classes=10)` is `graph.network(50, classes=10)`.
"""

import sys
from inspect import Signature, signature
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from resnet_cli.network.graph import Graph


class _CallablePackage(ModuleType):
    """Lets `resnet_cli.network` be both this package and the public function of the same name."""

    def __call__(self, *args: Any, **options: Any) -> "Graph":
        """Return the network that `variants.describe` describes."""
        from resnet_cli.network import graph

        return graph.network(*args, **options)

    @property
    def __signature__(self) -> Signature:
        from resnet_cli.network import graph

        return signature(graph.network)


sys.modules[__name__].__class__ = _CallablePackage
