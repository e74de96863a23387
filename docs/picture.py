"""Draw README's picture: what `resnet predict sample_images/coffee.jpg` prints. Run it from the top of the checkout."""

import io
from pathlib import Path

from rich.console import Console

from resnet_cli import models, predict, render, terminal
from resnet_cli.keras_model import KerasEngine

IMAGE = "sample_images/coffee.jpg"


def main() -> None:
    """Write docs/predict.svg."""
    terminal.out = Console(record=True, width=78, file=io.StringIO(), force_terminal=True, highlight=False)
    model = models.load("tiny", {}, terminal.Activity("Reading weights"))
    engine = KerasEngine(model.graph, model.parameters, model.metadata.preprocessing)
    render.records_table(predict.classify([IMAGE], model, engine))
    Path("docs/predict.svg").write_text(terminal.out.export_svg(title=f"resnet predict {IMAGE}"), encoding="utf-8")


if __name__ == "__main__":
    main()
