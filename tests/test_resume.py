"""Runs that are interrupted and resumed: killed, cut at any byte, or out of disk space."""

import hashlib
import json
import random
import resource
import shutil
import subprocess
import time
from collections.abc import Iterable
from pathlib import Path

import pytest
from conftest import RESNET, Completed, run_main
from odd_names import NAMES, from_csv, from_json, from_json_lines, populate

import resnet_cli
from resnet_cli.engines.probabilities import Prediction
from resnet_cli.errors import ImageError, ImageErrorKind, UsageError
from resnet_cli.network.labels import UNKNOWN, Label
from resnet_cli.output import destination, predictions, resume
from resnet_cli.system.progress import SILENT
from resnet_cli.tasks.results import Result

pytestmark = pytest.mark.usefixtures("shared_cache")

TINY = ("predict", "--weights", "tiny")
EMBEDDED = Path(resnet_cli.__file__).parent / "data/tiny.safetensors"
READ = {"json": from_json, "jsonl": from_json_lines, "csv": from_csv}
TIMEOUT = 60  # seconds after which a run counts as hanging


@pytest.fixture(params=["jsonl", "csv"])
def record_format(request: pytest.FixtureRequest) -> str:
    return str(request.param)


# Cut at any byte


def make_results(top_k: int = 2) -> list[Result]:
    """Return results of all kinds with hostile names and labels."""
    labels = [Label('quo"te, comma', None), Label("line\nbreak \\", "n02099712")]
    best = tuple(Prediction(i + 1, i, labels[i % 2], 0.5 / (i + 1)) for i in range(top_k))
    results = []
    for i, name in enumerate((*NAMES, NAMES[0], NAMES[0])):
        results.append(Result(name, "m", "w", best))
        if i % 3 == 1:
            error = ImageError(ImageErrorKind.NOT_FOUND, f'no "{name}",\nor other')
            results[-1] = Result(name, "m", "w", error=error)
        if i % 7 == 3:
            results[-1] = Result(name, "m", "w", (Prediction(1, None, UNKNOWN, 0.25),))
    return results


def write(
    path: Path,
    record_format: str,
    results: Iterable[Result],
    settings: resume.Settings,
    plan: resume.Plan,
) -> None:
    with destination.open_resumable(path, settings, plan) as write_text:
        count = predictions.RecordCount(plan.done.records, plan.done.failed)
        predictions.write_records(results, predictions.OUTPUT_FORMATS[record_format], write_text, count, SILENT)


@pytest.mark.parametrize("top_k", [1, 2])
def test_a_file_cut_at_any_byte_is_resumed(tmp_path: Path, record_format: str, top_k: int) -> None:
    path, results = tmp_path / "records", make_results(top_k)
    settings = {"model": "m", "weights": "w", "top-k": top_k}
    write(path, record_format, results, settings, resume.Plan())
    complete = path.read_bytes()
    READ[record_format](complete.decode())
    starts = []
    for length in (*range(0, len(complete), 5 if top_k == 1 else 11), len(complete)):
        path.write_bytes(complete[:length])
        names = iter([result.image for result in results])
        plan = resume.resume(path, record_format, settings, names)
        done = plan.done
        assert done.end <= length
        starts.append(done.records)
        assert len(list(names)) == len(results) - done.records
        assert done.failed == sum(result.error is not None for result in results[: done.records])
        write(path, record_format, results[done.records :], settings, plan)
        assert path.read_bytes() == complete, length
    assert starts == sorted(starts)
    assert set(starts) == set(range(len(results) + 1)), "a complete record was dropped"


@pytest.mark.parametrize("garbage", [b"\n", b"{}\n", b"null\n", b"a,b\n", b"\xff\n", b'"a\n', b"[1]\n", b"a,7,,,,,\n"])
def test_other_content_is_refused(tmp_path: Path, record_format: str, garbage: bytes) -> None:
    path, results = tmp_path / "records", make_results()
    settings = {"model": "m", "weights": "w", "top-k": 2}
    write(path, record_format, results, settings, resume.Plan())
    content = path.read_bytes() + garbage
    path.write_bytes(content)
    with pytest.raises(UsageError, match=r"is not a record|there are no more images"):
        resume.resume(path, record_format, settings, iter([result.image for result in results]))
    assert path.read_bytes() == content


