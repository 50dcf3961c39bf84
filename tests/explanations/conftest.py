"""Planted events: latent 0 fires on one word, the trigger; latent 1 fires on random tokens."""

import numpy as np
import pytest

from dictlearn.events import gather
from dictlearn.events._parts import Found
from dictlearn.events.writer import Job
from dictlearn.explanations import Sampling, draw
from tests.explanations.fake import TRIGGER

S, T, V = 400, 64, 500
PLANTED, RANDOM = 0, 1


def texts_of(tokens):
    """Each token is one cell."""
    return [(f" {TRIGGER}" if t == 7 else f" w{t}", slice(i, i + 1)) for i, t in enumerate(tokens)]


def events_of(tokens_ST, codes_UF):
    """The events of dense codes; the first token of a sequence is not read."""
    mask_ST = np.arange(tokens_ST.shape[1])[None].repeat(len(tokens_ST), 0) > 0
    place_E, latent_E = np.nonzero(codes_UF * mask_ST.reshape(-1, 1))
    found = Found(latent_E.astype(np.int32), place_E, codes_UF[place_E, latent_E])
    return gather(Job({}, codes_UF.shape[1], 1, tokens_ST, mask_ST, lambda _: [(0, found)]))


@pytest.fixture(scope="session")
def events():
    random = np.random.default_rng(0)
    tokens_ST = random.integers(8, V, size=(S, T)).astype(np.int32)
    tokens_ST[random.random((S, T)) < 0.012] = 7
    codes_UF = np.zeros((S * T, 2), np.float32)
    size_U = random.uniform(0.5, 2.0, size=S * T)
    codes_UF[:, PLANTED] = size_U * (tokens_ST.ravel() == 7)
    codes_UF[:, RANDOM] = size_U * (random.random(S * T) < 0.012)
    return events_of(tokens_ST, codes_UF)


@pytest.fixture(scope="session")
def sample_of(events):
    """latent -> its sample."""
    return lambda latent, **how: draw(events, latent, texts_of, Sampling(**how))
