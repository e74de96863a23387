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


@pytest.mark.parametrize("name", NAMES)
def test_table_shows_any_name_as_text_at_60_columns(screen: io.StringIO, name: str) -> None:
    assert render.records_table([_record(name)])
    shown = screen.getvalue()
    assert not terminal.UNSAFE.search(shown.replace("\n", ""))
    assert all(Console().render_str(line, markup=False).cell_len <= 60 for line in shown.splitlines())
    assert terminal.printable(name)[:20] in shown.replace("\n", "")
    assert "Labrador retriever" in shown
    assert "38.5%" in shown


@pytest.mark.parametrize("name", NAMES)
def test_json_gives_any_name_back(capsysbinary: pytest.CaptureFixture[bytes], name: str) -> None:
    assert not render.records_json([_record(name), Record(name, "m", "w", error=ImageError("not_found", name))])
    printed = capsysbinary.readouterr().out.decode()
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


def test_json_is_whole_when_the_run_breaks_off(capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    def broken():
        yield _record("a.png")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        render.records_json(broken())
    assert [record["image"] for record in json.loads(capsysbinary.readouterr().out)] == ["a.png"]


def test_bar_and_percentage_follow_the_probability(screen: io.StringIO) -> None:
    lengths = []
    for probability in (0.0, 0.5, 1.0):
        render.records_table([_record("a.png", probability)])
        lengths.append(screen.getvalue().count("█"))
        screen.truncate(screen.seek(0))
    assert lengths == [0, 5, 10]
