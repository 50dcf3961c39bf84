"""A branch that may not be taken adds its gradient to that of the other readers of its arguments."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dictlearn.ops.control_flow import switch_or_not

N, D = 24, 8
BRANCHES = [lambda c, W, b: c * jnp.sin(W).sum(0) + b, lambda c, W, b: (W**2)[:8].sum(0) * b]
NOTHING = jnp.full(D, 0.5)


def arguments():
    keys = jax.random.split(jax.random.key(0), 2)
    return jnp.float32(1.5), jax.random.normal(keys[0], (N, D)), jax.random.normal(keys[1], (D,))


def other(W, b):
    return W[jnp.arange(16)] * b


def ours(index, c, W, b):
    found, W, b = switch_or_not(index, NOTHING, BRANCHES, (c,), W, b)
    return jnp.sum(jnp.cos(found)) + jnp.sum(other(W, b))


@pytest.mark.parametrize("index", [0, 1, 2])
def test_values_and_gradients_are_those_of_the_branch_and_of_the_others(index):
    c, W, b = arguments()
    branch = (lambda *_: NOTHING, *BRANCHES)[index]
    plain = lambda W, b: jnp.sum(jnp.cos(branch(c, W, b))) + jnp.sum(other(W, b))
    wanted = jax.value_and_grad(plain, argnums=(0, 1))(W, b)
    found = jax.jit(jax.value_and_grad(ours, argnums=(2, 3)))(jnp.int32(index), c, W, b)
    for a, e in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_allclose(a, e, rtol=1e-5, atol=1e-5)


def test_members_of_a_vmap_have_the_gradients_of_their_own_arguments():
    c, W, b = arguments()
    grads = jax.jit(jax.vmap(jax.grad(ours, argnums=3), (None, None, 0, 0)))
    found = grads(jnp.int32(1), c, jnp.stack([W, -W]), jnp.stack([b, 2 * b]))
    for member, wanted in zip(found, [(W, b), (-W, 2 * b)], strict=True):
        one = jax.grad(ours, argnums=3)(jnp.int32(1), c, *wanted)
        np.testing.assert_allclose(member, one, rtol=1e-5, atol=1e-5)
