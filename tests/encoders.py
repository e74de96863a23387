"""Image files written from their specifications: variants that Pillow does not write, and false headers."""

import struct
import zlib
from collections.abc import Iterable, Sequence

import numpy as np

ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))


def chunk(name: bytes, data: bytes = b"") -> bytes:
    """Return one chunk of a PNG."""
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(
    width: int,
    height: int,
    depth: int,
    colour: int,
    rows: bytes,
    *chunks: tuple[bytes, bytes],
    interlaced: bool = False,
    pieces: int = 1,
) -> bytes:
    """Return a PNG.

    Args:
        width: pixels per row.
        height: rows.
        depth: bits per value.
        colour: the colour type; 2 is RGB.
        rows: the pixels; each row starts with its filter.
        chunks: name and data of other chunks.
        interlaced: whether the rows are those of Adam7.
        pieces: number of chunks into which the pixels are split.
    """
    deflated = zlib.compress(rows)
    return png_of_deflated(width, height, depth, colour, deflated, *chunks, interlaced=interlaced, pieces=pieces)


def png_of_deflated(
    width: int,
    height: int,
    depth: int,
    colour: int,
    deflated: bytes,
    *chunks: tuple[bytes, bytes],
    interlaced: bool = False,
    pieces: int = 1,
) -> bytes:
    """Return a PNG like `png`, of rows that are compressed already."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlaced)
    size = -(-len(deflated) // pieces)
    data = [(b"IDAT", deflated[start : start + size]) for start in range(0, len(deflated), size)]
    parts = [(b"IHDR", header), *chunks, *data, (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


def deflate_repeated(block: bytes, count: int) -> bytes:
    """Return `zlib.compress(block * count)`, but in the time and memory of a single block."""
    compressor = zlib.compressobj(wbits=-15)
    deflated = compressor.compress(block) + compressor.flush(zlib.Z_FULL_FLUSH)  # refers to nothing before it
    checksum = 1
    for _ in range(count):
        checksum = zlib.adler32(block, checksum)
    return b"\x78\x9c" + deflated * count + b"\x03\x00" + struct.pack(">I", checksum)


def png_rows(pixels: np.ndarray, depth: int = 8) -> bytes:
    """Return the rows of a PNG from pixels (height, width) or (height, width, channels) below 2^depth."""
    rows = pixels.reshape(len(pixels), -1)
    return b"".join(b"\0" + packed(row, depth) for row in rows)


def packed(values: np.ndarray, depth: int) -> bytes:
    """Pack values of 1, 2, 4, 8 or 16 bits, the first in the highest bits, and pad with zero bits."""
    if depth == 16:
        return values.astype(">u2").tobytes()
    bits = np.unpackbits(values.astype(np.uint8)[:, None], axis=1)[:, 8 - depth :]
    return np.packbits(bits.ravel()).tobytes()


def adam7_rows(pixels: np.ndarray) -> bytes:
    """Return the rows of an interlaced PNG with 8 bits per value."""
    return b"".join(png_rows(pixels[top::down, left::right]) for left, top, right, down in ADAM7)


Tag = tuple[int, Sequence[int | float]]
BYTE, ASCII, SHORT, LONG, RATIONAL, FLOAT, LONG8 = 1, 2, 3, 4, 5, 11, 16
TYPES = {BYTE: "B", ASCII: "B", SHORT: "H", LONG: "I", RATIONAL: "I", FLOAT: "f", LONG8: "Q"}


def tiff(tags: dict[int, Tag], parts: Sequence[bytes], *, order: str = "<", big: bool = False) -> bytes:
    """Return a TIFF of one page: its strips (or tiles, if the tags have a tile width), then the directory."""
    mark = b"II" if order == "<" else b"MM"
    body = b""
    start = 16 if big else 8
    offsets = []
    for part in parts:
        offsets.append(start + len(body))
        body += part + b"\0" * (len(part) % 2)
    place, sizes = (324, 325) if 322 in tags else (273, 279)
    wide = LONG8 if big else LONG
    tags = tags | {place: (wide, offsets), sizes: (wide, [len(part) for part in parts])}

    number, count, room = ("Q", "Q", 8) if big else ("I", "H", 4)
    ifd = start + len(body)
    extra_at = ifd + struct.calcsize("=" + count) + len(tags) * (20 if big else 12) + room
    entries = struct.pack(order + count, len(tags))
    extra = b""
    for tag, (kind, values) in sorted(tags.items()):
        raw = struct.pack(f"{order}{len(values)}{TYPES[kind]}", *values)
        if len(raw) > room:
            field = struct.pack(order + number, extra_at + len(extra))
            extra += raw + b"\0" * (len(raw) % 2)
        else:
            field = raw.ljust(room, b"\0")
        entries += struct.pack(f"{order}HH{number}", tag, kind, len(values) // (1 + (kind == RATIONAL))) + field
    end = b"\0" * room
    head = struct.pack(order + "HHHQ", 43, 8, 0, ifd) if big else struct.pack(order + "HI", 42, ifd)
    return mark + head + body + entries + end + extra


def tiff_tags(
    width: int, height: int, bits: Sequence[int], photometric: int, **more: Tag | Sequence[int] | int
) -> dict[int, Tag]:
    """Return the tags that every TIFF has, and others, such as t277=(SHORT, [3])."""
    tags: dict[int, Tag] = {
        256: (LONG, [width]),
        257: (LONG, [height]),
        258: (SHORT, bits),
        259: (SHORT, [1]),
        262: (SHORT, [photometric]),
        277: (SHORT, [len(bits)]),
    }
    return tags | {int(name[1:]): tag for name, tag in more.items()}  # type: ignore[misc]


def bmp(
    width: int,
    height: int,
    bits: int,
    data: bytes,
    *,
    palette: Iterable[Sequence[int]] = (),
    compression: int = 0,
    masks: Sequence[int] = (),
) -> bytes:
    """Return a BMP with the header of Windows 3; a negative height means that the top row comes first."""
    colours = b"".join(bytes([*colour[::-1], 0]) for colour in palette) + struct.pack(f"<{len(masks)}I", *masks)
    used = len(colours) // 4 if palette else 0
    header = struct.pack("<IiiHHIIiiII", 40, width, height, 1, bits, compression, len(data), 2835, 2835, used, 0)
    offset = 14 + len(header) + len(colours)
    return b"BM" + struct.pack("<IHHI", offset + len(data), 0, 0, offset) + header + colours + data


def bmp_rows(pixels: np.ndarray, bits: int = 8) -> bytes:
    """Return the rows of a BMP from bottom to top, each padded to a multiple of four bytes."""
    rows = [packed(row.ravel(), min(bits, 8)) for row in pixels[::-1]]
    return b"".join(row + b"\0" * (-len(row) % 4) for row in rows)


def gif(
    width: int,
    height: int,
    frames: Iterable[bytes],
    *,
    palette: bytes | None = None,
    version: bytes = b"89a",
    end: bytes = b";",
) -> bytes:
    """Return a GIF of encoded frames; its palette, if any, has 4 colours."""
    flags = 0x80 | 1 if palette else 0
    return (
        b"GIF" + version + struct.pack("<HHBBB", width, height, flags, 0, 0) + (palette or b"") + b"".join(frames) + end
    )


def gif_frame(left: int, top: int, indices: np.ndarray, *, palette: bytes | None = None) -> bytes:
    """Return a frame of 2-bit indices; frequent clear codes keep all codes at 3 bits."""
    height, width = indices.shape
    codes = []
    for at, index in enumerate(indices.ravel()):
        if at % 2 == 0:
            codes.append(4)
        codes.append(int(index))
    codes.append(5)
    bits = "".join(f"{code:03b}"[::-1] for code in codes)
    bits += "0" * (-len(bits) % 8)
    data = bytes(int(bits[at : at + 8][::-1], 2) for at in range(0, len(bits), 8))
    blocks = b"".join(bytes([len(data[at : at + 255])]) + data[at : at + 255] for at in range(0, len(data), 255))
    flags = 0x80 | 1 if palette else 0
    return b"," + struct.pack("<HHHHB", left, top, width, height, flags) + (palette or b"") + b"\2" + blocks + b"\0"


def psd(pixels: np.ndarray) -> bytes:
    """Return a Photoshop file of one RGB image without layers."""
    height, width, _ = pixels.shape
    head = b"8BPS" + struct.pack(">HxxxxxxHIIHH", 1, 3, height, width, 8, 3)
    return head + bytes(12) + b"\0\0" + pixels.transpose(2, 0, 1).tobytes()


def jpeg_segments(content: bytes) -> Iterable[tuple[int, bytes]]:
    """Split a JPEG into markers and segments; the segment of the last, SOS, extends to the end."""
    at = 2
    while content[at + 1] != 0xDA:
        size = 2 + int.from_bytes(content[at + 2 : at + 4])
        yield content[at + 1], content[at : at + size]
        at += size
    yield 0xDA, content[at:]


def jpeg(segments: Iterable[bytes]) -> bytes:
    """Join the segments of a JPEG."""
    return b"\xff\xd8" + b"".join(segments)


def segment(marker: int, data: bytes) -> bytes:
    """Return a segment of a JPEG; its marker is, for example, 0xE1 for EXIF or 0xFE for a comment."""
    return bytes([255, marker]) + struct.pack(">H", len(data) + 2) + data
