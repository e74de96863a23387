"""Image files written by hand from their specifications: what Pillow does not write, or what lies."""

import struct
import zlib
from collections.abc import Iterable, Sequence

import numpy as np

ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))


def chunk(name: bytes, data: bytes = b"") -> bytes:
    """One chunk of a PNG."""
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
    """A PNG of rows that begin with their filter; its pixels may be cut into several chunks."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlaced)
    packed = zlib.compress(rows)
    size = -(-len(packed) // pieces)
    data = [(b"IDAT", packed[start : start + size]) for start in range(0, len(packed), size)]
    parts = [(b"IHDR", header), *chunks, *data, (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


def png_rows(pixels: np.ndarray, depth: int = 8) -> bytes:
    """Rows of a PNG: pixels (height, width) or (height, width, channels), with values below 2^depth."""
    rows = pixels.reshape(len(pixels), -1)
    return b"".join(b"\0" + packed(row, depth) for row in rows)


def packed(values: np.ndarray, depth: int) -> bytes:
    """Pack values of 1, 2, 4, 8 or 16 bits, the first in the highest bits; the last byte is filled with zeros."""
    if depth == 16:
        return values.astype(">u2").tobytes()
    bits = np.unpackbits(values.astype(np.uint8)[:, None], axis=1)[:, 8 - depth :]
    return np.packbits(bits.ravel()).tobytes()


def adam7_rows(pixels: np.ndarray) -> bytes:
    """Rows of an interlaced PNG of 8 bits."""
    return b"".join(png_rows(pixels[top::down, left::right]) for left, top, right, down in ADAM7)


Tag = tuple[int, Sequence[int | float]]
BYTE, ASCII, SHORT, LONG, FLOAT, LONG8 = 1, 2, 3, 4, 11, 16
TYPES = {BYTE: "B", ASCII: "B", SHORT: "H", LONG: "I", FLOAT: "f", LONG8: "Q"}


def tiff(tags: dict[int, Tag], parts: Sequence[bytes], *, order: str = "<", big: bool = False) -> bytes:
    """A TIFF of one page: strips, or tiles if the tags have a tile width, and then the directory."""
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
        entries += struct.pack(f"{order}HH{number}", tag, kind, len(values)) + field
    end = b"\0" * room
    head = struct.pack(order + "HHHQ", 43, 8, 0, ifd) if big else struct.pack(order + "HI", 42, ifd)
    return mark + head + body + entries + end + extra


def tiff_tags(
    width: int, height: int, bits: Sequence[int], photometric: int, **more: Tag | Sequence[int] | int
) -> dict[int, Tag]:
    """The tags that every TIFF has; further ones as t277=(SHORT, [3])."""
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
    """A BMP with the header of Windows 3; a negative height means top-down."""
    colours = b"".join(bytes([*colour[::-1], 0]) for colour in palette) + struct.pack(f"<{len(masks)}I", *masks)
    used = len(colours) // 4 if palette else 0
    header = struct.pack("<IiiHHIIiiII", 40, width, height, 1, bits, compression, len(data), 2835, 2835, used, 0)
    offset = 14 + len(header) + len(colours)
    return b"BM" + struct.pack("<IHHI", offset + len(data), 0, 0, offset) + header + colours + data


def bmp_rows(pixels: np.ndarray, bits: int = 8) -> bytes:
    """Rows of a BMP from the bottom up, each filled to a multiple of four bytes."""
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
    """A GIF of ready frames; the palette, if any, has 4 colours."""
    flags = 0x80 | 1 if palette else 0
    return (
        b"GIF" + version + struct.pack("<HHBBB", width, height, flags, 0, 0) + (palette or b"") + b"".join(frames) + end
    )


def gif_frame(left: int, top: int, indices: np.ndarray, *, palette: bytes | None = None) -> bytes:
    """A frame of 2-bit indices, compressed with clear codes only (the codes never grow beyond 3 bits)."""
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
    """A Photoshop file of one flat RGB picture."""
    height, width, _ = pixels.shape
    head = b"8BPS" + struct.pack(">HxxxxxxHIIHH", 1, 3, height, width, 8, 3)
    return head + bytes(12) + b"\0\0" + pixels.transpose(2, 0, 1).tobytes()


def jpeg_segments(content: bytes) -> Iterable[tuple[int, bytes]]:
    """Take a JPEG apart: each marker with its whole segment; the last, SOS, has everything that follows."""
    at = 2
    while content[at + 1] != 0xDA:
        size = 2 + int.from_bytes(content[at + 2 : at + 4])
        yield content[at + 1], content[at : at + size]
        at += size
    yield 0xDA, content[at:]


def jpeg(segments: Iterable[bytes]) -> bytes:
    """Put a JPEG together again."""
    return b"\xff\xd8" + b"".join(segments)


def segment(marker: int, data: bytes) -> bytes:
    """A segment of a JPEG, such as 0xE1, EXIF, or 0xFE, a comment."""
    return bytes([255, marker]) + struct.pack(">H", len(data) + 2) + data
