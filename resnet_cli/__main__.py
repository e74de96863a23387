"""The `resnet` command and `python -m resnet_cli`."""

import os
import signal
import sys
from contextlib import suppress

from resnet_cli.system import interrupts, paths


def main() -> None:
    """Run the command line; a signal during its imports does not cause a traceback."""
    try:
        interrupts.install()
        if os.environ.get("COLUMNS") == "0":  # set by shells without a terminal; Rich would print nothing at all
            del os.environ["COLUMNS"]
        paths.ensure_home()
        os.environ.setdefault("KERAS_BACKEND", "tensorflow")  # the installed one, whatever ~/.keras/keras.json says
        from resnet_cli.cli import app

        code = app.main()
    except KeyboardInterrupt:
        code = 128 + signal.SIGINT
    except interrupts.Terminated:
        code = 128 + signal.SIGTERM
    interrupts.uninstall()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):  # its reader is gone
            stream.flush()
    os._exit(code)  # waiting for threads that still decode or compute would take seconds and save nothing


if __name__ == "__main__":
    main()
