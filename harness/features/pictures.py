"""Read a picture for an encoder: what is read is what its key was computed from."""

from __future__ import annotations

import os

from condsim.harness.errors import CondsimError
from condsim.harness.hashing import digest
from condsim.harness.images import ImageNote, Picture, crop_by_rule, decode_noted
from condsim.harness.task import ImageTable


def read_picture(table: ImageTable, row: int, expected: bytes) -> tuple[Picture, ImageNote]:
    """The picture of a row, cropped by the table's rule, and what its pixels do not show.

    Raises CondsimError for a file that cannot be read, or whose bytes no longer have the digest ``expected``: its
    features would get a wrong key.
    """
    try:
        with open(os.path.join(table.root, table.file(table.names[row])), "rb") as file:
            data = file.read()
    except OSError as error:
        raise CondsimError(str(error.strerror or error)) from None
    if digest(data) != expected:
        raise CondsimError("the file changed while it was being encoded")
    image, note = decode_noted(data)
    box = table.box(row)
    return image if box is None else crop_by_rule(image, box, table), note
