"""From an open file to a Pillow image whose size is checked, and whose pixels are still to be decoded."""

import struct
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

from PIL import ExifTags, Image, UnidentifiedImageError
from PIL.JpegImagePlugin import jpeg_factory
from PIL.TiffImagePlugin import TiffImageFile

from resnet_cli.errors import ImageError, ImageErrorKind
from resnet_cli.images import colours, formats, repair, tiff

MAX_BYTES = 1 << 30  # bytes per file, because some decoders read it whole
MAX_PIXELS = 178_956_970  # Pillow's own limit, above which it raises an error; a 100-megapixel photo is well below it
MAX_JPEG_PIXELS = 1 << 30  # of a JPEG, whose decoder can skip detail, or 4 s; MAX_PIXELS counts what is decoded
MAX_SIDE = 1 << 18  # pixels; four times a JPEG's limit, because resampling takes memory per side as well as per area

JPEG = b"\xff\xd8\xff"  # signature
Reserve = Callable[[int], AbstractContextManager[None]]
EXIF_ORIENTATION = {3: 3, 5: 8, 6: 6}  # by LibRaw's `flip`


def open_image(file: BinaryIO, min_side: int, reserve: Reserve) -> tuple[Image.Image, colours.Range | None]:
    """Open an image and check its size; return the range of deep grey, too, if the file says it.

    Args:
        file: the file.
        min_side: the side in pixels that is needed.
        reserve: waits until a number of pixels can be decoded; for what is not decoded later.
    """
    file.seek(0)
    head = file.read(formats.HEAD)
    file.seek(0)
    if row := formats.identify(head):
        return _open_with_plugin(row, file, min_side), None
    if head[:4] in tiff.SIGNATURES:
        try:
            return _open_tiff(file, reserve)
        except tiff.MosaicError:
            return _open_with_plugin(formats.RAW, file, min_side), None
    if head.startswith(JPEG):
        return _open_jpeg(file), None
    suffix = _suffix(file)
    try:
        image = Image.open(file, formats=formats.pillow_formats(suffix))
    except UnidentifiedImageError:
        if row := formats.BY_SUFFIX.get(suffix):
            return _open_with_plugin(row, file, min_side), None
        raise
    if image.format == "PNG":  # only `verify` checks the checksums of the pixels, and it leaves the image unusable
        image.verify()
        image = Image.open(file, formats=["PNG"])
    check_size(image.size)
    return image, None


def _suffix(file: BinaryIO) -> str:
    return Path(str(getattr(file, "name", ""))).suffix.lower()


def _open_with_plugin(row: formats.Format, file: BinaryIO, min_side: int) -> Image.Image:
    """Open an image that Pillow does not read.

    Raises:
        ImageError: of the kind `unsupported_format`: it is no image, or a library is missing.
    """
    if row not in formats.PLUGINS:
        message = f"expected an image, got a file of another kind: {row.name}"
        raise ImageError(ImageErrorKind.UNSUPPORTED_FORMAT, message)
    file.seek(0)
    try:
        image: Image.Image = PLUGINS[row](file, min_side)
    except ImportError as error:
        extra = f"resnet-cli[{row.extra}]" if row.extra else "resnet-cli"
        message = f"{row.name} needs an optional package: pip install '{extra}'"
        raise ImageError(ImageErrorKind.UNSUPPORTED_FORMAT, message) from error
    except Exception as error:  # each library raises errors of its own
        message = f"the {row.name} file is damaged, or of a kind that is not supported"
        raise ImageError(ImageErrorKind.UNREADABLE_IMAGE, message) from error
    check_size(image.size)
    return image


def _open_jpeg(file: BinaryIO) -> Image.Image:
    """Open a JPEG image without Pillow's check of its size: of a large one, fewer pixels are decoded."""
    whole = repair.has_jpeg_end(file)
    file.seek(0)
    try:
        image = jpeg_factory(file)
    except (SyntaxError, IndexError, TypeError, KeyError, EOFError, struct.error) as error:  # as in Image.open
        raise UnidentifiedImageError(str(error)) from error
    if image.width * image.height > MAX_JPEG_PIXELS:
        raise Image.DecompressionBombError(too_many(image.width * image.height, MAX_JPEG_PIXELS))
    if not whole:
        raise ValueError("image file is truncated")
    return image


