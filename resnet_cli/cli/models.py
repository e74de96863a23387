"""`resnet models`."""

import typer

from resnet_cli.cli.options import NETWORKS_PANEL, Format, command

app = typer.Typer()


@command(app, name="models", panel=NETWORKS_PANEL, examples=("resnet models", "resnet models --format json"))
def list_models(*, output_format: Format = "table") -> None:
    """List published networks with their cost, accuracy and weights."""
    from resnet_cli.output import tables
    from resnet_cli.weights import inventory

    tables.NETWORK_LIST.show(inventory.list_networks(), output_format)
