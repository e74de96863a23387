"""From inputs to the names of images, lazily, and from a name to its pixels."""

import codecs
import os
import re
import stat
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from io import BufferedIOBase, BytesIO
from itertools import chain, islice

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from resnet_cli.errors import ImageError, ImageErrorKind, UsageError
from resnet_cli.images import decode, folders, web
from resnet_cli.network.preprocessing import Decoding
from resnet_cli.system.paths import is_file_url, local_path

STANDARD_INPUT = "-"
CHUNK = 1 << 16  # bytes per read of a list
MAX_STANDARD_INPUT = 256 << 20  # bytes; an endless pipe is not an image
MAX_NAME = 1 << 16  # bytes; a file with a longer one is not a list of names
UTF16 = {codecs.BOM_UTF16_LE: "utf-16-le", codecs.BOM_UTF16_BE: "utf-16-be"}  # by byte-order mark

ImageData = bytes | Image.Image | NDArray[np.uint8]  # an encoded file, a Pillow image, or RGB (height, width, 3)
Source = str | os.PathLike[str] | ImageData | bytearray


@dataclass(frozen=True, eq=False)
class MemoryImage:
    """An image in memory, with a name for its result."""

    name: str
    data: ImageData

    def __str__(self) -> str:
        return self.name


def find(names: Iterable[str], skipped: folders.Skipped | None = None, exclude: Sequence[str] = ()) -> Iterator[str]:
    """Yield the names of all input images lazily, listing one folder at a time.

    - Files, URLs and `-` are yielded as they are, even if there is no image, so that every input gets a record.
    - For a folder, every file that is an image by suffix or content is yielded, at any depth and sorted by name.
      Hidden names and folders of thumbnails are skipped, and a folder that links lead to again is walked only once. A
      folder without images, or one that cannot be listed, is yielded itself, so that it gets a record.
    - The matches of a pattern are yielded in the same order; a pattern without matches is yielded itself. The name of
      an existing file is not a pattern.

    Args:
        names: files, folders, patterns such as `photos/**/*.jpg`, http(s) and file URLs, and `-` for standard input.
        skipped: counts what is skipped in folders.
        exclude: patterns of what is left out of folders.
    """
    skipped = folders.Skipped() if skipped is None else skipped
    for name in names:
        for path in _expand(name):
            if path and os.path.isdir(folder := local_path(path)):
                found = folders.walk(folder, skipped, exclude)
                yield next(found, path)
                yield from found
            else:
                yield path


def find_sources(sources: Source | Iterable[Source]) -> Iterator[str | MemoryImage]:
    """Yield the names of all input images, like `find`, and images in memory.

    Args:
        sources: one or several of: paths, folders, patterns, URLs; encoded images as bytes; Pillow images; uint8 arrays
            (height, width, 3) in RGB. An image in memory is named after its position, such as `image 2`.

    Raises:
        UsageError: a source has another type, shape or dtype.
    """
    single = isinstance(sources, str | os.PathLike | bytes | bytearray | Image.Image | np.ndarray)
    several = isinstance(sources, Iterable) and not single
    for number, source in enumerate(sources if several else [sources], 1):  # type: ignore[arg-type]
        if isinstance(source, str | os.PathLike):
            yield from find([os.fspath(source)])
        else:
            yield MemoryImage(f"image {number}", _checked(source))


def _checked(source: object) -> ImageData:
    match source:
        case bytes() | Image.Image():
            return source
        case bytearray():
            return bytes(source)
        case np.ndarray(dtype=np.uint8, shape=(height, width, 3)) if height and width:
            return source
        case np.ndarray():
            raise UsageError(f"expected a uint8 array (height, width, 3), got {source.dtype} {source.shape}")
    raise UsageError(f"expected a path, bytes, a Pillow image or a uint8 array, got {type(source).__name__}")


def is_single_image(names: list[str]) -> bool:
    """Return whether inputs are certainly one image: a file, a URL or standard input."""
    return len(names) == 1 and not os.path.isdir(local_path(names[0])) and [*_expand(names[0])] == names


def stamp(name: str) -> tuple[int, int] | None:
    """Return the size in bytes and the time of modification in ns of an image file; None for anything else."""
    with suppress(OSError, ValueError):
        status = os.stat(local_path(name))
        if stat.S_ISREG(status.st_mode):
            return status.st_size, status.st_mtime_ns
    return None


