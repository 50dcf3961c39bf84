"""Few entries or many, the same function with the same gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dictlearn.ops.sparse import support
from dictlearn.ops.sparse.crowded import SHARES
from tests.helpers import mesh_of

B, D, F, MOST = 32, 6, 32, 10


def body(entries, W_FD, scale_F):
    val = jnp.where(entries.on, jnp.tanh(entries.z) * entries.of(scale_F), 0)
    return entries.decode(val, W_FD), val.sum(-1)


def plain(cut, x, W_enc, b, W_dec, scale):
    z = x @ W_enc.T + b
    f = jnp.where(z > cut, jnp.tanh(z) * scale, 0)
    return f @ W_dec, f.sum(-1)


def ours(cut, x, W_enc, b, *more):
    pre = x @ W_enc.T + b
    return support.over(body, jax.nn.relu(pre - cut), pre, MOST, (x, W_enc, b), tuple(more))


def operands(seed=0):
    keys = jax.random.split(jax.random.key(seed), 5)
    shapes = (B, D), (F, D), (F,), (F, D), (F,)
    return [jax.random.normal(key, shape) for key, shape in zip(keys, shapes, strict=True)]


def scalar(form):
    def loss(cut, *args):
        y, total = form(cut, *args)
        return jnp.sum(jnp.sin(y)) + jnp.sum(total**2)

    return jax.jit(jax.value_and_grad(loss, argnums=(1, 2, 3, 4, 5)))


def close(found, wanted):
    """Equal as far as float32 tells; in float64 see below."""
    np.testing.assert_allclose(found, wanted, rtol=2e-5, atol=2e-5)


CROWDS = {"none": 0, "one": 1, "few": 3, "many": 12}
"""The numbers of tokens with MOST active latents or more: none, one in 32 or fewer, one in 8 or fewer, more."""


def cut_of(crowd, x, W_enc, b, *_):
    """The cut above which so many tokens have at least MOST active."""
    least_B = jnp.sort(jnp.sort(x @ W_enc.T + b, axis=1)[:, -MOST])[::-1]
    n = CROWDS[crowd]
    return least_B[0] + 1 if n == 0 else (least_B[n - 1] + least_B[n]) / 2


@pytest.mark.parametrize("crowd", CROWDS)
@pytest.mark.parametrize("sizes", [(1, 1, 1), (1, 2, 4)])
def test_values_and_gradients_equal_those_of_the_dense_form(crowd, sizes):
    args = operands()
    cut = cut_of(crowd, *args)
    wanted = scalar(plain)(cut, *args)
    with jax.set_mesh(mesh_of(*sizes)):
        found = scalar(ours)(cut, *args)
    jax.tree.map(close, found, wanted)


@pytest.mark.parametrize("sizes", [(1, 1, 1), (1, 2, 4)])
def test_in_float64_they_agree_to_its_rounding(sizes):
    with jax.enable_x64(True):
        args = [jnp.asarray(a, jnp.float64) for a in operands()]
        cut = cut_of("few", *args)
        wanted = scalar(plain)(cut, *args)
        with jax.set_mesh(mesh_of(*sizes)):
            found = scalar(ours)(cut, *args)
        each = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-11)
        jax.tree.map(each, found, wanted)


@pytest.mark.parametrize("crowd", CROWDS)
def test_few_entries_are_computed_sparsely_and_many_densely(crowd):
    x, W_enc, b, *more = operands()
    pre, seen, cut = x @ W_enc.T + b, [], cut_of(crowd, x, W_enc, b)

    def told(entries, *more):
        jax.debug.callback(lambda: seen.append((entries.idx is None, len(entries.z))))
        return body(entries, *more)

    jax.jit(
        lambda: support.over(told, jax.nn.relu(pre - cut), pre, MOST, (x, W_enc, b), tuple(more))
    )()
    jax.effects_barrier()
    dense = {"none": 0, "one": B // SHARES[0], "few": B // SHARES[1], "many": B}[crowd]
    sparse = {(False, B)} if crowd != "many" else set()
    assert set(seen) == sparse | ({(True, dense)} if dense else set())


def test_members_of_a_vmap_share_the_choice_and_keep_their_values():
    args = operands()
    cuts = jnp.array([cut_of(crowd, *args) for crowd in CROWDS])
    found = jax.vmap(lambda cut: scalar(ours)(cut, *args))(cuts)
    for n, cut in enumerate(cuts):
        wanted = scalar(plain)(cut, *args)
        mine = jax.tree.map(lambda leaf, n=n: leaf[n], found)
        jax.tree.map(close, mine, wanted)
