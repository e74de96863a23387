"""TIFF files (and camera files of that kind): the page that is the picture, and samples of more than 8 bits."""

import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from io import BytesIO
from itertools import accumulate
from typing import Any, BinaryIO, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image
from PIL.TiffImagePlugin import ImageFileDirectory_v2, TiffImageFile

from resnet_cli.images.colours import SAMPLED_PIXELS, Range, finite, to_levels, usual_range

SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")  # the last two are BigTIFF
MAX_PAGES = 10_000
BLOCK, MAX_BLOCK = 1 << 24, 178_956_970  # bytes that are read at once; the limit is Pillow's for an image
GREY, INVERTED_GREY, COLOUR = 1, 0, 2  # values of the tag PhotometricInterpretation
Tag = ExifTags.Base
# Deep samples that Pillow reads well: channels, format and bits.
PILLOW_READS = {(1, 1, 12), (1, 1, 16), (1, 3, 32), (3, 1, 16), (4, 1, 16)}
KINDS = {1: "integer", 2: "signed integer", 3: "float"}
PHOTOMETRIC = {0: "grey", 1: "grey", 2: "RGB", 3: "palette", 5: "CMYK", 6: "YCbCr", 8: "Lab", 32803: "sensor mosaic"}


class UnsupportedVariantError(Exception):
    """A TIFF file is intact, but of a kind that is not read here; the message says of which."""


class MosaicError(UnsupportedVariantError):
    """A TIFF file contains the values of a camera's sensor, beside previews at most."""


@dataclass(frozen=True)
class Page:
    """A page of a TIFF file.

    Args:
        offset: where its directory starts in the file, in bytes.
        tags: its tags by number.
        big_endian: the order of its bytes.
    """

    offset: int
    tags: Mapping[int, Any]
    big_endian: bool

    @property
    def byte_order(self) -> Literal["big", "little"]:
        """The order of bytes, as `int.to_bytes` takes it."""
        return "big" if self.big_endian else "little"

    def get(self, tag: int, default: int = 0) -> int:
        """Return the first value of a tag, as a whole number."""
        value = self.tags.get(tag, default)
        return int(value[0]) if isinstance(value, tuple) else int(value)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self.get(Tag.ImageWidth), self.get(Tag.ImageLength)

    @property
    def channels(self) -> int:
        """Samples per pixel."""
        return self.get(Tag.SamplesPerPixel, 1)

    @property
    def kind(self) -> int:
        """The format of its samples, a key of `KINDS`."""
        return self.get(Tag.SampleFormat, 1)

    @property
    def compression(self) -> int:
        """How it is compressed; 1 if it is not."""
        return self.get(Tag.Compression, 1)

    @property
    def photometric(self) -> int:
        """What its samples mean, mostly a key of `PHOTOMETRIC`."""
        return self.get(Tag.PhotometricInterpretation)

    @property
    def is_tiled(self) -> bool:
        """Whether it consists of tiles instead of strips."""
        return Tag.TileWidth in self.tags

    def ends(self, low: float, high: float) -> Range:
        """Return the values that become 0 and 255, given the lowest and the highest one."""
        return (high, low) if self.photometric == INVERTED_GREY else (low, high)

    @property
    def bits(self) -> int:
        """Bits per sample."""
        return int(max(self.tags.get(Tag.BitsPerSample, (1,))))

    @property
    def is_reduced(self) -> bool:
        """Whether it is a thumbnail, a preview or a mask of another page."""
        return bool(self.get(Tag.NewSubfileType) & 0b101) or self.get(Tag.SubfileType) == 2

    @property
    def is_mosaic(self) -> bool:
        """Whether it contains the values of a camera's sensor instead of colours."""
        return self.photometric in (32803, 34892)

    @property
    def grey_range(self) -> Range | None:
        """The values of deep grey samples that become 0 and 255; None if the file does not say."""
        low, high = self.sample_range
        if self.channels > 1 or self.bits <= 8 or high is None:
            return None
        return self.ends(low, high)

    @property
    def bytes(self) -> int:
        """The size of its samples."""
        return self.bits // 8 * self.channels * self.size[0] * self.size[1]

    @property
    def sample_range(self) -> tuple[float, float | None]:
        """The lowest and the highest value of a sample; None where neither the depth nor a tag gives it."""
        highest = self.tags.get(Tag.SMaxSampleValue, self.tags.get(Tag.MaxSampleValue, 0))
        given = float(max(highest) if isinstance(highest, tuple) else highest)
        if self.kind == 3 or self.bits >= 32:  # programs rarely use all of 32 bits
            return 0, given if 0 < given < self.usual_maxima[-1] else None
        return 0, given if 0 < given < self.usual_maxima[-1] else self.usual_maxima[-1]

    @property
    def usual_maxima(self) -> tuple[float, ...]:
        """The usual values of white."""
        return (1, 255, 65535) if self.kind == 3 else (255, 65535, (1 << (self.bits - (self.kind == 2))) - 1)

    def __str__(self) -> str:
        parts = [
            f"{self.bits}-bit {KINDS.get(self.kind, 'complex')} samples",
            f"{self.channels} channels" if self.channels > 1 else "1 channel",
            PHOTOMETRIC.get(self.photometric, f"colour space {self.photometric}"),
            *(["separate planes"] if self.get(Tag.PlanarConfiguration) == 2 else []),
            f"compression {self.compression}",
        ]
        return ", ".join(parts)


