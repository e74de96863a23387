"""Files whose pixels are complete, but that are damaged around them: PNG and JPEG files as viewers read them."""

import re
import zlib
from collections.abc import Iterator
from io import BytesIO
from typing import BinaryIO

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
PNG_KEPT = (b"tRNS", b"iCCP", b"eXIf", b"tEXt", b"zTXt", b"iTXt")  # texts can contain the orientation
PNG_END = b"\0\0\0\0IEND\xaeB`\x82"
MAX_TEXT = 1 << 20  # bytes in a compressed text or profile, more than any camera or program writes

MARKER = re.compile(rb"\xff+[^\0\xff\xd0-\xd7]", re.DOTALL)  # in the pixels, 255 is followed by 0 or a restart marker
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
            if not sound or kind not in PNG_KEPT or not _can_be_read(kind, data):
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


def jpeg_tails(file: BinaryIO) -> Iterator[tuple[BinaryIO, ...]]:
    """Yield a JPEG file whose end is missing with several ends in its place, without the padding after its pixels.

    If all of them decode to the same pixels, a decoder needs none of the bytes that follow: no pixels are missing. The
    last bytes of the pixels can look like padding, so up to two such bytes are kept in turn.
    """
    file.seek(0)
    content = file.read()
    if not has_all_scans(content):
        return
    end = len(content.rstrip(JPEG_PADDING))
    end += 2 * (content[end : end + 2] == b"\xff\0")  # a byte of the pixels, as JPEG writes 255
    for kept in range(end, len(content) + 1) if len(content) - end <= 2 else [end]:
        yield tuple(BytesIO(content[:kept] + tail + JPEG_END) for tail in JPEG_TAILS)


def has_all_scans(content: bytes) -> bool:
    """Return whether a progressive JPEG file has a scan for each bit of each coefficient; others always do."""
    missing: set[tuple[int, int]] = set()  # component and coefficient
    at = 2
    while match := MARKER.search(content, at):
        kind, start = content[match.end() - 1], match.end()
        length = int.from_bytes(content[start : start + 2])
        segment = content[start + 2 : start + length]
        if kind == 0xC2 and len(segment) > 5:  # a progressive frame: depth, height, width, components
            missing = {(segment[6 + 3 * i], k) for i in range(segment[5]) for k in range(64)}
        elif kind == 0xDA and segment:  # a scan: its components, and the coefficients down to a bit
            components = segment[1 : 1 + 2 * segment[0] : 2]
            first, last, bits = segment[1 + 2 * segment[0] :][:3]
            if not bits & 15:
                missing -= {(component, k) for component in components for k in range(first, last + 1)}
        at = start + length
    return not missing
