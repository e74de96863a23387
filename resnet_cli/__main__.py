"""The `resnet` command and `python -m resnet_cli`."""

import os
import signal
import sys
from contextlib import suppress

from resnet_cli import interrupts


def main() -> None:
    """Run the command line; a signal while it is still being imported is no traceback either."""
    try:
        interrupts.install()
        from resnet_cli import cli

        code = cli.main()
    except KeyboardInterrupt:
        code = 128 + signal.SIGINT
    except interrupts.Terminated:
        code = 128 + signal.SIGTERM
    interrupts.uninstall()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):  # its reader has gone
            stream.flush()
    os._exit(code)  # waiting for threads that still decode or compute would take seconds, and ends nothing well


if __name__ == "__main__":
    main()
