"""The server of the feature pages and of the prompt view, for this machine alone.

It listens on the loopback address, and answers only requests that name it so: a page of another site cannot
read it under a name of its own. Files come from the folder of the pages and nowhere else.
"""

import functools
import html
import json
import threading
from collections.abc import Callable, Mapping
from http import HTTPStatus
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from string import Template
from typing import Any
from urllib.parse import parse_qs, urlsplit

from dictlearn.report.page import asset

HOST = "127.0.0.1"
LONGEST = 20_000
"""Characters of a text."""


def server(
    folder: Path,
    name: str,
    answers: Mapping[str, Callable[[Mapping[str, str]], dict[str, Any]]],
    port: int = 0,
) -> ThreadingHTTPServer:
    """A server that `serve_forever` starts.

    Args:
        folder: the folder of the feature pages.
        name: the name of the dictionary.
        answers: {path: the fields of a request -> what the prompt view asks for}, one request at a time.
        port: the port, 0 for a free one.

    Returns:
        The server, which listens already.

    Raises:
        OSError: where the port is taken.
    """
    page = Template(asset("features/prompt.html")).substitute(name=html.escape(name))
    made = {
        "/prompt": ("text/html", page),
        "/prompt.js": ("text/javascript", asset("features/prompt.js")),
    }
    handler = functools.partial(_Handler, made, answers, threading.Lock(), directory=str(folder))
    return ThreadingHTTPServer((HOST, port), handler)


class _Handler(SimpleHTTPRequestHandler):
    def __init__(self, made, answers, lock, *arguments, **settings):
        self._made, self._answers, self._lock = made, answers, lock
        super().__init__(*arguments, **settings)

    def do_GET(self) -> None:
        asked = urlsplit(self.path)
        if (self.headers.get("Host") or "").rpartition(":")[0] not in (HOST, "localhost"):
            self.send_error(HTTPStatus.FORBIDDEN, "This server answers as localhost alone.")
        elif asked.path == "/":
            self.send_response(HTTPStatus.FOUND)
            self.send_header("Location", "/prompt")
            self.end_headers()
        elif asked.path in self._made:
            self._send(HTTPStatus.OK, *self._made[asked.path])
        elif asked.path in self._answers:
            fields = {key: values[0] for key, values in parse_qs(asked.query).items()}
            self._send(*self._answer(asked.path, fields))
        else:
            super().do_GET()

    def _answer(self, path: str, fields: dict[str, str]) -> tuple[HTTPStatus, str, str]:
        kind, text = "application/json", fields.get("text", "")
        try:
            if len(text) > LONGEST:
                raise ValueError(f"the text has {len(text)} characters; the most is {LONGEST}.")
            with self._lock:
                found = self._answers[path](fields)
        except ValueError as error:
            return HTTPStatus.BAD_REQUEST, kind, json.dumps({"error": str(error)})
        return HTTPStatus.OK, kind, json.dumps(found)

    def _send(self, status: HTTPStatus, kind: str, text: str) -> None:
        body = text.encode("utf-8")
        self.send_response(status)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def list_directory(self, path: Any) -> None:
        """Folders are not listed."""
        self.send_error(HTTPStatus.NOT_FOUND)

    def log_message(self, format: str, *arguments: Any) -> None:
        """Nothing is logged: texts that people type are their own."""
