"""EXIF orientation: which way up an image is."""

from contextlib import suppress

from PIL import ExifTags, Image

from resnet_cli.images.resize import Box

# By EXIF orientation: the transform that makes an image upright, and the source side of its new left, top, right and
# bottom.
EXIF_TRANSFORMS = {
    2: (Image.Transpose.FLIP_LEFT_RIGHT, (2, 1, 0, 3)),
    3: (Image.Transpose.ROTATE_180, (2, 3, 0, 1)),
    4: (Image.Transpose.FLIP_TOP_BOTTOM, (0, 3, 2, 1)),
    5: (Image.Transpose.TRANSPOSE, (1, 0, 3, 2)),
    6: (Image.Transpose.ROTATE_270, (3, 0, 1, 2)),
    7: (Image.Transpose.TRANSVERSE, (3, 2, 1, 0)),
    8: (Image.Transpose.ROTATE_90, (1, 2, 3, 0)),
}


def of(image: Image.Image) -> int:
    """Return the EXIF tag, or 1 (upright) if there is none or the EXIF data are damaged."""
    with suppress(Exception):
        if (raw := image.info.get("Raw profile type APP1")) and "exif" not in image.info:  # ImageMagick's, in a PNG
            exif = Image.Exif()
            exif.load(bytes.fromhex("".join(raw.split("\n")[3:])))
            return int(exif[ExifTags.Base.Orientation])
        return int(image.getexif()[ExifTags.Base.Orientation])
    return 1


def apply(image: Image.Image, box: Box, orientation: int) -> tuple[Image.Image, Box]:
    """Return an image that is upright, and the box in it that a box in the given one becomes."""
    if orientation not in EXIF_TRANSFORMS:
        return image, box
    method, margins = EXIF_TRANSFORMS[orientation]
    room = (box[0], box[1], image.width - box[2], image.height - box[3])
    left, top, right, bottom = (room[side] for side in margins)
    image = image.transpose(method)
    return image, (left, top, image.width - right, image.height - bottom)
