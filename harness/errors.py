"""Errors that say what the user can do. The CLI prints their message and never a traceback."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path

ROWS_SHOWN = 10
"""Rows that one message names."""


class CondsimError(Exception):
    """Something the user can fix: bad input, a missing file, an unknown name. The message says where and how."""


class BackboneError(CondsimError):
    """A backbone cannot be loaded, so every run that needs it fails in the same way. It is reported once."""


class EngineError(CondsimError):
    """The workers of an engine do not start, so nothing that needs them can be done."""


class UserCodeError(CondsimError):
    """Code of the user raised an exception that is not made for readers, its ``__cause__``."""


class NotApplicable(CondsimError):  # noqa: N818 - a verdict, not a fault: the run is left out and its cell stays empty
    """The method does not apply to the task; the message gives the reason."""


_LISTED = 25
"""Most choices that one message lists whole; of more it lists the first."""
_COMPARED = 10_000
"""Most ids that a mistyped one is compared with: the comparison takes seconds beyond."""
_DIGITS = re.compile(r"\d+")


def did_you_mean(name: str, choices: Iterable[str], listing: str = "") -> str:
    """A sentence with the choices nearest to ``name``; if none is near, all of them, or of many the first ones and the
    command that lists all (``listing``)."""
    choices = sorted(choices)
    if near := _near(name, choices):
        return f"Did you mean {' or '.join(map(repr, near[:3]))}?"
    if not choices:
        return "There is nothing to choose from."
    if len(choices) <= _LISTED:
        return f"Choose one of: {', '.join(choices)}."
    return f"Choose one of: {first_of(choices, ROWS_SHOWN)}" + f" (`{listing}` lists them)" * bool(listing) + "."


def _near(name: str, choices: Collection[str]) -> list[str]:
    """The choices in which a letter or two differ; else those of which ``name`` is a part: "focus", "vit b 32"."""
    close = get_close_matches(name, choices, n=len(choices) or 1, cutoff=0.7 if len(name) > 3 else 0.6)
    typed = _squashed(name)
    return close or [choice for choice in choices if len(typed) > 2 and typed in _squashed(choice)]


def _squashed(name: str) -> str:
    return "".join(filter(str.isalnum, name)).casefold()


def require_one_of(setting: str, value: object, known: Collection[str]) -> None:
    """Raises CondsimError with the nearest of ``known`` where ``value`` is none of them."""
    if value not in known:
        raise CondsimError(f"{setting}={value}: unknown. {did_you_mean(str(value), known)}")


def nearest_id(name: str, ids: Collection[str]) -> str:
    """A sentence with the ids of data nearest to ``name``.

    With any of them instead where none is near, where there are too many to compare, and where some differ from
    ``name`` in digits alone: which of two numbers is nearer says nothing.
    """
    if not ids:
        return "There is nothing to choose from."
    letters = _DIGITS.sub("", name)
    comparable = len(ids) <= _COMPARED and all(_DIGITS.sub("", known) != letters for known in ids)
    return did_you_mean(name, ids) if comparable and _near(name, ids) else f"A name is {next(iter(ids))!r}."


def described(error: BaseException) -> str:
    """The type and message of an error that is not ours."""
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def first_line(error: BaseException, longest: int = 160) -> str:
    """The start of an error's message; the name of its class where it has none."""
    lines = str(error).strip().splitlines()
    return lines[0][:longest] if lines else type(error).__name__


@contextmanager
def reading(path: Path, what: str) -> Iterator[None]:
    """Raises CondsimError where ``path``, which should be ``what``, cannot be read inside."""
    try:
        yield
    except FileNotFoundError:
        raise CondsimError(f"{path} does not exist (expected {what})") from None
    except OSError as error:
        raise CondsimError(f"{path} cannot be read: {error.strerror or error} (expected {what})") from None


def first_of(names: Iterable[str], shown: int = 3) -> str:
    """``a, b, c and 2 more``."""
    names = list(names)
    return ", ".join(names[:shown]) + (f" and {len(names) - shown:,} more" if len(names) > shown else "")


def first_lines(lines: Iterable[str], shown: int = ROWS_SHOWN) -> list[str]:
    """The first of ``lines``, indented, and one that counts the others."""
    lines = list(lines)
    more = [f"... and {len(lines) - shown:,} more"] if len(lines) > shown else []
    return [f"  {line}" for line in (*lines[:shown], *more)]


def counted(count: int, name: str, plural: str = "") -> str:
    """``1 row``, ``2,000 rows``, ``2 queries``."""
    return f"{count:,} {name if count == 1 else plural or f'{name}s'}"


class UnusableRowsError(CondsimError):
    """Some rows of a table cannot be encoded. The message counts them and shows the first ten."""

    def __init__(
        self,
        total: int,
        faults: Mapping[int, str],
        describe: Callable[[int], str],
        advice: str = "",
        skippable: bool = True,
    ) -> None:
        self.faults = dict(sorted(faults.items()))
        """Row -> what is wrong with it, for every unusable row."""
        self.skippable = skippable
        """True: the input is bad, so a run can continue without these rows. False: the encoder misbehaved."""
        self.advice = advice
        rows = first_lines(f"{describe(row)}: {fault}" for row, fault in self.faults.items())
        head = f"{len(faults)} of {total} rows cannot be encoded:"
        super().__init__("\n".join([head, *rows, *[advice] * bool(advice)]))
