"""A list of words for a method: a user's file, or the values of one of the lexicon's conditions."""

from __future__ import annotations

import csv

from condsim.harness.errors import CondsimError
from condsim.harness.files.paths import resolve
from condsim.methods.phrases.source import Phrases


def word_list(source: str, phrases: Phrases, setting: str, published: str) -> tuple[str, ...]:
    """The words that ``source`` names, in their order, each once.

    Args:
        source: a text file with one word per line (or a .csv, of which the first column is read), or a condition that
            ``phrases`` has values for.
        setting: the name of the setting that ``source`` was given as, for messages.
        published: where the published list is, for messages.

    Raises CondsimError where ``source`` is neither, or where the file holds no words.
    """
    path = resolve(source)
    if path.is_file():
        try:
            with path.open(encoding="utf-8-sig", newline="") as file:
                words = [row[0].strip() for row in csv.reader(file) if row]
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise CondsimError(f"{setting}={source}: the file cannot be read: {error}") from None
        words = [word for word in words if word]
        if not words:
            raise CondsimError(f"{setting}={source}: the file holds no words; expected one word per line")
        return tuple(dict.fromkeys(words))
    if phrases.missing([source]):
        raise CondsimError(
            f"{setting}={source}: there is no such file, and the lexicon has no condition of this name. The published "
            f"list is {published}: download it and set {setting}=FILE"
        )
    return tuple(dict.fromkeys(phrases.values(source)))
