"""Ctrl-C and SIGTERM at any moment: soon, with their code, and what was printed is whole."""

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
from conftest import RESNET
from odd_names import from_csv, from_json, from_json_lines, tiny_image

TINY = ("predict", "--weights", "tiny")
READ = {"json": from_json, "jsonl": from_json_lines, "csv": from_csv}
SIGNALS = [(signal.SIGINT, 130), (signal.SIGTERM, 143)]
GUARD = 10  # seconds after which a signal was not heard; what hangs here hangs for longer


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
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # a job in the background has none
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
    """Send a signal, and return what comes from then on to stdout and stderr."""
    process.send_signal(number)
    printed, errors = process.communicate(timeout=GUARD)
    assert process.returncode == code
    assert b"Traceback" not in errors
    return printed.decode(), errors.decode()


def done(errors: str) -> int:
    """Return how many images were done by what is said of it."""
    lines = [line for line in errors.splitlines() if line.startswith("warning: interrupted after ")]
    assert len(lines) == 1
    assert "--resume" in lines[0] or "-o FILE" in lines[0]
    return int(lines[0].split()[3].replace(",", ""))


@pytest.mark.parametrize(("number", "code"), SIGNALS)
@pytest.mark.parametrize("layout", READ)
def test_what_was_printed_is_whole(image: Path, layout: str, number: int, code: int) -> None:
    chance = random.Random(code)
    for _ in range(2):
        with running(*TINY, "--format", layout, *[image] * 9000) as process:
            assert process.stdout
            printed = process.stdout.read(1000).decode()
            time.sleep(chance.uniform(0, 0.3))
            rest, errors = read_rest(process, number, code)
        records = READ[layout](printed + rest)
        assert 0 < len(records) < 9000
        assert done(errors) == len(records)


@pytest.mark.parametrize(("number", "code"), SIGNALS)
@pytest.mark.parametrize("layout", READ)
def test_a_reader_that_does_not_read_holds_nothing_up(image: Path, layout: str, number: int, code: int) -> None:
    """The pipe takes a page, and the signal comes when it has been full for a while."""
    with running(*TINY, "--format", layout, "-k", 99, *[image] * 500) as process:
        assert process.stdout
        fcntl.fcntl(process.stdout, fcntl.F_SETPIPE_SZ, 4096)
        printed = process.stdout.read(1)
        time.sleep(0.5)
        process.send_signal(number)
        assert process.wait(GUARD) == code
        assert process.stderr
        assert done(process.stderr.read().decode()) < 10
        printed += process.stdout.read()
        assert len(printed) < 9000


@pytest.mark.parametrize(("number", "code"), SIGNALS)
def test_errors_that_nobody_reads_hold_nothing_up(number: int, code: int) -> None:
    with running(*TINY, "--format", "jsonl", *["none" * 20] * 9000) as process:
        assert process.stdout
        assert process.stderr
        fcntl.fcntl(process.stderr, fcntl.F_SETPIPE_SZ, 4096)
        assert process.stdout.read(1)
        time.sleep(0.5)
        process.send_signal(number)
        assert process.wait(GUARD) == code


STARTED = (
    "from resnet_cli import __main__, interrupts; interrupts.install(); print(end='+', flush=True); __main__.main()"
)


@pytest.mark.parametrize(("number", "code"), SIGNALS)
def test_while_starting(image: Path, number: int, code: int) -> None:
    """From where Python itself has started; until then, it answers signals in its own way."""
    chance = random.Random(code)
    for _ in range(8):
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
from resnet_cli import __main__, interrupts
class Anything: pass
interrupts.install()
anything = Anything()
reference = weakref.ref(anything, lambda _: os.kill(os.getpid(), {number}))
del anything
__main__.main()
"""


@pytest.mark.parametrize(("number", "code"), SIGNALS)
def test_in_a_callback_that_can_raise_nothing(image: Path, number: int, code: int) -> None:
    arguments = ["-c", LOST.format(number=int(number)), *TINY, image]
    with running(*arguments, program=sys.executable) as process:
        printed, errors = process.communicate(timeout=GUARD)
        assert (process.returncode, printed, errors) == (code, b"", b"")


HUNG = """
import hashlib, os
from resnet_cli import interrupts
def library(): hashlib.pbkdf2_hmac("sha256", b"", b"", 1 << 30)  # minutes in which Python hears nothing
interrupts.install()
print(end="+", flush=True)
try:
    {call}
except interrupts.INTERRUPTIONS as interruption:
    os._exit({{"KeyboardInterrupt": 130, "Terminated": 143}}[type(interruption).__name__])
"""


@pytest.mark.parametrize("call", ["interrupts.apart(library)", "interrupts.watch(); library()"])
@pytest.mark.parametrize(("number", "code"), SIGNALS)
def test_while_a_library_hangs(call: str, number: int, code: int) -> None:
    with running("-c", HUNG.format(call=call), program=sys.executable) as process:
        assert process.stdout
        assert process.stdout.read(1) == b"+"
        time.sleep(0.3)
        read_rest(process, number, code)


@pytest.mark.parametrize(("number", "code"), SIGNALS)
def test_while_names_do_not_come(image: Path, number: int, code: int) -> None:
    with running(*TINY, "--format", "jsonl", "--files-from", "-", stdin=subprocess.PIPE) as process:
        assert process.stdin
        assert process.stdout
        process.stdin.write(f"{image}\n".encode())
        printed = process.stdout.readline().decode()
        process.send_signal(number)
        assert process.wait(GUARD) == code
        assert process.stderr
        assert done(process.stderr.read().decode()) == len(from_json_lines(printed)) == 1


@pytest.mark.parametrize(("number", "code"), SIGNALS)
def test_while_a_download_hangs(image: Path, number: int, code: int) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"http://127.0.0.1:{server.getsockname()[1]}/a.png"
        environment = os.environ | {"RESNET_OFFLINE": "0"}
        with running(*TINY, "--format", "json", address, env=environment) as process:
            connection, _ = server.accept()
            with connection:
                printed, errors = read_rest(process, number, code)
    assert from_json(printed) == []
    assert done(errors) == 0


@pytest.mark.parametrize(("number", "code"), SIGNALS)
def test_a_file_is_gone_on_with_after_a_signal(image: Path, tmp_path: Path, number: int, code: int) -> None:
    path = tmp_path / "answers.csv"
    command = (*TINY, "--format", "csv", "-o", path, "--resume", *[image] * 1000)
    with running(*command) as process:
        while not (path.exists() and path.stat().st_size > 1000):
            assert process.poll() is None
            time.sleep(0.001)
        printed, errors = read_rest(process, number, code)
    assert printed == ""
    assert "the same command with --resume goes on" in errors
    assert done(errors) == len(from_csv(path.read_text()))
    assert subprocess.run([RESNET, *map(str, command)], stderr=subprocess.PIPE, timeout=300).returncode == 0
    assert len(from_csv(path.read_text())) == 1000


@pytest.mark.parametrize(("number", "code"), SIGNALS)
def test_an_array_that_was_begun_leaves_nothing(image: Path, tmp_path: Path, number: int, code: int) -> None:
    command = (*TINY, "--format", "json", "-o", tmp_path / "answers.json", "--files-from", "-")
    with running(*command, stdin=subprocess.PIPE) as process:
        while not list(tmp_path.iterdir()):
            assert process.poll() is None
            time.sleep(0.001)
        read_rest(process, number, code)
    assert list(tmp_path.iterdir()) == []
