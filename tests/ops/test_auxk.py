"""AuxK trains dead latents, and dead latents alone, with a real gradient."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dictlearn.ops import auxk
from dictlearn.types import Codes

B, D, F, K = 16, 8, 32, 4


def setting(n_latents=F):
    keys = jax.random.split(jax.random.key(0), 4)
    x, W_enc, W_dec = (
        jax.random.normal(k, s)
        for k, s in zip(keys, [(B, D), (n_latents, D), (n_latents, D)], strict=False)
    )
    return x, W_enc, jnp.zeros(n_latents), W_dec, jax.random.normal(keys[3], (B, D))


CODES = Codes(jnp.ones((B, 1)), jnp.zeros((B, 1), jnp.int32))


def aux_loss(W_enc, b_enc, W_dec, dead, x, residual, k=K, rectified=False):
    pre = x @ W_enc.T + b_enc
    ehat, _ = auxk.reconstruct_residual(x, pre, CODES, dead, W_enc, b_enc, W_dec, k, rectified)
    return auxk.loss(residual, ehat).mean()


def dense_loss(W_enc, b_enc, W_dec, dead, x, residual, k=K, rectified=False):
    pre = jnp.where(dead, x @ W_enc.T + b_enc, -jnp.inf)
    kept = dead & (pre >= jnp.sort(pre, -1)[:, -k, None])
    if rectified:
        kept &= pre > 0
    ehat = jnp.where(kept, pre, 0) @ W_dec
    centred = residual - residual.mean(0)
    return jnp.sum((residual - ehat) ** 2) / jnp.sum(centred**2)


@pytest.mark.parametrize("rectified", [False, True])
@pytest.mark.parametrize(
    ("n_latents", "every", "k"),
    [(32, 3, 4), (32, 3, 16), (32, 8, 4), (32, 8, 2), (32, 16, 4), (256, 64, 4), (256, 64, 2)],
)
def test_its_gradient_is_the_dense_forms_and_reaches_dead_latents_only(
    n_latents, every, k, rectified
):
    """Eleven dead latents, also fewer than k; four, which are cut out; four of which half compete; two; four of
    many, in the narrower arrays."""
    x, W_enc, b_enc, W_dec, residual = setting(n_latents)
    dead = jnp.arange(n_latents) % every == 1
    arguments = W_enc, b_enc, W_dec, dead, x, residual
    found = jax.value_and_grad(aux_loss, argnums=(0, 1, 2))(*arguments, k, rectified)
    wanted = jax.value_and_grad(dense_loss, argnums=(0, 1, 2))(*arguments, k, rectified)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
    for gradient in found[1]:
        assert not np.asarray(gradient)[~np.asarray(dead)].any()
    assert np.abs(found[1][0]).max() > 0


@pytest.mark.parametrize("rectified", [False, True])
@pytest.mark.parametrize("n_dead", [0, 4, 11])
def test_weights_handed_through_have_both_gradients(n_dead, rectified):
    x, W_enc, b_enc, W_dec, residual = setting()
    dead = jnp.arange(F) >= F - n_dead
    more = lambda W_enc, b_enc, W_dec: jnp.sum(jnp.cos(x @ W_enc.T + b_enc) @ W_dec)

    def both(W_enc, b_enc, W_dec, x):
        pre = x @ W_enc.T + b_enc
        ehat, handed = auxk.reconstruct_residual(
            x, pre, CODES, dead, W_enc, b_enc, W_dec, K, rectified
        )
        return auxk.loss(residual, ehat).mean() + more(*handed)

    def apart(W_enc, b_enc, W_dec, x):
        aux = dense_loss(W_enc, b_enc, W_dec, dead, x, residual, K, rectified) if n_dead else 0
        return aux + more(W_enc, b_enc, W_dec)

    found, wanted = (
        jax.jit(jax.grad(of, argnums=(0, 1, 2, 3)))(W_enc, b_enc, W_dec, x) for of in (both, apart)
    )
    for a, b in zip(found, wanted, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("n_tokens", [1, 7, 8, 9, 16])
@pytest.mark.parametrize("every", [1, 2, 3, 4, 20])
def test_a_sample_is_one_token_in_so_many_and_its_residuals_are_of_the_same_tokens(n_tokens, every):
    rows = jnp.arange(n_tokens, dtype=float)[:, None]
    taken = auxk.sampled(rows, every)
    assert len(taken) == -(-n_tokens // every)
    assert len(set(np.diff(taken[:, 0]))) <= 1
    # A reconstruction that is off by one in every token has a loss of one over the spread, whatever the tokens.
    spread = np.mean((taken - taken.mean(0)) ** 2)
    found = auxk.loss(rows, taken + 1)
    np.testing.assert_allclose(found, np.full(len(taken), 1 / spread if spread else 0), rtol=1e-5)


def test_the_mean_gradient_over_all_samples_of_the_tokens_is_that_of_all_tokens():
    x, W_enc, b_enc, W_dec, residual = setting()
    dead = jnp.arange(F) < 4
    residual /= jnp.sqrt(jnp.sum(residual**2))

    def error(W_enc, b_enc, W_dec, x, residual):
        pre = x @ W_enc.T + b_enc
        ehat, _ = auxk.reconstruct_residual(
            x, pre, CODES, dead, W_enc, b_enc, W_dec, K, rectified=False
        )
        return jnp.sum((residual - ehat) ** 2) / len(x)

    gradient = jax.grad(error, argnums=(0, 1, 2))
    parts = [
        gradient(
            W_enc,
            b_enc,
            W_dec,
            *(auxk.sampled(jnp.roll(rows, turn, 0), 4) for rows in (x, residual)),
        )
        for turn in range(4)
    ]
    whole = gradient(W_enc, b_enc, W_dec, x, residual)
    for found, wanted in zip(jax.tree.map(lambda *g: sum(g) / 4, *parts), whole, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-6)


def test_a_latent_that_fires_in_this_batch_is_not_dead():
    x, W_enc, b_enc, W_dec, residual = setting()
    dead = jnp.zeros(F, bool).at[0].set(True)  # latent 0 fires in CODES
    gradients = jax.grad(aux_loss, argnums=(0, 1, 2))(W_enc, b_enc, W_dec, dead, x, residual)
    assert not any(np.asarray(g).any() for g in gradients)


def test_no_dead_latent_means_no_loss():
    x, W_enc, b_enc, W_dec, residual = setting()
    assert aux_loss(W_enc, b_enc, W_dec, jnp.zeros(F, bool), x, residual) == 0


@pytest.mark.parametrize("n_dead", [0, 3])
def test_under_vmap_the_branch_stays_a_branch(n_dead):
    x, W_enc, b_enc, W_dec, residual = setting()
    dead = jnp.zeros((2, F), bool).at[1, 5 : 5 + n_dead].set(True)
    many = jax.vmap(aux_loss, in_axes=(None, None, None, 0, None, None))
    text = jax.jit(many).lower(W_enc, b_enc, W_dec, dead, x, residual).compile().as_text()
    assert "conditional" in text
    found = many(W_enc, b_enc, W_dec, dead, x, residual)
    one = aux_loss(W_enc, b_enc, W_dec, dead[1], x, residual)
    np.testing.assert_allclose(found, [0, one], rtol=1e-5)


def test_a_latent_whose_pre_activations_are_all_negative_learns_without_rectification_alone():
    x, W_enc, _, W_dec, residual = setting()
    dead, sunk = (jnp.arange(F) > 0) & (jnp.arange(F) < 4), jnp.full(F, -100.0)
    gradient = lambda rectified: jax.grad(aux_loss, argnums=1)(
        W_enc, sunk, W_dec, dead, x, residual, K, rectified
    )
    assert not np.asarray(gradient(True)).any()
    found = np.asarray(gradient(False))
    assert (found[1:4] < 0).all()  # Each step raises the bias.
    assert not found[4:].any()
