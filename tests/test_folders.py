"""Images in folders are found in order and lazily, whatever other files are there."""

import itertools
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from image_helpers import BOMB, EPS, decoding_error, populate

from resnet_cli.images.decode import decode_file
from resnet_cli.images.inputs import find
from resnet_cli.network.preprocessing import Decoding


def found(*inputs: Path) -> list[str]:
    """Return the names that are found, relative to the first input."""
    return [Path(name).relative_to(inputs[0]).as_posix() for name in find(map(str, inputs))]


def test_folders_are_sorted_by_name(tmp_path: Path) -> None:
    populate(tmp_path, "b.png", "a/2.png", "a/10.png", "a/1/z.png", "c/x.png", "B.png", "a.png")
    assert found(tmp_path) == ["B.png", "a/1/z.png", "a/10.png", "a/2.png", "a.png", "b.png", "c/x.png"]


def test_hidden_names_in_folders_are_skipped(tmp_path: Path) -> None:
    populate(tmp_path, ".hidden.png", ".cache/a.png", "a/.b.png", "a/c.png")
    assert found(tmp_path) == ["a/c.png"]
    assert found(tmp_path / ".cache") == ["a.png"]
    assert found(tmp_path / ".hidden.png") == ["."]


def test_images_are_found_by_suffix_or_content(tmp_path: Path) -> None:
    populate(tmp_path, "data.bin", "noname", "fine.PNG")
    populate(tmp_path, "bomb.bin", content=BOMB)
    populate(tmp_path, "broken.jpg", "BROKEN.JPEG", "pair.mpo", "phone.heic", content=b"not an image")
    populate(tmp_path, "notes.txt", "script", "BMW.md", "P3.md", content=b"BM, P3 and II* are signatures")
    populate(tmp_path, "paper.pdf", content=b"%PDF-1.7")
    populate(tmp_path, "drawing", content=EPS)
    populate(tmp_path, "empty", content=b"")
    expected = ["BROKEN.JPEG", "bomb.bin", "broken.jpg", "data.bin", "fine.PNG", "noname", "pair.mpo", "phone.heic"]
    assert found(tmp_path) == expected


def test_file_names_are_yielded_unchanged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    populate(tmp_path, "notes.txt", "folder/a.png")
    inputs = ["none.jpg", "notes.txt", "", "a\0b", "folder", "none.jpg", "folder"]
    expected = ["none.jpg", "notes.txt", "", "a\0b", "folder/a.png", "none.jpg", "folder/a.png"]
    assert list(find(inputs)) == expected


def test_link_cycles_are_not_followed(tmp_path: Path) -> None:
    populate(tmp_path, "tree/a/1.png", "tree/b/2.png", "elsewhere/3.png")
    for link, target in {"a/up": "..", "a/self": ".", "a/to_b": "../b", "b/to_a": "../a", "c": "../elsewhere"}.items():
        (tmp_path / "tree" / link).symlink_to(target)
    (tmp_path / "tree" / "broken").symlink_to("none")
    (tmp_path / "tree" / "circle").symlink_to("circle")
    (tmp_path / "tree" / "lost.png").symlink_to("none")
    assert found(tmp_path / "tree") == ["a/1.png", "a/to_b/2.png", "c/3.png", "lost.png"]
    assert decoding_error(tmp_path / "tree" / "lost.png") == "not_found"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_pipes_in_folders_are_not_opened(tmp_path: Path) -> None:
    populate(tmp_path, "a.png")
    os.mkfifo(tmp_path / "pipe")
    assert found(tmp_path) == ["a.png"]


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse names that are not Unicode")
def test_names_can_be_invalid_unicode(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9.png")
    populate(tmp_path, name)
    assert found(tmp_path) == [name]
    assert decode_file(tmp_path / name, Decoding(32)).shape == (32, 32, 3)


def test_folders_are_listed_lazily(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    populate(tmp_path, "a/1.png", "b/2.png")
    listed = []
    scandir = os.scandir

    def spy(path: str) -> Iterator[os.DirEntry[str]]:
        listed.append(Path(path).name)
        return scandir(path)

    def endless() -> Iterator[str]:
        yield str(tmp_path)
        yield from map(str, itertools.count())

    monkeypatch.setattr(os, "scandir", spy)
    paths = find(endless())
    assert (Path(next(paths)).name, listed) == ("1.png", [tmp_path.name, "a"])
    assert (Path(next(paths)).name, listed) == ("2.png", [tmp_path.name, "a", "b"])
    assert next(paths) == "0"


def test_folders_that_cannot_be_listed_are_yielded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    populate(tmp_path, "a/1.png", "b.png")
    scandir = os.scandir

    def refuse(path: str) -> Iterator[os.DirEntry[str]]:
        if Path(path).name == "a":
            raise PermissionError
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    assert found(tmp_path) == ["a", "b.png"]
