"""Sends requests to a client: so many at a time, again where it is busy, with the cost known before.

Threads wait for replies. When a request fails for good, those in flight are finished, so that a journal keeps
their replies, and no other is sent.
"""

import logging
import random
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import NamedTuple

from dictlearn.explanations.client import CHAT, Busy, Client, Reply, Request
from dictlearn.explanations.clients.journal import Journal

CHARACTERS = 4
"""Characters of a token, for estimates."""
ATTEMPTS = 6
SECONDS = 15
"""Between two lines about the progress."""
LONGEST = 60.0
"""The longest pause between two attempts of a request, in seconds, unless the server asks for a longer one."""

log = logging.getLogger("dictlearn.explanations")


class Cost(NamedTuple):
    """What requests will cost at most.

    Args:
        n: the number of different requests.
        kept: how many of them a journal has a reply of; they cost nothing.
        tokens_in: the tokens of the others, estimated from their characters.
        tokens_out: the most tokens that their replies may have.

    Example:
        >>> Cost(10, 4, 2_000_000, 100_000).price((0.15, 0.6))
        0.36
    """

    n: int
    kept: int
    tokens_in: int
    tokens_out: int

    def price(self, million: tuple[float, float]) -> float:
        """The price, of the prices of a million tokens that are read and that are written."""
        return (self.tokens_in * million[0] + self.tokens_out * million[1]) / 1e6


def cost(requests: Sequence[Request], client: Client, kept: Callable[[Request], bool]) -> Cost:
    """The cost of requests.

    Args:
        requests: the requests; equal ones are sent once.
        client: the client.
        kept: whether the reply of a request is known already.

    Returns:
        The cost.
    """
    different = list(distinct(requests, client).values())
    new = [one for one in different if not kept(one)]
    tokens_in = sum(-(-one.characters // CHARACTERS) for one in new)
    tokens_out = sum(one.max_tokens for one in new if one.kind == CHAT)
    return Cost(len(different), len(different) - len(new), tokens_in, tokens_out)


def distinct(requests: Sequence[Request], client: Client) -> dict[str, Request]:
    """{key: request} of the different requests, in their order."""
    return {one.key(client.name): one for one in requests}


def answers(
    requests: Sequence[Request],
    client: Client,
    *,
    at_once: int = 10,
    pause: float = 1.0,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[Reply]:
    """The replies to requests.

    Args:
        requests: the requests; equal ones are sent once.
        client: the client.
        at_once: the most requests in flight; a client that takes fewer is given fewer.
        pause: seconds before the second attempt of a request; each later pause is twice as long.
        progress: called with (replies, requests).

    Returns:
        A reply for each request.

    Raises:
        ConnectionError: for a client that is busy at every attempt.
        ValueError: for a request that it refuses.
    """
    wanted, found = distinct(requests, client), {}
    gate = _Gate(pause)
    with ThreadPoolExecutor(max(1, min(at_once, client.at_once))) as pool:
        jobs = {pool.submit(gate.ask, client, one): key for key, one in wanted.items()}
        try:
            for done, job in enumerate(as_completed(jobs), 1):
                found[jobs[job]] = job.result()
                progress(done, len(jobs))
        except BaseException:
            gate.close()
            pool.shutdown(cancel_futures=True)
            raise
    return [found[one.key(client.name)] for one in requests]


def send(
    requests: Sequence[Request],
    kept: Journal,
    *,
    name: str,
    at_once: int = 10,
    most_tokens: int = 0,
    price: tuple[float, float] = (0.0, 0.0),
) -> list[Reply]:
    """The replies to requests, through a journal; the cost is logged before, and the progress on the way.

    Args:
        requests: the requests.
        kept: the journal before a client.
        name: what the requests are for.
        at_once: the most requests in flight.
        most_tokens: nothing is sent if the estimate is larger; 0 for no bound.
        price: of a million tokens that are read, and that are written.

    Returns:
        A reply for each request.

    Raises:
        ValueError: for an estimate above `most_tokens`.
        ConnectionError: for a client that stays busy.
    """
    found = cost(requests, kept, kept.holds)
    total = found.tokens_in + found.tokens_out
    told = f"about {found.tokens_in:,} tokens in and at most {found.tokens_out:,} out"
    if most_tokens and total > most_tokens:
        raise ValueError(
            f"{name}: {told} are more than {most_tokens=}; raise it, or take fewer latents or windows."
        )
    paid = f", at most {found.price(price):.2f} at your price" if any(price) else ""
    log.info(
        "%s: %d requests to %s, %d kept; %s%s", name, found.n, kept.name, found.kept, told, paid
    )
    return answers(requests, kept, at_once=at_once, progress=_Told(name))


class _Told:
    """Logs the progress every few seconds."""

    def __init__(self, name: str):
        self._name, self._began = name, time.monotonic()
        self._said = self._began

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        if now - self._said >= SECONDS or (done == total and now - self._began >= SECONDS):
            self._said = now
            left = (now - self._began) / done * (total - done)
            log.info("%s: %d of %d replies, %.0f s left", self._name, done, total, left)


class Closed(ConnectionError):
    """Another request has failed for good, so this one is not sent."""


class _Gate:
    """The attempts of all requests: where a server asks for a pause, no thread sends before it is over."""

    def __init__(self, pause: float):
        self._pause, self._closed = pause, threading.Event()
        self._lock, self._opens, self._answered = threading.Lock(), 0.0, 0

    def close(self) -> None:
        """Ends all pauses, without another attempt."""
        self._closed.set()

    def ask(self, client: Client, request: Request) -> Reply:
        """The reply. An attempt that the server puts off, while it replies to others, does not count."""
        failed, seen = 0, self._answered
        while True:
            self._wait()
            try:
                return self._counted(client(request))
            except Busy as busy:
                moved = busy.after > 0 and self._answered > seen
                failed, seen = 1 if moved else failed + 1, self._answered
                if failed == ATTEMPTS:
                    raise ConnectionError(
                        f"{busy} Tried {ATTEMPTS} times. Replies are kept; the same command continues."
                    ) from busy
                self._postpone(failed, busy.after)

    def _counted(self, reply: Reply) -> Reply:
        with self._lock:
            self._answered += 1
        return reply

    def _wait(self) -> None:
        while (left := self._opens - time.monotonic()) > 0 and not self._closed.wait(left):
            pass
        if self._closed.is_set():
            raise Closed("not sent, because another request failed.")

    def _postpone(self, attempt: int, after: float) -> None:
        """Pauses every thread as long as the server asks for; this one in any case, longer at every attempt."""
        with self._lock:
            self._opens = max(self._opens, time.monotonic() + after)
        longer = min(LONGEST, self._pause * 2 ** (attempt - 1)) * random.uniform(0.5, 1.0)
        self._closed.wait(longer)
