"""The `resnet` command and `python -m resnet_cli`."""

import os
import sys
from contextlib import suppress


def main() -> None:
    """Run the command line; Ctrl-C while it is still being imported is no traceback either."""
    try:
        from resnet_cli import cli

        code = cli.main()
    except KeyboardInterrupt:
        code = 130
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):  # its reader has gone
            stream.flush()
    os._exit(code)  # waiting for threads that still decode or compute would take seconds, and ends nothing well


if __name__ == "__main__":
    main()
