"""Pictures small enough to live inside one HTML file."""

from __future__ import annotations

import base64
import io
import json
import re
from pathlib import Path

import PIL
from PIL import Image

from condsim.harness.files.hashing import digest
from condsim.harness.images import Picture, crop_by_rule, in_eight_bits
from condsim.harness.task import ImageTable

RULE = f"thumbnail 1, Pillow {PIL.__version__}"
"""Part of a thumbnail's key: change it whenever thumbnails are made in another way."""
DATA = '<script type="application/json" id="data">'
"""What the pictures of a page come after."""
_URI = re.compile("data:image/webp;base64,[A-Za-z0-9+/=]+")


def thumbnail_key(table: ImageTable, row: int, side: int, content: bytes) -> str:
    """A digest of all that the thumbnail depends on. ``content``: the bytes of the file."""
    box = b"" if table.boxes is None else table.boxes[row].tobytes()
    rule = repr((RULE, side, table.crop, table.dilation) if box else (RULE, side)).encode()
    return base64.b64encode(digest(digest(content) + digest(rule) + box)).decode("ascii").rstrip("=")


def thumbnails_of(page: Path) -> dict[str, str]:
    """Key -> data URI of the thumbnails in a report; none where ``page`` is no report.

    Making thumbnails takes half of the time of a report, and most are those of the report that it replaces.
    """
    try:
        data = page.read_text(encoding="utf-8").partition(DATA)[2].partition("</script>")[0]
        pictures = json.loads(data)["pictures"]
        return {str(key): uri for _, uri, key in pictures if isinstance(uri, str) and _URI.fullmatch(uri)}
    except Exception:  # whatever is there instead of a report
        return {}


def thumbnail_uri(table: ImageTable, row: int, side: int, content: bytes | None = None) -> str | None:
    """``thumbnail`` as a data URI."""
    picture = thumbnail(table, row, side, content)
    if picture is None:
        return None
    out = io.BytesIO()
    picture.save(out, "WEBP", quality=80, method=2)  # the default takes half as long again for 2 % fewer bytes
    return "data:image/webp;base64," + base64.b64encode(out.getvalue()).decode("ascii")


def thumbnail(table: ImageTable, row: int, side: int, content: bytes | None = None) -> Picture | None:
    """The picture at most ``side`` pixels wide and high; None where it is missing or does not decode.

    ``content``: the bytes of the file; None: it is read now.
    """
    box = table.box(row)
    try:
        with Image.open(table.path(row) if content is None else io.BytesIO(content)) as opened:
            if box is None:
                opened.draft("RGB", (2 * side, 2 * side))  # a JPEG decodes at a part of its size, much sooner
                opened.load()
                picture = in_eight_bits(opened)
            else:
                picture = crop_by_rule(in_eight_bits(opened), box, table)
            return _reduced(picture, side)
    except Exception:  # a damaged file can raise nearly anything in a decoder: the report shows a placeholder
        return None


def _reduced(picture: Picture, side: int) -> Picture:
    transparent = "transparency" in picture.info or picture.mode in ("RGBA", "LA", "PA")
    picture = picture.convert("RGBA" if transparent else "RGB")
    picture.thumbnail((side, side), Image.Resampling.LANCZOS)
    if transparent:
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert("RGB")
    return picture
