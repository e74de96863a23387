"""What is printed: names are shown, never obeyed."""

import io
import json

import pytest
from rich.console import Console

from resnet_cli import render, terminal
from resnet_cli.errors import ImageError
from resnet_cli.labels import Label, Prediction
from resnet_cli.predict import Record

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


def _record(name: str, probability: float = 0.38535) -> Record:
    label = Label("Labrador_retriever", "n02099712")
    return Record(name, "resnet50", "imagenet", (Prediction(1, 208, label, probability),))


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """What a terminal of 60 columns gets."""
    file = io.StringIO()
    monkeypatch.setattr(terminal, "out", Console(file=file, width=60, highlight=False, no_color=True))
    monkeypatch.setattr(terminal, "err", Console(file=io.StringIO(), width=60, highlight=False, no_color=True))
    return file


def _written(layout: str, *records: Record) -> str:
    """Return what is written of records, a text at a time."""
    texts: list[str] = []
    render.write_records(records, render.RECORDS[layout], texts.append, render.Count(), lambda done: None)
    return "".join(texts)


@pytest.mark.parametrize("name", NAMES)
def test_table_shows_any_name_as_text_at_60_columns(screen: io.StringIO, name: str) -> None:
    shown = _written("table", _record(name))
    assert screen.getvalue() == ""
    assert not terminal.UNSAFE.search(shown.replace("\n", ""))
    assert all(Console().render_str(line, markup=False).cell_len <= 60 for line in shown.splitlines())
    assert terminal.printable(name)[:20] in shown.replace("\n", "")
    assert "Labrador retriever" in shown
    assert "38.5%" in shown


@pytest.mark.usefixtures("screen")
@pytest.mark.parametrize("name", NAMES)
def test_json_gives_any_name_back(name: str) -> None:
    printed = _written("json", _record(name), Record(name, "m", "w", error=ImageError("not_found", name)))
    assert not terminal.UNSAFE.search(printed.replace("\n", ""))
    answered, failed = json.loads(printed)
    assert answered == {
        "image": name,
        "model": "resnet50",
        "weights": "imagenet",
        "predictions": [
            {"rank": 1, "index": 208, "wnid": "n02099712", "label": "Labrador_retriever", "probability": 0.38535}
        ],
    }
    assert failed == {"image": name, "model": "m", "weights": "w", "error": {"kind": "not_found", "message": name}}


def test_json_is_whole_when_the_run_breaks_off() -> None:
    def broken():
        yield _record("a.png")
        raise KeyboardInterrupt

    texts: list[str] = []
    count = render.Count()
    with pytest.raises(KeyboardInterrupt):
        render.write_records(broken(), render.RECORDS["json"], texts.append, count, lambda done: None)
    assert [record["image"] for record in json.loads("".join(texts))] == ["a.png"]
    assert count == render.Count(done=1, failed=0)


def test_nothing_is_an_empty_array_and_a_header() -> None:
    assert json.loads(_written("json")) == []
    assert _written("csv").split(",")[0] == "image"
    assert _written("jsonl") == _written("table") == ""


def test_failures_are_told_and_counted(screen: io.StringIO) -> None:
    count, told = render.Count(), []
    records = [_record("a.png"), Record("b\n.png", "m", "w", error=ImageError("not_found", "none of this name"))]
    render.write_records(records, render.RECORDS["table"], lambda text: None, count, told.append)
    assert (count.done, count.failed, told) == (2, 1, [1, 2])
    assert terminal.err.file.getvalue() == "error: b\\u000a.png: none of this name\n"


def test_bar_and_percentage_follow_the_probability(screen: io.StringIO) -> None:
    bars = [_written("table", _record("a.png", probability)).count("█") for probability in (0.0, 0.5, 1.0)]
    assert bars == [0, 5, 10]
