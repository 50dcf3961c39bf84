"""A small tied autoencoder with an L1 penalty, trained on few rows at once: the codes of heads (`head_codes`).

    f = ReLU((z - b_dec) W^T + b_enc)        z^ = f W + b_dec
    loss = mean over rows of |z - z^|^2 + sparsity |f|_1

W starts with random rows of unit length, b_dec with the mean of z, b_enc with 0. Adam, without a schedule.

Source: O'Neill & Bui 2024 (arXiv:2405.12522), read at second hand. UNSURE: the width, the penalty, the rate,
the epochs and the size of a batch, which are arguments.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Float


class How(NamedTuple):
    """How an autoencoder is trained. n_latents: F. sparsity: the coefficient of the L1 penalty. lr: of Adam.
    epochs: passes over the rows. batch: the rows of a step, at most all."""

    n_latents: int = 200
    sparsity: float = 0.02
    lr: float = 1e-3
    epochs: int = 500
    batch: int = 256

    def check(self) -> None:
        """Raises ValueError for settings out of bounds."""
        if min(self.n_latents, self.epochs, self.batch) < 1 or self.lr <= 0 or self.sparsity < 0:
            raise ValueError(
                f"n_latents={self.n_latents}, epochs={self.epochs} and batch={self.batch} must be at least 1, "
                f"lr={self.lr} positive, sparsity={self.sparsity} at least 0."
            )


def codes(rows_BD: Float[np.ndarray, "B D"], how: How, seed: int = 0) -> Float[np.ndarray, "B F"]:
    """Trains an autoencoder of rows, and encodes them.

    Args:
        rows_BD: the rows.
        how: the training.
        seed: the seed of the weights and of the batches.

    Returns:
        The codes f.

    Raises:
        ValueError: for settings out of bounds.
    """
    how.check()
    batch = min(how.batch, len(rows_BD))
    found = _codes(jnp.asarray(rows_BD, jnp.float32), how._replace(batch=batch), seed)
    return np.asarray(found)


def _encode(params, z_BD: jax.Array) -> jax.Array:
    return jax.nn.relu((z_BD - params["b_dec_D"]) @ params["W_FD"].T + params["b_enc_F"])


@functools.partial(jax.jit, static_argnums=1)
def _codes(z_BD: jax.Array, how: How, seed) -> jax.Array:
    key, order = jax.random.split(jax.random.key(seed))
    W_FD = jax.random.normal(key, (how.n_latents, z_BD.shape[1]))
    params = {"W_FD": W_FD / jnp.linalg.norm(W_FD, axis=1, keepdims=True)}
    params |= {"b_enc_F": jnp.zeros(how.n_latents), "b_dec_D": z_BD.mean(0)}
    adam, each = optax.adam(how.lr), len(z_BD) // how.batch

    def loss(params, own_BD):
        f_BF = _encode(params, own_BD)
        error_BD = own_BD - f_BF @ params["W_FD"] - params["b_dec_D"]
        return (jnp.sum(error_BD**2) + how.sparsity * jnp.sum(f_BF)) / len(own_BD)

    def step(state, own_B):
        change, optimiser = adam.update(jax.grad(loss)(state[0], z_BD[own_B]), state[1])
        return (optax.apply_updates(state[0], change), optimiser), None

    def epoch(state, key):
        order_B = jax.random.permutation(key, len(z_BD))[: each * how.batch]
        return jax.lax.scan(step, state, order_B.reshape(each, how.batch))

    begun = params, adam.init(params)
    (params, _), _ = jax.lax.scan(epoch, begun, jax.random.split(order, how.epochs))
    return _encode(params, z_BD)
