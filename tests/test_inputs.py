"""What else than files and folders may stand on the command line: patterns, `-`, lists of names, shards."""

import io
import json
import os
import subprocess
import sys
import threading
from glob import glob
from pathlib import Path

import numpy as np
import pytest
from conftest import RESNET, Run
from corpus import encoded
from odd_images import PICTURE, SCENE, SIDE
from test_find import populate

from resnet_cli import inputs
from resnet_cli.errors import UsageError
from resnet_cli.folders import LeftOut
from resnet_cli.images import ImageError
from resnet_cli.pretrained import Fit

CONTENT = encoded(PICTURE)


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    names = ("a.png", "b.jpg", "c/d.png", "c/e/f.png", "c/.h.png", ".i/j.png", "k/l.PNG", "x1.png", "x2.png", "x-.png")
    populate(tmp_path, *names)
    monkeypatch.chdir(tmp_path)
    return tmp_path


# Patterns


@pytest.mark.parametrize(
    "pattern",
    [
        *("*.png", "*/*.png", "**/*.png", "c/**/*.png", "./*.png", "**/e/*", "x?.png", "x[0-9].png", "x[!0-9].png"),
        *(".i/*", ".*/*", "*/.*", "[c]/**/f.png", "**/c/**/f*", "none*", "c/none*", "a.png/*", "*/e/f.png"),
    ],
)
def test_patterns_match_what_glob_matches(tree: Path, pattern: str) -> None:
    expected = sorted(glob(pattern, recursive=True), key=lambda name: name.split("/"))  # noqa: PTH207
    assert list(inputs.find([pattern])) == (expected or [pattern])
    absolute = f"{tree}/{pattern.removeprefix('./')}"
    expected = sorted(glob(absolute, recursive=True), key=lambda name: name.split("/"))  # noqa: PTH207
    assert list(inputs.find([absolute])) == (expected or [absolute])


def test_folders_that_match_are_walked(tree: Path) -> None:
    assert list(inputs.find(["[ck]"])) == ["c/d.png", "c/e/f.png", "k/l.PNG"]
    assert list(inputs.find(["c/**"])) == list(inputs.find(["c/"]))
    assert len(list(inputs.find(["**"]))) == 8


def test_a_file_of_the_very_name_is_no_pattern(tree: Path) -> None:
    populate(tree, "y[1].jpg", "y1.jpg")
    assert list(inputs.find(["y[1].jpg"])) == ["y[1].jpg"]
    (tree / "y[1].jpg").unlink()
    assert list(inputs.find(["y[1].jpg"])) == ["y1.jpg"]
    (tree / "z*").symlink_to("nothing")
    assert list(inputs.find(["z*"])) == ["z*"]


def test_patterns_do_not_follow_circles(tree: Path) -> None:
    for name in ("up", "back", "again"):
        (tree / "c" / name).symlink_to("..")
    assert list(inputs.find(["**/f.png"])) == ["c/e/f.png"]


def test_a_file_called_dash_is_not_standard_input(tree: Path) -> None:
    populate(tree / "dash", "-")
    os.chdir(tree / "dash")
    assert list(inputs.find(["?", "."])) == ["./-", "./-"]


@pytest.mark.parametrize("name", ["-", "http://host/a?b=[1]*", "HTTPS://host/x"])
def test_not_everything_is_a_pattern(tree: Path, name: str) -> None:
    assert list(inputs.find([name])) == [name]


# Folders


def test_what_is_left_out_is_counted(tree: Path) -> None:
    populate(tree, "notes.txt", "k/data.csv", content=b"no picture")
    left_out = LeftOut()
    assert len(list(inputs.find([".", "nothing.png"], left_out))) == 9
    assert left_out == LeftOut(hidden=2, others=2)


@pytest.mark.skipif(sys.platform != "linux", reason="memory is told otherwise elsewhere")
def test_many_files_take_little_memory(tmp_path: Path) -> None:
    def peak(files: int) -> int:
        folder = tmp_path / str(files)
        folder.mkdir()
        for number in range(files):
            (folder / f"photograph-{number:06}.jpg").touch()
        program = """if True:
            import sys
            from pathlib import Path
            from resnet_cli import inputs
            assert sum(1 for _ in inputs.find(sys.argv[1:])) == int(sys.argv[1].rpartition("/")[2])
            print(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0])
        """
        done = subprocess.run([sys.executable, "-c", program, str(folder)], capture_output=True, check=True)
        return int(done.stdout)

    assert peak(20_000) - peak(1_000) < 15_000  # KiB


# Standard input


def read_pipe(content: bytes) -> np.ndarray | str:
    program = """if True:
        import sys
        from resnet_cli import inputs
        from resnet_cli.errors import ImageError
        from resnet_cli.pretrained import Fit
        try:
            sys.stdout.buffer.write(inputs.decode("-", int(sys.argv[1]), Fit.CROP).tobytes())
        except ImageError as error:
            print(error.kind)
    """
    done = subprocess.run([sys.executable, "-c", program, str(SIDE)], input=content, capture_output=True, check=True)
    if len(done.stdout) != SIDE * SIDE * 3:
        return done.stdout.decode().strip()
    return np.frombuffer(done.stdout, np.uint8).reshape(SIDE, SIDE, 3)


