"""Records and tables: names are shown as text and never control the terminal."""

import csv
import io
import json
from typing import Any

import pytest
from rich.console import Console

from resnet_cli.engines.probabilities import Prediction
from resnet_cli.errors import ImageError, ImageErrorKind
from resnet_cli.network.labels import Label
from resnet_cli.output import predictions, terminal
from resnet_cli.system.progress import SILENT, Progress
from resnet_cli.tasks.results import Result

NAMES = [
    "plain.png",
    "[red]markup[/red] [/] [link=x].png",
    "\x1b[2J\x1b]0;title\x07.png",
    "line\nbreak\ttab\r.png",
    "강아지 🐕‍🦺 사진.jpg",
    "c1 \x9b31m del \x7f.png",
    "\u202egnp.exe",
    "not utf-8 \udcff\udc80.png",
    "w" * 255,
]


def make_result(name: str, probability: float = 0.38535) -> Result:
    label = Label("Labrador_retriever", "n02099712")
    return Result(name, "resnet50", "imagenet", (Prediction(1, 208, label, probability),))


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """The output to a terminal of 60 columns."""
    file = io.StringIO()
    monkeypatch.setattr(terminal, "out", Console(file=file, width=60, highlight=False, no_color=True))
    monkeypatch.setattr(terminal, "err", Console(file=io.StringIO(), width=60, highlight=False, no_color=True))
    return file


def write(record_format: str, *results: Result) -> str:
    """Return the text of results."""
    texts: list[str] = []
    count = predictions.RecordCount()
    predictions.write_records(results, predictions.OUTPUT_FORMATS[record_format], texts.append, count, SILENT)
    return "".join(texts)


@pytest.mark.parametrize("width", [10, 11, 15, 20, 29, 30, 35, 43, 44, 50, 60, 71, 72, 100])
def test_tables_of_any_width_contain_label_and_probability(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(terminal, "out", Console(file=io.StringIO(), width=width, no_color=True))
    shown = write("table", make_result("dog.png"))
    assert all(len(line) <= width for line in shown.splitlines())
    assert "38.5%" in shown
    assert "Labradorretriever" in "".join(character for character in shown if character.isalnum())
    assert ("█" in shown) == (width >= 49), "with the frame, as wide as these columns with this label"
    assert ("n02099712" in shown) == (width >= 61)


@pytest.mark.parametrize("name", NAMES)
def test_table_shows_any_name_as_text_at_60_columns(screen: io.StringIO, name: str) -> None:
    shown = write("table", make_result(name))
    assert screen.getvalue() == ""
    assert not terminal.UNSAFE.search(shown.replace("\n", ""))
    assert all(Console().render_str(line, markup=False).cell_len <= 60 for line in shown.splitlines())
    assert terminal.printable(name)[:20] in shown.replace("\n", "")
    assert "Labrador retriever" in shown
    assert "38.5%" in shown


@pytest.mark.usefixtures("screen")
@pytest.mark.parametrize("name", NAMES)
def test_json_preserves_any_name(name: str) -> None:
    printed = write("json", make_result(name), Result(name, "m", "w", error=ImageError(ImageErrorKind.NOT_FOUND, name)))
    assert not terminal.UNSAFE.search(printed.replace("\n", ""))
    classified, failed = json.loads(printed)
    assert classified == {
        "image": name,
        "model": "resnet50",
        "weights": "imagenet",
        "predictions": [
            {"rank": 1, "index": 208, "wnid": "n02099712", "label": "Labrador_retriever", "probability": 0.38535}
        ],
    }
    assert failed == {"image": name, "model": "m", "weights": "w", "error": {"kind": "not_found", "message": name}}


def test_json_is_complete_after_an_interruption() -> None:
    def broken():
        yield make_result("a.png")
        raise KeyboardInterrupt

    texts: list[str] = []
    count = predictions.RecordCount()
    with pytest.raises(KeyboardInterrupt):
        predictions.write_records(broken(), predictions.OUTPUT_FORMATS["json"], texts.append, count, SILENT)
    assert [record["image"] for record in json.loads("".join(texts))] == ["a.png"]
    assert count == predictions.RecordCount(done=1, failed=0)


def test_no_results_are_an_empty_array_and_a_header() -> None:
    assert json.loads(write("json")) == []
    assert write("csv").split(",")[0] == "image"
    assert write("jsonl") == write("table") == ""


class Counts(Progress):
    """Keeps the reported counts."""

    def __init__(self) -> None:
        self.done: list[int] = []

    def count(self, done: int, total: int | None = None) -> None:
        self.done.append(done)


def test_failures_are_printed_and_counted(screen: io.StringIO) -> None:
    count, progress = predictions.RecordCount(), Counts()
    error = ImageError(ImageErrorKind.NOT_FOUND, "no file with this name")
    results = [make_result("a.png"), Result("b\n.png", "m", "w", error=error)]
    predictions.write_records(results, predictions.OUTPUT_FORMATS["table"], lambda text: None, count, progress)
    assert (count.done, count.failed, progress.done) == (2, 1, [1, 2])
    assert terminal.err.file.getvalue() == "error: b\\u000a.png: no file with this name\n"


def test_bar_and_percentage_follow_the_probability(screen: io.StringIO) -> None:
    bars = [write("table", make_result("a.png", probability)).count("█") for probability in (0.0, 0.5, 1.0)]
    assert bars == [0, 5, 10]


def test_csv_cells_are_taken_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys that only JSON has, and another order of keys, do not shift the cells of a row."""
    original = Result.to_dict

    def extended(result: Result) -> dict[str, Any]:
        fields = original(result)
        predictions = [{"group": "dog", **dict(reversed(each.items()))} for each in fields["predictions"]]
        return {"calibration": {"max_error": 0.1}, **fields, "predictions": predictions}

    expected = write("csv", make_result("a.png"))
    monkeypatch.setattr(Result, "to_dict", extended)
    assert '"group": "dog"' in write("jsonl", make_result("a.png"))
    assert write("csv", make_result("a.png")) == expected
    assert list(csv.DictReader(io.StringIO(expected))) == [
        {
            "image": "a.png",
            "rank": "1",
            "index": "208",
            "wnid": "n02099712",
            "label": "Labrador_retriever",
            "probability": "0.38535",
            "error": "",
        }
    ]
