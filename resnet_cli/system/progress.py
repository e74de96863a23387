"""Progress reports of a running task (standard library only)."""

import warnings


class Progress:
    """Receives reports of a task; this one, for use from Python, shows nothing but warnings.

    Methods may be called from any thread.
    """

    def report(self, text: str) -> None:
        """Report the current step, such as "Reading weights"."""

    def warn(self, text: str) -> None:
        """Report something that the user should know."""
        warnings.warn(text, stacklevel=2)

    def note(self, text: str) -> None:
        """Report a plain fact, such as a choice that was made."""

    def download(self, done: int, total: int | None) -> None:
        """Report the progress of a download in bytes; `total` is None if unknown."""

    def count(self, done: int, total: int | None = None) -> None:
        """Report the number of finished items; `total` is None if unknown."""


SILENT = Progress()
