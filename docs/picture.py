"""Draw README's picture: what `resnet predict sample_images/coffee.jpg` prints. Run it from the top of the checkout."""

import io
from pathlib import Path

from rich.console import Console

from resnet_cli import engines, models, predict, render, terminal

IMAGE = "sample_images/coffee.jpg"


def main() -> None:
    """Write docs/predict.svg."""
    terminal.out = Console(record=True, width=78, file=io.StringIO(), force_terminal=True, highlight=False)
    activity = terminal.Activity("Reading weights")
    model = models.load("tiny", {}, activity)
    engine = engines.start("auto", model, engines.Setup(), activity)
    for record in predict.classify([IMAGE], model, engine):
        terminal.out.print(render.prediction_table(record))
    Path("docs/predict.svg").write_text(terminal.out.export_svg(title=f"resnet predict {IMAGE}"), encoding="utf-8")


if __name__ == "__main__":
    main()
