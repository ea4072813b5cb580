"""A server on 127.0.0.1 in place of a language model's endpoint: no network."""

from __future__ import annotations

import json
import threading
from abc import ABC, abstractmethod
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class ChatServer(ABC):
    """Runs in threads of its own from the start until ``close``."""

    def __init__(self) -> None:
        server = self

        class Handler(BaseHTTPRequestHandler):
            def handle_any(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                with suppress(OSError):  # the client has left
                    server.reply_to(self, body)

            do_GET = do_POST = handle_any  # noqa: N815

            def log_message(self, *arguments: object) -> None:
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._http.server_port}/v1"
        threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    @abstractmethod
    def reply_to(self, request: BaseHTTPRequestHandler, body: bytes) -> None:
        """Answer one request, whose body has been read."""

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()


def send(request: BaseHTTPRequestHandler, status: int, body: bytes, **headers: str) -> None:
    """An answer with these headers (``Retry_After`` for Retry-After)."""
    request.send_response(status)
    for name, value in headers.items():
        request.send_header(name.replace("_", "-"), value)
    request.end_headers()
    request.wfile.write(body)


def chat(content: object) -> bytes:
    """The body of a model's answer."""
    return json.dumps({"choices": [{"message": {"role": "assistant", "content": content}}]}).encode()
