"""The exception tree; the command line turns each class into an exit code."""

from enum import StrEnum


class ResnetError(Exception):
    """An error that the user can fix; the message says what happened, in which file, and what to do.

    Attributes:
        exit_code: the process's exit code if this error ends the run.
    """

    exit_code = 1


class UsageError(ResnetError):
    """An invalid value or combination of options."""

    exit_code = 2


class ModelError(ResnetError):
    """The model or its weights are unavailable, or do not match the network."""

    exit_code = 3


class EngineError(ModelError):
    """An engine cannot run on this machine."""


class ImageErrorKind(StrEnum):
    """Why an image cannot be classified: stable names for scripts."""

    NOT_FOUND = "not_found"
    NOT_A_FILE = "not_a_file"
    PERMISSION_DENIED = "permission_denied"
    NOT_AN_IMAGE = "not_an_image"
    UNSUPPORTED_FORMAT = "unsupported_format"
    UNREADABLE_IMAGE = "unreadable_image"
    TOO_LARGE = "too_large"
    DOWNLOAD_FAILED = "download_failed"


class ImageError(ResnetError):
    """An image cannot be classified; the run continues without it.

    Attributes:
        kind: the kind of failure.
    """

    def __init__(self, kind: ImageErrorKind, message: str) -> None:
        super().__init__(message)
        self.kind = kind
