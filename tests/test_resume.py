"""Runs that were cut off and go on: killed, torn at any byte, out of room."""

import random
import resource
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import RESNET, Run
from odd_names import NAMES, from_csv, from_json, from_json_lines, populate

from resnet_cli import output, render
from resnet_cli.errors import ImageError, UsageError
from resnet_cli.labels import UNKNOWN, Label, Prediction
from resnet_cli.predict import Record

TINY = ("predict", "--weights", "tiny")
EMBEDDED = Path(render.__file__).parent / "data/tiny.safetensors"
READ = {"json": from_json, "jsonl": from_json_lines, "csv": from_csv}
GUARD = 60  # seconds after which something hangs


@pytest.fixture(params=["jsonl", "csv"])
def layout(request: pytest.FixtureRequest) -> str:
    return str(request.param)


# Torn at any byte


def made_records(top_k: int = 2) -> list[Record]:
    """Return records of all kinds under hostile names and labels."""
    labels = [Label('quo"te, comma', None), Label("line\nbreak \\", "n02099712")]
    predictions = tuple(Prediction(i + 1, i, labels[i % 2], 0.5 / (i + 1)) for i in range(top_k))
    records = []
    for i, name in enumerate((*NAMES, NAMES[0], NAMES[0])):
        records.append(Record(name, "m", "w", predictions))
        if i % 3 == 1:
            records[-1] = Record(name, "m", "w", error=ImageError("not_found", f'no "{name}",\nor other'))
        if i % 7 == 3:
            records[-1] = Record(name, "m", "w", (Prediction(1, None, UNKNOWN, 0.25),))
    return records


def write(path: Path, layout: str, records: Iterator[Record], settings: output.Settings, kept: output.Kept) -> None:
    with output.growing(path, settings, kept) as write_text:
        count = render.Count(kept.records, kept.failed)
        render.write_records(records, render.RECORDS[layout], write_text, count, lambda done: None)


@pytest.mark.parametrize("top_k", [1, 2])
def test_any_torn_file_is_gone_on_with(tmp_path: Path, layout: str, top_k: int) -> None:
    path, records = tmp_path / "answers", made_records(top_k)
    settings = {"model": "m", "weights": "w", "top-k": top_k}
    write(path, layout, iter(records), settings, output.Kept())
    whole = path.read_bytes()
    READ[layout](whole.decode())
    starts = []
    for length in (*range(0, len(whole), 3 if top_k == 1 else 7), len(whole)):
        path.write_bytes(whole[:length])
        names = iter([record.image for record in records])
        kept = output.keep(path, layout, settings, names)
        assert kept.end <= length
        starts.append(kept.records)
        assert len(list(names)) == len(records) - kept.records
        assert kept.failed == sum(record.error is not None for record in records[: kept.records])
        write(path, layout, iter(records[kept.records :]), settings, kept)
        assert path.read_bytes() == whole, length
    assert starts == sorted(starts)
    assert set(starts) == set(range(len(records) + 1)), "a whole record was thrown away"


@pytest.mark.parametrize("garbage", [b"\n", b"{}\n", b"null\n", b"a,b\n", b"\xff\n", b'"a\n', b"[1]\n", b"a,7,,,,,\n"])
def test_what_is_no_record_is_refused(tmp_path: Path, layout: str, garbage: bytes) -> None:
    path, records = tmp_path / "answers", made_records()
    settings = {"model": "m", "weights": "w", "top-k": 2}
    write(path, layout, iter(records), settings, output.Kept())
    content = path.read_bytes() + garbage
    path.write_bytes(content)
    with pytest.raises(UsageError, match=r"is not a record|there are no more images"):
        output.keep(path, layout, settings, iter([record.image for record in records]))
    assert path.read_bytes() == content


# Killed


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("many")
    populate(folder, 300)
    return folder


