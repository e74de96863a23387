"""File names that break careless programs, and readers of records that do not use the project's code."""

import csv
import io
import json
import os
import unicodedata
from pathlib import Path
from typing import Any

import jsonschema
from PIL import Image

SCHEMA = json.loads((Path(__file__).parents[1] / "docs/record.schema.json").read_text("utf-8"))
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)

NAMES = (
    "plain.png",
    " spaces  around .png ",
    "-k 5.png",
    "--help.png",
    "line\nbreak.png",
    "line\r\n\r.png",
    "tab\t.png",
    "\x1b[5;7m\x1b]0;title\x07 escape.png",
    "[bold]markup[/bold] [link=x].png",
    "강아지 🐕‍🦺 사진.jpg",
    unicodedata.normalize("NFD", "강아지 é.png"),
    'q\'uo"tes"", commas; $HOME `id` %s {0}.png',
    "back\\slash \\u0041 \\\\.png",
    "\u202egnp.exe \u200b \u2028.png",
    "c1 \x9b31m del \x7f.png",
    "*?[a].png",
    "=1+1.csv",
    os.fsdecode(b"not utf-8 \xff\xfe \xed\xa0\x80 \xc3.png"),
    "w" * 251 + ".png",
)


def tiny_image(seed: int) -> bytes:
    """Return a PNG of 8 x 8 pixels, a different one per seed."""
    colour = (seed * 89 % 256, seed * 151 % 256, seed * 211 % 256)
    slope = Image.linear_gradient("L").resize((8, 8)).convert("RGB")
    content = io.BytesIO()
    Image.blend(slope, Image.new("RGB", (8, 8), colour), 0.5).save(content, "PNG")
    return content.getvalue()


def populate(folder: Path, count: int = 0) -> list[str]:
    """Write an image under each of NAMES and under `count` plain names; every fourth one is damaged.

    Returns:
        The paths in the order in which the folder is walked.
    """
    names = (*NAMES, *(f"{number:05}.png" for number in range(count)))
    for seed, name in enumerate(names):
        content = tiny_image(seed)
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(content[: len(content) // 2] if seed % 4 == 3 else content)
    return [f"{folder}/{name}" for name in sorted(names, key=lambda name: name.split("/"))]


def from_json_lines(text: str) -> list[dict[str, Any]]:
    """Read complete lines of valid records."""
    assert text.endswith("\n") or not text
    records = [json.loads(line) for line in text.split("\n")[:-1]]
    for record in records:
        VALIDATOR.validate(record)
    return records


def from_json(text: str) -> list[dict[str, Any]]:
    """Read an array of valid records."""
    records = json.loads(text)
    for record in records:
        VALIDATOR.validate(record)
    return list(records)


def unescaped(cell: str) -> str:
    """Undo the escapes of a CSV cell in the way that README documents."""
    return str(json.loads('"' + cell.replace('"', '\\"') + '"'))


def from_csv(text: str) -> list[dict[str, Any]]:
    """Read rows as records without model and weights."""
    header, *rows = csv.reader(io.StringIO(text, newline=""), strict=True)
    assert header == ["image", "rank", "index", "wnid", "label", "probability", "error"]
    records: list[dict[str, Any]] = []
    for image, rank, index, wnid, label, probability, error in rows:
        name = unescaped(image)
        if error:
            assert (rank, index, wnid, label, probability) == ("",) * 5
            kind, _, message = unescaped(error).partition(": ")
            records.append({"image": name, "error": {"kind": kind, "message": message}})
            continue
        if rank == "1":
            records.append({"image": name, "predictions": []})
        assert records[-1]["image"] == name
        records[-1]["predictions"].append(
            {
                "rank": int(rank),
                "index": int(index) if index else None,
                "wnid": wnid or None,
                "label": unescaped(label),
                "probability": float(probability),
            }
        )
    return records


def bare(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Remove the fields that CSV does not have."""
    return [{key: value for key, value in record.items() if key not in ("model", "weights")} for record in records]