def test_an_image_on_standard_input() -> None:
    np.testing.assert_array_equal(read_pipe(CONTENT), SCENE)
    assert read_pipe(b"") == "not_an_image"
    assert read_pipe(CONTENT[:99]) == "unreadable_image"


def test_endless_standard_input_is_no_image() -> None:
    assert read_pipe(bytes(inputs.MAX_STANDARD_INPUT + 1)) == "too_large"


def test_the_command_reads_standard_input() -> None:
    done = subprocess.run(
        [RESNET, "predict", "--weights", "tiny", "--format", "json", "-"],
        input=CONTENT,
        capture_output=True,
        check=True,
    )
    (record,) = json.loads(done.stdout)
    assert record["image"] == "-"
    assert len(record["predictions"]) == 3


# Lists of names


@pytest.mark.parametrize(
    ("content", "nul", "names"),
    [
        (b"", False, []),
        (b"a.png\nb.png\n", False, ["a.png", "b.png"]),
        (b"a.png\n\n\nb.png", False, ["a.png", "b.png"]),
        (b"a.png\r\nb.png\r\n\r\n", False, ["a.png", "b.png"]),
        (b" a b \n\ttab\n", False, [" a b ", "\ttab"]),
        (b"a\0b\nc\0\0d", True, ["a", "b\nc", "d"]),
        (b"a\r\0", True, ["a\r"]),
        ("강아지\n".encode() + b"caf\xe9\n", False, ["강아지", os.fsdecode(b"caf\xe9")]),
        (b"x\n" * 100_000, False, ["x"] * 100_000),
    ],
)
def test_lists(content: bytes, nul: bool, names: list[str]) -> None:
    assert list(inputs.listed(io.BytesIO(content), nul)) == names


def test_a_name_that_ends_like_a_line_of_windows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("odd\r").touch()
    assert list(inputs.listed(io.BytesIO(b"odd\r\neven\r\n"), False)) == ["odd\r", "even"]


@pytest.mark.parametrize("nul", [False, True])
def test_names_come_as_soon_as_they_are_complete(nul: bool) -> None:
    reading, writing = os.pipe()
    end = b"\0" if nul else b"\n"
    with os.fdopen(reading, "rb") as list_, os.fdopen(writing, "wb", buffering=0) as pipe:
        names = inputs.listed(list_, nul)
        timer = threading.Timer(20, pipe.close)  # so that a failure is no endless wait
        timer.start()
        pipe.write(b"a" + end + b"b")
        assert next(names) == "a"
        pipe.write(b"c" + end)
        assert next(names) == "bc"
        assert timer.is_alive()
        timer.cancel()


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="this system has no device files")
def test_what_is_no_list() -> None:
    with Path("/dev/zero").open("rb") as zeros, pytest.raises(UsageError, match="a name a line"):
        next(inputs.listed(zeros, False))


# Shards


def test_shards_share_the_images() -> None:
    names = [str(number) for number in range(10)]
    shards = [list(inputs.shard(names, k, 3)) for k in (1, 2, 3)]
    assert shards == [["0", "3", "6", "9"], ["1", "4", "7"], ["2", "5", "8"]]
    assert list(inputs.shard(names, 1, 1)) == names
    assert list(inputs.shard(names, 11, 12)) == []


def test_shards_are_parsed() -> None:
    assert inputs.parse_shard("2/8") == (2, 8)
    assert inputs.parse_shard("1/1") == (1, 1)


@pytest.mark.parametrize(
    "text", ["", "1", "/", "0/2", "3/2", "-1/2", "1/2/3", "1 / 2", "a/b", "1/0", "+1/2", "1_0/20", "٣/٤"]
)
def test_malformed_shards(text: str) -> None:
    with pytest.raises(UsageError, match="K/N"):
        inputs.parse_shard(text)


# Special files


@pytest.mark.parametrize("name", ["/dev/zero", "/dev/tty", "/dev/null"])
def test_devices_are_not_opened(name: str, tmp_path: Path) -> None:
    if not Path(name).exists():
        pytest.skip(f"this system has no {name}")
    (tmp_path / "link.jpg").symlink_to(name)
    for path in (name, *inputs.find([str(tmp_path)])):
        with pytest.raises(ImageError) as caught:
            inputs.decode(path, SIDE, Fit.CROP)
        assert caught.value.kind in ("not_a_file", "permission_denied")


def test_predict_takes_patterns(tree: Path, resnet: Run) -> None:
    result = resnet("predict", "--weights", "tiny", "--format", "json", "x*.png")
    assert [record["image"] for record in json.loads(result.stdout)] == ["x-.png", "x1.png", "x2.png"]
