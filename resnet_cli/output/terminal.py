"""Terminal output: results on stdout, messages on stderr, safe from control characters and library logs."""

import io
import json
import logging
import os
import re
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.text import Text

QUIET, NORMAL, VERBOSE = -1, 0, 1
PLAIN_WIDTH = 88  # columns of tables in files
verbosity = NORMAL

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)

# Control characters, lone surrogates (bytes that are not UTF-8) and marks that reorder or hide text.
UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff]")


def printable(text: str) -> str:
    r"""Return text that cannot control a terminal: unsafe characters become `\uXXXX`."""
    return UNSAFE.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def thousands(number: int) -> str:
    """Return a number with commas between thousands."""
    return f"{number:,}"


def line(text: str) -> None:
    """Print a line of results."""
    out.print(Text(printable(text)), soft_wrap=True)


def safe_json(value: object) -> str:
    """Return one line of JSON in which unsafe characters are escaped."""
    return printable(json.dumps(value, ensure_ascii=False))


def write_json(value: object, rows: str = "") -> None:
    """Print JSON as UTF-8, whatever the locale; the items of an array have one line each.

    Args:
        value: an object or an array.
        rows: the last member of an object, if it is such an array.
    """
    if isinstance(value, list):
        text = "[\n" + ",\n".join(map(safe_json, value)) + "\n]\n"
    elif rows and isinstance(value, dict):
        head = safe_json({name: member for name, member in value.items() if name != rows})[:-1]
        lines = ",\n".join(f"  {safe_json(row)}" for row in value[rows])
        text = f"{head}, {safe_json(rows)}: [\n{lines}\n]}}\n"
    else:
        text = safe_json(value) + "\n"
    sys.stdout.buffer.write(text.encode())
    sys.stdout.flush()


def error(message: str) -> None:
    """Print an error to stderr; its first line says what happened to which file."""
    err.print(Text.assemble(("error: ", "bold red"), _printable_lines(message)), soft_wrap=True)


def print_failure(image: str, reason: Exception) -> None:
    """Print to stderr why an image failed."""
    error(f"{printable(image)}: {reason}")


def warning(message: str) -> None:
    """Print a warning to stderr, unless quiet."""
    if verbosity > QUIET:
        err.print(Text.assemble(("warning: ", "yellow"), _printable_lines(message)), soft_wrap=True)


def note(message: str) -> None:
    """Print a note to stderr, unless quiet."""
    if verbosity > QUIET:
        err.print(Text(_printable_lines(message)), soft_wrap=True)


def detail(message: str) -> None:
    """Print a detail to stderr if verbose."""
    if verbosity >= VERBOSE:
        err.print(Text(_printable_lines(message), "dim"), soft_wrap=True)


def plain_console() -> Console:
    """Return a console for text in files, without colours or a terminal's width."""
    return Console(file=io.StringIO(), width=PLAIN_WIDTH, highlight=False)


def _printable_lines(message: str) -> str:
    return "\n".join(printable(line) for line in message.split("\n"))


def open_standard_streams() -> None:
    """Reopen closed standard streams (`>&-`) on the null device, and escape characters that cannot be encoded."""
    for descriptor, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            os.dup2(os.open(os.devnull, os.O_RDWR), descriptor)
            setattr(sys, name, open(descriptor, "r" if descriptor == 0 else "w"))  # noqa: PTH123, SIM115
        getattr(sys, name).reconfigure(errors="backslashreplace")


@contextmanager
def mute_libraries() -> Iterator[None]:
    """Hide the messages of libraries, unless verbose.

    C libraries (TensorFlow, libtiff) write to descriptor 2, so Python's stderr moves to a copy of it.
    """
    if verbosity >= VERBOSE or os.environ.get("RESNET_DEBUG") == "1":
        yield
        return
    warnings.simplefilter("ignore")
    logging.disable()
    real, python_stderr = os.dup(2), sys.stderr
    with os.fdopen(os.dup(real), "w", buffering=1, encoding=sys.stderr.encoding, errors="backslashreplace") as moved:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 2)
        os.close(null)
        if python_stderr is sys.__stderr__:
            sys.stderr = moved
        try:
            yield
        finally:
            sys.stderr = python_stderr
            os.dup2(real, 2)
            os.close(real)
            logging.disable(logging.NOTSET)
