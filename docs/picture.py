"""Draw README's image: the output of `resnet predict sample_images/coffee.jpg`. Run it from the repository root."""

import io
from pathlib import Path

from rich.console import Console

import resnet_cli as resnet
from resnet_cli.output import predictions, terminal

IMAGE = "sample_images/coffee.jpg"


def main() -> None:
    """Write docs/predict.svg."""
    terminal.out = Console(record=True, width=78, file=io.StringIO(), force_terminal=True, highlight=False)
    for result in resnet.classify(IMAGE, "tiny"):
        terminal.out.print(predictions.prediction_table(result))
    Path("docs/predict.svg").write_text(terminal.out.export_svg(title=f"resnet predict {IMAGE}"), encoding="utf-8")


if __name__ == "__main__":
    main()
