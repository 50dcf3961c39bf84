"""A small server with OpenAI's interface over any client, which can be busy, hang up, and be killed.

It knows the header `Idempotency-Key`: `worked` counts how often it worked for a key, `posts` how often it was
asked.
"""

import json
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from dictlearn.explanations.client import CHAT, EMBED, TEXT, Request

KINDS = {"chat/completions": CHAT, "completions": TEXT, "embeddings": EMBED}


class Server:
    """A context manager. mood: (number of the post, number of those of its key) -> "ok", "cut" (half a reply),
    "hang up", or (status, headers). seconds: how long it works."""

    def __init__(self, client, mood=lambda n, tries: "ok", seconds=0.0, port=0):
        self.client, self.mood, self.seconds, self.port = client, mood, seconds, port
        self.worked, self.posts, self.replies, self.lock = (
            Counter(),
            Counter(),
            {},
            threading.Lock(),
        )
        self.headers, self.bodies = [], []

    def __enter__(self):
        handler = type("Handler", (_Handler,), {"server_of": self})
        self.http = _Http(("127.0.0.1", self.port), handler)
        self.port = self.http.server_port
        threading.Thread(target=self.http.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_):
        self.http.shutdown()
        self.http.server_close()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}/v1"

    def reply(self, key, path, body):
        with self.lock:
            if key in self.replies:
                return self.replies[key]
            self.worked[key] += 1
            time.sleep(self.seconds)
            self.replies[key] = spoken(self.client, KINDS[path], body)
            return self.replies[key]


def spoken(client, kind, body):
    """The reply of a client as JSON."""
    messages = tuple((one["role"], one["content"]) for one in body.get("messages", ()))
    given = body.get("input") or [body["prompt"]] if kind != CHAT else []
    asked = Request(kind, messages, tuple(given), body.get("max_tokens", 0))
    asked = asked._replace(alternatives=body.get("top_logprobs", 0))
    found = client(asked if kind != TEXT else asked._replace(texts=("", *given)))
    usage = {"prompt_tokens": found.tokens_in, "completion_tokens": found.tokens_out}
    if kind == EMBED:
        data = [{"index": i, "embedding": list(one)} for i, one in enumerate(found.vectors)]
        return {"data": data[::-1], "usage": usage}
    if kind == TEXT:
        offsets = [0]
        for token, _, _ in found.tokens:
            offsets.append(offsets[-1] + len(token))
        told = {"tokens": [one[0] for one in found.tokens] + ["!"], "text_offset": offsets}
        told["token_logprobs"] = [one[1] for one in found.tokens] + [-1.0]
        told["top_logprobs"] = [one[2] for one in found.tokens] + [{}]
        return {"choices": [{"logprobs": told}], "usage": usage}
    tops = lambda top: [{"token": token, "logprob": p} for token, p in top.items()]
    content = [{"token": t, "logprob": p, "top_logprobs": tops(top)} for t, p, top in found.tokens]
    choice = {"message": {"content": found.text}, "logprobs": {"content": content}}
    return {"choices": [choice], "usage": usage}


class _Http(ThreadingHTTPServer):
    request_queue_size = 128  # Of the default, 5, some would wait for a second.


class _Handler(BaseHTTPRequestHandler):
    server_of: Server

    def do_POST(self):
        server, key = self.server_of, self.headers["Idempotency-Key"]
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with server.lock:
            server.posts[key] += 1
            mood = server.mood(server.posts.total(), server.posts[key])
            server.headers.append(dict(self.headers))
            server.bodies.append(body)
        if isinstance(mood, tuple):
            status, headers = mood
            self.answer(status, {"error": "come back later"}, headers)
        elif mood != "hang up":
            found = server.reply(key, self.path.removeprefix("/v1/"), body)
            self.answer(200, found, {}, cut=mood == "cut")

    def answer(self, status, body, headers, cut=False):
        raw = json.dumps(body).encode()
        self.send_response(status)
        for name, value in {**headers, "Content-Length": len(raw)}.items():
            self.send_header(name, str(value))
        self.end_headers()
        self.wfile.write(raw[: len(raw) // 2] if cut else raw)

    def log_message(self, *_):
        pass
