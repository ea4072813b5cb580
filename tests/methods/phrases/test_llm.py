"""Against a server of our own on 127.0.0.1: no network."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

import chat_server
from builders import make_task
from chat_server import ChatServer, send
from condsim.harness.errors import CondsimError, NotApplicable
from condsim.harness.llm import TryAgainError
from condsim.methods.clay import Clay
from condsim.methods.phrases.llm import LLMPhrases, read_values

GOOD = json.dumps([f"value {i}" for i in range(12)])


class FakeEndpoint(ChatServer):
    """Answers its requests with ``replies`` in turn, the last one for ever: (status, headers, body) or a function."""

    def __init__(self) -> None:
        self.replies: list[Any] = [chat(GOOD)]
        self.requests: list[dict[str, Any]] = []
        super().__init__()

    def reply_to(self, request: BaseHTTPRequestHandler, body: bytes) -> None:
        key = request.headers.get("Authorization")
        self.requests.append({"path": request.path, "key": key, "body": json.loads(body)})
        reply = self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]
        if callable(reply):
            reply(request)
        else:
            status, headers, text = reply
            send(request, status, text.encode(), **headers)


def chat(content: object) -> tuple[int, dict[str, str], str]:
    return 200, {}, chat_server.chat(content).decode()


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeEndpoint]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("TEST_KEY", "secret")
    fake = FakeEndpoint()
    yield fake
    fake.close()


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    waited: list[float] = []
    monkeypatch.setattr("condsim.harness.llm.sleep", waited.append)
    return waited


@pytest.fixture
def phrases(endpoint: FakeEndpoint, waits: list[float], tmp_path: Path) -> Callable[..., LLMPhrases]:
    def make(**settings: Any) -> LLMPhrases:
        defaults = {"model": "tiny", "base_url": endpoint.url, "api_key_env": "TEST_KEY", "count": 12, "timeout": 60}
        return LLMPhrases(**{**defaults, "folder": str(tmp_path / "kept"), **settings})

    return make


def test_an_answer_is_requested_once_and_stored_with_model_prompt_and_date(
    endpoint: FakeEndpoint, phrases: Callable[..., LLMPhrases], tmp_path: Path
) -> None:
    expected = tuple(f"value {i}" for i in range(12))
    assert phrases().values("Hair Color") == expected
    assert phrases().values(" hair  color") == expected
    assert len(endpoint.requests) == 1
    request = endpoint.requests[0]
    assert request["path"] == "/v1/chat/completions"
    assert request["key"] == "Bearer secret"
    assert request["body"]["model"] == "tiny"
    assert "hair color" in request["body"]["messages"][0]["content"]
    kept = json.loads(next((tmp_path / "kept").glob("hair-color-*.json")).read_text())
    assert kept["model"] == "tiny"
    assert kept["prompt"] == request["body"]["messages"][0]["content"]
    assert kept["date"].startswith("20")
    assert "secret" not in json.dumps(kept)


def test_a_kept_answer_needs_neither_key_nor_endpoint(
    endpoint: FakeEndpoint, phrases: Callable[..., LLMPhrases], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = phrases().values("color")
    monkeypatch.delenv("TEST_KEY")
    assert phrases(base_url="http://127.0.0.1:1").values("color") == first


def test_another_model_or_prompt_is_another_answer(endpoint: FakeEndpoint, phrases: Callable[..., LLMPhrases]) -> None:
    for settings in ({}, {"model": "big"}, {"count": 11}):
        phrases(**settings).values("color")
    assert len(endpoint.requests) == 3


def test_a_corrected_file_is_what_counts_and_a_broken_one_is_named(phrases: Callable[..., LLMPhrases]) -> None:
    source = phrases()
    source.values("color")
    file = source.file("color")
    file.write_text(json.dumps({"values": ["red", "green"]}))
    assert phrases().values("color") == ("red", "green")
    for broken in ("{", "[]", json.dumps({"values": ["red"]}), json.dumps({"values": [1, 2]})):
        file.write_text(broken)
        with pytest.raises(CondsimError, match="delete it to request them again"):
            phrases().values("color")


def test_rate_limits_are_waited_out_as_long_as_the_endpoint_says(
    endpoint: FakeEndpoint, phrases: Callable[..., LLMPhrases], waits: list[float]
) -> None:
    busy = (429, {"Retry-After": "7"}, "slow down")
    later = (429, {"Retry-After": formatdate(usegmt=True)}, "slow down")
    endpoint.replies = [busy, later, (503, {"Retry-After": "nonsense"}, ""), (500, {}, ""), chat(GOOD)]
    assert len(phrases().values("color")) == 12
    assert waits == [7.0, 0.0, 4.0, 8.0]


def test_no_wait_is_endless(endpoint: FakeEndpoint, phrases: Callable[..., LLMPhrases], waits: list[float]) -> None:
    endpoint.replies = [(429, {"Retry-After": "86400"}, ""), chat(GOOD)]
    phrases().values("color")
    assert waits == [60.0]


def test_an_endpoint_that_stays_down_is_given_up_with_its_last_words(
    endpoint: FakeEndpoint, phrases: Callable[..., LLMPhrases], waits: list[float]
) -> None:
    endpoint.replies = [(502, {}, "bad gateway")]
    with pytest.raises(CondsimError, match=r"3 attempts.*502.*bad gateway.*method.phrases.file"):
        phrases(attempts=3).values("color")
    assert len(endpoint.requests) == 3
    assert len(waits) == 2


@pytest.mark.parametrize("status", [400, 401, 403, 404])
def test_a_refusal_is_reported_at_once(
    endpoint: FakeEndpoint, phrases: Callable[..., LLMPhrases], waits: list[float], status: int
) -> None:
    endpoint.replies = [(status, {}, '{"error": {"message": "no such model"}}')]
    with pytest.raises(CondsimError, match=rf"{status}.*no such model"):
        phrases().values("color")
    assert len(endpoint.requests) == 1
    assert not waits


def test_an_answer_that_does_not_come_in_time_is_requested_again(
    endpoint: FakeEndpoint, phrases: Callable[..., LLMPhrases], waits: list[float]
) -> None:
    release = threading.Event()

    def hang(handler: BaseHTTPRequestHandler) -> None:
        release.wait(30)

    endpoint.replies = [hang, chat(GOOD)]
    assert len(phrases(timeout=0.2, attempts=50).values("color")) == 12
    release.set()
    assert waits, "one at least: on a busy machine a good answer can be late as well"


def test_a_broken_connection_is_tried_again_and_nobody_listening_is_an_error(
    endpoint: FakeEndpoint, phrases: Callable[..., LLMPhrases], waits: list[float]
) -> None:
    def hang_up(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", "1000")
        handler.end_headers()
        handler.wfile.write(b"{")
        handler.close_connection = True

    endpoint.replies = [hang_up, chat(GOOD)]
    assert len(phrases().values("color")) == 12
    with pytest.raises(CondsimError, match="refused"):
        phrases(base_url="http://127.0.0.1:1", attempts=2, model="other").values("color")


@pytest.mark.parametrize(
    "nonsense",
    [(200, {}, "<html>"), (200, {}, '{"choices": []}'), chat(None), chat("I cannot."), chat('["red"]'), chat("[]")],
)
def test_nonsense_is_requested_again_and_never_stored(
    endpoint: FakeEndpoint, phrases: Callable[..., LLMPhrases], waits: list[float], nonsense: str
) -> None:
    endpoint.replies = [nonsense, chat(GOOD)]
    source = phrases()
    assert len(source.values("color")) == 12
    endpoint.replies = [nonsense]
    with pytest.raises(CondsimError, match="no usable answer"):
        source.values("shape")
    assert not source.file("shape").exists()


def test_a_missing_key_is_named_and_none_may_be_needed(
    endpoint: FakeEndpoint, phrases: Callable[..., LLMPhrases], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TEST_KEY")
    with pytest.raises(CondsimError, match="TEST_KEY"):
        phrases().values("color")
    phrases(api_key_env=None).values("color")
    assert endpoint.requests[0]["key"] is None


def test_a_task_of_sentences_sends_no_request(endpoint: FakeEndpoint, phrases: Callable[..., LLMPhrases]) -> None:
    task = make_task(*[(f"sentence {i}",) for i in range(4)])
    with pytest.raises(NotApplicable, match="max_conditions"):
        Clay(phrases=phrases(max_conditions=3)).check(task)
    Clay(phrases=phrases(max_conditions=4)).check(task)
    assert not endpoint.requests


def test_clay_takes_its_values_from_the_model(endpoint: FakeEndpoint, phrases: Callable[..., LLMPhrases]) -> None:
    assert Clay(phrases=phrases(), prompts=2).prompts_of("color")[1:] == ["a photo of value 0", "a photo of value 1"]


@pytest.mark.parametrize(
    "answer",
    [
        '["red", "dark blue", "green"]',
        'Sure! Here it is:\n```json\n["red", "dark blue", "green"]\n```\nAnything else?',
        '{"values": ["red", "dark blue", "Red", "green", 7, ""]}',
        "1. red\n2. dark blue\n3) green",
        "- red\n* dark blue,\n• green\n\nThese are the most common values that a color can ever take.",
        "[see below]\nred\ndark blue\ngreen\n[]",
    ],
)
def test_answers_are_read_in_the_forms_that_models_give_them(answer: str) -> None:
    values = read_values(answer, least=3)
    assert set(values) >= {"red", "dark blue", "green"}
    assert len(values) <= 5


def test_values_too_long_to_be_values_do_not_count() -> None:
    with pytest.raises(TryAgainError, match="found 1 values"):
        read_values(json.dumps(["red", "x" * 61, {"a": 1}, None]), least=2)


def test_wrong_settings_are_named() -> None:
    for settings, name in (({"count": 1}, "count"), ({"base_url": "localhost:8000"}, "base_url")):
        with pytest.raises(CondsimError, match=name):
            LLMPhrases(**settings)
