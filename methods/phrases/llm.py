"""Values of conditions from a language model behind any OpenAI-compatible chat endpoint: asked once, kept as files."""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from datetime import UTC, datetime
from email.message import Message
from email.utils import parsedate_to_datetime
from http.client import HTTPException
from pathlib import Path

from condsim.harness.errors import CondsimError
from condsim.harness.paths import default_cache_dir
from condsim.methods.phrases.lexicon import spelling, without_repeats

PROMPT = (
    'List {count} different values that the visual attribute "{condition}" of an object, person or scene in a '
    "photograph can take, the most common first. Vary the values, not the wording: each is one to four words that "
    'complete the sentence "a photo of ...", without the sentence itself. Answer with a JSON array of strings and '
    "nothing else."
)
_LONGEST_VALUE = 60
_LONGEST_WAIT = 60.0


class TryAgainError(Exception):
    """The endpoint may do better the next time; ``wait``: the seconds that it asked for, if it did."""

    def __init__(self, reason: str, wait: float | None = None) -> None:
        super().__init__(reason)
        self.wait = wait


class LLMPhrases:
    """Values that a language model lists for a condition. Every answer is kept and never asked for again.

    Args:
        model: the model's name at the endpoint.
        base_url: of the endpoint, without /chat/completions.
        api_key_env: the environment variable that holds the key; None: the endpoint needs none.
        count: how many values are asked for.
        folder: where the answers are kept, one JSON file a model and prompt; None: phrases/ in the cache folder.
        timeout: seconds until an answer that does not come is given up.
        attempts: how often a condition is asked for before giving up.
        max_conditions: a task with more conditions without a kept answer is refused.
    """

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
        if count < 2 or attempts < 1:
            raise CondsimError(f"phrases.count={count} must be 2 or more, phrases.attempts={attempts} 1 or more")
        if not base_url.startswith(("http://", "https://")):
            raise CondsimError(f"phrases.base_url={base_url} must start with http:// or https://")
        self.model = model
        self.base_url = base_url.rstrip("/")
        self.api_key_env = api_key_env
        self.count = count
        self.folder = default_cache_dir() / "phrases" if folder is None else Path(folder).expanduser()
        self.timeout = timeout
        self.attempts = attempts
        self.max_conditions = max_conditions

    def missing(self, conditions: Sequence[str]) -> list[str]:
        """None if few enough must be asked for, else all that no answer is kept of."""
        unasked = [condition for condition in conditions if not self.file(condition).exists()]
        return unasked if len(unasked) > self.max_conditions else []

    def how_to_add(self, conditions: Sequence[str]) -> str:
        return (
            f"{len(conditions)} of them would be asked of {self.model}, more than phrases.max_conditions="
            f"{self.max_conditions}. Raise it, or correct the answers in {self.folder} by hand"
        )

    def values(self, condition: str) -> tuple[str, ...]:
        """The kept answer; asked for first if there is none. Raises CondsimError where no usable answer comes."""
        file = self.file(condition)
        if not file.exists():
            self._keep(file, condition, *self._ask(condition))
        try:
            return _distinct(json.loads(file.read_text(encoding="utf-8"))["values"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise CondsimError(
                f'{file}: expected a JSON object with "values", a list of two or more texts, found {error!r}; '
                "correct it, or delete it to ask again"
            ) from None

    def prompt(self, condition: str) -> str:
        return PROMPT.format(count=self.count, condition=spelling(condition))

    def file(self, condition: str) -> Path:
        """Where the answer is kept: another model or prompt has another file."""
        digest = hashlib.blake2b(f"{self.model}\0{self.prompt(condition)}".encode(), digest_size=6).hexdigest()
        name = re.sub(r"[^a-z0-9]+", "-", spelling(condition)).strip("-")[:40] or "condition"
        return self.folder / f"{name}-{digest}.json"

    def _keep(self, file: Path, condition: str, values: tuple[str, ...], answer: str) -> None:
        about = {
            "condition": condition,
            "model": self.model,
            "base_url": self.base_url,
            "prompt": self.prompt(condition),
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "values": values,
            "answer": answer,
        }
        file.parent.mkdir(parents=True, exist_ok=True)
        scratch = file.with_suffix(f".{os.getpid()}.tmp")
        scratch.write_text(json.dumps(about, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        os.replace(scratch, file)

    def _ask(self, condition: str) -> tuple[tuple[str, ...], str]:
        headers = {"Content-Type": "application/json", "User-Agent": "condsim"} | self._authorization()
        messages = [{"role": "user", "content": self.prompt(condition)}]
        body = json.dumps({"model": self.model, "messages": messages, "temperature": 0}).encode()
        url = f"{self.base_url}/chat/completions"
        reason = ""
        for attempt in range(self.attempts):
            try:
                answer = _content(_post(url, body, headers, self.timeout))
                return read_values(answer, least=max(2, self.count // 4)), answer
            except TryAgainError as error:
                reason = str(error)
                if attempt + 1 < self.attempts:
                    time.sleep(min(_LONGEST_WAIT, 2.0**attempt if error.wait is None else error.wait))
        raise CondsimError(
            f"{url}: no usable values of {condition!r} from {self.model} in {self.attempts} attempts; the last: "
            f"{reason}. Try again later, or give the values yourself with method.phrases.file=FILE"
        )

    def _authorization(self) -> dict[str, str]:
        if self.api_key_env is None:
            return {}
        key = os.environ.get(self.api_key_env, "").strip()
        if not key:
            raise CondsimError(
                f"the environment variable {self.api_key_env} holds no key for {self.base_url}: set it, or give "
                "method.phrases.api_key_env=null if the endpoint needs none"
            )
        return {"Authorization": f"Bearer {key}"}


def read_values(answer: str, least: int) -> tuple[str, ...]:
    """The values in a model's answer: a JSON array somewhere in it, else its lines without bullets and numbers.

    Raises TryAgainError where fewer than ``least`` distinct usable ones are found.
    """
    listed = _json_array(answer)
    if listed is None:
        lines = (re.sub(r"^\s*(?:[-*•]|\d+[.)])\s*", "", line).strip(" \"'`,;.") for line in answer.splitlines())
        listed = [line for line in lines if len(line.split()) <= 6]
    values = without_repeats(value for value in listed if isinstance(value, str) and len(value) <= _LONGEST_VALUE)
    if len(values) < least:
        raise TryAgainError(f"found {len(values)} values, expected {least} or more, in the answer {_shortened(answer)}")
    return values


def _json_array(answer: str) -> list[object] | None:
    """The first JSON array in the text that holds something."""
    decoder = json.JSONDecoder()
    for start in (match.start() for match in re.finditer(r"\[", answer)):
        try:
            found, _ = decoder.raw_decode(answer, start)
        except ValueError:
            continue
        if isinstance(found, list) and found:
            return found
    return None


def _post(url: str, body: bytes, headers: dict[str, str], timeout: float) -> bytes:
    request = urllib.request.Request(url, data=body, headers=headers, method="POST")
    try:
        with urllib.request.urlopen(request, timeout=timeout) as response:
            received: bytes = response.read()
            return received
    except urllib.error.HTTPError as error:
        said = _shortened(error.read().decode(errors="replace"))
        if error.code in (408, 409, 425, 429) or error.code >= 500:
            raise TryAgainError(f"HTTP {error.code}: {said}", _retry_after(error.headers)) from None
        raise CondsimError(f"{url} answered HTTP {error.code}: {said}") from None
    except (OSError, HTTPException) as error:  # no connection, a broken one, or no answer in time
        raise TryAgainError(str(error) or type(error).__name__) from None


def _retry_after(headers: Message) -> float | None:
    """Seconds of a Retry-After header, given as seconds or as a date."""
    value = headers.get("Retry-After")
    if value is None:
        return None
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, (parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds())
    except (TypeError, ValueError):
        return None


def _content(received: bytes) -> str:
    try:
        content = json.loads(received)["choices"][0]["message"]["content"]
    except (ValueError, KeyError, IndexError, TypeError):
        raise TryAgainError(f"not a chat completion: {_shortened(received.decode(errors='replace'))}") from None
    if not isinstance(content, str):
        raise TryAgainError("the chat completion holds no text")
    return content


def _distinct(values: object) -> tuple[str, ...]:
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise TypeError("something else")
    distinct = without_repeats(values)
    if len(distinct) < 2:
        raise ValueError(f"{len(distinct)} values")
    return distinct


def _shortened(text: str) -> str:
    flat = " ".join(text.split())
    return repr(flat if len(flat) <= 200 else f"{flat[:200]}...")
