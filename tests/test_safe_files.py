"""Files of users are never lost to an output, and two runs never write the same one."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import RESNET, run_main
from PIL import Image

import resnet_cli
from resnet_cli.errors import UsageError
from resnet_cli.system import lock

pytestmark = pytest.mark.usefixtures("shared_cache")

TINY = ("predict", "--weights", "tiny")
EMBEDDED = Path(resnet_cli.__file__).parent / "data/tiny.safetensors"
CAT = Path(__file__).parents[1] / "sample_images/cat.jpg"


@pytest.fixture(autouse=True)
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of three photos in the current folder."""
    monkeypatch.chdir(tmp_path)
    folder = Path("photos")
    folder.mkdir()
    with Image.open(CAT) as cat:
        for i, name in enumerate(("a.jpg", "b.jpg", "c.jpg")):
            cat.rotate(90 * i).save(folder / name)
    return folder


def contents() -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in Path().rglob("*") if path.is_file()}


# Inputs as outputs


@pytest.mark.parametrize(
    "arguments",
    [
        "-o photos/a.jpg photos/b.jpg photos/c.jpg",  # what -o photos/*.jpg becomes
        "-o photos/a.jpg photos/a.jpg --force",
        "-o link photos --force",
        "-o hard photos --force",
        "-o photos/new.png photos/",
        "-o bare photos/a.jpg --force",
        "-o names --files-from names --force",
        "-o listed --files-from names --force",
        "-o my.safetensors --weights my.safetensors photos --force",
        "-o results.jsonl results.jsonl photos",
        "-o results.jsonl results* photos",
        "-o labels.csv --labels labels.csv photos --force",
        "--features out.npz -o out.npz photos",
    ],
)
def test_an_input_is_never_an_output(arguments: str) -> None:
    Path("link").symlink_to("photos/a.jpg")
    os.link("photos/b.jpg", "hard")
    shutil.copy("photos/c.jpg", "bare")
    shutil.copy(EMBEDDED, "my.safetensors")
    Path("listed").write_text("notes")
    Path("labels.csv").write_text("label\n" * 200)
    Path("names").write_text("photos/a.jpg\nlisted\n")
    Path("results.jsonl").write_text('{"image": "a", "model": "m", "weights": "w", "predictions": []}\n')
    before = contents()
    result = run_main(*TINY, *arguments.split())
    assert (result.returncode, result.stdout) == (2, "")
    assert len(result.stderr.splitlines()) == 1
    assert contents() == before


def test_images_in_class_folders_are_never_outputs() -> None:
    shutil.copytree("photos", "data/tabby")
    before = contents()
    for name, path in (("--confusion", "data/tabby/new.png"), ("--mistakes", "data/tabby/a.jpg")):
        result = run_main("evaluate", "--weights", "tiny", name, path, "--force", "data")
        assert (result.returncode, "one of the inputs" in result.stderr) == (2, True)
    result = run_main("build", "--weights", "tiny.safetensors", "-o", "tiny.safetensors", "--force")
    shutil.copy(EMBEDDED, "tiny.safetensors")
    result = run_main("build", "--weights", "tiny.safetensors", "-o", "tiny.safetensors", "--force")
    assert (result.returncode, "one of the inputs" in result.stderr) == (2, True)
    Path("tiny.safetensors").unlink()
    assert contents() == before


# Other programs' files


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("notes.csv", ["-o"]),
        ("notes.json", ["-o"]),
        ("notes.jsonl", ["-o"]),
        ("notes.txt", ["-o"]),
        ("arrays.npz", ["--features"]),
    ],
)
def test_only_our_own_files_are_replaced(name: str, options: list[str]) -> None:
    path = Path(name)
    theirs = {".npz": b"", ".csv": b"image,label\na.jpg,cat\n", ".json": b'[\n{"image": "a.jpg", "cat": 1}\n]\n'}
    path.write_bytes(theirs.get(path.suffix, b'{"image": "a.jpg", "label": "cat"}\n'))
    if path.suffix == ".npz":
        np.savez(path, features=np.zeros((2, 768), np.float32))
    before = path.read_bytes()
    refused = run_main(*TINY, *options, name, "photos")
    assert (refused.returncode, "--force" in refused.stderr, path.read_bytes()) == (2, True, before)
    assert run_main(*TINY, *options, name, "photos", "--force").returncode == 0
    ours = path.read_bytes()
    assert ours != before
    assert run_main(*TINY, *options, name, "photos").returncode == 0
    if path.suffix == ".npz":
        with np.load(path) as arrays:
            assert arrays["features"].shape == (3, 768)
    else:
        assert path.read_bytes() == ours


