"""Ctrl-C and SIGTERM at any time end the run promptly, with their exit code, and leave complete records."""

import fcntl
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from conftest import RESNET, run_main
from odd_names import from_csv, from_json, from_json_lines, tiny_image

pytestmark = pytest.mark.usefixtures("shared_cache")

TINY = ("predict", "--weights", "tiny")
READ = {"json": from_json, "jsonl": from_json_lines, "csv": from_csv}
INTERRUPT, TERMINATE = (signal.SIGINT, 130), (signal.SIGTERM, 143)
FORMATS_AND_SIGNALS = [("json", *INTERRUPT), ("jsonl", *TERMINATE), ("csv", *INTERRUPT)]
TIMEOUT = 10  # seconds after which a signal counts as ignored; a run that hangs here would hang for longer


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("image") / "a.png"
    path.write_bytes(tiny_image(1))
    return path


@contextmanager
def running(*arguments: object, program: object = RESNET, **options: object) -> Iterator[subprocess.Popen[bytes]]:
    """Run the command as a shell would in the foreground."""
    process = subprocess.Popen(
        [str(program), *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        bufsize=0,
        **options,  # type: ignore[call-overload]
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream:
                stream.close()


def read_rest(process: subprocess.Popen[bytes], number: int, code: int) -> tuple[str, str]:
    """Send a signal, and return the rest of stdout and stderr."""
    process.send_signal(number)
    printed, errors = process.communicate(timeout=TIMEOUT)
    assert process.returncode == code
    assert b"Traceback" not in errors
    return printed.decode(), errors.decode()


def read_count(errors: str) -> int:
    """Return the number of images in the warning about the interruption."""
    lines = [line for line in errors.splitlines() if line.startswith("warning: interrupted after ")]
    assert len(lines) == 1
    assert "--resume" in lines[0] or "-o FILE" in lines[0]
    return int(lines[0].split()[3].replace(",", ""))


@pytest.mark.parametrize(("record_format", "number", "code"), FORMATS_AND_SIGNALS)
def test_printed_records_are_complete(image: Path, record_format: str, number: int, code: int) -> None:
    with running(*TINY, "--format", record_format, *[image] * 9000) as process:
        assert process.stdout
        printed = process.stdout.read(1000).decode()
        time.sleep(random.Random(record_format).uniform(0, 0.3))
        rest, errors = read_rest(process, number, code)
    records = READ[record_format](printed + rest)
    assert 0 < len(records) < 9000
    assert read_count(errors) == len(records)


@pytest.mark.parametrize(("record_format", "number", "code"), FORMATS_AND_SIGNALS)
def test_with_a_stopped_reader_of_stdout(image: Path, record_format: str, number: int, code: int) -> None:
    """The pipe has one page and has been full for a while when the signal comes."""
    with running(*TINY, "--format", record_format, "-k", 99, *[image] * 500) as process:
        assert process.stdout
        fcntl.fcntl(process.stdout, fcntl.F_SETPIPE_SZ, 4096)
        printed = process.stdout.read(1)
        time.sleep(0.5)
        process.send_signal(number)
        assert process.wait(TIMEOUT) == code
        assert process.stderr
        assert read_count(process.stderr.read().decode()) < 10
        printed += process.stdout.read()
        assert len(printed) < 9000


def test_with_a_stopped_reader_of_stderr() -> None:
    with running(*TINY, "--format", "jsonl", *["none" * 20] * 9000) as process:
        assert process.stdout
        assert process.stderr
        fcntl.fcntl(process.stderr, fcntl.F_SETPIPE_SZ, 4096)
        assert process.stdout.read(1)
        time.sleep(0.5)
        process.send_signal(TERMINATE[0])
        assert process.wait(TIMEOUT) == TERMINATE[1]


STARTED = """
from resnet_cli import __main__
from resnet_cli.system import interrupts
install = interrupts.install
def install_and_report():
    install()
    print(end="+", flush=True)
interrupts.install = install_and_report
__main__.main()
"""


@pytest.mark.parametrize(("number", "code"), [INTERRUPT, TERMINATE])
def test_while_starting(image: Path, number: int, code: int) -> None:
    """Signals from the time when Python has started; until then, Python handles them itself."""
    chance = random.Random(code)
    for _ in range(4):
        images = [image] * 999
        with running("-c", STARTED, *TINY, "--format", "json", *images, program=sys.executable) as process:
            assert process.stdout
            assert process.stdout.read(1) == b"+"
            time.sleep(chance.uniform(0, 0.6))
            printed, errors = read_rest(process, number, code)
        assert not printed or isinstance(from_json(printed), list)
        assert len(errors.splitlines()) <= 1


LOST = """
import os, sys, weakref
from resnet_cli import __main__
from resnet_cli.system import interrupts
class Anything: pass
interrupts.install()
anything = Anything()
reference = weakref.ref(anything, lambda _: os.kill(os.getpid(), {number}))
del anything
__main__.main()
"""


def test_in_a_callback_that_cannot_raise(image: Path) -> None:
    arguments = ["-c", LOST.format(number=int(INTERRUPT[0])), *TINY, image]
    with running(*arguments, program=sys.executable) as process:
        printed, errors = process.communicate(timeout=TIMEOUT)
        assert (process.returncode, printed, errors) == (INTERRUPT[1], b"", b"")


HUNG = """
import hashlib, os
from resnet_cli.system import interrupts
def library(): hashlib.pbkdf2_hmac("sha256", b"", b"", 1 << 30)  # minutes in which Python handles no signal
interrupts.install()
print(end="+", flush=True)
try:
    {call}
except interrupts.INTERRUPTIONS as interruption:
    os._exit({{"KeyboardInterrupt": 130, "Terminated": 143}}[type(interruption).__name__])
"""


@pytest.mark.parametrize(
    ("call", "number", "code"),
    [("interrupts.run_in_thread(library)", *INTERRUPT), ("interrupts.start_watchdog(); library()", *TERMINATE)],
)
def test_while_a_library_hangs(call: str, number: int, code: int) -> None:
    with running("-c", HUNG.format(call=call), program=sys.executable) as process:
        assert process.stdout
        assert process.stdout.read(1) == b"+"
        time.sleep(0.3)
        read_rest(process, number, code)


def test_while_waiting_for_names(image: Path) -> None:
    with running(*TINY, "--format", "jsonl", "--files-from", "-", stdin=subprocess.PIPE) as process:
        assert process.stdin
        assert process.stdout
        process.stdin.write(f"{image}\n".encode())
        printed = process.stdout.readline().decode()
        process.send_signal(INTERRUPT[0])
        assert process.wait(TIMEOUT) == INTERRUPT[1]
        assert process.stderr
        assert read_count(process.stderr.read().decode()) == len(from_json_lines(printed)) == 1


def test_while_a_download_hangs(image: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"http://127.0.0.1:{server.getsockname()[1]}/a.png"
        environment = os.environ | {"RESNET_OFFLINE": "0"}
        with running(*TINY, "--format", "json", address, env=environment) as process:
            connection, _ = server.accept()
            with connection:
                printed, errors = read_rest(process, *TERMINATE)
    assert from_json(printed) == []
    assert read_count(errors) == 0


def test_a_file_is_resumed_after_a_signal(image: Path, tmp_path: Path) -> None:
    path = tmp_path / "records.csv"
    command = (*TINY, "--format", "csv", "-o", path, "--resume", *[image] * 400)
    with running(*command) as process:
        while not (path.exists() and path.stat().st_size > 1000):
            assert process.poll() is None
            time.sleep(0.001)
        printed, errors = read_rest(process, *INTERRUPT)
    assert printed == ""
    assert "run the same command with --resume to continue" in errors
    assert read_count(errors) == len(from_csv(path.read_text()))
    assert run_main(*command).returncode == 0
    assert len(from_csv(path.read_text())) == 400


def test_an_incomplete_array_leaves_no_file(image: Path, tmp_path: Path) -> None:
    command = (*TINY, "--format", "json", "-o", tmp_path / "records.json", "--files-from", "-")
    with running(*command, stdin=subprocess.PIPE) as process:
        while not list(tmp_path.iterdir()):
            assert process.poll() is None
            time.sleep(0.001)
        read_rest(process, *TERMINATE)
    assert list(tmp_path.iterdir()) == []


DROPPED = """
import os, signal, time
from resnet_cli.system import interrupts
class Resource:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0)  # here Python raises the interruption, and then drops it
interrupts.install()
Resource()
try:
    time.sleep(20)
except KeyboardInterrupt:
    print("interrupted")
"""


def test_an_interruption_that_python_drops_is_raised_again() -> None:
    """Otherwise Ctrl-C while a library frees an object would have no effect on a training."""
    result = subprocess.run([sys.executable, "-c", DROPPED], capture_output=True, text=True, timeout=60)
    assert (result.stdout, result.stderr) == ("interrupted\n", "")
