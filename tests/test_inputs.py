"""Inputs other than files and folders: patterns, standard input, lists of names, shards, and images in memory."""

import io
import json
import os
import re
import subprocess
import sys
import threading
import tracemalloc
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from glob import glob
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import RESNET
from image_helpers import SAMPLES, STORED, encoded, exif, gradients, noise, over_white, populate
from odd_images import ALPHA, IMAGE, SCENE, SIDE
from PIL import Image

from resnet_cli.errors import ImageError, UsageError
from resnet_cli.images import inputs, readers
from resnet_cli.images.folders import Skipped
from resnet_cli.network.preprocessing import Decoding, Fit, Resizing

CONTENT = encoded(IMAGE)
DECODING = Decoding(SIDE)


def error_kind(source: str | inputs.MemoryImage) -> str:
    with pytest.raises(ImageError) as caught:
        inputs.read_pixels(source, DECODING)
    assert str(caught.value).isprintable()
    return caught.value.kind


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
def test_patterns_match_like_glob(tree: Path, pattern: str) -> None:
    expected = sorted(glob(pattern, recursive=True), key=lambda name: name.split("/"))  # noqa: PTH207
    assert list(inputs.find([pattern])) == (expected or [pattern])
    absolute = f"{tree}/{pattern.removeprefix('./')}"
    expected = sorted(glob(absolute, recursive=True), key=lambda name: name.split("/"))  # noqa: PTH207
    assert list(inputs.find([absolute])) == (expected or [absolute])


def test_a_pattern_may_contain_nul() -> None:
    assert list(inputs.find(["*\0"])) == ["*\0"]
    assert error_kind("*\0") == "not_found"


def test_folders_that_match_are_walked(tree: Path) -> None:
    assert list(inputs.find(["[ck]"])) == ["c/d.png", "c/e/f.png", "k/l.PNG"]
    assert list(inputs.find(["c/**"])) == list(inputs.find(["c/"]))
    assert len(list(inputs.find(["**"]))) == 8


def test_names_of_existing_files_are_not_patterns(tree: Path) -> None:
    populate(tree, "y[1].jpg", "y1.jpg")
    assert list(inputs.find(["y[1].jpg"])) == ["y[1].jpg"]
    (tree / "y[1].jpg").unlink()
    assert list(inputs.find(["y[1].jpg"])) == ["y1.jpg"]
    (tree / "z*").symlink_to("nothing")
    assert list(inputs.find(["z*"])) == ["z*"]


def test_patterns_do_not_follow_link_cycles(tree: Path) -> None:
    for name in ("up", "back", "again"):
        (tree / "c" / name).symlink_to("..")
    assert list(inputs.find(["**/f.png"])) == ["c/e/f.png"]


def test_a_file_with_the_name_dash_is_not_standard_input(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    populate(tree / "dash", "-")
    monkeypatch.chdir(tree / "dash")
    assert list(inputs.find(["?", "."])) == ["./-", "./-"]


@pytest.mark.parametrize("name", ["-", "http://host/a?b=[1]*", "HTTPS://host/x"])
def test_standard_input_and_urls_are_not_patterns(tree: Path, name: str) -> None:
    assert list(inputs.find([name])) == [name]


# Folders


def test_skipped_files_are_counted(tree: Path) -> None:
    populate(tree, "notes.txt", "k/data.csv", content=b"not an image")
    skipped = Skipped()
    assert len(list(inputs.find([".", "nothing.png"], skipped))) == 9
    assert skipped == Skipped(hidden=2, not_images=2)


def test_many_files_need_little_memory(tmp_path: Path) -> None:
    def peak(files: int) -> int:
        folder = tmp_path / str(files)
        folder.mkdir()
        for number in range(files):
            (folder / f"photograph-{number:06}.jpg").touch()
        tracemalloc.start()
        try:
            assert sum(1 for _ in inputs.find([str(folder)])) == files
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    assert peak(2_200) - peak(200) < 200 * 2_000  # bytes


# Standard input


@pytest.fixture
def pipe(monkeypatch: pytest.MonkeyPatch) -> Callable[[bytes], None]:
    """Return a function that sets the content of standard input."""

    def write(content: bytes) -> None:
        monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(content)))

    return write


def test_an_image_on_standard_input(pipe: Callable[[bytes], None]) -> None:
    pipe(CONTENT)
    np.testing.assert_array_equal(inputs.read_pixels("-", DECODING), SCENE)
    pipe(b"")
    assert error_kind("-") == "not_an_image"
    pipe(CONTENT[:99])
    assert error_kind("-") == "unreadable_image"


