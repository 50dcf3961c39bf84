"""A server with a rate limit, for docs/explanations.md: a proxy that answers every third request by 429.

    python benchmarks/rate_limit.py --server=http://127.0.0.1:8000 --log=requests.jsonl      # on port 8001
    dictlearn analyse explain --explain.ask.url=http://127.0.0.1:8001/v1 ...
    python benchmarks/rate_limit.py --log=requests.jsonl --replies=runs/mine/replies.jsonl   # counts

A line of the log is a status and the `Idempotency-Key` of a request; "gone" where nobody waited for it.
"""

import argparse
import collections
import contextlib
import http.server
import itertools
import json
import urllib.error
import urllib.request
from pathlib import Path

EVERY = 3


class Limited(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_url, log, numbers = "", Path(), itertools.count(1)

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if next(self.numbers) % EVERY == 0:
            self.answer(429, b'{"error": "too many"}', **{"Retry-After": "1"})
            return
        asked = urllib.request.Request(
            self.server_url + self.path, body, {"Content-Type": "application/json"}
        )
        try:
            with urllib.request.urlopen(asked, timeout=3600) as reply:
                self.answer(reply.status, reply.read())
        except urllib.error.HTTPError as error:
            self.answer(error.code, error.read())
        except OSError as error:
            self.answer(502, repr(error).encode())

    def answer(self, status: int, body: bytes, **headers: str):
        self.note(status)
        try:
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)
        except OSError:
            self.note("gone")

    def note(self, status: int | str):
        with self.log.open("a") as file:
            file.write(json.dumps([status, self.headers.get("Idempotency-Key")]) + "\n")

    def log_message(self, format, *args):
        """The log is the file."""


def count(log: Path, replies: Path) -> dict:
    """What the server worked for, beside what the journal keeps."""
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    worked = collections.Counter(key for status, key in lines if status == 200)
    gone = collections.Counter(key for status, key in lines if status == "gone")
    kept = {json.loads(line)["key"] for line in replies.read_text().splitlines()}
    again = [key for key in kept if worked[key] - gone[key] > 1]
    return {
        "answers": dict(collections.Counter(status for status, _ in lines)),
        "kept": len(kept & set(worked)),
        "worked for twice, though the first reply was read": len(again),
        "worked for, nobody waiting": gone.total(),
        "worked for and not kept": len(set(worked) - kept),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--server", default="")
    parser.add_argument("--port", type=int, default=8001)
    parser.add_argument("--log", type=Path, required=True)
    parser.add_argument("--replies", type=Path)
    given = parser.parse_args()
    if given.replies:
        print(json.dumps(count(given.log, given.replies), indent=1))
    else:
        Limited.server_url, Limited.log = given.server, given.log
        with contextlib.suppress(KeyboardInterrupt):
            http.server.ThreadingHTTPServer(("127.0.0.1", given.port), Limited).serve_forever()