# Killed


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("many")
    populate(folder, 150)
    return folder


@pytest.mark.parametrize(("record_format", "kills"), [("jsonl", 3), ("csv", 2)], indirect=["record_format"])
def test_killed_runs_produce_the_same_file(many: Path, tmp_path: Path, record_format: str, kills: int) -> None:
    path = tmp_path / "records"
    options = (*TINY, "--format", record_format, "-o", path)
    assert run_main(*options, many).returncode == 1
    complete = path.read_bytes()
    path.unlink()
    chance = random.Random(kills)
    seen = []
    for kill in range(kills):
        size = len(complete) * (kill + chance.random()) / (kills + 1)
        slowly = ("--workers", "1", "--batch-size", "1")  # so that fast machines are caught at it, too
        command = [RESNET, *options, *slowly, "--resume", many]
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + TIMEOUT
        while process.poll() is None and not (path.exists() and path.stat().st_size > size):
            assert time.monotonic() < deadline
            time.sleep(0.001)
        time.sleep(chance.uniform(0, 0.005))
        process.kill()
        process.wait()
        seen.append(path.stat().st_size)
    assert len(set(seen)) > kills // 2
    assert run_main(*options, "--resume", many).returncode == 1
    assert path.read_bytes() == complete
    assert sorted(file.name for file in tmp_path.iterdir()) == [".records.settings.json", "records"]


def test_a_complete_file_is_unchanged_and_has_the_same_exit_code(
    many: Path, tmp_path: Path, record_format: str
) -> None:
    for images, code in ((many / "00001.png", 0), (many, 1)):
        options = (*TINY, "--format", record_format, "-o", tmp_path / "records", images)
        assert run_main(*options, "--resume").returncode == code
        complete = (tmp_path / "records").read_bytes()
        again = run_main(*options, "--resume")
        assert (again.returncode, again.stdout) == (code, "")
        assert len(again.stderr.splitlines()) == 1
        assert (tmp_path / "records").read_bytes() == complete
        (tmp_path / "records").unlink()


# Other settings, images and versions


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, many: Path) -> Path:
    """A folder with files of each format, of the same three images."""
    folder = tmp_path_factory.mktemp("made")
    for name in ("jsonl", "csv"):
        assert run_main(*TINY, "--format", name, "-o", folder / name, *three(many)).returncode == 0
    return folder


def three(many: Path) -> list[Path]:
    return [many / name for name in ("00001.png", "00002.png", "00003.png")]


@pytest.mark.parametrize(
    ("options", "difference"),
    [
        (["-k", "2"], "top-k 3, but this run uses 2"),
        (["--fit", "pad"], "fit crop, but this run uses pad"),
        (["--min-probability", "0.5"], "min-probability 0.0, but this run uses 0.5"),
        (["--shard", "1/2"], "shard 1/1, but this run uses 1/2"),
        (["--weights", "OTHER"], "weights tiny"),
    ],
)
def test_files_of_other_options_are_refused(
    made: Path, many: Path, tmp_path: Path, record_format: str, options: list[str], difference: str
) -> None:
    shutil.copytree(made, tmp_path / "made")
    path = tmp_path / "made" / record_format
    if "OTHER" in options:
        shutil.copy(EMBEDDED, tmp_path / "other.safetensors")
        options = ["--weights", str(tmp_path / "other.safetensors")]
    refuse(path, record_format, [*options, *map(str, three(many))], difference)


def test_files_of_another_engine_are_refused(made: Path, many: Path, tmp_path: Path, record_format: str) -> None:
    shutil.copytree(made, tmp_path / "made")
    settings_file = tmp_path / f"made/.{record_format}.settings.json"
    settings = json.loads(settings_file.read_text().splitlines()[0])
    assert settings["engine"] == "openvino"
    settings_file.write_text(json.dumps(settings | {"engine": "keras"}))
    images = list(map(str, three(many)))
    refuse(settings_file.with_name(record_format), record_format, images, "engine keras, but this run uses openvino")


