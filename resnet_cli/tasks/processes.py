"""The cost of a process: wall time and peak memory (standard library only; Unix)."""

import resource
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from resnet_cli.errors import ResnetError

UNIT = 1 if sys.platform == "darwin" else 1024  # bytes per unit of the system's memory figures

# On Linux a child's peak memory includes its parent's, so a small launcher starts the command.
LAUNCHER = """
import os, subprocess, sys, time
started = time.perf_counter()
process = subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL)
_, status, usage = os.wait4(process.pid, 0)
print(time.perf_counter() - started, usage.ru_maxrss, os.waitstatus_to_exitcode(status))
"""


@dataclass(frozen=True)
class Cost:
    """The cost of a process from start to end.

    Args:
        seconds: wall time.
        peak_bytes: peak memory.
    """

    seconds: float
    peak_bytes: int


def run(command: Sequence[str], environment: Mapping[str, str]) -> Cost:
    """Run a command without its standard output, and measure it.

    Args:
        command: the program and its arguments.
        environment: all environment variables.

    Raises:
        ResnetError: the command failed.
    """
    launched = [sys.executable, "-I", "-S", "-c", LAUNCHER, *command]
    result = subprocess.run(launched, env=dict(environment), capture_output=True, encoding="utf-8", errors="replace")
    seconds, peak, code = result.stdout.split() or (0, 0, result.returncode)
    if code != "0":
        reason = result.stderr.strip().splitlines()[-1:] or [f"exit code {code}"]
        raise ResnetError(f"{' '.join(command[:4])} ... failed: {reason[0]}")
    return Cost(float(seconds), int(peak) * UNIT)


def peak_bytes() -> int:
    """Return the peak memory of this process."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * UNIT