def check_outputs(
    outputs: Iterable[os.PathLike[str]],
    arguments: Iterable[str],
    files_from: str | None = None,
    *,
    null_separated: bool = False,
) -> None:
    """Check that no output is an input, under any name, or would be an image in a folder of inputs.

    Args:
        outputs: the files to write, which need not exist yet.
        arguments: all inputs: images, folders, patterns and other files that are read.
        files_from: the list of names, if any. Its names are checked if it is a file, not if it can be read only once.
        null_separated: as for `all_names`.

    Raises:
        UsageError: an output is an input, or another output.
    """
    paths = [*map(os.fspath, outputs)]
    if len({*map(os.path.realpath, paths)}) < len(paths):
        raise UsageError(f"{paths[-1]}: two outputs have the same name; choose another name for one of them")
    names = list(arguments)
    if files_from == STANDARD_INPUT:
        names.append(STANDARD_INPUT)
    elif files_from and paths and os.path.isfile(files_from):
        names.append(files_from)
        with suppress(OSError, UsageError), open(files_from, "rb") as file:
            names += _names_from_list(file, null_separated)
    for path in paths:
        is_image = folders.is_image(path)
        if not os.path.isfile(path):
            expanded = (local_path(each) for name in names if is_image for each in _expand(name))
            inside = (folder for folder in expanded if os.path.isdir(folder))
            clash = any(_is_inside(path, folder) for folder in inside)
        elif is_image:  # also one that links or patterns lead to
            clash = any(_same_file(path, name) for name in find(names))
        else:
            clash = any(_same_file(path, each) for name in names for each in _expand(name))
        if clash:
            raise UsageError(f"{path}: this output is one of the inputs; choose another name, outside of their folders")


def _is_inside(path: str, folder: str) -> bool:
    path, folder = os.path.realpath(path), os.path.realpath(folder)
    return os.path.commonpath((path, folder)) == folder


def _same_file(path: str, name: str) -> bool:
    with suppress(OSError, ValueError):
        return os.path.samestat(os.stat(path), os.fstat(0) if name == STANDARD_INPUT else os.stat(local_path(name)))
    return False


def read_pixels(source: str | MemoryImage, decoding: Decoding) -> decode.Pixels:
    """Read an image that `find` or `find_sources` yielded: RGB from 0 to 255, (size, size, 3) uint8.

    Raises:
        ImageError: the image cannot be downloaded or decoded.
    """
    match source:
        case MemoryImage(data=bytes(content)):
            return decode.decode_stream(BytesIO(content), decoding)
        case MemoryImage(data=Image.Image() as image):
            return decode.decode_image(image, decoding)
        case MemoryImage(data=array):
            return decode.decode_image(Image.fromarray(array), decoding)  # type: ignore[arg-type]
    if not source:  # Path would take it for the current folder
        raise ImageError(ImageErrorKind.NOT_FOUND, "expected an image name, got an empty string")
    if source == STANDARD_INPUT:
        return decode.decode_stream(_standard_input(), decoding)
    if web.is_url(source):
        return decode.decode_stream(web.download(source), decoding)
    path = local_path(source)
    if path == source and is_file_url(source):
        message = "this address is not on this machine; expected file:///PATH"
        raise ImageError(ImageErrorKind.NOT_FOUND, message)
    return decode.decode_file(path, decoding)


def all_names(arguments: list[str], files_from: str | None, *, null_separated: bool) -> Iterator[str]:
    """Return the names on the command line, then those in a list.

    Args:
        arguments: names on the command line.
        files_from: the list: a file, `-` for standard input, or None.
        null_separated: whether names in the list end with NUL instead of a line break.

    Raises:
        UsageError: there are no names, the list cannot be read, or standard input is needed twice.
    """
    if files_from is None:
        if null_separated:
            raise UsageError("-0 only applies to --files-from; add --files-from FILE")
        if not arguments:
            raise UsageError("expected images, folders, patterns, URLs or -, got nothing")
        if arguments.count(STANDARD_INPUT) > 1:
            raise UsageError("standard input (-) is a single image and cannot be given more than once")
        return iter(arguments)
    if files_from == STANDARD_INPUT:
        if STANDARD_INPUT in arguments:
            raise UsageError("standard input cannot be both the list of names (--files-from -) and an image (-)")
        return chain(arguments, _names_from_list(open(0, "rb", closefd=False), null_separated))
    try:
        file = open(files_from, "rb")  # noqa: SIM115 - it is read until the end of the run
    except (OSError, ValueError) as error:
        raise UsageError(f"{files_from}: cannot read the list of names: {getattr(error, 'strerror', error)}") from error
    return chain(arguments, _names_from_list(file, null_separated))


