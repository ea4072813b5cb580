"""Values of conditions ("color" -> red, blue, ...) from the lexicon that ships with the project or a user's file."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path

from condsim.harness.errors import CondsimError, did_you_mean, require_one_of
from condsim.harness.files.paths import resolve
from condsim.methods.phrases.entries import Values, read_entries, read_sections, spelling
from condsim.methods.phrases.source import Phrases

LEXICON = Path(__file__).with_name("lexicon.yaml")


class Lexicon:
    """Values from a user's file and from the lexicon."""

    def __init__(self, section: str = "common", file: str | None = None) -> None:
        sections = _sections()
        require_one_of("phrases.section", section, sections)
        self.entries = dict(sections[section])
        if file is not None:
            self.entries |= read_entries(resolve(file))

    def missing(self, conditions: Sequence[str]) -> list[str]:
        return [condition for condition in conditions if spelling(condition) not in self.entries]

    def values(self, condition: str) -> tuple[str, ...]:
        try:
            return self.entries[spelling(condition)]
        except KeyError:
            raise CondsimError(
                f"the lexicon has no values for the condition {condition!r}. {did_you_mean(condition, self.entries)} "
                f"{self.how_to_add([condition])}"
            ) from None

    def how_to_add(self, conditions: Sequence[str]) -> str:
        return (
            f'To add it, write a line such as "{conditions[0]}: [first value, second value, ...]" into a YAML file and '
            "give method.phrases.file=FILE, or let a language model list the values with method.phrases=llm"
        )


def phrase_source(phrases: Phrases | None) -> Phrases:
    """``phrases``, or the lexicon if None. Raises CondsimError for the name of a source instead of a source."""
    if isinstance(phrases, str):
        raise CondsimError(
            f"phrases={phrases!r} is a name, not a source of phrases: choose one with method.phrases={phrases} on the "
            "command line, or with a defaults list in YAML"
        )
    return Lexicon() if phrases is None else phrases


@cache
def _sections() -> dict[str, dict[str, Values]]:
    return read_sections(LEXICON)
