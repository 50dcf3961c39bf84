"""Any server with OpenAI's interface: vLLM, llama.cpp, SGLang, OpenRouter, clouds.

    POST URL/chat/completions    CHAT
    POST URL/completions         TEXT: the prompt is echoed with its log-probabilities (vLLM, llama-cpp-python)
    POST URL/embeddings          EMBED

The key is read from the environment, so that no config and no journal holds it. Each request carries the same
`Idempotency-Key` at every attempt, so that a server that knows the header works once for it.

Some servers give each token of an echoed prompt the log-probability of the next one. They are refused: a text
that repeats, sent before the first TEXT request, tells them.
"""

import email.utils
import http.client
import json
import os
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from dictlearn.explanations.client import CHAT, EMBED, TEXT, Busy, Client, Reply, Request

_AGAIN = (408, 409, 425, 429)
_LONGEST_MESSAGE = 300
_REPEATED = Request(TEXT, texts=("", " one two three four five" * 8))
T = TypeVar("T")


def openai(
    url: str = "https://api.openai.com/v1",
    model: str = "",
    *,
    key: str = "OPENAI_API_KEY",
    timeout: float = 600.0,
    at_once: int = 64,
) -> Client:
    """A client of a server with OpenAI's interface.

    Args:
        url: its address, up to and with /v1.
        model: the name of the model.
        key: the environment variable that holds the key; it may be unset for a server that needs none.
        timeout: seconds to wait for a reply.
        at_once: the most requests that the server takes at the same time.

    Returns:
        A client.

    Raises:
        ValueError: without a model, and for an address that is not of http or https.
    """
    if not model:
        raise ValueError("the client openai needs a model; give the name that the server knows.")
    if not url.startswith(("http://", "https://")):
        raise ValueError(f"{url=} must begin with http:// or https://.")
    return _Server(url.rstrip("/"), model, os.environ.get(key, ""), timeout, at_once)


class _Server:
    def __init__(self, url: str, model: str, key: str, timeout: float, at_once: int):
        self.name, self.at_once = model, at_once
        self._url, self._model, self._key, self._timeout = url, model, key, timeout
        self._lock, self._checked = threading.Lock(), False

    def __call__(self, request: Request) -> Reply:
        if request.kind == TEXT:
            self._check_echo()
        return self._read(request, lambda reply: _counted(request, reply))

    def _check_echo(self) -> None:
        """Raises ValueError for a server whose log-probabilities are those of the next token."""
        with self._lock:
            if not self._checked and self._read(_REPEATED, _shifted):
                raise ValueError(
                    f"{self._url}/completions gives each token of a prompt the log-probability of the next. "
                    "llama-cpp-python does so where texts begin without a token; start it with --kv_overrides "
                    "tokenizer.ggml.add_bos_token=bool:true, or take another server."
                )
            self._checked = True

    def _read(self, request: Request, read: Callable[[Any], T]) -> T:
        """What is read in the server's reply."""
        path, body, _ = _FORMS[request.kind]
        told = {"model": self._model, **body(request)}
        reply = self._post(path, told, request.key(self.name))
        try:
            return read(reply)
        except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
            said = json.dumps(reply)[:_LONGEST_MESSAGE]
            raise ValueError(f"{self._url}/{path} replied in another form: {said}.") from error

    def _post(self, path: str, body: Mapping[str, Any], once: str) -> Any:
        headers = {"Content-Type": "application/json", "Idempotency-Key": once}
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        where = f"{self._url}/{path}"
        asked = urllib.request.Request(where, json.dumps(body).encode(), headers, method="POST")
        try:
            with urllib.request.urlopen(asked, timeout=self._timeout) as reply:
                return json.load(reply)
        except urllib.error.HTTPError as error:
            with error:
                said = error.read().decode("utf-8", "replace")[:_LONGEST_MESSAGE]
            message = f"{where} answered {error.code}: {said}."
            if error.code in _AGAIN or error.code >= 500:
                raise Busy(message, _seconds(error.headers.get("Retry-After"))) from error
            raise ValueError(message) from error
        except TimeoutError as error:
            raise Busy(
                f"{where} timed out after {self._timeout:g} s; raise ask.timeout, or lower ask.at_once."
            ) from error
        # A connection that is refused or lost, and a reply that was cut off.
        except (OSError, http.client.HTTPException, json.JSONDecodeError) as error:
            raise Busy(f"{where} did not reply: {error!r}.") from error