def _names_from_list(file: BufferedIOBase, null_separated: bool) -> Iterator[str]:
    """Yield the names in a list, in which `-` is a file like any other."""
    return (f"./{name}" if name == STANDARD_INPUT else name for name in read_names(file, null_separated))


def read_names(file: BufferedIOBase, null_separated: bool) -> Iterator[str]:
    """Yield the non-empty names of a list, each as soon as it is complete.

    Args:
        file: the list, open for bytes; it may be an endless pipe. It may be in UTF-16, and names may start with a
            byte-order mark, unless a file has a name that starts so.
        null_separated: whether names end with NUL and are taken as they are. Otherwise each line is a name; it may end
            as on Windows, unless a file has a name that ends so.

    Raises:
        UsageError: the file is not a list of names.
    """
    end = b"\0" if null_separated else b"\n"
    rest = b""
    for chunk in _read_list(file, null_separated):
        *names, rest = (rest + chunk).split(end)
        if max(map(len, (rest, *names))) > MAX_NAME:
            kind = "NUL-separated names" if null_separated else "one name per line"
            raise UsageError(f"expected {kind}, got a name longer than {MAX_NAME:,} bytes")
        yield from filter(None, (_name(name, null_separated) for name in names))
    if name := _name(rest, null_separated):
        yield name


def _read_list(file: BufferedIOBase, null_separated: bool) -> Iterator[bytes]:
    """Yield the content of a list as it arrives: UTF-16 as UTF-8, anything else as it is."""
    head = file.read1(CHUNK)
    while len(head) == 1 and (more := file.read1(CHUNK)):
        head += more
    encoding = UTF16.get(head[:2]) or ("" if null_separated else _guess_utf16(head))
    chunks: Iterator[bytes] = chain([head], iter(lambda: file.read1(CHUNK), b""))
    if encoding:
        text = codecs.iterdecode(chunks, encoding, "replace")
        chunks = codecs.iterencode(text, "utf-8", "replace")
    yield from filter(None, chunks)


def _guess_utf16(head: bytes) -> str:
    """Return the encoding of a list without a byte-order mark, if its NULs show that it is UTF-16."""
    even, odd = head[::2].count(0), head[1::2].count(0)
    if (even and odd) or 4 * (even + odd) < len(head):
        return ""
    return "utf-16-le" if odd else "utf-16-be" if even else ""


def _name(raw: bytes, null_separated: bool) -> str:
    if raw.startswith(codecs.BOM_UTF8) and not os.path.lexists(raw):
        raw = raw.removeprefix(codecs.BOM_UTF8)
    if not null_separated and raw.endswith(b"\r") and not os.path.lexists(raw):
        raw = raw[:-1]
    return os.fsdecode(raw)


def parse_shard(text: str) -> tuple[int, int]:
    """Parse K/N, such as 2/8: the second of eight shards.

    Raises:
        UsageError: the text has another form, or K is not from 1 to N.
    """
    if match := re.fullmatch(r"([0-9]{1,9})/([0-9]{1,9})", text):
        k, n = int(match[1]), int(match[2])
        if 1 <= k <= n:
            return k, n
    raise UsageError(f"--shard must be K/N with K from 1 to N, such as 2/8, got {text!r}")


def shard(names: Iterable[str], k: int, n: int) -> Iterator[str]:
    """Yield shard k of n: every n-th name, starting with the k-th."""
    return islice(names, k - 1, None, n)


def _standard_input() -> BytesIO:
    content = sys.stdin.buffer.read(MAX_STANDARD_INPUT + 1)
    if len(content) > MAX_STANDARD_INPUT:
        message = f"expected at most {MAX_STANDARD_INPUT >> 20} MiB on standard input, got more"
        raise ImageError(ImageErrorKind.TOO_LARGE, message)
    return BytesIO(content)


def _expand(name: str) -> Iterator[str]:
    """Yield the matches of a pattern, or any other name as it is."""
    if (
        name == STANDARD_INPUT
        or web.is_url(name)
        or is_file_url(name)
        or not folders.WILDCARD.search(name)
        or _exists(name)
    ):
        yield name
        return
    # A file with the name "-" is not standard input.
    matches = (f"./{path}" if path == STANDARD_INPUT else path for path in folders.sorted_glob(name))
    yield next(matches, name)
    yield from matches


def _exists(name: str) -> bool:
    try:
        return os.path.lexists(name)
    except ValueError:  # a NUL in the name
        return False
