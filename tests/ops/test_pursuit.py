"""Pursuits explain ever more, each by its own rule, with the gradient of the loop as it is written."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dictlearn.ops import pursuit
from dictlearn.ops.initialise import unit_rows
from tests.helpers import mesh_of

B, D, F = 16, 24, 96


def data(b=B, d=D, f=F):
    return jax.random.normal(jax.random.key(1), (b, d)), unit_rows(jax.random.key(0), (f, d))


def planted(k, b=200, d=64, f=256):
    """(x, atoms, indices): k atoms a token, with coefficients in [0.5, 1.5]."""
    atoms = unit_rows(jax.random.key(0), (f, d))
    keys = jax.random.split(jax.random.key(k), b)
    idx = jax.vmap(lambda key: jax.random.choice(key, f, (k,), replace=False))(keys)
    val = jax.random.uniform(jax.random.key(9), idx.shape, minval=0.5, maxval=1.5)
    return jnp.einsum("bk,bkd->bd", val, atoms[idx]), atoms, np.asarray(idx)


def written(x, W, k, absolute=False):
    """Matching pursuit of one token, as it is written down."""
    val, idx, r = [], [], x
    for _ in range(k):
        score = W @ r
        j = jnp.argmax(jnp.abs(score) if absolute else score)
        val.append(W[j] @ r)
        idx.append(j)
        r = r - val[-1] * W[j]
    return jnp.stack(val), jnp.stack(idx)


@pytest.mark.parametrize("absolute", [False, True])
def test_matching_pursuit_is_the_loop_as_written_and_so_is_its_gradient(absolute):
    with jax.enable_x64(True):
        x, W = (jnp.asarray(np.asarray(a, np.float64)) for a in data())

        def ours(x, W):
            _, idx, _ = pursuit.pursue(x, W, 6, absolute=absolute)
            val = pursuit.follow(x, idx, W)
            return jnp.sum(jnp.cos(val)), (val, idx)

        def theirs(x, W):
            val, idx = jax.vmap(lambda x: written(x, W, 6, absolute))(x)
            return jnp.sum(jnp.cos(val)), (val, idx)

        both = (
            jax.value_and_grad(each, argnums=(0, 1), has_aux=True)(x, W) for each in (ours, theirs)
        )
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-12), *both)


def test_residuals_shrink_and_are_orthogonal_to_the_last_atom():
    x, W = data()
    val, idx, _ = pursuit.pursue(x, W, 8)
    before = jnp.linalg.norm(x, axis=1)
    for k in range(1, 9):
        r = x - jnp.einsum("bk,bkd->bd", val[:, :k], W[idx[:, :k]])
        np.testing.assert_allclose(jnp.sum(r * W[idx[:, k - 1]], 1), 0, atol=1e-5)
        after = jnp.linalg.norm(r, axis=1)
        assert bool((after < before).all())
        before = after


@pytest.mark.parametrize("search", [pursuit.pursue, pursuit.orthogonal])
def test_an_orthonormal_dictionary_is_solved_exactly_in_k_steps(search):
    W = jnp.linalg.qr(jax.random.normal(jax.random.key(3), (D, D)))[0]
    x = 0.5 + jax.random.uniform(jax.random.key(4), (B, 3))
    val, idx, _ = search(x @ W[5:8], W, 3)
    np.testing.assert_array_equal(jnp.sort(idx, 1), np.tile([5, 6, 7], (B, 1)))
    np.testing.assert_allclose(val, -jnp.sort(-x, axis=1), atol=1e-5)


@pytest.mark.parametrize("search", [pursuit.pursue, pursuit.orthogonal])
def test_planted_supports_of_four_are_found(search):
    x, W, planted_idx = planted(4)
    _, idx, _ = search(x, W, 4)
    right = [set(a) == set(b) for a, b in zip(np.asarray(idx), planted_idx, strict=True)]
    assert np.mean(right) >= 0.8
    hits = [len(set(a) & set(b)) / 4 for a, b in zip(np.asarray(idx), planted_idx, strict=True)]
    assert np.mean(hits) >= 0.95


def test_orthogonal_pursuit_is_least_squares_on_distinct_atoms_and_beats_matching():
    with jax.enable_x64(True):
        x, W, _ = (np.asarray(a, np.float64) for a in planted(8, b=40))
        lengths = np.linspace(0.2, 3.0, len(W))[:, None]
        val, idx, _ = pursuit.orthogonal(jnp.asarray(x), jnp.asarray(W * lengths), 8)
        for b in range(len(x)):
            assert len(set(np.asarray(idx[b]))) == 8
            wanted = np.linalg.lstsq((W * lengths)[np.asarray(idx[b])].T, x[b], rcond=None)[0]
            np.testing.assert_allclose(val[b], wanted, rtol=1e-9, atol=1e-9)
        error = lambda val, idx, W: float(jnp.sum((x - jnp.einsum("bk,bkd->bd", val, W[idx])) ** 2))
        matched = pursuit.pursue(jnp.asarray(x), jnp.asarray(W), 8)
        orthogonal = error(val, idx, jnp.asarray(W * lengths))
        assert orthogonal < 0.8 * error(matched[0], matched[1], jnp.asarray(W))


def test_a_block_is_the_least_squares_of_its_atoms():
    x, W = data()
    val, idx, _ = pursuit.pursue(x, W, 6, width=3)
    r = np.asarray(x)
    for part in (slice(0, 3), slice(3, 6)):
        for b in range(B):
            best = np.argsort(-(W @ r[b]))[:3]
            np.testing.assert_array_equal(best, idx[b, part])
        fits = [np.linalg.lstsq(W[idx[b, part]].T, r[b], rcond=None)[0] for b in range(B)]
        np.testing.assert_allclose(val[:, part], fits, atol=2e-5)
        r = r - np.einsum("bk,bkd->bd", val[:, part], W[idx[:, part]])
    with pytest.raises(ValueError, match="width=4 must divide k=6"):
        pursuit.pursue(x, W, 6, width=4)


def test_a_zero_token_and_equal_atoms_give_finite_codes():
    x, W = data()
    x, W = x.at[0].set(0), W.at[1].set(W[0]).at[2].set(0)
    for val, idx, _ in (pursuit.orthogonal(x, W, 4), pursuit.pursue(x, W, 4, width=2)):
        assert bool(jnp.isfinite(val).all())
        np.testing.assert_array_equal(val[0], 0)
        assert int(idx.max()) < F


def test_merging_keeps_the_sum_in_the_first_entry():
    val = jnp.asarray([[1.0, 2.0, 4.0, 8.0]])
    np.testing.assert_array_equal(pursuit.merge(val, jnp.asarray([[3, 5, 3, 3]])), [[13, 2, 0, 0]])


def test_sharded_over_tokens_and_latents_equals_whole_with_ties():
    x, W = data()
    x, W = x.at[3].set(0), W.at[70].set(W[7])

    def searches(x, W):
        blocks = pursuit.pursue(x, W, 6, width=2, kept=4)[:2]
        masked = pursuit.pursue(x, W, 5, absolute=True, mask_F=jnp.arange(F) % 3 > 0)[:2]
        return blocks, masked, pursuit.orthogonal(x, W, 4)[:2]

    wanted = searches(x, W)
    with jax.set_mesh(mesh_of(1, 2, 4)):
        found = jax.jit(searches)(x, W)
    for (val, idx), (wanted_val, wanted_idx) in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(idx, wanted_idx)
        np.testing.assert_allclose(val, wanted_val, atol=1e-5)