def test_standard_input_is_limited(pipe: Callable[[bytes], None]) -> None:
    pipe(bytes(inputs.MAX_STANDARD_INPUT + 1))
    assert error_kind("-") == "too_large"


def test_predict_reads_standard_input_and_patterns(tree: Path) -> None:
    done = subprocess.run(
        [RESNET, "predict", "--weights", "tiny", "--format", "json", "-", "x*.png"],
        input=CONTENT,
        capture_output=True,
        check=True,
    )
    records = json.loads(done.stdout)
    assert [record["image"] for record in records] == ["-", "x-.png", "x1.png", "x2.png"]
    assert [len(record["predictions"]) for record in records] == [3] * 4


def test_an_empty_name_is_not_the_current_folder() -> None:
    assert error_kind("") == "not_found"


# Lists of names


@pytest.mark.parametrize(
    ("content", "null_separated", "names"),
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
def test_lists_of_names(content: bytes, null_separated: bool, names: list[str]) -> None:
    assert list(inputs.read_names(io.BytesIO(content), null_separated)) == names


LINES = "a b.png\r\n강아지/é.jpg\r\n\n𝄞.png"
LATIN = "photos/a.png\r\nphotos/café.jpg\r\n"


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        *((LINES, encoding) for encoding in ("utf-8", "utf-8-sig", "utf-16")),
        *(("\ufeff" + LINES, encoding) for encoding in ("utf-16-le", "utf-16-be")),
        *((LATIN, encoding) for encoding in ("utf-8-sig", "utf-16", "utf-16-le", "utf-16-be")),
        ("", "utf-8-sig"),
        ("", "utf-16"),
    ],
)
@pytest.mark.parametrize("size", [1, 3, 1 << 16])
def test_lists_of_other_systems(text: str, encoding: str, size: int) -> None:
    class Slow(io.BytesIO):
        def read1(self, _: int | None = -1) -> bytes:
            return self.read(size)

    names = [*filter(None, re.split(r"[\r\n]+", text.removeprefix("\ufeff")))]
    assert list(inputs.read_names(Slow(text.encode(encoding)), False)) == names
    if not encoding.endswith("e") or text.startswith("\ufeff"):  # has a mark
        terminated = re.sub(r"[\r\n]+", "\0", text).encode(encoding)
        assert list(inputs.read_names(Slow(terminated), True)) == names


def test_a_name_may_start_with_a_byte_order_mark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("\ufeffa.png").touch()
    content = "\ufeffa.png\n\ufeffb.png\n".encode()
    assert list(inputs.read_names(io.BytesIO(content), False)) == ["\ufeffa.png", "b.png"]


# File URLs

URL_NAMES = ["a b.png", "a#b?c=d.png", "100%.png", "%41.png", "강아지.png", "*[x].png", os.fsdecode(b"caf\xe9.png")]


@pytest.mark.parametrize("name", URL_NAMES)
def test_file_urls_are_read_and_keep_their_names(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(CONTENT)
    (tmp_path / "A.png").write_bytes(b"")
    expected = inputs.read_pixels(str(path), DECODING).tobytes()
    url = path.as_uri()
    raw = f"file://{path}"
    for each in (
        url,
        url.replace("file:///", "file://localhost/"),
        url.replace("file", "FILE", 1),
        raw.replace("%", "%25"),
    ):
        assert list(inputs.find([each])) == [each]
        assert inputs.is_single_image([each])
        assert inputs.read_pixels(each, DECODING).tobytes() == expected
        assert inputs.stamp(each) == (len(CONTENT), path.stat().st_mtime_ns)
        with pytest.raises(UsageError, match="is one of the inputs"):
            inputs.check_outputs([path], [each])


def test_folders_can_be_file_urls(tree: Path) -> None:
    url = (tree / "c").as_uri()
    assert list(inputs.find([url])) == [f"{tree}/c/d.png", f"{tree}/c/e/f.png"]
    with pytest.raises(UsageError, match="is one of the inputs"):
        inputs.check_outputs([tree / "c/new.png"], [url])
    names = tree / "names"
    names.write_bytes(f"{url}\r\n{tree.as_uri()}/a.png".encode("utf-16"))
    with pytest.raises(UsageError, match="is one of the inputs"):
        inputs.check_outputs([tree / "a.png"], [], str(names))


@pytest.mark.parametrize("url", ["file://server/a.png", "file://a.png", "file://", "file://..%2fa.png"])
def test_file_urls_of_other_machines_are_not_found(url: str) -> None:
    assert list(inputs.find([url])) == [url]
    assert error_kind(url) == "not_found"
    assert inputs.stamp(url) is None


def test_file_urls_with_nul_are_not_found() -> None:
    assert error_kind("file:///a%00b.png") == error_kind("/a\0b.png")
    assert inputs.stamp("file:///a%00b.png") is None


def test_a_name_may_end_like_a_line_of_windows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("odd\r").touch()
    assert list(inputs.read_names(io.BytesIO(b"odd\r\neven\r\n"), False)) == ["odd\r", "even"]


@pytest.mark.parametrize("null_separated", [False, True])
def test_names_are_yielded_as_soon_as_they_are_complete(null_separated: bool) -> None:
    reading, writing = os.pipe()
    end = b"\0" if null_separated else b"\n"
    with os.fdopen(reading, "rb") as names_file, os.fdopen(writing, "wb", buffering=0) as pipe:
        names = inputs.read_names(names_file, null_separated)
        timer = threading.Timer(20, pipe.close)  # ends the test if a name does not arrive
        timer.start()
        pipe.write(b"a" + end + b"b")
        assert next(names) == "a"
        pipe.write(b"c" + end)
        assert next(names) == "bc"
        assert timer.is_alive()
        timer.cancel()


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="this system has no device files")
def test_an_endless_name_is_an_error() -> None:
    with Path("/dev/zero").open("rb") as zeros, pytest.raises(UsageError, match="one name per line"):
        next(inputs.read_names(zeros, False))