def find_page(file: BinaryIO) -> Page:
    """Return the page that is the picture: the first of full resolution, else the largest reduced one.

    Raises:
        ValueError: the file is damaged.
        MosaicError: it contains no picture but the values of a camera's sensor, and reduced ones.
    """
    reduced = []
    mosaic = None
    for page in _pages(file):
        if page.is_mosaic:
            mosaic = page
        elif not page.is_reduced:
            return page
        else:
            reduced.append(page)
    if mosaic:
        raise MosaicError(str(mosaic))
    if reduced:
        return max(reduced, key=lambda page: page.size[0] * page.size[1])
    raise ValueError("it has no pages")


def at_page(file: BinaryIO, page: Page) -> BinaryIO:
    """Return a TIFF file whose first page is another one of its pages."""
    file.seek(0)
    content = bytearray(file.read())
    at, size = (8, 8) if b"+" in content[:4] else (4, 4)
    content[at : at + size] = page.offset.to_bytes(size, page.byte_order)
    return BytesIO(content)


def needs_own_reader(page: Page) -> bool:
    """Return whether Pillow does not read a page, or not with its range."""
    channels, kind = page.channels, page.kind
    if (page.bits <= 8 and kind == 1) or page.photometric not in (GREY, INVERTED_GREY, COLOUR):
        return False
    scaled = channels > 1 and page.sample_range[1] != (1 << page.bits) - 1
    # Pillow does not read big-endian inverted grey, inverts no floats and mixes up compressed big-endian ones.
    inverted = page.photometric == INVERTED_GREY and (page.big_endian or kind == 3)
    swapped = page.big_endian and kind == 3 and page.compression > 1
    return (channels, kind, page.bits) not in PILLOW_READS or scaled or inverted or swapped


