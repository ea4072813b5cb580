"""One spelling for names that look alike: labels, column headers, image names, texts of published features.

Tables, lists of names and folders are written on different systems: with a byte-order mark, with blanks at the ends of
cells, in another Unicode form, with Windows' path separators. What compares or looks up names passes both sides through
the same function of this module. All functions are idempotent and never fail.
"""

from __future__ import annotations

import unicodedata

_INVISIBLE = "\ufeff\u200b\u2060"
"""Byte-order mark, zero-width space, word joiner: characters without width that ``str.isspace`` does not know."""


def clean_text(text: str) -> str:
    """``text`` in Unicode form NFC, without blanks of any kind or a byte-order mark at its ends.

    >>> clean_text("\\ufeff a red cup\\u00a0")
    'a red cup'
    """
    normal = unicodedata.normalize("NFC", text)
    # The two kinds of blanks may alternate at an end.
    while (shorter := normal.strip().strip(_INVISIBLE)) != normal:
        normal = shorter
    return normal


def clean_label(text: str) -> str:
    """``clean_text``, and every run of blanks inside becomes one space: for labels, categories, column headers.

    >>> clean_label("dark\\u00a0 red ")
    'dark red'
    """
    return " ".join(clean_text(text).split())


def clean_path(text: str) -> str:
    """``clean_text``, as a path with ``/`` and without ``.`` parts: for the names of images and files.

    Blanks inside stay, since two files may differ in them. ``..`` and a leading ``/`` stay, so that the caller can
    refuse them.

    >>> clean_path(".\\\\photos//cup-01.png ")
    'photos/cup-01.png'
    """
    path = clean_text(text).replace("\\", "/")
    parts = [part for part in path.split("/") if part not in ("", ".")]
    cleaned = ("/" if path.startswith("/") else "") + "/".join(parts)
    return cleaned if cleaned == text else clean_path(cleaned)  # what was removed may leave blanks at the end