def _open_tiff(file: BinaryIO, reserve: Reserve) -> tuple[Image.Image, colours.Range | None]:
    """Open the page of a TIFF file that is the picture; return the range of deep grey, too."""
    page = tiff.find_page(file)
    check_size(page.size)
    if tiff.needs_own_reader(page):
        if page.bytes > MAX_BYTES:
            raise Image.DecompressionBombError(f"expected at most {MAX_BYTES >> 30} GiB of samples, got more")
        with reserve(page.bytes // 3):  # an RGB pixel has three bytes
            return tiff.read_deep(file, page), None
    try:
        image = Image.open(file, formats=formats.pillow_formats(_suffix(file)))
        if page.offset != image._frame_pos[0]:  # type: ignore[attr-defined]
            image = Image.open(tiff.at_page(file, page), formats=["TIFF"])
    except UnidentifiedImageError as error:
        raise tiff.UnsupportedVariantError(str(page)) from error
    assert isinstance(image, TiffImageFile)
    _check_tiff(image)
    return image, page.grey_range


def _check_tiff(image: TiffImageFile) -> None:
    """Reject oversized tiles, which are decoded whole, and fix how Pillow reads 16-bit planes."""
    if image.tag_v2.get(tiff.Tag.TileWidth, 0) * image.tag_v2.get(tiff.Tag.TileLength, 0) > MAX_PIXELS:
        raise Image.DecompressionBombError(f"expected tiles of at most {MAX_PIXELS} pixels, got larger ones")
    if 16 in image.tag_v2.get(tiff.Tag.BitsPerSample, ()):  # Pillow reads their uncompressed planes as 8 bits
        depth = ";16B" if image.tag_v2.prefix == b"MM" else ";16L"
        image.tile = [
            tile._replace(args=(tile.args[0] + depth, *tile.args[1:]))
            if tile.codec_name == "raw" and isinstance(tile.args, tuple) and tile.args[0] in tuple("RGBAX")
            else tile
            for tile in image.tile
        ]


def check_size(size: tuple[int, int], decoded: int | None = None) -> None:
    """Check the size of an image, and the number of pixels that are decoded of it (default: all)."""
    width, height = size
    if not min(size):
        raise ValueError(f"it has no pixels, {width} x {height}")
    pixels = width * height if decoded is None else decoded
    if pixels > MAX_PIXELS:  # also in case the program has switched off Pillow's limit
        raise Image.DecompressionBombError(too_many(pixels))
    if max(size) > MAX_SIDE:
        raise Image.DecompressionBombError(f"expected sides of at most {MAX_SIDE:,} pixels, got {width:,} x {height:,}")


def too_many(pixels: int, limit: int = MAX_PIXELS) -> str:
    """Return the message for an image of too many pixels."""
    return f"expected at most {limit // 10**6:,} megapixels, got {-(-pixels // 10**6):,}"


def identify(path: str) -> formats.Format | bool:
    """Return whether the content of a regular file is an image, or its format if that is known but not an image's.

    Reads only the header.
    """
    with open(path, "rb") as file:
        row = formats.identify(file.read(formats.HEAD))
        if row:
            return row in formats.PLUGINS or row
        file.seek(0)
        try:
            with Image.open(file, formats=formats.pillow_formats("")):
                return True
        except Image.DecompressionBombError:
            return True
        except Exception:  # see _decoding_errors
            return False


def _open_heic(file: BinaryIO, min_side: int) -> Image.Image:
    """Open a HEIC image, upright: its rotation is not in the EXIF data."""
    from pillow_heif import HeifImageFile

    image: Image.Image = HeifImageFile(file)  # type: ignore[no-untyped-call]
    return image


def _open_jpeg_xl(file: BinaryIO, min_side: int) -> Image.Image:
    """Open a JPEG XL image."""
    from pillow_jxl.JpegXLImagePlugin import JXLImageFile

    image: Image.Image = JXLImageFile(file)
    return image


def _open_raw(file: BinaryIO, min_side: int) -> Image.Image:
    """Open the preview that a camera has stored in a RAW file or, if it is too small, develop the file at half size.

    Args:
        file: the file.
        min_side: the side in pixels that a preview must have.
    """
    import rawpy

    with rawpy.imread(file) as raw:
        with suppress(rawpy.LibRawError):
            data = raw.extract_thumb().data  # a JPEG file or an array
            image: Image.Image = jpeg_factory(BytesIO(data)) if isinstance(data, bytes) else Image.fromarray(data)
            if min(image.size) >= min_side:
                exif = image.getexif()
                exif.setdefault(ExifTags.Base.Orientation, EXIF_ORIENTATION.get(raw.sizes.flip, 1))
                return image
        return Image.fromarray(raw.postprocess(half_size=True, use_camera_wb=True).squeeze())


PLUGINS: dict[formats.Format, Callable[[BinaryIO, int], Image.Image]] = {
    formats.HEIC: _open_heic,
    formats.JPEG_XL: _open_jpeg_xl,
    formats.RAW: _open_raw,
}
