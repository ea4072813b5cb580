"""Values of conditions from a language model: requested once per condition and kept as files."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from condsim.harness.errors import CondsimError
from condsim.harness.files.paths import cache_folder
from condsim.harness.files.writing import atomic
from condsim.harness.llm import ChatEndpoint, TryAgainError, shortened
from condsim.methods.phrases.entries import spelling, without_repeats

PROMPT = (
    'List {count} different values that the visual attribute "{condition}" of an object, person or scene in a '
    "photograph can take, the most common first. Vary the values, not the wording: each is one to four words that "
    'complete the sentence "a photo of ...", without the sentence itself. Answer with a JSON array of strings and '
    "nothing else."
)
_LONGEST_VALUE = 60


class LLMPhrases:
    """Values that a language model lists for a condition. Every answer is kept and never requested again."""

    def __init__(
        self,
        model: str = "gpt-4o-mini",
        base_url: str = "https://api.openai.com/v1",
        api_key_env: str | None = "OPENAI_API_KEY",
        count: int = 120,
        folder: str | None = None,
        timeout: float = 60.0,
        attempts: int = 5,
        max_conditions: int = 100,
    ) -> None:
        if count < 2:
            raise CondsimError(f"phrases.count={count} must be 2 or more")
        self.endpoint = ChatEndpoint(model, base_url, api_key_env, timeout, attempts)
        self.model = model
        self.count = count
        self.folder = cache_folder() / "phrases" if folder is None else Path(folder).expanduser()
        self.max_conditions = max_conditions

    def missing(self, conditions: Sequence[str]) -> list[str]:
        """The conditions without a kept answer, if there are more than ``max_conditions``; else none."""
        without_answer = [condition for condition in conditions if not self.file(condition).exists()]
        return without_answer if len(without_answer) > self.max_conditions else []

    def how_to_add(self, conditions: Sequence[str]) -> str:
        return (
            f"{len(conditions)} requests to {self.model} are more than method.phrases.max_conditions="
            f"{self.max_conditions}: raise it, or put the answers into {self.folder} yourself"
        )

    def values(self, condition: str) -> tuple[str, ...]:
        """The kept answer, requested first if there is none. Raises CondsimError without a usable answer."""
        file = self.file(condition)
        if not file.exists():
            self._keep(file, condition, *self._ask(condition))
        try:
            return _distinct(json.loads(file.read_text(encoding="utf-8"))["values"])
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise CondsimError(
                f'{file}: expected a JSON object with "values", a list of two or more texts ({error!r}): '
                "correct it, or delete it to request them again"
            ) from None

    def prompt(self, condition: str) -> str:
        return PROMPT.format(count=self.count, condition=spelling(condition))

    def file(self, condition: str) -> Path:
        """The file of the kept answer, one per model and prompt."""
        digest = hashlib.blake2b(f"{self.model}\0{self.prompt(condition)}".encode(), digest_size=6).hexdigest()
        name = re.sub(r"[^a-z0-9]+", "-", spelling(condition)).strip("-")[:40] or "condition"
        return self.folder / f"{name}-{digest}.json"

    def _keep(self, file: Path, condition: str, values: tuple[str, ...], answer: str) -> None:
        about = {
            "condition": condition,
            "model": self.model,
            "base_url": self.endpoint.base_url,
            "prompt": self.prompt(condition),
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "values": values,
            "answer": answer,
        }
        with atomic(file) as scratch:
            scratch.write_text(json.dumps(about, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")

    def _ask(self, condition: str) -> tuple[tuple[str, ...], str]:
        def read(answer: str) -> tuple[tuple[str, ...], str]:
            return read_values(answer, least=max(2, self.count // 4)), answer

        try:
            return self.endpoint.ask([{"role": "user", "content": self.prompt(condition)}], read)
        except CondsimError as error:
            raise CondsimError(
                f"no values of {condition!r}: {error}. Settings are under method.phrases; or give the values yourself "
                "with method.phrases.file=FILE"
            ) from None


def read_values(answer: str, least: int) -> tuple[str, ...]:
    """The values in a model's answer: a JSON array anywhere in it, else its lines without bullets and numbers.

    A usable value is printable text of at most 60 letters. Raises TryAgainError for fewer than ``least`` distinct ones.
    """
    listed = _json_array(answer)
    if listed is None:
        lines = (re.sub(r"^\s*(?:[-*•]|\d+[.)])\s*", "", line).strip(" \"'`,;.") for line in answer.splitlines())
        listed = [line for line in lines if len(line.split()) <= 6]
    texts = (value for value in listed if isinstance(value, str) and len(value) <= _LONGEST_VALUE)
    values = tuple(value for value in without_repeats(texts) if value.isprintable())
    if len(values) < least:
        raise TryAgainError(f"found {len(values)} values, expected {least} or more, in the answer {shortened(answer)}")
    return values


def _json_array(answer: str) -> list[object] | None:
    """The first JSON array in the text that is not empty."""
    decoder = json.JSONDecoder()
    for start in (match.start() for match in re.finditer(r"\[", answer)):
        try:
            found, _ = decoder.raw_decode(answer, start)
        except ValueError:
            continue
        except RecursionError:  # nested too deep for any answer
            return None
        if isinstance(found, list) and found:
            return found
    return None


def _distinct(values: object) -> tuple[str, ...]:
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise TypeError("something else")
    distinct = without_repeats(values)
    if len(distinct) < 2:
        raise ValueError(f"{len(distinct)} values")
    return distinct
