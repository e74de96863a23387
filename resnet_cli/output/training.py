"""Trainings: progress on stderr, and a summary on stdout."""

from dataclasses import asdict
from datetime import timedelta

from rich.table import Table
from rich.text import Text

from resnet_cli.output import terminal
from resnet_cli.output.progress import ProgressBar
from resnet_cli.output.tables import View
from resnet_cli.output.terminal import printable, thousands
from resnet_cli.training.dataset import Dataset
from resnet_cli.training.recipe import Epoch
from resnet_cli.training.run import TrainingProgress, TrainingRun
from resnet_cli.training.train import TrainingResult


class TrainingBar(ProgressBar, TrainingProgress):
    """Shows a training on a terminal in one line that changes; one line per epoch stays."""

    def __init__(self) -> None:
        super().__init__("Reading the dataset")

    def start(self, run: TrainingRun, dataset: Dataset) -> None:
        """Print what is trained."""
        self._run = run
        text = f"{run.architecture.name}: {len(dataset.classes):,} classes, {len(dataset.train):,} images"
        terminal.note(f"{text}, {len(dataset.validation):,} validation images, {run.recipe.precision}")
        if run.history:
            terminal.note(f"resuming after epoch {len(run.history)} of {run.recipe.epochs}")

    def step(self, done: float, loss: float, accuracy: float, images_per_second: float, seconds_left: float) -> None:
        """Show a step."""
        epochs = self._run.recipe.epochs
        text = f"epoch {int(done) + 1 if done % 1 else int(done)} of {epochs}, loss {loss:.3f}, accuracy {accuracy:.1%}"
        speed = f"{images_per_second:.0f} images/s, {timedelta(seconds=round(seconds_left))} left"
        self._bar.update(self._task, total=epochs, completed=done, description=text, size=speed)

    def epoch(self, epoch: Epoch) -> None:
        """Print a line for an epoch."""
        trained = f"loss {epoch.loss:.3f}, accuracy {epoch.accuracy:.1%}"
        top5 = f", top-5 {epoch.val_top5:.1%}" if len(self._run.classes) > 5 else ""
        validated = f"validation loss {epoch.val_loss:.3f}, accuracy {epoch.val_accuracy:.1%}{top5}"
        number = f"epoch {epoch.epoch} of {self._run.recipe.epochs} ({epoch.image_size} pixels)"
        left = self._run.recipe.remaining_work(self._run.architecture.image_size, epoch.epoch)
        left_seconds = timedelta(seconds=round(left * epoch.seconds / epoch.image_size**2))
        terminal.note(f"{number}: {trained}; {validated}; {epoch.images_per_second:.0f} images/s, {left_seconds} left")

    def warning(self, text: str) -> None:
        """Print a warning."""
        terminal.warning(text)

    def unreadable_image(self, name: str, reason: str) -> None:
        """Print a warning for an image that is skipped."""
        terminal.warning(f"{printable(name)}: skipped: {reason}")


def training_table(result: TrainingResult) -> Table:
    """Return the result of a training as a table."""
    table = Table(title=Text(f"{result.architecture}, {printable(result.path)}"), show_header=False)
    table.add_row("classes", thousands(result.classes))
    table.add_row("training images", thousands(result.images))
    table.add_row("validation images", thousands(result.validation_images))
    table.add_row("unreadable images", thousands(len(result.bad)))
    table.add_row("epochs", f"{result.epochs:,}  (weights of epoch {result.kept_epoch:,})")
    table.add_row("top-1", f"{result.val_accuracy:.2%}")
    if result.classes > 5:
        table.add_row("top-5", f"{result.val_top5:.2%}")
    untempered = "" if result.why_untempered else f"  ({result.val_loss_untempered:.4f} at temperature 1)"
    table.add_row("loss", f"{result.val_loss:.4f}{untempered}")
    why = f"  (not fitted: {result.why_untempered})" if result.why_untempered else ""
    table.add_row("temperature", f"{result.temperature:.3f}{why}")
    table.add_row("images/s", f"{result.images_per_second:.1f}  ({result.precision})")
    table.add_row("time", str(timedelta(seconds=round(result.seconds))))
    return table


TRAINING = View(training_table, asdict)