def test_names_on_the_command_line_come_before_those_in_a_list(tmp_path: Path) -> None:
    names = tmp_path / "names"
    names.write_bytes(b"b.png\n-\n")
    assert list(inputs.all_names(["-", "a.png"], None, null_separated=False)) == ["-", "a.png"]
    assert list(inputs.all_names(["-"], str(names), null_separated=False)) == ["-", "b.png", "./-"]
    names.write_bytes(b"b.png\0-\0")
    assert list(inputs.all_names([], str(names), null_separated=True)) == ["b.png", "./-"]


@pytest.mark.parametrize(
    ("arguments", "files_from", "null_separated", "message"),
    [
        (["a.png"], None, True, "-0 only applies to --files-from"),
        ([], None, False, "got nothing"),
        (["-", "a.png", "-"], None, False, "more than once"),
        (["-"], "-", False, "cannot be both"),
        ([], "none.txt", False, "none.txt: cannot read the list of names: No such file"),
        ([], "a\0b", False, "cannot read the list of names"),
    ],
)
def test_wrong_lists_of_names(arguments: list[str], files_from: str | None, null_separated: bool, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        inputs.all_names(arguments, files_from, null_separated=null_separated)


# Shards


def test_shards_partition_the_names() -> None:
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
        assert error_kind(path) in ("not_a_file", "permission_denied")


# Images in memory


def read_in_memory(source: inputs.Source, decoding: Decoding = DECODING) -> np.ndarray:
    (image,) = inputs.find_sources(source)
    assert isinstance(image, inputs.MemoryImage)
    return inputs.read_pixels(image, decoding)


def as_bytes(path: Path) -> bytes:
    return path.read_bytes()


def as_bytearray(path: Path) -> bytearray:
    return bytearray(path.read_bytes())


def as_pillow_image(path: Path) -> Image.Image:
    return Image.open(path)


def as_array(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path).convert("RGB"))


SMALL_TARGETS = [
    Decoding(SIDE),
    Decoding(SIDE, Fit.STRETCH),
    Decoding(SIDE, Fit.PAD),
    Decoding(SIDE, Fit.CROP, Resizing(1.0, "bilinear", 64)),
]


@pytest.mark.parametrize("as_source", [as_bytes, as_bytearray, as_pillow_image, as_array])
@pytest.mark.parametrize("decoding", SMALL_TARGETS, ids=str)
def test_images_in_memory_have_the_pixels_of_their_files(
    tmp_path: Path, as_source: Callable[[Path], inputs.Source], decoding: Decoding
) -> None:
    path = tmp_path / "image.png"
    noise(90, 70).save(path)
    expected = inputs.read_pixels(str(path), decoding)
    pixels = read_in_memory(as_source(path), decoding)
    assert pixels.dtype == np.uint8
    np.testing.assert_array_equal(pixels, expected)


@pytest.mark.parametrize("as_source", [as_bytes, as_pillow_image, as_array])
def test_photos_in_memory_have_the_pixels_of_their_files(as_source: Callable[[Path], inputs.Source]) -> None:
    """At 224 pixels, this JPEG is decoded in full from a file, too."""
    path = SAMPLES / "cat.jpg"
    expected = inputs.read_pixels(str(path), Decoding(224))
    np.testing.assert_array_equal(read_in_memory(as_source(path), Decoding(224)), expected)


