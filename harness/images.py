"""Pictures as the benchmarks' protocols want them: decoded to 8 bits, cropped, for GeneCIS padded to a square."""

from __future__ import annotations

import io
import math
import os
from collections.abc import Iterator, Sequence
from enum import IntFlag

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image

from condsim.harness.errors import CondsimError, UnusableRowsError
from condsim.harness.files.hashing import digest
from condsim.harness.task import ImageTable

Picture = Image.Image
IMAGE_SUFFIXES = (
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm",
    ".jp2", ".avif", ".heic", ".heif",
)  # fmt: skip
"""Files of a folder that count as images. A file that a table names may have any name."""


def crop_box(
    box: Sequence[float] | NDArray[np.float64], width: int, height: int, dilation: float = 0.7
) -> tuple[float, float, float, float]:
    """(left, top, right, bottom) in pixels of the dilated ``box`` (x, y, w, h) in an image of ``width`` x ``height``.

    The rule of GeneCIS's released code: the box grows by ``dilation`` of its size to the left and top, clamped at 0,
    and right and bottom are measured from the *clamped* corner, so most boxes grow to the left and top only.
    A box that is outside the image is cropped as far as its dilation reaches into the image, as that code does.
    Raises CondsimError for a box that is not finite, has no area or reaches nowhere into the image.
    """
    x, y, w, h = (float(value) for value in box)
    shown = f"the box [{x:g}, {y:g}, {w:g}, {h:g}] (x, y, width, height)"
    if not all(map(math.isfinite, (x, y, w, h))):
        raise CondsimError(f"{shown} has an entry that is not a number")
    if w <= 0 or h <= 0:
        raise CondsimError(f"{shown} has no area")
    left, top = max(0.0, x - dilation * w), max(0.0, y - dilation * h)
    right, bottom = min(float(width), left + (1 + dilation) * w), min(float(height), top + (1 + dilation) * h)
    if left >= right or top >= bottom:
        raise CondsimError(f"{shown} is outside its image of {width} x {height} pixels")
    return left, top, right, bottom


