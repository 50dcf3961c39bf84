"""The dimensions with which latents correlate, against numpy."""

import numpy as np
import pytest

from dictlearn import events
from dictlearn.events import near
from dictlearn.events.neurons import neurons
from dictlearn.events.rows import Rows
from tests.events.conftest import F, S, T, job

TAPS, D = ("a", "b"), 6


@pytest.fixture(scope="module")
def x_UD(dense_UF):
    """Activations far from zero; dimension 4 is latent 3, and dimension 1 never changes."""
    x_UD = np.random.default_rng(1).normal(50.0, 2.0, (S * T, D))
    x_UD[:, 4], x_UD[:, 1] = 7 + 2 * dense_UF[:, 3], 5.0
    return x_UD.astype(np.float32)


@pytest.fixture(scope="module")
def rows(x_UD):
    """The same in pieces of uneven sizes, out of order within each, without the first token of a sequence."""
    tokens_ST = np.zeros((S, T), np.int32)

    def read(chosen):
        for part in chosen:
            for own in np.array_split(np.arange(S * T).reshape(5, -1)[part], 3):
                own = own[own % T > 0][::-1]
                tensors = {"a": x_UD[own, :2], "b": x_UD[own, 2:]}
                tensors |= {"sequence_R": own // T, "position_R": own % T}
                yield part, tensors, np.arange(len(own))[::-1]

    return Rows(TAPS, tokens_ST, np.arange(T)[None].repeat(S, 0) > 0, 5, {}, read)


@pytest.mark.parametrize("n_sequences", [S, 9])
def test_correlations_and_cosines_are_those_of_numpy(n_sequences, rows, x_UD, dense_UF):
    found = events.gather(job(dense_UF)).first(n_sequences)
    seen = neurons(found, rows, n=3)
    own = np.flatnonzero(np.arange(n_sequences * T) % T)
    x, f = x_UD[own].astype(np.float64), dense_UF[own].astype(np.float64)
    for i in range(F):
        if not f[:, i].any():
            assert seen.of(i) == []
            continue
        flat = x.std(0) * f[:, i].std() == 0
        every = [0 if flat[d] else np.corrcoef(x[:, d], f[:, i])[0, 1] for d in range(D)]
        named = seen.of(i)
        np.testing.assert_allclose([r for _, r, _ in named], np.sort(every)[::-1][:3], atol=1e-6)
        for d, r, cosine in named:
            assert r == pytest.approx(every[d], abs=1e-6)
            product = x[:, d] @ f[:, i]
            wanted = product / np.linalg.norm(x[:, d]) / np.linalg.norm(f[:, i])
            assert cosine == pytest.approx(wanted, abs=1e-9)
    if n_sequences == S:
        assert seen.of(3)[0][:2] == (4, pytest.approx(1))


def test_the_cosine_of_two_codes_counts_the_tokens_on_which_either_is_silent(dense_UF):
    found = events.gather(job(dense_UF))
    a, b = dense_UF[:, 3], dense_UF[:, 9]
    wanted = a @ b / np.linalg.norm(a) / np.linalg.norm(b)
    assert near.code_cosine(found, 3, 9) == pytest.approx(float(wanted), abs=1e-6)
    assert near.code_cosine(found, 3, 3) == pytest.approx(1, abs=1e-6)
    assert near.code_cosine(found, 3, 7) == 0
