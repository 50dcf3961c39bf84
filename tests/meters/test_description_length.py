"""Description lengths have their closed forms, and choose the dictionary that the data were made of."""

import jax.numpy as jnp
import numpy as np
import pytest

from dictlearn import dictionaries, meters
from dictlearn.meters import Reading, Subject, description_length
from dictlearn.ops.lengths import explained_variance
from dictlearn.types import Codes

TOKENS = 4000


def entropy(p):
    return -sum(q * np.log2(q) for q in (p, 1 - p) if q)


def bits(codes, idx=None, n_latents=None, **settings):
    n_latents = n_latents or codes.shape[1]
    module = dictionaries.make("relu", d_in=3, n_latents=n_latents, sparsity=0.1)
    meter = meters.make("description_length", Subject(module), **settings)
    y = np.zeros((len(codes), 3), np.float32)
    given = Codes(codes.astype(np.float32), idx)
    sums = meter.measure(Reading(y, y, given, np.ones(len(codes), bool)))
    return meter.result(meter.update(meter.init(), sums))


def one_hot(n, of=TOKENS):
    return np.eye(n)[np.arange(of) % n]


def gated(n_latents, p, largest=8.0):
    """Uniform codes in (0, 1), each with probability p, and a last one that gives every token one length."""
    random = np.random.default_rng(0)
    codes = random.random((TOKENS, n_latents)) * (random.random((TOKENS, n_latents)) < p)
    return np.hstack([codes, np.sqrt(largest**2 - (codes**2).sum(1, keepdims=True))])


def test_a_latent_that_is_on_or_off_takes_one_bit():
    found = bits(one_hot(2)[:, :1])
    assert found["description_length"] == pytest.approx(1.0)
    assert found["description_length_support"] == pytest.approx(1.0)
    assert found["description_length_values"] == 0


def test_which_one_of_many_fires():
    n = 100
    found = bits(one_hot(n))["description_length"]
    assert found == pytest.approx(n * entropy(1 / n))
    assert found == pytest.approx(np.log2(n) + 1 / np.log(2), abs=0.02)


@pytest.mark.parametrize("levels", [4, 16])
def test_gated_uniform_codes_take_the_bits_of_their_gates_and_levels(levels):
    n, p, largest = 16, 0.3, 8.0
    codes = gated(n, p, largest)
    step = 1 / (largest * levels)
    last = np.unique(np.round(codes[:, -1:] / largest / step), return_counts=True)[1] / TOKENS
    found = bits(codes, step=step)["description_length"] + (last * np.log2(last)).sum()
    # The lowest and the highest of the levels + 1 multiples of the step get half of the codes of the others.
    values = (levels - 1) / levels * np.log2(levels) + np.log2(2 * levels) / levels
    assert found == pytest.approx(n * (entropy(p) + p * values), rel=0.01)


def test_half_the_precision_saves_a_bit_for_each_code():
    n, p = 16, 0.3
    codes = gated(n, p)
    fine, coarse = (bits(codes, step=step) for step in (1 / 512, 1 / 256))
    saved = fine["description_length"] - coarse["description_length"]
    active = (codes != 0).mean(0).sum()
    assert saved == pytest.approx(active, rel=0.06)
    assert fine["description_length_support"] == coarse["description_length_support"]


def test_a_latent_split_into_two_copies_costs_the_bits_that_tell_them_apart():
    p = 0.02
    random = np.random.default_rng(1)
    fires = random.random((20 * TOKENS, 1)) < p
    copy = np.arange(len(fires))[:, None] % 2
    whole, split = bits(fires), bits(np.hstack([fires & (copy == 0), fires & (copy == 1)]))
    assert split["description_length"] - whole["description_length"] == pytest.approx(p, rel=0.05)


def test_sparse_codes_are_counted_as_dense_ones_and_signs_are_told_apart():
    random = np.random.default_rng(2)
    idx = np.argsort(random.random((200, 10)))[:, :3].astype(np.int32)
    val = random.normal(size=(200, 3)) * (random.random((200, 3)) < 0.7)
    dense = np.zeros((200, 10))
    np.put_along_axis(dense, idx, val, axis=1)
    assert bits(val, idx, 10) == bits(dense)
    assert (
        bits(np.abs(dense))["description_length_values"] < bits(dense)["description_length_values"]
    )


def test_the_forms_of_the_count_agree():
    random = np.random.default_rng(4)
    fired, level = (
        jnp.asarray(random.random((50, 6)) < 0.3),
        jnp.asarray(random.integers(5, size=(50, 6))),
    )
    found = (
        description_length._scattered(fired, level, 5),
        description_length._compared(fired, level, 5),
    )
    np.testing.assert_array_equal(*found)
    assert found[0].sum() == fired.sum()


def test_codes_that_round_to_zero_are_not_sent():
    codes = np.hstack([np.ones((TOKENS, 1)), 1e-3 * one_hot(4)])
    found = bits(codes)
    assert found["description_length_unconditional"] == pytest.approx(0, abs=1e-9)
    assert found["description_length"] == pytest.approx(4 * entropy(1 / 4))


def test_of_the_sizes_that_reconstruct_the_planted_size_is_the_shortest():
    """Half as many latents, for two atoms each, miss the error allowed. Twice and four times as many are
    copies that share the work, and pay for saying which copy it is. Neurons fire on every token."""
    random = np.random.default_rng(3)
    n, d = 32, 24
    atoms = random.normal(size=(n, d))
    atoms /= np.linalg.norm(atoms, axis=1, keepdims=True)
    codes = (random.random((TOKENS, n)) < 0.06) * (1 + random.random((TOKENS, n)))
    y = codes @ atoms
    pair = np.repeat(np.eye(n // 2), 2, axis=0)
    merged = codes @ pair, 0.5 * pair.T @ atoms
    found = {n // 2: merged, n: (codes, atoms)}
    for copies in (2, 4):
        which = random.integers(copies, size=(TOKENS, n))
        split = np.concatenate([codes * (which == c) for c in range(copies)], axis=1)
        found[copies * n] = split, np.tile(atoms, (copies, 1))
    found[d] = y, np.eye(d)
    good = {size: f for size, (f, w) in found.items() if explained_variance(y, f @ w) > 0.95}
    lengths = {size: bits(f)["description_length"] for size, f in good.items()}
    assert set(good) == set(found) - {n // 2}
    assert min(lengths, key=lengths.get) == n
    assert bits(merged[0])["description_length"] < lengths[n] < lengths[2 * n] < lengths[4 * n]


@pytest.mark.parametrize("step", [0.0, 1.5, 1e-9])
def test_a_step_outside_its_range_is_refused(step):
    with pytest.raises(ValueError, match=r"step=.*to 1"):
        bits(one_hot(2), step=step)


def test_nothing_measured_is_an_error():
    with pytest.raises(ValueError, match="no unmasked token"):
        bits(np.zeros((0, 2)))