def pad_to_square(image: Picture) -> Picture:
    """``image`` centred on a black square of its longer side; an odd rest goes to the right or bottom."""
    width, height = image.size
    if width == height:
        return image
    if image.mode in ("P", "PA"):  # index 0 of a palette is any colour at all
        image = image.convert("RGBA" if image.mode == "PA" or "transparency" in image.info else "RGB")
    side = max(width, height)
    black = (0, 0, 0) if image.mode in ("RGB", "RGBA", "CMYK") else 0
    square = Image.new(image.mode, (side, side), black)
    square.paste(image, ((side - width) // 2, (side - height) // 2))
    return square


def crop_to_square(image: Picture, box: Sequence[float] | NDArray[np.float64], dilation: float = 0.7) -> Picture:
    """The dilated ``box`` of ``image`` on a black square, in the image's own mode (GeneCIS's attribute tasks)."""
    edges = crop_box(box, *image.size, dilation)
    cropped = image.crop(edges)  # type: ignore[arg-type]  # PIL rounds the edges itself, as the protocol has it
    if 0 in cropped.size:
        raise CondsimError(f"the box {[round(float(v), 3) for v in box]} is less than a pixel of its image")
    return pad_to_square(cropped)


def crop_plainly(image: Picture, box: Sequence[float] | NDArray[np.float64]) -> Picture:
    """The part of ``image`` within ``box`` (left, top, right, bottom), which Pillow rounds to whole pixels.

    The released codes of ROxford and RParis crop their query pictures so: no dilation, no square; what reaches out of
    the image is black. Raises CondsimError for a box that is not finite, has no area or is outside the image.
    """
    left, top, right, bottom = (float(value) for value in box)
    shown = f"the box [{left:g}, {top:g}, {right:g}, {bottom:g}] (left, top, right, bottom)"
    if not all(map(math.isfinite, (left, top, right, bottom))):
        raise CondsimError(f"{shown} has an entry that is not a number")
    if round(right) <= round(left) or round(bottom) <= round(top):
        raise CondsimError(f"{shown} has no area")
    if left >= image.width or top >= image.height or right <= 0 or bottom <= 0:
        raise CondsimError(f"{shown} is outside its image of {image.width} x {image.height} pixels")
    return image.crop((left, top, right, bottom))  # type: ignore[arg-type]  # Pillow rounds the edges itself


def crop_by_rule(image: Picture, box: Sequence[float] | NDArray[np.float64], table: ImageTable) -> Picture:
    """``box`` of ``image`` as the ``table`` that it is from has it cropped."""
    if table.crop == "plain":
        return crop_plainly(image, box)
    return crop_to_square(image, box, table.dilation)


def picture_of(table: ImageTable, row: int) -> Picture:
    """The picture of one row, cropped as its benchmark crops it. Raises CondsimError that names the file."""
    try:
        return read_picture(table, row)[0]
    except CondsimError as error:
        raise CondsimError(f"{table.path(row)}: {error}") from None


def pictures_of(table: ImageTable) -> Iterator[Picture]:
    """The picture of each row in order, cropped as its benchmark crops it.

    Raises UnusableRowsError after the last one for all that cannot be read: `benchmark.on_error=skip` leaves them out.
    """
    faults = {}
    for row in range(len(table)):
        try:
            yield read_picture(table, row)[0]
        except CondsimError as error:
            faults[row] = str(error)
    if faults:
        raise UnusableRowsError(len(table), faults, lambda row: str(table.path(row)))


def read_picture(table: ImageTable, row: int, expected: bytes | None = None) -> tuple[Picture, ImageNote]:
    """``picture_of``, and what of the file its pixels do not show.

    Raises CondsimError for a file that cannot be read, or whose bytes do not have the digest ``expected`` (None: any):
    its features would get the key of another content.
    """
    try:
        with open(os.path.join(table.root, table.file(table.names[row])), "rb") as file:
            data = file.read()
    except OSError as error:
        raise CondsimError(str(error.strerror or error)) from None
    if expected is not None and digest(data) != expected:
        raise CondsimError("the file changed while it was being encoded")
    image, note = decode(data)
    box = table.box(row)
    return image if box is None else crop_by_rule(image, box, table), note


def decode(data: bytes) -> tuple[Picture, ImageNote]:
    """The picture in the bytes of an image file, in its own mode with 8 bits per channel (``in_eight_bits``), and what
    of the file its pixels do not show.

    Raises CondsimError where the file does not decode or where it is not known which of its values is white.
    """
    try:
        image = Image.open(io.BytesIO(data))
        image.load()
        notes = _notes(image)
    except Exception as error:  # a damaged file can raise nearly anything in a decoder
        reason = "the file is empty" if not data else str(error).replace(repr(error.__class__), "")
        if "cannot identify image file" in reason:
            reason = "not an image file that Pillow knows"
        raise CondsimError(f"does not decode ({reason})") from error
    return in_eight_bits(image), notes


class ImageNote(IntFlag):
    """What a reader of results should know about how a picture was read. The values are stored with features."""

    NONE = 0
    ROTATED = 1
    """Its EXIF data name a rotation or a reflection, which is not applied; open_clip does not apply it either."""
    TRANSPARENT = 2
    """Some of its pixels are transparent. The alpha channel is dropped, so they show the colour below, often black."""
    SCALED = 4
    """It has more than 8 bits per channel and was scaled to 8."""


def in_eight_bits(image: Picture) -> Picture:
    """``image`` with 8 bits per channel; one that has them already is returned as it is.

    Pillow itself clips such pictures instead of scaling them, so 16-bit pictures would become all white.

    - 16-bit grey (modes I;16, I;16B, ...; I from a PNG file): value / 257, rounded.
    - 32-bit integers (mode I): values within 0..255 stay as they are.
    - floats (mode F): values within 0..1 times 255, rounded.

    Raises CondsimError for other 32-bit pictures: nothing in such a file says which value is white.
    """
    if image.mode.startswith("I;16") or (image.mode == "I" and getattr(image, "format", None) == "PNG"):
        wide = np.asarray(image).astype(np.int64)
        return Image.fromarray(((wide + 128) // 257).astype(np.uint8))
    if image.mode not in ("I", "F"):
        return image
    values = np.asarray(image)
    low, high = float(values.min()), float(values.max())
    white = {"I": 255, "F": 1}[image.mode]
    if not (low >= 0 and high <= white):  # also where a value is not a number
        kind = {"I": "32-bit integers", "F": "floats"}[image.mode]
        raise CondsimError(
            f"is a picture of {kind} with values from {low:g} to {high:g}, and only 0 to {white} is known to mean "
            "black to white; convert it to 8 bits per channel"
        )
    return Image.fromarray(np.rint(values.astype(np.float64) * (255 / white)).astype(np.uint8))


def _notes(image: Picture) -> ImageNote:
    notes = ImageNote.NONE
    if image.getexif().get(ExifTags.Base.Orientation, 1) in range(2, 9):
        notes |= ImageNote.ROTATED
    if image.has_transparency_data:
        lowest = image.convert("RGBA").getchannel("A").getextrema()[0]
        if isinstance(lowest, (int, float)) and lowest < 255:
            notes |= ImageNote.TRANSPARENT
    if image.mode.startswith("I;16") or image.mode in ("I", "F"):
        notes |= ImageNote.SCALED
    return notes
