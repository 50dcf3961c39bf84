"""A journal of replies: a client that sends a request to another client once, and never again.

    {"key": "sha256 of the request", "reply": {"text": "...", "tokens_in": 81, "tokens_out": 12}}

is a line of the file. A reply is on the disk before anybody sees it, so a killed run continues after its last
line. Without another client the journal replays, and a request that it does not hold is an error.
"""

import contextlib
import json
import logging
import os
import threading
from pathlib import Path

from dictlearn.explanations.client import Client, Reply, Request

log = logging.getLogger("dictlearn")


def journal(path: str | Path, client: Client | None = None, model: str = "") -> "Journal":
    """Replies on disk before those of another client.

    Args:
        path: the file, created with its first line.
        client: the client that replies to other requests; None to replay.
        model: the name of the client whose replies are replayed, if there is none.

    Returns:
        A client.

    Raises:
        ValueError: for a damaged line that is not the last one.
    """
    return Journal(Path(path), client, model)


class Journal:
    """The client that `journal` returns."""

    def __init__(self, path: Path, client: Client | None, model: str):
        self._path, self._client, self._lock = path, client, threading.Lock()
        self.name = client.name if client else model
        self.at_once = client.at_once if client else 1
        self._replies = _read(self._path)

    def holds(self, request: Request) -> bool:
        """Whether the reply is known."""
        return request.key(self.name) in self._replies

    def __call__(self, request: Request) -> Reply:
        key = request.key(self.name)
        if key not in self._replies:
            if self._client is None:
                raise ValueError(
                    f"{self._path} holds no reply of {self.name!r} to a request; give a client that replies."
                )
            self._keep(key, self._client(request))
        return self._replies[key]

    def _keep(self, key: str, reply: Reply) -> None:
        line = json.dumps({"key": key, "reply": reply.told()}, ensure_ascii=False) + "\n"
        with self._lock:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("a", encoding="utf-8") as file:
                file.write(line)
                file.flush()
                os.fsync(file.fileno())
            self._replies[key] = reply


def _read(path: Path) -> dict[str, Reply]:
    """The replies of a file. A last line without its end was cut off by a kill, and is removed."""
    if not path.is_file():
        return {}
    raw = path.read_bytes()
    whole = raw[: raw.rfind(b"\n") + 1]
    if len(whole) < len(raw):
        log.warning("%s: its last line was cut off by a kill, and is asked for again.", path)
        with path.open("r+b") as file:
            file.truncate(len(whole))
    found = {}
    for number, line in enumerate(whole.decode("utf-8", "replace").split("\n")[:-1], 1):
        with contextlib.suppress(ValueError, TypeError, KeyError, AttributeError):
            one = json.loads(line)
            found[str(one["key"])] = Reply.of(one["reply"])
            continue
        raise ValueError(
            f"{path}, line {number} is damaged; remove the line, which is asked for again."
        )
    return found
