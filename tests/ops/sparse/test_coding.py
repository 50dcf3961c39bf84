"""Sparse encoding and decoding have the gradients of the dense form."""

import contextlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dictlearn.ops.sparse import coding
from dictlearn.ops.topk.exact import top_k
from tests.helpers import mesh_of

B, D, F, K = 16, 12, 96, 5


def parameters():
    keys = jax.random.split(jax.random.key(0), 4)
    x, W_enc, W_dec = (
        jax.random.normal(k, s) for k, s in zip(keys, [(B, D), (F, D), (F, D)], strict=False)
    )
    return x, W_enc, 0.1 * jax.random.normal(keys[3], (F,)), W_dec


def sparse_loss(x, W_enc, b_enc, W_dec):
    val, idx = top_k(x @ W_enc.T + b_enc, K)
    val = jax.nn.relu(coding.select(val, idx, x, W_enc, b_enc))
    return jnp.sum(jnp.cos(coding.decode(val, idx, W_dec)))


def dense_loss(x, W_enc, b_enc, W_dec):
    pre = x @ W_enc.T + b_enc
    kept = pre >= jax.lax.stop_gradient(jnp.sort(pre, -1)[:, -K, None])
    return jnp.sum(jnp.cos((jax.nn.relu(pre) * kept) @ W_dec))


@pytest.mark.parametrize("sizes", [None, (1, 2, 4), (2, 4, 1), (1, 1, 8)])
def test_every_gradient_equals_the_dense_forms(sizes):
    placed = jax.set_mesh(mesh_of(*sizes)) if sizes else contextlib.nullcontext()
    with jax.enable_x64(True):
        doubles = [np.asarray(a, np.float64) for a in parameters()]
        wanted = jax.value_and_grad(dense_loss, argnums=(0, 1, 2, 3))(*map(jnp.asarray, doubles))
        with placed:
            gradient = jax.jit(jax.value_and_grad(sparse_loss, argnums=(0, 1, 2, 3)))
            found = gradient(*map(jnp.asarray, doubles))
        for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-10)


def test_latents_that_were_dropped_get_no_gradient():
    x, W_enc, b_enc, W_dec = parameters()
    _, idx = top_k(x @ W_enc.T + b_enc, K)
    dropped = np.setdiff1d(np.arange(F), np.asarray(idx))
    gradients = jax.grad(sparse_loss, argnums=(1, 2, 3))(x, W_enc, b_enc, W_dec)
    assert len(dropped)
    for gradient in gradients:
        assert not np.asarray(gradient)[dropped].any()
        assert np.asarray(gradient).any()


def test_it_vmaps_over_dictionaries_that_share_a_batch():
    x, W_enc, b_enc, W_dec = parameters()
    stack = lambda a: jnp.stack([a, 2 * a, -a])
    many = jax.vmap(jax.grad(sparse_loss, argnums=(1, 2, 3)), in_axes=(None, 0, 0, 0))
    found = many(x, stack(W_enc), stack(b_enc), stack(W_dec))
    for n, scale in enumerate((1, 2, -1)):
        one = jax.grad(sparse_loss, argnums=(1, 2, 3))(
            x, scale * W_enc, scale * b_enc, scale * W_dec
        )
        for a, b in zip(found, one, strict=True):
            np.testing.assert_allclose(a[n], b, rtol=1e-5, atol=1e-5)


def test_the_gradients_of_both_matrices_need_no_third_array_of_their_size():
    x, W_enc, b_enc, W_dec = (
        jnp.zeros(s) for s in [(B, D), (512 * F, D), (512 * F,), (512 * F, D)]
    )
    val, idx = jnp.ones((B, K)), jnp.zeros((B, K), jnp.int32)

    def loss(W_enc, W_dec):
        return jnp.sum(coding.decode(coding.select(val, idx, x, W_enc, b_enc), idx, W_dec) ** 2)

    compiled = jax.jit(jax.grad(loss, argnums=(0, 1))).lower(W_enc, W_dec).compile()
    assert compiled.memory_analysis().temp_size_in_bytes < W_dec.nbytes