def refuse(path: Path, record_format: str, arguments: list[str], difference: str) -> None:
    before = {file.name: file.read_bytes() for file in path.parent.iterdir()}
    result = run_main(*TINY, "--format", record_format, "-o", path, "--resume", *arguments)
    assert (result.returncode, result.stdout) == (2, "")
    assert f"cannot resume {path}: " in result.stderr
    assert difference in result.stderr
    assert len(result.stderr.splitlines()) <= 3
    assert {file.name: file.read_bytes() for file in path.parent.iterdir()} == before


def test_weights_of_another_content_are_refused(many: Path, tmp_path: Path) -> None:
    weights = tmp_path / "w.safetensors"
    shutil.copy(EMBEDDED, weights)
    command = ("predict", "--weights", weights, "--format", "csv", "-o", tmp_path / "records", "--resume")
    assert run_main(*command, *three(many)).returncode == 0
    content = bytearray(weights.read_bytes())
    content[-1000] ^= 1  # the lowest bit of a parameter, or of its exponent
    weights.write_bytes(content)
    result = run_main(*command, *three(many))
    assert result.returncode == 2
    assert "content of the weights" in result.stderr


def test_the_other_format_is_refused(made: Path, many: Path, tmp_path: Path) -> None:
    shutil.copytree(made, tmp_path / "made")
    images = [str(path) for path in three(many)]
    refuse(tmp_path / "made/csv", "jsonl", images, "format csv, but this run uses jsonl")
    refuse(tmp_path / "made/jsonl", "csv", images, "format jsonl, but this run uses csv")


def test_other_images_are_refused(made: Path, many: Path, tmp_path: Path, record_format: str) -> None:
    shutil.copytree(made, tmp_path / "made")
    images = [str(path) for path in three(many)]
    path = tmp_path / "made" / record_format
    refuse(path, record_format, images[:2], f"record 3 is for {images[2]}, but there are no more images")
    refuse(path, record_format, [images[1], *images[1:]], f"image 1 is now {images[1]}")


def test_records_are_checked_if_the_settings_file_is_lost(
    made: Path, many: Path, tmp_path: Path, record_format: str
) -> None:
    shutil.copy(made / record_format, tmp_path)
    path, images = tmp_path / record_format, [str(path) for path in three(many)]
    refuse(path, record_format, ["-k", "1", *images], "top-k 3, but this run uses 1")
    (tmp_path / f".{record_format}.settings.json").write_text("incomplete {")
    complete = path.read_bytes()
    path.write_bytes(complete[:-9])
    assert run_main(*TINY, "--format", record_format, "-o", path, "--resume", *images).returncode == 0
    assert path.read_bytes() == complete


# Written by version 0.1, about a.jpg, none.jpg and a.jpg again.
OLD_SETTINGS = (
    '{"format": "%s", "model": "resnet_2_3_3v1.5_w48_small", "weights": "tiny", "content of the weights": "%s", '
    '"engine": "openvino", "precision": "f32", "calibrate": null, "fit": "crop", "top-k": 3, "min-probability": 0.0, '
    '"shard": "1/1"}'
)
OLD_RECORDS = {
    "jsonl": (
        '{"image": "a.jpg", "model": "resnet_2_3_3v1.5_w48_small", "weights": "tiny", "predictions": ['
        '{"rank": 1, "index": 32, "wnid": "n02124075", "label": "Egyptian_cat", "probability": 0.64236}, '
        '{"rank": 2, "index": 30, "wnid": "n02123045", "label": "tabby", "probability": 0.1213}, '
        '{"rank": 3, "index": 26, "wnid": "n02099601", "label": "golden_retriever", "probability": 0.058}]}\n'
        '{"image": "none.jpg", "model": "resnet_2_3_3v1.5_w48_small", "weights": "tiny", '
        '"error": {"kind": "not_found", "message": "expected an image file, found none of this name"}}\n'
    ),
    "csv": (
        "image,rank,index,wnid,label,probability,error\n"
        "a.jpg,1,32,n02124075,Egyptian_cat,0.64236,\n"
        "a.jpg,2,30,n02123045,tabby,0.1213,\n"
        "a.jpg,3,26,n02099601,golden_retriever,0.058,\n"
        'none.jpg,,,,,,"not_found: expected an image file, found none of this name"\n'
    ),
}
OLD_INCOMPLETE = {"jsonl": '{"image": "a.jpg", "mod', "csv": "a.jpg,1,32,n02124075,Egyptian_cat,0.64236,\na.jpg,2,30"}


