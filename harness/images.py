"""Pictures as the benchmarks' protocols want them: decoded, cropped by GeneCIS's rule, padded to a square."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from condsim.harness.errors import CondsimError

Picture = Image.Image


def crop_box(
    box: Sequence[float] | NDArray[np.float64], width: int, height: int, dilation: float = 0.7
) -> tuple[float, float, float, float]:
    """(left, top, right, bottom) in pixels of the dilated ``box`` (x, y, w, h) in an image of ``width`` x ``height``.

    The rule of GeneCIS's released code: the box grows by ``dilation`` of its size to the left and top, clamped at 0,
    and right and bottom are measured from the *clamped* corner, so most boxes grow to the left and top only.
    Raises CondsimError for a box that is not finite, has no area or lies wholly outside the image.
    """
    x, y, w, h = (float(value) for value in box)
    shown = f"the box [{x:g}, {y:g}, {w:g}, {h:g}] (x, y, width, height)"
    if not all(map(math.isfinite, (x, y, w, h))):
        raise CondsimError(f"{shown} has an entry that is not a number")
    if w <= 0 or h <= 0:
        raise CondsimError(f"{shown} has no area")
    if x >= width or y >= height or x + w <= 0 or y + h <= 0:
        raise CondsimError(f"{shown} lies wholly outside its image of {width} x {height} pixels")
    left, top = max(0.0, x - dilation * w), max(0.0, y - dilation * h)
    right, bottom = min(float(width), left + (1 + dilation) * w), min(float(height), top + (1 + dilation) * h)
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


def decode(data: bytes) -> Picture:
    """The picture in the bytes of an image file, in its own mode. Raises CondsimError where it does not decode."""
    try:
        image = Image.open(io.BytesIO(data))
        image.load()
    except Exception as error:  # a damaged file can raise nearly anything in a decoder
        reason = "the file is empty" if not data else str(error).replace(repr(error.__class__), "")
        if "cannot identify image file" in reason:
            reason = "not an image file that Pillow knows"
        raise CondsimError(f"does not decode ({reason})") from error
    return image


def fault_at_a_glance(path: str, box: NDArray[np.float64] | None, dilation: float = 0.7) -> str | None:
    """What is wrong with an image file or the box in it, as far as header and end tell; None: nothing that they tell.

    A file that looks cut off is decoded to make sure. One damaged in between is found when it is decoded at last.
    """
    try:
        with open(path, "rb") as file, Image.open(file) as image:
            size = image.size
            ended = _ends_as_it_should(file, image.format)
    except Exception:  # what is no image can raise nearly anything
        ended = False
    try:
        if not ended:
            with open(path, "rb") as file:
                size = decode(file.read()).size
        if box is not None:
            crop_box(box, *size, dilation)
    except (CondsimError, OSError) as error:
        return str(error)
    return None


def _ends_as_it_should(file: BinaryIO, kind: str | None) -> bool:
    end = {"JPEG": b"\xff\xd9", "PNG": b"IEND\xaeB`\x82"}.get(kind or "")
    if end is None:
        return True
    file.seek(-len(end), io.SEEK_END)
    return file.read() == end
