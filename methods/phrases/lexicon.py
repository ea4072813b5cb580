"""What values a condition can take: "color" -> red, blue, ... . From the lexicon, a user's file or a language model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path

import yaml  # type: ignore[import-untyped]
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from condsim.harness.errors import CondsimError, did_you_mean
from condsim.harness.paths import resolve
from condsim.methods.phrases.source import Phrases

LEXICON = Path(__file__).with_name("lexicon.yaml")
Entries = Mapping[str, tuple[str, ...]]


class Lexicon:
    """Values from the lexicon that ships with the project, or from a user's file first.

    Args:
        section: which part of the lexicon: common (everyday photographs) or shapes (the rendered world).
        file: YAML of the user's own entries, condition -> list of values; they go before the lexicon's.
    """

    def __init__(self, section: str = "common", file: str | None = None) -> None:
        sections = _sections()
        if section not in sections:
            raise CondsimError(f"phrases.section={section}: no such section. {did_you_mean(section, sections)}")
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
            "give method.phrases.file=FILE, or use a language model with method.phrases=llm"
        )


def phrase_source(phrases: Phrases | None) -> Phrases:
    """``phrases``, or the lexicon if None. Raises CondsimError where a name was given instead of a source."""
    if isinstance(phrases, str):
        raise CondsimError(
            f"method.phrases={phrases} is no source of phrases: choose one with method.phrases=lexicon or "
            "method.phrases=llm"
        )
    return Lexicon() if phrases is None else phrases


def spelling(condition: str) -> str:
    """The one way in which conditions are compared: lower case, single spaces."""
    return " ".join(condition.casefold().split())


def read_entries(file: Path) -> dict[str, tuple[str, ...]]:
    """Condition -> values of a user's YAML file. Raises CondsimError naming the file and the entry at fault."""
    loaded = _load(file)
    return {spelling(str(name)): _values(f"{file}: {name!r}", values) for name, values in loaded.items()}


@cache
def _sections() -> dict[str, Entries]:
    return {
        str(section): {spelling(str(name)): _values(f"{LEXICON}: {name!r}", values) for name, values in entries.items()}
        for section, entries in _load(LEXICON).items()
        if isinstance(entries, dict)
    }


def _load(file: Path) -> dict[object, object]:
    try:
        loaded = OmegaConf.to_container(OmegaConf.load(file), resolve=False)
    except FileNotFoundError:
        raise CondsimError(f"{file}: there is no such file; it should hold condition: [value, value, ...]") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError, OmegaConfBaseException) as error:
        raise CondsimError(f"{file}: cannot be read as YAML: {' '.join(str(error).split())}") from None
    if not isinstance(loaded, dict):
        raise CondsimError(f"{file}: expected condition: [value, value, ...], found a {type(loaded).__name__}")
    return dict(loaded)


def _values(where: str, values: object) -> tuple[str, ...]:
    if not isinstance(values, list):
        raise CondsimError(f"{where}: expected a list of values, [red, blue, ...], found {values!r}")
    for value in values:
        if not isinstance(value, str):
            raise CondsimError(f'{where}: every value must be text; found {value!r}: write "{value}" in quotes')
    distinct = without_repeats(values)
    if len(distinct) < 2:
        raise CondsimError(f"{where}: two distinct values are the least, found {len(distinct)}")
    return distinct


def without_repeats(values: Iterable[str]) -> tuple[str, ...]:
    """The values trimmed, empty ones and repeats (upper or lower case) left out, in their order."""
    first: dict[str, str] = {}
    for value in values:
        trimmed = " ".join(value.split())
        if trimmed:
            first.setdefault(trimmed.casefold(), trimmed)
    return tuple(first.values())