def test_files_of_version_0_1_are_resumed(tmp_path: Path, record_format: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(Path(__file__).parents[1] / "sample_images/cat.jpg", "a.jpg")
    old = OLD_RECORDS[record_format]
    settings = OLD_SETTINGS % (record_format, hashlib.sha256(EMBEDDED.read_bytes()).hexdigest())
    Path("records").write_text(old + OLD_INCOMPLETE[record_format])
    Path(".records.settings.json").write_text(settings)
    command = (*TINY, "--format", record_format, "-o", "records", "a.jpg", "none.jpg", "a.jpg")
    resumed = run_main(*command, "--resume")
    assert (resumed.returncode, resumed.stdout) == (1, "")
    assert resumed.stderr == "records: resuming after 2 images\n"
    content = Path("records").read_text()
    assert content.startswith(old)
    first, _, last = READ[record_format](content)
    assert last["image"] == "a.jpg"
    for ours, theirs in zip(last["predictions"], first["predictions"], strict=True):
        assert ours == theirs | {"probability": pytest.approx(theirs["probability"], abs=1e-4)}
    assert Path(".records.settings.json").read_text().splitlines()[0] == settings
    assert run_main(*command).returncode == 1  # starts over
    assert Path(".records.settings.json").read_text().splitlines()[0] == settings


# Full disks


def limited(size: int, *arguments: object) -> Completed:
    """Run the command with a limit on the size of files, which has the same effect as a full disk."""
    return subprocess.run(
        [RESNET, *map(str, arguments)],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY)),
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_a_full_disk_leaves_complete_records_that_can_be_resumed(
    many: Path, tmp_path: Path, record_format: str
) -> None:
    path = tmp_path / "records"
    options = (*TINY, "--format", record_format, "-o", path, many)
    assert run_main(*options).returncode == 1
    complete = path.read_bytes()
    for size, more in ((9_999, ()), (9_999, ("--resume",)), (15_000, ("--resume",))):
        full = limited(size, *options, *more)
        assert (full.returncode, full.stdout) == (2, "")
        messages = [line for line in full.stderr.splitlines() if not line.startswith("error: /")]
        assert f"error: cannot write {path}: File too large" in messages
        assert "--resume" in messages[-1]
        content = path.read_bytes()
        assert size - 1500 < len(content) <= size
        assert complete.startswith(content)
        READ[record_format](content.decode())
    assert run_main(*options, "--resume").returncode == 1
    assert path.read_bytes() == complete


def test_a_full_disk_leaves_no_incomplete_array(many: Path, tmp_path: Path) -> None:
    path = tmp_path / "records.json"
    assert run_main(*TINY, many / "00001.png").returncode == 0  # so the compiled network is cached
    full = limited(9_999, *TINY, "--format", "json", "-o", path, many)
    assert full.returncode == 2
    assert f"error: cannot write {path}: File too large" in full.stderr
    assert "--resume" not in full.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["json", "jsonl", "csv"])
def test_full_standard_output_has_complete_records(many: Path, tmp_path: Path, name: str) -> None:
    command = [RESNET, *TINY, "--format", name, many / "00001.png"]
    with open("/dev/full", "w") as full:  # noqa: PTH123
        result = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, timeout=300)
    message = "error: cannot write standard output: No space left on device\n"
    assert (result.returncode, result.stderr) == (2, message)
    printed = tmp_path / "printed"
    command = f"ulimit -f 10; exec {RESNET} {' '.join(TINY)} --format {name} {many} > {printed}"
    assert subprocess.run(["bash", "-c", command], stderr=subprocess.DEVNULL, timeout=300).returncode == 2
    text = printed.read_text("utf-8")
    READ[name](text.removesuffix("\n]\n") + "\n]\n" if name == "json" else text)  # even this may not fit
    assert 9_000 < printed.stat().st_size <= 10_240
