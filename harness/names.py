"""One spelling for names that look alike: labels, column headers, image names, texts of published features.

Tables, lists of names and folders are written on different systems: with a byte-order mark, with blanks at the ends of
cells, in another Unicode form, with Windows' path separators. What compares or looks up names passes both sides through
the same function of this module. All functions are idempotent and never fail.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable

_INVISIBLE = "\ufeff\u200b\u2060"
"""Byte-order mark, zero-width space, word joiner: characters without width that ``str.isspace`` does not know."""
_WITHOUT_INVISIBLE = dict.fromkeys(map(ord, _INVISIBLE + "\u00ad\u200e\u200f"))
"""They are removed inside labels too, and so are soft hyphens and direction marks."""
_NOT_IN_NAMES = {
    "Cc": "a control character",
    "Cs": "bytes that are not UTF-8",
    "Zl": "a line break",
    "Zp": "a line break",
}


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
    return " ".join(clean_text(text.translate(_WITHOUT_INVISIBLE)).split())


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


_DIRECTIONS = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""Characters that show the letters after them in another order: a name may seem to be another one."""


def unusable_character(text: str) -> str | None:
    """What in ``text`` no name may hold, in words; None: nothing. Unlike ``str.isprintable``, it allows every blank and
    the joiners inside emoji.

    >>> unusable_character("a\\x1bb")
    "a control character ('\\\\x1b')"
    """
    if text.isprintable():
        return None
    for character in text:
        if kind := _NOT_IN_NAMES.get(unicodedata.category(character)):
            return f"{kind} ({character!a})"
    return None


def escaped(text: str) -> str:
    """``text`` as a terminal can show it: what :func:`unusable_character` names becomes an escape, but for line ends
    and tabs; so do marks that change the order of letters.

    >>> escaped("a\\x1b[2Jb")
    'a\\\\x1b[2Jb'
    """
    if text.isprintable():
        return text
    return "".join(
        ascii(letter)[1:-1]
        if letter in _DIRECTIONS or (letter not in "\n\t" and unicodedata.category(letter) in _NOT_IN_NAMES)
        else letter
        for letter in text
    )


def notes_on_alike(texts: Iterable[str], what: str) -> tuple[str, ...]:
    """One sentence per group of ``texts`` that differ only in case, or in the width or form of their letters; ``what``
    they are, as "labels of 'color'".

    >>> notes_on_alike(["red", "Red", "blue"], "colors")
    ("colors that differ only in case count as different: 'Red', 'red'",)
    """
    groups: dict[str, set[str]] = {}
    for text in texts:
        groups.setdefault(unicodedata.normalize("NFKC", text).casefold(), set()).add(text)
    return tuple(
        f"{what} that differ only in case count as different: {', '.join(map(repr, sorted(group)))}"
        for group in groups.values()
        if len(group) > 1
    )
