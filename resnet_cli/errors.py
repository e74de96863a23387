"""One exception tree; the command line catches it once and turns it into an exit code."""


class ResnetError(Exception):
    """What a user can cause and mend; the message says what, which file and what to do.

    Attributes:
        exit_code: what the process ends with when this error ends the run.
    """

    exit_code = 1


class UsageError(ResnetError):
    """A value that no network or command can be made of."""

    exit_code = 2


class ModelError(ResnetError):
    """The model or its weights are not to be had, or do not fit the network."""

    exit_code = 3


class EngineError(ModelError):
    """An engine that cannot run on this machine."""


class ImageError(ResnetError):
    """One image that cannot be classified; the run goes on without it.

    Attributes:
        kind: a short, stable name of the failure for scripts, such as `unreadable_image`.
    """

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind
