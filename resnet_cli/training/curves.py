"""Training curves as an image. Importing this module imports matplotlib."""

from pathlib import Path

from matplotlib.figure import Figure

from resnet_cli.system import atomic
from resnet_cli.training.recipe import Epoch


def draw(epochs: list[Epoch], path: Path, *, top5: bool) -> None:
    """Draw loss and accuracy by epoch as a PNG file, with the top-5 accuracy if asked for."""
    numbers = [epoch.epoch for epoch in epochs]
    figure = Figure((10, 4), layout="constrained")
    loss = figure.add_subplot(1, 2, 1, xlabel="epoch", ylabel="loss (nats)")
    loss.plot(numbers, [epoch.loss for epoch in epochs], label="training crops, smoothed labels")
    loss.plot(numbers, [epoch.val_loss for epoch in epochs], label="validation")
    share = figure.add_subplot(1, 2, 2, xlabel="epoch", ylabel="accuracy (%)")
    share.plot(numbers, [100 * epoch.accuracy for epoch in epochs], label="training crops")
    share.plot(numbers, [100 * epoch.val_accuracy for epoch in epochs], label="validation")
    if top5:
        share.plot(numbers, [100 * epoch.val_top5 for epoch in epochs], label="validation, top-5")
    for axes in (loss, share):
        axes.legend()
        axes.grid(alpha=0.3)
    figure.savefig(path, metadata=atomic.PNG_METADATA)