@pytest.mark.parametrize(("layout", "kills"), [("jsonl", 14), ("csv", 6)], indirect=["layout"])
def test_killed_runs_come_to_the_same_file(resnet: Run, many: Path, tmp_path: Path, layout: str, kills: int) -> None:
    path = tmp_path / "answers"
    options = (*TINY, "--format", layout, "-o", path)
    assert resnet(*options, many).returncode == 1
    whole = path.read_bytes()
    path.unlink()
    chance = random.Random(kills)
    seen = []
    for size in sorted(chance.uniform(0, len(whole)) for _ in range(kills)):
        command = [RESNET, *options, "--batch-size", "3", "--resume", many]
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + GUARD
        while process.poll() is None and not (path.exists() and path.stat().st_size > size):
            assert time.monotonic() < deadline
            time.sleep(0.001)
        time.sleep(chance.uniform(0, 0.02))
        process.kill()
        process.wait()
        seen.append(path.stat().st_size)
    assert len(set(seen)) > kills // 2
    assert resnet(*options, "--resume", many).returncode == 1
    assert path.read_bytes() == whole
    assert sorted(file.name for file in tmp_path.iterdir()) == [".answers.settings.json", "answers"]


def test_a_complete_file_stays_and_ends_as_it_did(resnet: Run, many: Path, tmp_path: Path, layout: str) -> None:
    for images, code in ((many / "00001.png", 0), (many, 1)):
        options = (*TINY, "--format", layout, "-o", tmp_path / "answers", images)
        assert resnet(*options, "--resume").returncode == code
        whole = (tmp_path / "answers").read_bytes()
        again = resnet(*options, "--resume")
        assert (again.returncode, again.stdout) == (code, "")
        assert len(again.stderr.splitlines()) == 1
        assert (tmp_path / "answers").read_bytes() == whole
        (tmp_path / "answers").unlink()


# Made in another way


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, many: Path) -> Path:
    """A folder with files of each format, of the same three images."""
    folder = tmp_path_factory.mktemp("made")
    for name in ("jsonl", "csv"):
        command = [RESNET, *TINY, "--format", name, "-o", folder / name, *three(many)]
        subprocess.run(command, check=True, timeout=300)
    return folder


def three(many: Path) -> list[Path]:
    return [many / name for name in ("00001.png", "00002.png", "00003.png")]


@pytest.mark.parametrize(
    ("options", "difference"),
    [
        (["-k", "2"], "top-k 3, now asked for is 2"),
        (["--fit", "pad"], "fit crop, now asked for is pad"),
        (["--min-probability", "0.5"], "min-probability 0.0, now asked for is 0.5"),
        (["--engine", "keras"], "engine openvino, now asked for is keras"),
        (["--shard", "1/2"], "shard 1/1, now asked for is 1/2"),
        (["--weights", "OTHER"], "weights tiny"),
    ],
)
def test_files_of_other_options_are_refused(
    resnet: Run, made: Path, many: Path, tmp_path: Path, layout: str, options: list[str], difference: str
) -> None:
    if layout == "csv" and "keras" in options:
        pytest.skip("takes long, and is the same as in JSON lines")
    shutil.copytree(made, tmp_path / "made")
    path = tmp_path / "made" / layout
    if "OTHER" in options:
        shutil.copy(EMBEDDED, tmp_path / "other.safetensors")
        options = ["--weights", str(tmp_path / "other.safetensors")]
    refuse(resnet, path, layout, [*options, *map(str, three(many))], difference)


def refuse(resnet: Run, path: Path, layout: str, arguments: list[str], difference: str) -> None:
    before = {file.name: file.read_bytes() for file in path.parent.iterdir()}
    result = resnet(*TINY, "--format", layout, "-o", path, "--resume", *arguments)
    assert (result.returncode, result.stdout) == (2, "")
    assert f"cannot go on with {path}: " in result.stderr
    assert difference in result.stderr
    assert len(result.stderr.splitlines()) <= 3
    assert {file.name: file.read_bytes() for file in path.parent.iterdir()} == before


def test_weights_of_another_content_are_refused(resnet: Run, many: Path, tmp_path: Path) -> None:
    weights = tmp_path / "w.safetensors"
    shutil.copy(EMBEDDED, weights)
    command = ("predict", "--weights", weights, "--format", "csv", "-o", tmp_path / "answers", "--resume")
    assert resnet(*command, *three(many)).returncode == 0
    content = bytearray(weights.read_bytes())
    content[-1000] ^= 1  # the lowest bit of a parameter, or of its exponent
    weights.write_bytes(content)
    result = resnet(*command, *three(many))
    assert result.returncode == 2
    assert "content of the weights" in result.stderr