def read_deep(file: BinaryIO, page: Page) -> Image.Image:
    """Read a page with samples of more than 8 bits as an 8-bit image of mode L, LA, RGB or RGBA.

    Raises:
        UnsupportedVariantError: its samples are of a kind that is not read here.
    """
    channels, colours = page.channels, 3 if page.photometric == COLOUR else 1
    extra = page.tags.get(Tag.ExtraSamples, ())
    if page.bits not in (8, 16, 32, 64) or channels < colours or page.kind > 3:
        raise UnsupportedVariantError(str(page))
    dtype = np.dtype(f"{'>' if page.big_endian else '<'}{'?uif'[page.kind]}{page.bits // 8}")
    with_alpha = channels > colours and bool(extra) and extra[0] in (1, 2)
    low, high = page.sample_range
    if high is None:
        step = max(1, page.size[0] * page.size[1] // SAMPLED_PIXELS)
        some = [finite(samples[::step, :, :colours]).ravel() for _, samples in _blocks(file, page, dtype)]
        low, high = usual_range(np.concatenate(some), page.usual_maxima)
    ends = page.ends(low, high)
    levels = np.empty((page.size[1], page.size[0], colours + with_alpha), np.uint8)
    for top, samples in _blocks(file, page, dtype):
        values = finite(samples)
        block = levels[top : top + len(values)]
        block[..., :colours] = to_levels(values[..., :colours], ends)
        if with_alpha:
            block[..., colours:] = to_levels(values[..., colours : colours + 1], (low, high))
            if extra[0] == 1:  # colours are multiplied by alpha
                opaque = block[..., :colours] * 255.0 / np.maximum(block[..., colours:], 1)
                block[..., :colours] = np.minimum(np.rint(opaque), 255)
    image = Image.fromarray(levels[..., 0] if levels.shape[2:] == (1,) else levels)
    if profile := page.tags.get(Tag.InterColorProfile):
        image.info["icc_profile"] = profile
    if Tag.Orientation in page.tags:
        image.getexif()[Tag.Orientation] = page.get(Tag.Orientation, 1)
    return image


def _blocks(file: BinaryIO, page: Page, dtype: np.dtype[Any]) -> Iterator[tuple[int, NDArray[Any]]]:
    """Yield the samples of a page in blocks of rows: the first row's number, and (rows, width, channels).

    Pillow decompresses them, from a file with the same strips or tiles that are said to be 8-bit grey.

    Raises:
        Image.DecompressionBombError: a strip or a row of tiles is too large.
    """
    channels, (width, height) = page.channels, page.size
    planes = channels if page.get(Tag.PlanarConfiguration, 1) == 2 else 1
    pixel = channels // planes * dtype.itemsize  # bytes per pixel and plane
    tiled = page.is_tiled
    padded = -(-width // page.get(Tag.TileWidth)) * page.get(Tag.TileWidth) if tiled else width
    across = padded // page.get(Tag.TileWidth) if tiled else 1
    rows = page.get(Tag.TileLength) if tiled else min(page.get(Tag.RowsPerStrip, height) or height, height)
    offsets, counts = (
        page.tags.get(tag, ())
        for tag in ((Tag.TileOffsets, Tag.TileByteCounts) if tiled else (Tag.StripOffsets, Tag.StripByteCounts))
    )
    if page.compression == 1 and not tiled:  # so that large strips can be read in parts
        offsets, counts, rows = _split(offsets, rows, height, width * pixel, planes)
    if rows * padded * pixel > MAX_BLOCK:
        raise Image.DecompressionBombError(f"expected strips of at most {MAX_BLOCK >> 20} MiB, got larger ones")
    down = -(-height // rows)
    at_once = max(1, BLOCK // (rows * padded * pixel))
    for first in range(0, down, at_once):
        top, end = first * rows, min((first + at_once) * rows, height)
        parts = []
        for start in range(first * across, len(offsets), down * across)[:planes]:
            chosen = slice(start, start + min(at_once, down - first) * across)
            size = padded * pixel, end - top
            content = _bytes_as_grey(file, page, offsets[chosen], counts[chosen], size, rows, pixel)
            samples = _undo_predictor(content.reshape(end - top, padded, pixel), page, dtype)
            parts.append(samples[:, :width])
        yield top, np.concatenate(parts, -1) if planes > 1 else parts[0]


def _split(
    offsets: tuple[int, ...], rows: int, height: int, row: int, planes: int
) -> tuple[tuple[int, ...], tuple[int, ...], int]:
    """Return the offsets, the sizes in bytes and the rows of smaller strips, of which each old one is a multiple."""
    fewer = next(
        each for each in range(max(1, min(rows, BLOCK // row)), 0, -1) if rows % each == 0 or len(offsets) == planes
    )
    per_plane = len(offsets) // planes
    starts, sizes = [], []
    for number, offset in enumerate(offsets):
        left = min(rows, height - number % per_plane * rows)
        for top in range(0, left, fewer):
            starts.append(offset + top * row)
            sizes.append(min(fewer, left - top) * row)
    return tuple(starts), tuple(sizes), fewer


def _bytes_as_grey(
    file: BinaryIO,
    page: Page,
    offsets: tuple[int, ...],
    counts: tuple[int, ...],
    size: tuple[int, int],
    rows: int,
    pixel: int,
) -> NDArray[np.uint8]:
    """Return decompressed strips or tiles, (height, width in bytes).

    Args:
        file: the file.
        page: the page.
        offsets: where its strips or tiles start in the file.
        counts: how long they are, in bytes.
        size: the bytes of a row, and the number of rows.
        rows: rows per strip or tile.
        pixel: bytes per pixel.
    """
    tags: dict[int, list[int]] = {
        Tag.ImageWidth: [size[0]],
        Tag.ImageLength: [size[1]],
        Tag.BitsPerSample: [8],
        Tag.Compression: [page.compression],
        Tag.PhotometricInterpretation: [GREY],
        Tag.SamplesPerPixel: [1],
    }
    if page.is_tiled:
        tags |= {Tag.TileWidth: [page.get(Tag.TileWidth) * pixel], Tag.TileLength: [rows]}
    else:
        tags[Tag.RowsPerStrip] = [rows]
    chunks = []
    for offset, count in zip(offsets, counts, strict=True):
        file.seek(offset)
        chunks.append(file.read(count))
    *starts, end = accumulate(map(len, chunks), initial=8)
    places = (Tag.TileOffsets, Tag.TileByteCounts) if page.is_tiled else (Tag.StripOffsets, Tag.StripByteCounts)
    tags |= {places[0]: starts, places[1]: [len(chunk) for chunk in chunks]}
    order = ">" if page.big_endian else "<"
    header = struct.pack(f"{order}2sHI", b"MM" if page.big_endian else b"II", 42, end)
    with TiffImageFile(BytesIO(b"".join([header, *chunks, _directory(tags, end, order)]))) as image:
        return np.asarray(image)


def _directory(tags: Mapping[int, Iterable[int]], offset: int, order: str) -> bytes:
    """Return a directory of a TIFF file, which starts at an offset."""
    entries, arrays = [], b""
    for tag, values in sorted(tags.items()):
        packed = [struct.pack(f"{order}I", value) for value in values]
        value = packed[0]
        if len(packed) > 1:
            value = struct.pack(f"{order}I", offset + 2 + 12 * len(tags) + 4 + len(arrays))
            arrays += b"".join(packed)
        entries.append(struct.pack(f"{order}HHI", tag, 4, len(packed)) + value)
    return struct.pack(f"{order}H", len(tags)) + b"".join(entries) + bytes(4) + arrays


def _undo_predictor(content: NDArray[np.uint8], page: Page, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return samples (height, width, channels) from bytes; undo the difference to the pixel on the left."""
    height, width, row = content.shape
    predictor = page.get(Tag.Predictor, 1)
    if predictor == 1:
        return np.ascontiguousarray(content).view(dtype)
    if page.is_tiled:  # each tile starts anew
        tile = page.get(Tag.TileWidth)
        tiles = [content[:, left : left + tile] for left in range(0, width, tile)]
    else:
        tiles = [content]
    parts: list[NDArray[Any]] = []
    for each in tiles:
        if predictor == 2:
            unsigned = np.ascontiguousarray(each).view(f"{dtype.byteorder}u{dtype.itemsize}")
            native = unsigned.astype(f"u{dtype.itemsize}").cumsum(1, dtype=f"u{dtype.itemsize}")
            parts.append(native.view(f"{dtype.kind}{dtype.itemsize}"))
        elif predictor == 3:  # bytes of one significance together, then differences (Adobe's technical note 3)
            channels = row // dtype.itemsize
            planes = each.reshape(height, -1, channels).cumsum(1, dtype=np.uint8)
            planes = planes.reshape(height, dtype.itemsize, -1).transpose(0, 2, 1)
            parts.append(
                np.ascontiguousarray(planes).view(f">{dtype.kind}{dtype.itemsize}").reshape(height, -1, channels)
            )
        else:
            raise UnsupportedVariantError(f"{page}, predictor {predictor}")
    return np.concatenate(parts, 1)


def _pages(file: BinaryIO) -> Iterator[Page]:
    """Yield the pages of a file, each before those inside it."""
    file.seek(0)
    header = file.read(16)
    big = b"+" in header[:4]
    first = ImageFileDirectory_v2(header if big else header[:8])
    pending, seen = [first.next], set[int]()
    while pending and len(seen) < MAX_PAGES:
        offset = pending.pop(0)
        if not offset or offset in seen:
            continue
        seen.add(offset)
        directory = ImageFileDirectory_v2(header if big else header[:8])
        file.seek(offset)
        directory.load(file)
        inside = directory.get(Tag.SubIFDs, ())
        pending = [*(inside if isinstance(inside, tuple) else (inside,)), *pending, directory.next]
        yield Page(offset, dict(directory), header[:1] == b"M")
