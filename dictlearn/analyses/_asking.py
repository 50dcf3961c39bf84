"""What the analyses that explain latents share: the windows of latents, and a client with its journal."""

import dataclasses
import functools
import inspect
import itertools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np

from dictlearn.analyses import _explanations
from dictlearn.analyses._events import cached
from dictlearn.analyses._subject import Subject
from dictlearn.analyses.examples import chosen
from dictlearn.events import Events, near
from dictlearn.events.windows import maxima
from dictlearn.explanations import (
    Client,
    InModel,
    Reply,
    Request,
    Sample,
    Sampling,
    autointerp,
    clients,
    draw,
)
from dictlearn.explanations.clients.journal import Journal
from dictlearn.explanations.work import send
from dictlearn.lm.cells import group
from dictlearn.runs.owner import owned
from dictlearn.runs.trained import Trained

REPLIES = "replies.jsonl"
_NEIGHBOURS = 5
_FIRED = 15
"""SAEBench explains latents that fire more often."""
T = TypeVar("T")


class Latents(NamedTuple):
    """The latents of one dictionary of a run, with the text on which they fire."""

    subject: Subject
    dictionary: Trained
    found: Events

    @classmethod
    def of(cls, subject: Subject, name: str) -> "Latents":
        """Of the dictionary of that name; without a name, of the best one."""
        dictionary = chosen(subject, name)
        subject.check_data()
        found = cached(subject, dictionary)
        subject.lm.check_tokens(np.asarray(found.tokens_ST), f"The text of {dictionary.name}")
        return cls(subject, dictionary, found)

    @property
    def file(self):
        """The file of its explanations."""
        return _explanations.file(self.subject.workdir, self.dictionary.name)

    def some(self, n: int, how: Sampling) -> list[int]:
        """`n` latents with enough windows, drawn at random, in their order."""
        order = np.random.default_rng(how.seed).permutation(self.found.n_latents).tolist()
        enough = (i for i in order if self._enough(i, how))
        return sorted(itertools.islice(enough, n))

    @property
    def in_model(self) -> InModel:
        """The dictionary in the model of the run."""
        return InModel(self.dictionary, self.subject.lm, self.found.recipe["tap"])

    def known(self, latent: int) -> int:
        """The latent. Raises ValueError for one that the dictionary does not have."""
        if not 0 <= latent < self.found.n_latents:
            raise ValueError(f"{latent=} must be in 0..{self.found.n_latents - 1}.")
        return latent

    def sample(self, latent: int, how: Sampling) -> Sample:
        """The windows of a latent."""
        latent = self.known(latent)
        texts = functools.partial(group, self.subject.lm.tokenizer)
        if how.protocol == autointerp.NAME:
            return autointerp.draw(self.found, latent, texts, how)
        like = self._near.of(latent) if how.silent == "neighbours" else []
        return draw(self.found, latent, texts, how, [other for other, _ in like])

    def _enough(self, latent: int, how: Sampling) -> bool:
        if how.protocol == autointerp.NAME:
            fires = self.found.count_F[latent] > _FIRED
            return (
                fires
                and len(self.sample(latent, how).test) == autointerp.TOP[1] + autointerp.WEIGHTED[1]
            )
        length = min(how.length, self.found.length)
        fires = self.found.count_F[latent] >= how.fewest
        return fires and len(maxima(self.found, latent, length)[0]) >= how.fewest

    @property
    def _near(self) -> near.Near:
        return _near(self.found)


@functools.lru_cache(maxsize=1)
def _near(found: Events) -> near.Near:
    return near.jaccard(found, _NEIGHBOURS)


@dataclasses.dataclass(frozen=True)
class Ask:
    """Who is asked, and within which bounds.

    client: the client; empty for "openai" with a url, and for the run's own model without. url, model: the
    server and its model. timeout: seconds to wait for a reply; 0 for as long as the client does. at_once: the
    most requests in flight. most_tokens: nothing is sent if the estimate is larger; 0 for no bound. price: of a
    million tokens that are read, and that are written.
    """

    client: str | Client = ""
    url: str = ""
    model: str = ""
    timeout: float = 0.0
    at_once: int = 10
    most_tokens: int = 10_000_000
    price: Sequence[float] = (0.0, 0.0)

    def of(self, subject: Subject) -> Client:
        """The client."""
        if not isinstance(self.client, str):
            return self.client
        name = self.client or ("openai" if self.url else "local")
        given: dict[str, Any] = {"url": self.url} if self.url else {}
        given |= {"model": self.model} if self.model else {}
        given |= {"timeout": self.timeout} if self.timeout else {}
        if "lm" in inspect.signature(clients.maker(name)).parameters and not self.model:
            given["lm"] = subject.lm
        return clients.make(name, **given)

    def send(self, subject: Subject, requests: Sequence[Request], work: str) -> list[Reply]:
        """The replies to requests, through the journal of the workdir, which is owned on the way."""
        client = self.of(subject)
        limits = {"at_once": self.at_once, "most_tokens": self.most_tokens}
        with owned(subject.workdir / "explanations", f"dictlearn analyse {work}"):
            kept = Journal(subject.workdir / REPLIES, client, "")
            price = (float(self.price[0]), float(self.price[1]))
            return send(requests, kept, name=work, price=price, **limits)


def latents_of(given: int | Sequence[int]) -> list[int]:
    """The latents of a setting: a number, or several."""
    return [given] if isinstance(given, int) else list(map(int, given))


def settings_of(kind: type[T], given: Mapping[str, Any], name: str) -> T:
    """The dataclass of a setting. Raises ValueError for an unknown key; the message lists those there are."""
    known = [one.name for one in dataclasses.fields(kind)]  # pyright: ignore[reportArgumentType]
    if not isinstance(given, Mapping):
        raise ValueError(f"{name}={given!r} must be a subtree of {', '.join(known)}.")
    for key in given:
        if key not in known:
            raise ValueError(f"{name} has no {key!r}; there are {', '.join(known)}.")
    return kind(**given)
