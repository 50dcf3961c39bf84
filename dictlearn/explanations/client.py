"""The interface of language models that explain and judge: requests, replies and clients.

A request is plain data, so that its key, the hash of what it asks, is the same in every run.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

CHAT, TEXT, EMBED = "chat", "text", "embed"
"""Kinds of requests: a conversation to continue; the log-probabilities of a text; vectors of texts."""


class Request(NamedTuple):
    """One request.

    Args:
        kind: CHAT, TEXT or EMBED.
        messages: of a conversation, (role, content) each; the role is system, user or assistant.
        texts: the texts to embed; for TEXT the context and the text whose tokens are predicted.
        max_tokens: the longest reply of a conversation.
        temperature: 0 for the most probable reply.
        seed: of the sampling, for servers that take one.
        alternatives: the number of most probable tokens to report at each token of the reply.

    Example:
        >>> a, b = Request(CHAT, (("user", "hi"),)), Request(CHAT, (("user", "hi"),), seed=1)
        >>> a.key("judge") == a.key("judge"), a.key("judge") == b.key("judge")
        (True, False)
    """

    kind: str
    messages: tuple[tuple[str, str], ...] = ()
    texts: tuple[str, ...] = ()
    max_tokens: int = 256
    temperature: float = 0.0
    seed: int = 0
    alternatives: int = 0

    def key(self, client: str) -> str:
        """The sha256 of the request to a client of that name."""
        asked = json.dumps([client, self._asdict()], ensure_ascii=False, sort_keys=True)
        return hashlib.sha256(asked.encode()).hexdigest()

    @property
    def characters(self) -> int:
        """The number of characters that are sent."""
        return sum(len(text) for text in (*self.texts, *(content for _, content in self.messages)))


class Reply(NamedTuple):
    """One reply.

    Args:
        text: the continuation of a conversation.
        tokens: (token, its log-probability, {token: log-probability} of the alternatives) for each token of the
            continuation, or of the text of a TEXT request. Empty where the client gives none.
        vectors: a vector for each text of an EMBED request.
        tokens_in, tokens_out: tokens that the client counts as read and written.

    Example:
        >>> Reply.of(Reply("yes", tokens_in=3).told()) == Reply("yes", tokens_in=3)
        True
    """

    text: str = ""
    tokens: tuple[tuple[str, float, Mapping[str, float]], ...] = ()
    vectors: tuple[tuple[float, ...], ...] = ()
    tokens_in: int = 0
    tokens_out: int = 0

    def told(self) -> dict[str, Any]:
        """The reply as JSON, without what is empty."""
        return {name: value for name, value in self._asdict().items() if value}

    @classmethod
    def of(cls, told: Mapping[str, Any]) -> "Reply":
        """The reply from `told()`, also after JSON. Raises TypeError or ValueError for other content."""
        tokens = tuple(
            (str(token), float(p), dict(top)) for token, p, top in told.get("tokens", ())
        )
        vectors = tuple(tuple(map(float, one)) for one in told.get("vectors", ()))
        counts = {name: int(told.get(name, 0)) for name in ("tokens_in", "tokens_out")}
        return cls(str(told.get("text", "")), tokens, vectors, **counts)


class Client(Protocol):
    """A language model behind any interface.

    name: its model, which is a part of the keys of requests. at_once: how many requests it can take at the same
    time.
    """

    name: str
    at_once: int

    def __call__(self, request: Request) -> Reply:
        """The reply. Raises Busy where the same request may succeed later, ValueError where it cannot."""
        ...


class Busy(ConnectionError):
    """The client cannot reply now. after: the seconds after which it asks to be tried again."""

    def __init__(self, message: str, after: float = 0.0):
        super().__init__(message)
        self.after = after