def test_the_other_format_is_refused(resnet: Run, made: Path, many: Path, tmp_path: Path) -> None:
    shutil.copytree(made, tmp_path / "made")
    images = [str(path) for path in three(many)]
    refuse(resnet, tmp_path / "made/csv", "jsonl", images, "format csv, now asked for is jsonl")
    refuse(resnet, tmp_path / "made/jsonl", "csv", images, "format jsonl, now asked for is csv")


def test_other_images_are_refused(resnet: Run, made: Path, many: Path, tmp_path: Path, layout: str) -> None:
    shutil.copytree(made, tmp_path / "made")
    images = [str(path) for path in three(many)]
    path = tmp_path / "made" / layout
    refuse(resnet, path, layout, images[:2], f"record 3 is of {images[2]}, but there are no more images")
    refuse(resnet, path, layout, [images[1], *images[1:]], f"image 1 now is {images[1]}")


def test_what_a_file_says_itself_counts_where_its_settings_are_lost(
    resnet: Run, made: Path, many: Path, tmp_path: Path, layout: str
) -> None:
    shutil.copy(made / layout, tmp_path)
    path, images = tmp_path / layout, [str(path) for path in three(many)]
    refuse(resnet, path, layout, ["-k", "1", *images], "top-k 3, now asked for is 1")
    (tmp_path / f".{layout}.settings.json").write_text("torn {")
    whole = path.read_bytes()
    path.write_bytes(whole[:-9])
    assert resnet(*TINY, "--format", layout, "-o", path, "--resume", *images).returncode == 0
    assert path.read_bytes() == whole


# No room


def limited(size: int, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run the command where no file may grow beyond a size, which is what a full disk is to it."""
    return subprocess.run(
        [RESNET, *map(str, arguments)],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY)),
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_a_full_disk_leaves_whole_records_and_a_way_on(resnet: Run, many: Path, tmp_path: Path, layout: str) -> None:
    path = tmp_path / "answers"
    options = (*TINY, "--format", layout, "-o", path, many)
    assert resnet(*options).returncode == 1
    whole = path.read_bytes()
    for size, more in ((9_999, ()), (9_999, ("--resume",)), (15_000, ("--resume",))):
        full = limited(size, *options, *more)
        assert (full.returncode, full.stdout) == (2, "")
        told = [line for line in full.stderr.splitlines() if not line.startswith("error: /")]
        assert f"error: cannot write {path}: File too large" in told
        assert "--resume" in told[-1]
        content = path.read_bytes()
        assert size - 1500 < len(content) <= size
        assert whole.startswith(content)
        READ[layout](content.decode())
    assert resnet(*options, "--resume").returncode == 1
    assert path.read_bytes() == whole


def test_a_full_disk_leaves_no_half_array(resnet: Run, many: Path, tmp_path: Path) -> None:
    path = tmp_path / "answers.json"
    assert resnet(*TINY, many / "00001.png").returncode == 0  # so that the compiled network need not be written
    full = limited(9_999, *TINY, "--format", "json", "-o", path, many)
    assert full.returncode == 2
    assert f"error: cannot write {path}: File too large" in full.stderr
    assert "--resume" not in full.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["json", "jsonl", "csv"])
def test_full_standard_output_is_whole(many: Path, tmp_path: Path, name: str) -> None:
    command = [RESNET, *TINY, "--format", name, many / "00001.png"]
    with open("/dev/full", "w") as full:  # noqa: PTH123
        result = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, timeout=300)
    message = "error: cannot write standard output: No space left on device\n"
    assert (result.returncode, result.stderr) == (2, message)
    printed = tmp_path / "printed"
    command = f"ulimit -f 10; exec {RESNET} {' '.join(TINY)} --format {name} {many} > {printed}"
    assert subprocess.run(["bash", "-c", command], stderr=subprocess.DEVNULL, timeout=300).returncode == 2
    text = printed.read_text("utf-8")
    READ[name](text.removesuffix("\n]\n") + "\n]\n" if name == "json" else text)  # there may be no room even for this
    assert 9_000 < printed.stat().st_size <= 10_240