@pytest.mark.parametrize("option", ["--resume", "--update", ""])
@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("one-line.jsonl", b'{"my": "only", "notes": [1, 2, 3]}'),
        ("one-line.csv", b"image,label"),
        ("mac.csv", b"image,label\rpear,4\r"),
        ("blob", b"\0\1\2" * 100),
    ],
)
def test_files_without_line_ends_are_not_incomplete_records(name: str, content: bytes, option: str) -> None:
    Path(name).write_bytes(content)
    options = (["--format", "jsonl"] if name == "blob" else []) + ([option] if option else [])
    result = run_main(*TINY, *options, "-o", name, "photos")
    assert (result.returncode, Path(name).read_bytes()) == (2, content)


def test_notes_that_quote_a_table_are_not_ours() -> None:
    table = run_main(*TINY, "-o", "a.txt", "photos")
    assert table.returncode == 0
    Path("notes.md").write_text("# My notes\n" + Path("a.txt").read_text() + "more\n")
    before = contents()
    assert run_main(*TINY, "-o", "notes.md", "photos").returncode == 2
    assert contents() == before


def test_links_and_files_named_like_locks_stay() -> None:
    Path("link.npz").symlink_to("real.npz")
    Path(".a.csv.lock").write_text("precious")
    assert run_main(*TINY, "-o", "a.csv", "--features", "link.npz", "photos").returncode == 0
    assert (Path("link.npz").is_symlink(), Path("real.npz").exists()) == (True, True)
    assert Path(".a.csv.lock").read_text() == "precious"


def test_only_our_own_reports_are_replaced() -> None:
    shutil.copytree("photos", "data/tabby")
    outputs = {"--mistakes": "m.csv", "--per-class": "p.csv", "--confusion": "c.png"}
    options = [part for pair in outputs.items() for part in pair]
    for output in outputs.values():
        assert run_main("evaluate", "--weights", "tiny", *options, "data").returncode == 0
        if output == "c.png":
            shutil.copy("photos/a.jpg", output)
        else:
            Path(output).write_text("index,wnid\n")
        before = contents()
        refused = run_main("evaluate", "--weights", "tiny", *options, "data")
        assert (refused.returncode, "--force" in refused.stderr, contents()) == (2, True, before)
        Path(output).unlink()
    assert run_main("evaluate", "--weights", "tiny", *options, "data").returncode == 0


def test_the_suffix_selects_the_format() -> None:
    for name, start in (("a.csv", "image,rank"), ("a.json", "["), ("a.jsonl", "{"), ("a.txt", "photos/a.jpg")):
        assert run_main(*TINY, "-o", name, "photos").returncode == 0
        assert Path(name).read_text().startswith(start)
    result = run_main(*TINY, "-o", "b.csv", "--format", "json", "photos")
    assert (result.returncode, "suffix" in result.stderr, Path("b.csv").exists()) == (2, True, False)


def test_a_foreign_or_unwritable_settings_file_costs_a_warning() -> None:
    hidden = Path(".a.csv.settings.json")
    hidden.write_text('{"editor": "dark"}')
    result = run_main(*TINY, "-o", "a.csv", "photos")
    assert (result.returncode, len(result.stderr.splitlines())) == (0, 1)
    assert hidden.read_text() == '{"editor": "dark"}'
    hidden.unlink()
    Path("empty").touch()
    hidden.symlink_to("empty")
    assert run_main(*TINY, "-o", "a.csv", "photos").returncode == 0
    assert Path("empty").read_text() == ""
    hidden.unlink()
    hidden.mkdir()
    result = run_main(*TINY, "-o", "a.csv", "photos")
    assert (result.returncode, len(result.stderr.splitlines())) == (0, 1)
    assert len(Path("a.csv").read_text().splitlines()) == 10
    long = "n" * 246 + ".csv"  # that of its settings file would be too long
    for option in ("--force", "--resume", "--update"):
        result = run_main(*TINY, "-o", long, option, "photos")
        assert (result.returncode, result.stderr.count("warning:")) == (0, 1)
        assert len(Path(long).read_text().splitlines()) == 10


# Two writers


HOLD = "import sys; from pathlib import Path; from resnet_cli.system import lock\n"
HOLD += "with lock.only_writer(Path(sys.argv[1])): print(flush=True); sys.stdin.read()"


@pytest.mark.parametrize("name", ["a.csv", "a.json", "a.txt", "linked"])
def test_the_second_writer_ends_at_once(name: str) -> None:
    Path("linked").symlink_to("a.csv")
    other = Path("a.csv") if name == "linked" else name
    with subprocess.Popen([sys.executable, "-c", HOLD, other], stdin=-1, stdout=-1) as first:
        assert first.stdout is not None
        first.stdout.readline()
        before = contents()
        second = run_main(*TINY, "-o", name, "photos")
        assert (second.returncode, second.stdout, len(second.stderr.splitlines())) == (2, "", 1)
        assert "another run is writing this file" in second.stderr
        assert contents() == before
        os.kill(first.pid, signal.SIGKILL)
    assert run_main(*TINY, "-o", name, "photos").returncode == 0  # a killed run does not block
    assert not [*Path().glob(".*.lock")]


