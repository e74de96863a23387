"""`resnet summary`."""

from typing import Annotated

import typer

from resnet_cli.cli.options import NETWORK_OPTIONS, NETWORKS_PANEL, OUTPUT, Format, command
from resnet_cli.network.architecture import NetworkOptions

app = typer.Typer()


@command(
    app,
    *NETWORK_OPTIONS,
    panel=NETWORKS_PANEL,
    examples=(
        "resnet summary",
        "resnet summary resnet50v2 --expand",
        "resnet summary --stages 2,2,2,2 --width 32 --image-size 64 --format json",
    ),
)
def summary(
    *,
    requested: NetworkOptions,
    expand: Annotated[bool, typer.Option("--expand", help="Show one row per layer.", rich_help_panel=OUTPUT)] = False,
    output_format: Format = "table",
) -> None:
    """Show a network's shapes, parameters and MACs without building it."""
    from resnet_cli.network import graph, variants
    from resnet_cli.output.summary import BY_LAYER, BY_STAGE

    network = graph.resnet(variants.describe(**requested.chosen))
    (BY_LAYER if expand else BY_STAGE).show(network, output_format)
