"""A client for any OpenAI-compatible chat endpoint, made for endpoints that are slow, broken or hostile.

The key never leaves for another host (redirects are refused) and never appears in a message. Every request has an
overall deadline and every answer a largest size. The `openai` package has neither limit: see docs/methods.md.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import UTC, datetime
from email.message import Message
from email.utils import parsedate_to_datetime
from threading import Thread
from time import sleep
from typing import Any, TypeVar
from urllib.parse import urlsplit

from condsim.harness.errors import CondsimError

LARGEST_ANSWER = 1 << 20
"""Bytes of one HTTP answer; more is refused."""
_LONGEST_WAIT = 60.0
_SHORTEST_SECRET = 8
"""Keys of fewer characters ("EMPTY", "none") are placeholders of local servers, not secrets to be hidden."""
_BUSY = (408, 409, 425, 429)

T = TypeVar("T")
Chat = Sequence[Mapping[str, Any]]
"""Messages of a chat completion: {"role": ..., "content": ...}."""


class TryAgainError(Exception):
    """The answer is not usable, another may be. ``wait``: seconds before the next attempt, if the endpoint says so."""

    def __init__(self, reason: str, wait: float | None = None) -> None:
        super().__init__(reason)
        self.wait = wait


@dataclass(frozen=True)
class ChatEndpoint:
    """A model behind an OpenAI-compatible endpoint.

    Args:
        model: the model's name at the endpoint.
        base_url: of the endpoint, without /chat/completions.
        api_key_env: the environment variable that holds the key; None: the endpoint needs none.
        timeout: seconds for one request, from the connection to the last byte.
        attempts: requests per question; the waits between them grow, or are as the endpoint says.
    """

    model: str
    base_url: str = "https://api.openai.com/v1"
    api_key_env: str | None = "OPENAI_API_KEY"
    timeout: float = 60.0
    attempts: int = 5

    def __post_init__(self) -> None:
        if not self.base_url.startswith(("http://", "https://")):
            raise CondsimError(f"base_url={self.base_url} must start with http:// or https://")
        if self.attempts < 1 or not self.timeout > 0:
            raise CondsimError(f"attempts={self.attempts} must be 1 or more, timeout={self.timeout} above 0")

    @property
    def url(self) -> str:
        return f"{self.base_url.rstrip('/')}/chat/completions"

    def ask(self, messages: Chat, read: Callable[[str], T]) -> T:
        """What ``read`` makes of the model's answer; it raises TryAgainError for an unusable one.

        Raises CondsimError where the endpoint refuses, or after ``attempts`` unusable answers.
        """
        key = self._key()
        body = json.dumps({"model": self.model, "messages": list(messages), "temperature": 0}).encode()
        headers = {"Content-Type": "application/json", "User-Agent": "condsim"}
        if key is not None:
            headers["Authorization"] = f"Bearer {key}"
        hide = _hider(key)
        reason = ""
        for attempt in range(self.attempts):
            try:
                received = _within(self.timeout, lambda: _post(self.url, body, headers, self.timeout, hide))
                return read(_content(hide(received)))
            except TryAgainError as error:
                reason = str(error)
                if attempt + 1 < self.attempts:
                    sleep(min(_LONGEST_WAIT, 2.0**attempt if error.wait is None else error.wait))
        raise CondsimError(
            f"{self.url}: no usable answer from {self.model} in {self.attempts} attempts; the last: {reason}"
        )

    def _key(self) -> str | None:
        if self.api_key_env is None:
            return None
        key = os.environ.get(self.api_key_env, "").strip()
        if not key:
            raise CondsimError(
                f"the environment variable {self.api_key_env} holds no key for {self.base_url}: set it, or give "
                "api_key_env=null if the endpoint needs none"
            )
        if not re.fullmatch(r"[!-~]+", key):
            raise CondsimError(
                f"the environment variable {self.api_key_env} holds blanks, line breaks or letters that no key has: it "
                "must hold one key and nothing else"
            )
        return key


def shortened(text: str) -> str:
    """The start of a text on one line, in quotes, with everything escaped that is not printable."""
    flat = " ".join(text.split())
    return repr(flat if len(flat) <= 200 else f"{flat[:200]}...")


def _hider(key: str | None) -> Callable[[str], str]:
    if key is None or len(key) < _SHORTEST_SECRET:
        return lambda text: text
    return lambda text: text.replace(key, "[key]")


def _post(url: str, body: bytes, headers: Mapping[str, str], timeout: float, hide: Callable[[str], str]) -> str:
    """The text of the answer. Raises TryAgainError for a busy or broken endpoint, CondsimError for a refusal."""
    request = urllib.request.Request(url, data=body, headers=dict(headers), method="POST")
    try:
        with urllib.request.build_opener(_NoRedirects).open(request, timeout=timeout) as response:
            return _read(response)
    except urllib.error.HTTPError as error:
        if 300 <= error.code < 400:
            host = urlsplit(error.headers.get("Location", "")).hostname or "another address"
            raise CondsimError(
                f"{url} answered HTTP {error.code}, a redirect to {shortened(hide(host))}. Redirects are not followed, "
                "or the key would be sent there: set base_url to the final address"
            ) from None
        try:
            text = shortened(hide(_read(error)))
        except (OSError, http.client.HTTPException, TryAgainError) as broken:
            text = f"(unreadable: {_name(broken)})"
        if error.code in _BUSY or error.code >= 500:
            raise TryAgainError(f"HTTP {error.code}: {text}", _retry_after(error.headers)) from None
        raise CondsimError(f"{url} answered HTTP {error.code}: {text}") from None
    except (OSError, http.client.HTTPException) as error:  # no connection, a broken one, or no answer in time
        raise TryAgainError(shortened(hide(_name(error)))) from None


def _read(response: Any) -> str:
    received: bytes = response.read(LARGEST_ANSWER + 1)
    if len(received) > LARGEST_ANSWER:
        raise TryAgainError(f"an answer of more than {LARGEST_ANSWER:,} bytes")
    if response.headers.get("Content-Encoding", "identity") != "identity":
        raise TryAgainError("a compressed answer, which was not requested")
    return received.decode(errors="replace")


def _content(received: str) -> str:
    try:
        content = json.loads(received)["choices"][0]["message"]["content"]
    except (ValueError, KeyError, IndexError, TypeError, RecursionError):
        raise TryAgainError(f"not a chat completion: {shortened(received)}") from None
    if not isinstance(content, str):
        raise TryAgainError("the chat completion has no text")
    try:
        content.encode()
    except UnicodeEncodeError:
        raise TryAgainError(f"the text holds half a character: {shortened(content)}") from None
    return content


def _retry_after(headers: Message) -> float | None:
    """Seconds of a Retry-After header, given as seconds or as a date."""
    value = headers.get("Retry-After")
    if value is None:
        return None
    try:
        seconds = float(value)
        return max(0.0, seconds) if seconds == seconds else None
    except ValueError:
        pass
    try:
        return max(0.0, (parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds())
    except (TypeError, ValueError):
        return None


def _name(error: Exception) -> str:
    return str(error) or type(error).__name__


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *arguments: Any) -> None:
        return None


def _within(seconds: float, work: Callable[[], T]) -> T:
    """``work()``. Raises TryAgainError after ``seconds``: a socket's own timeout is per read, and an endpoint may send
    one byte at a time. Late work ends on its own thread, whose result nobody reads."""
    outcome: Future[T] = Future()

    def run() -> None:
        try:
            outcome.set_result(work())
        except Exception as error:
            outcome.set_exception(error)

    Thread(target=run, daemon=True).start()
    try:
        return outcome.result(seconds)
    except TimeoutError:
        raise TryAgainError("timed out") from None
