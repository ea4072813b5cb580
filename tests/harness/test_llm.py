"""The chat client against a hostile server on 127.0.0.1: no network."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from typing import Any

import pytest

import chat_server
from chat_server import ChatServer, chat
from condsim.harness.errors import CondsimError
from condsim.harness.llm import LARGEST_ANSWER, ChatEndpoint, TryAgainError

KEY = "sk-SECRET123"
Reply = Callable[[BaseHTTPRequestHandler], None]


class Server(ChatServer):
    """Answers every request with ``reply`` and keeps the headers that it saw."""

    def __init__(self) -> None:
        self.reply: Reply = send(200, chat("hello"))
        self.seen: list[dict[str, str]] = []
        super().__init__()

    def reply_to(self, request: BaseHTTPRequestHandler, body: bytes) -> None:
        self.seen.append(dict(request.headers))
        self.reply(request)


def send(status: int, body: bytes, **headers: str) -> Reply:
    return lambda request: chat_server.send(request, status, body, **headers)


def drip(status: int, part: bytes, header: bool = False) -> Reply:
    """A byte now and then, for 30 seconds: each read of a client gets something in time."""

    def reply(handler: BaseHTTPRequestHandler) -> None:
        if not header:
            handler.send_response(status)
            handler.end_headers()
        for _ in range(600):
            handler.wfile.write(part)
            handler.wfile.flush()
            time.sleep(0.05)

    return reply


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    monkeypatch.setenv("TEST_KEY", KEY)
    monkeypatch.setattr("condsim.harness.llm.sleep", lambda seconds: None)
    server = Server()
    yield server
    server.close()


def ask(server: Server, **settings: Any) -> str:
    defaults: dict[str, Any] = {"base_url": server.url, "api_key_env": "TEST_KEY", "timeout": 60, "attempts": 1}
    return ChatEndpoint("tiny", **{**defaults, **settings}).ask([{"role": "user", "content": "?"}], str)


def refusal(server: Server, **settings: Any) -> str:
    with pytest.raises(CondsimError) as error:
        ask(server, **settings)
    message = str(error.value)
    assert "SECRET" not in message
    assert message.isprintable()
    return message


def test_an_answer_is_read_and_the_key_is_sent(server: Server) -> None:
    assert ask(server) == "hello"
    assert server.seen[0]["Authorization"] == f"Bearer {KEY}"


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed_and_the_key_stays(server: Server, status: int) -> None:
    other = Server()
    try:
        server.reply = send(status, b"", Location=other.url.replace("127.0.0.1", "localhost"))
        assert f"HTTP {status}, a redirect to 'localhost'" in refusal(server)
        assert not other.seen
        server.reply = send(status, b"", Location="file:///etc/passwd")
        assert "are not followed" in refusal(server)
    finally:
        other.close()


def test_a_key_that_the_endpoint_echoes_is_hidden(server: Server) -> None:
    server.reply = send(401, f"Incorrect key {KEY}".encode())
    assert "Incorrect key [key]" in refusal(server)
    server.reply = send(200, chat(f"your key is {KEY}"))
    assert ask(server) == "your key is [key]"
    server.reply = send(200, KEY.encode())
    assert "not a chat completion: '[key]'" in refusal(server)
    server.reply = send(302, b"", Location=f"http://{KEY.lower()}.example/{KEY}")
    refusal(server)


@pytest.mark.parametrize("key", [f"{KEY}\n{KEY}b", f"{KEY} b", f"{KEY}\u2026", f"{KEY}\x1b[2J"])
def test_a_key_with_other_characters_is_refused_without_printing_it(
    server: Server, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    monkeypatch.setenv("TEST_KEY", key)
    assert "TEST_KEY holds blanks" in refusal(server)
    assert not server.seen


def test_a_placeholder_key_is_no_secret(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_KEY", "EMPTY")
    server.reply = send(200, chat("an EMPTY street"))
    assert ask(server) == "an EMPTY street"


@pytest.mark.parametrize("status", [200, 400, 500])
def test_a_large_answer_is_refused(server: Server, status: int) -> None:
    server.reply = send(status, chat("x" * (LARGEST_ANSWER + 1)))
    assert "more than 1,048,576 bytes" in refusal(server)
    server.reply = send(status, b"\x1f\x8b" + bytes(100), Content_Encoding="gzip")
    assert "compressed answer" in refusal(server)


@pytest.mark.parametrize("header", [False, True])
@pytest.mark.parametrize("status", [200, 400])
def test_an_answer_that_drips_ends_at_the_deadline(server: Server, status: int, header: bool) -> None:
    server.reply = drip(status, b" ", header)
    assert "timed out" in refusal(server, timeout=0.2)


@pytest.mark.parametrize(
    "body",
    [
        b"<html>hi</html>", b'{"choices":[]}', b"[" * 100_000, b'{"choices": ' + b"9" * 100_000 + b"}", chat(None),
        b'{"choices":[{"message":{"content":"\\ud800"}}]}', b"\x1b[2J\x1b]0;owned\x07",
    ],
)  # fmt: skip
@pytest.mark.parametrize("status", [200, 400, 429])
def test_nonsense_is_an_error_on_one_printable_line(server: Server, body: bytes, status: int) -> None:
    server.reply = send(status, body)
    refusal(server)


def test_a_broken_error_answer_and_too_many_headers_are_errors(server: Server) -> None:
    server.reply = send(400, b"x", Content_Length="1000")
    refusal(server)
    server.reply = send(200, chat("hello"), **{f"X_{i}": "y" for i in range(300)})
    refusal(server)


def test_an_unusable_answer_is_requested_again(server: Server) -> None:
    answers = iter([TryAgainError("too short"), TryAgainError("too short"), None])

    def read(answer: str) -> str:
        if (error := next(answers)) is not None:
            raise error
        return answer

    endpoint = ChatEndpoint("tiny", server.url, "TEST_KEY", timeout=60, attempts=3)
    assert endpoint.ask([{"role": "user", "content": "?"}], read) == "hello"
    assert len(server.seen) == 3


@pytest.mark.parametrize("settings", [{"base_url": "localhost:8000"}, {"attempts": 0}, {"timeout": 0}])
def test_settings_out_of_range_are_named(settings: dict[str, Any]) -> None:
    with pytest.raises(CondsimError, match=next(iter(settings))):
        ChatEndpoint("tiny", **settings)