def test_two_runs_of_the_command_write_one_file() -> None:
    Path("names").write_text("photos/a.jpg\n" * 300)
    Path("a.jsonl").touch()
    os.link("a.jsonl", "b.jsonl")
    command = (*TINY, "--files-from", "names", "--resume", "-o")
    with subprocess.Popen([RESNET, *command, "a.jsonl"], stderr=subprocess.DEVNULL) as first:
        deadline = time.monotonic() + 60
        while not Path("a.jsonl").stat().st_size:
            assert time.monotonic() < deadline
            time.sleep(0.001)
        first.send_signal(signal.SIGSTOP)
        # By the same name, and by that of a hard link.
        results = [run_main(*command, name) for name in ("a.jsonl", "b.jsonl")]
        first.kill()
    for second in results:
        assert (second.returncode, second.stdout) == (2, "")
        assert "another run is writing this file" in second.stderr
    assert run_main(*command, "a.jsonl").returncode == 0
    records = Path("a.jsonl").read_text().splitlines()
    assert (len(records), len(set(records))) == (300, 1)


def test_a_lock_of_a_removed_file_is_taken_again(tmp_path: Path) -> None:
    with lock.only_writer(tmp_path / "x"):
        (tmp_path / ".x.lock").unlink()
        with lock.only_writer(tmp_path / "x"), pytest.raises(UsageError), lock.only_writer(tmp_path / "x"):
            pass


# Updates


@pytest.mark.parametrize("suffix", ["jsonl", "csv"])
def test_update_classifies_only_what_is_new_or_has_changed(photos: Path, suffix: str) -> None:
    output = Path(f"records.{suffix}")
    (photos / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    command = (*TINY, "-k", "2", "-o", output, "--update", photos)
    assert run_main(*command).returncode == 1
    # Each old record gets a mark, which shows whether it is kept.
    output.write_text(output.read_text().replace("n0", "kept_n0"))
    marked = output.read_text()
    assert run_main(*command).stderr.splitlines()[-1] == f"{output}: images classified: 1, records kept: 3"
    assert output.read_text() == marked

    shutil.copy(photos / "c.jpg", photos / "0.jpg")  # one more in front, one gone, one changed, one mended
    (photos / "a.jpg").unlink()
    shutil.copy(photos / "c.jpg", photos / "broken.jpg")
    with Image.open(CAT) as cat:
        cat.transpose(Image.Transpose.FLIP_TOP_BOTTOM).save(photos / "b.jpg")
    refused = run_main(*TINY, "-k", "2", "-o", output, "--resume", photos)
    assert (refused.returncode, "--update" in refused.stderr, output.read_text()) == (2, True, marked)
    updated = run_main(*command)
    assert updated.returncode == 0
    assert updated.stderr.splitlines()[-1] == f"{output}: images classified: 3, records kept: 1"
    run_main(*TINY, "-k", "2", "-o", f"fresh.{suffix}", photos)
    fresh = Path(f"fresh.{suffix}").read_text()
    assert output.read_text().replace("kept_", "") == fresh
    assert {"c.jpg" in line for line in output.read_text().splitlines() if "kept_" in line} == {True}

    assert run_main(*TINY, "-k", "2", "-o", output, "--resume", photos).returncode == 0
    refused = run_main(*TINY, "-k", "3", "-o", output, "--update", photos)
    assert (refused.returncode, "top-k 2" in refused.stderr) == (2, True)
    output.unlink()
    assert run_main(*command).returncode == 0  # as if for the first time
    assert output.read_text() == fresh


def test_update_keeps_rows_with_line_ends_of_windows(photos: Path) -> None:
    command = (*TINY, "-o", "a.csv", "--update", photos)
    assert run_main(*command).returncode == 0
    fresh = Path("a.csv").read_text()
    for _ in range(2):
        Path("a.csv").write_bytes(fresh.replace("\n", "\r\n").encode())
        assert "records kept: 3" in run_main(*command).stderr
        assert Path("a.csv").read_bytes().decode() == fresh


def test_update_replaces_the_file_only_when_it_is_complete(photos: Path) -> None:
    output = Path("records.jsonl")
    assert run_main(*TINY, "-o", output, photos).returncode == 0
    output.chmod(0o600)
    before = contents()
    names = Path("names")
    names.write_text("photos/c.jpg\n" + "sub/a.jpg\n" * 300)
    shutil.copytree(photos, "sub")
    command = [RESNET, *TINY, "-o", output, "--update", "--files-from", names]
    with subprocess.Popen(command) as killed:
        deadline = time.monotonic() + 60
        while not [*Path().glob(".resnet-*/records.jsonl")]:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        killed.kill()
    assert before.items() <= contents().items()
    assert run_main(*command[1:]).returncode == 0
    records = [json.loads(line)["image"] for line in output.read_text().splitlines()]
    assert records == ["photos/c.jpg"] + ["sub/a.jpg"] * 300
    assert output.stat().st_mode & 0o777 == 0o600
    assert not [*Path().glob(".resnet-*")]
