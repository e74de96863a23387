"""Files whose pixels are complete, but that are damaged around them: PNG and JPEG files as viewers read them."""

import zlib
from collections.abc import Iterator
from io import BytesIO
from typing import BinaryIO

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
PNG_END = b"\0\0\0\0IEND\xaeB`\x82"
MAX_TEXT = 1 << 20  # bytes in a compressed text or profile, more than any camera or program writes

JPEG_END = b"\xff\xd9"
JPEG_PADDING = b"\0\xff \r\n"  # bytes that cameras and memory cards leave in place of the end
# What is appended to tell whether a decoder still needs data.
JPEG_TAILS = (b"", b"\x55\x2a" * 512, b"\xd3\x6c\x91" * 512)


def repair_png(file: BinaryIO) -> BinaryIO:
    """Return a PNG file without the damaged chunks that hold no pixels, and with the end if it is missing.

    Raises:
        ValueError: pixels, or what they need, are damaged.
    """
    content = [PNG_SIGNATURE]
    for kind, data, checksum in _chunks(file):
        sound = zlib.crc32(kind + data) == int.from_bytes(checksum)
        if kind[0] & 0x20:  # lower case: a decoder may leave it out (PNG specification, 5.4)
            if not sound or not _can_be_read(kind, data):
                continue
        elif not sound and len(checksum) == 4:
            raise ValueError(f"wrong checksum in {kind.decode('ascii', 'replace')}")
        checksum = zlib.crc32(kind + data).to_bytes(4)
        content += [len(data).to_bytes(4), kind, data, checksum]
        if kind == b"IEND":
            break
    else:
        content.append(PNG_END)
    return BytesIO(b"".join(content))


def _chunks(file: BinaryIO) -> Iterator[tuple[bytes, bytes, bytes]]:
    """Yield the type, the data and the checksum of each chunk; the last ones may be incomplete."""
    file.seek(len(PNG_SIGNATURE))
    while len(head := file.read(8)) == 8:
        size = int.from_bytes(head[:4])
        yield head[4:], file.read(size), file.read(4)


def _can_be_read(kind: bytes, data: bytes) -> bool:
    """Return whether a chunk's compressed text or profile can be read, within limits."""
    if kind not in (b"iCCP", b"zTXt"):
        return len(data) <= MAX_TEXT
    _, _, compressed = data.partition(b"\0")
    try:
        reader = zlib.decompressobj()
        reader.decompress(compressed[1:], MAX_TEXT)
    except zlib.error:
        return False
    return compressed[:1] == b"\0" and reader.eof


def has_jpeg_end(file: BinaryIO) -> bool:
    """Return whether the pixels of a JPEG file have an end; without one, padding passes for pixels."""
    file.seek(max(0, file.seek(0, 2) - 64))
    if file.read().rstrip(JPEG_PADDING).endswith(JPEG_END):
        return True
    file.seek(0)
    content = file.read()
    return JPEG_END in content[content.rfind(b"\xff\xda") :]  # other data may follow


def jpeg_tails(file: BinaryIO) -> tuple[BinaryIO, ...]:
    """Return a JPEG file whose end is missing with several ends in its place.

    If all of them decode to the same pixels, a decoder needs none of the bytes that follow: no pixels are missing.
    """
    file.seek(0)
    content = file.read()
    end = len(content.rstrip(JPEG_PADDING))
    end += 2 * (content[end : end + 2] == b"\xff\0")  # a byte of the pixels, as JPEG writes 255
    kept = content[:end]
    return tuple(BytesIO(kept + tail + JPEG_END) for tail in JPEG_TAILS)