@pytest.mark.parametrize("orientation", STORED)
@pytest.mark.parametrize("as_source", [as_bytes, as_pillow_image])
def test_images_in_memory_become_upright(
    tmp_path: Path, as_source: Callable[[Path], inputs.Source], orientation: int
) -> None:
    stored = Image.fromarray(np.ascontiguousarray(STORED[orientation](SCENE)))
    stored.save(tmp_path / "image.png", exif=exif(orientation))
    np.testing.assert_array_equal(read_in_memory(as_source(tmp_path / "image.png")), SCENE)


def test_transparent_images_in_memory_are_blended_with_white() -> None:
    image = Image.fromarray(np.dstack([SCENE, ALPHA]))
    for source in (image, encoded(image)):
        np.testing.assert_allclose(read_in_memory(source), over_white(SCENE, ALPHA), atol=1)


@pytest.mark.parametrize("mode", ["1", "L", "P", "CMYK", "I;16", "F"])
def test_pillow_images_of_all_modes_have_the_pixels_of_their_files(mode: str) -> None:
    image = gradients(SIDE, SIDE)
    if mode in ("I;16", "F"):
        levels = np.asarray(image.convert("L"))
        image = Image.fromarray(levels.astype(np.uint16) * 257 if mode == "I;16" else levels.astype(np.float32) / 255)
    else:
        image = image.convert(mode)
    content = encoded(image, "TIFF")
    np.testing.assert_array_equal(read_in_memory(image), read_in_memory(content))


def test_a_pillow_image_can_be_read_again() -> None:
    image = Image.open(io.BytesIO(CONTENT))
    for _ in range(2):
        np.testing.assert_array_equal(read_in_memory(image), SCENE)


def test_threads_can_share_a_pillow_image(tmp_path: Path) -> None:
    """Pillow reads the file of an open image only when its pixels are needed."""
    noise(512, 512).save(tmp_path / "image.png")
    expected = inputs.read_pixels(str(tmp_path / "image.png"), DECODING)
    with ThreadPoolExecutor(8) as pool:
        for _ in range(5):
            image = Image.open(tmp_path / "image.png")
            for pixels in pool.map(read_in_memory, [image] * 8):
                np.testing.assert_array_equal(pixels, expected)


def test_arrays_may_be_views() -> None:
    view = np.dstack([SCENE, ALPHA])[::-1, ::-1, :3]
    np.testing.assert_array_equal(read_in_memory(view), SCENE[::-1, ::-1])


def test_damaged_images_in_memory_raise_image_errors() -> None:
    cases = {
        "not_an_image": b"not an image",
        "unreadable_image": CONTENT[:99],
        "too_large": Image.new("1", (readers.MAX_SIDE + 1, 1)),
    }
    for kind, source in cases.items():
        assert error_kind(next(inputs.find_sources(source))) == kind
    assert error_kind(next(inputs.find_sources(Image.open(io.BytesIO(CONTENT[:99]))))) == "unreadable_image"


def test_images_in_memory_are_named_after_their_position(tree: Path) -> None:
    sources = [CONTENT, "c", Path("a.png"), IMAGE, SCENE, "http://host/x.jpg"]
    found = [str(source) for source in inputs.find_sources(sources)]
    assert found == ["image 1", "c/d.png", "c/e/f.png", "a.png", "image 4", "image 5", "http://host/x.jpg"]
    for source in ("a.png", Path("a.png")):
        assert list(inputs.find_sources(source)) == ["a.png"]


@pytest.mark.parametrize(
    ("source", "got"),
    [
        (3, "got int"),
        ([[1, 2]], "got list"),
        ([None], "got NoneType"),
        ([memoryview(CONTENT)], "got memoryview"),
        (SCENE.astype(np.float32), r"got float32 \(32, 32, 3\)"),
        (SCENE.astype(np.int64), r"got int64 \(32, 32, 3\)"),
        (SCENE[..., 0], r"got uint8 \(32, 32\)"),
        (SCENE[..., :2], r"got uint8 \(32, 32, 2\)"),
        (SCENE[None], r"got uint8 \(1, 32, 32, 3\)"),
        (SCENE[:0], r"got uint8 \(0, 32, 3\)"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_unsupported_sources_are_usage_errors(source: object, got: str) -> None:
    with pytest.raises(UsageError, match=rf"^expected .*, {got}$"):
        list(inputs.find_sources(source))
