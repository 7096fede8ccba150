"""A local chat-completions endpoint for graders and proxies; the test decides what it replies."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class ChatServer(ThreadingHTTPServer):
    """A server that holds the ``bodies`` of all requests, in order; append under ``lock``."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, handler: type[ChatHandler]) -> None:
        super().__init__(("127.0.0.1", 0), handler)
        self.bodies: list[dict[str, Any]] = []
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"

    def handle_error(self, request: object, client_address: object) -> None:
        """Ignore clients that close the connection."""


class ChatHandler(BaseHTTPRequestHandler):
    """Reads requests and sends replies; a test subclasses it with ``do_POST``."""

    protocol_version = "HTTP/1.1"
    usage = (0, 0)  # prompt and completion tokens that a reply reports

    def body(self) -> dict[str, Any]:
        return json.loads(self.rfile.read(int(self.headers["Content-Length"])))

    def send_reply(self, reply: str) -> None:
        prompt_tokens, completion_tokens = self.usage
        usage = {"prompt_tokens": prompt_tokens, "completion_tokens": completion_tokens}
        self.send(200, json.dumps({"choices": [{"message": {"content": reply}}], "usage": usage}).encode())

    def send(self, status: int, content: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *arguments: object) -> None:
        pass


@contextmanager
def serving(server: ChatServer) -> Iterator[None]:
    """Run the server within the block."""
    with server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        yield
        server.shutdown()