_COUNTS = ("tokens_in", "tokens_out")


def _seconds(after: str | None) -> float:
    """The seconds of a Retry-After header: a number, or a date."""
    try:
        return max(0.0, float(after or 0))
    except ValueError:
        pass
    try:
        return max(0.0, email.utils.parsedate_to_datetime(str(after)).timestamp() - time.time())
    except (ValueError, TypeError):
        return 0.0


def _counted(request: Request, reply: Mapping[str, Any]) -> Reply:
    """The reply with the counts of tokens."""
    _, _, read = _FORMS[request.kind]
    usage = reply.get("usage") or {}
    counts = (int(usage.get(f"{kind}_tokens") or 0) for kind in ("prompt", "completion"))
    return read(request, reply)._replace(**dict(zip(_COUNTS, counts, strict=True)))


def _chat(request: Request) -> dict[str, Any]:
    messages = [{"role": role, "content": content} for role, content in request.messages]
    body = {"messages": messages, "max_tokens": request.max_tokens, "seed": request.seed}
    body["temperature"] = request.temperature
    if request.alternatives:
        body |= {"logprobs": True, "top_logprobs": request.alternatives}
    return body


def _chatted(request: Request, reply: Mapping[str, Any]) -> Reply:
    (choice,) = reply["choices"]
    listed = (choice.get("logprobs") or {}).get("content") or ()
    tops = ({top["token"]: top["logprob"] for top in one.get("top_logprobs", ())} for one in listed)
    tokens = tuple((one["token"], one["logprob"], t) for one, t in zip(listed, tops, strict=True))
    return Reply(choice["message"]["content"] or "", tokens)


def _echo(request: Request) -> dict[str, Any]:
    return {"prompt": "".join(request.texts), "echo": True, "logprobs": 1, "max_tokens": 1}


def _echoed(request: Request, reply: Mapping[str, Any]) -> Reply:
    """The tokens that begin within the text. The server's own first token has no probability."""
    (choice,) = reply["choices"]
    found, (context, text) = choice["logprobs"], request.texts
    columns = (found[name] for name in ("tokens", "token_logprobs", "text_offset"))
    tokens = [
        (token, value, {})
        for token, value, at in zip(*columns, strict=True)
        if value is not None and len(context) <= at < len(context) + len(text)
    ]
    return Reply(tokens=tuple(tokens))


def _shifted(reply: Mapping[str, Any]) -> bool:
    """Whether the most probable tokens are those of the next place more often than those of their own."""
    (choice,) = reply["choices"]
    found = choice["logprobs"]
    best = [max(top, key=top.__getitem__) if top else None for top in found.get("top_logprobs", ())]
    hits = lambda tokens: sum(a == b for a, b in zip(best, tokens, strict=False))
    return hits(found["tokens"][1:]) > hits(found["tokens"])


def _texts(request: Request) -> dict[str, Any]:
    return {"input": list(request.texts)}


def _embedded(request: Request, reply: Mapping[str, Any]) -> Reply:
    ordered = sorted(reply["data"], key=lambda one: one["index"])
    if len(ordered) != len(request.texts):
        raise ValueError
    return Reply(vectors=tuple(tuple(map(float, one["embedding"])) for one in ordered))


_FORMS = {
    CHAT: ("chat/completions", _chat, _chatted),
    TEXT: ("completions", _echo, _echoed),
    EMBED: ("embeddings", _texts, _embedded),
}
"""Kind of a request -> path, the body, and how the reply is read."""
