"""Resampling: every `every` steps, dead latents are reinitialised at inputs with a large reconstruction error.

    n ~ |y_n - yhat_n|^2^power      d_i <- y_n / |y_n|      w_i <- 0.2 mean|w_alive| x_n / |x_n|      b_i <- 0

x and y are taken about the means of the batch, and the wrapped rule's moments of the latent become zero. The
learner decides which latents are dead. The factor 0.2 of the paper is for ReLU: under TopK so short a row is
never selected, and 1 revives.

Source: Bricken et al. 2023 (Towards Monosemanticity), appendix "Neuron resampling", whose power is 2.

Differs: the inputs are of one batch, not 819,200 others; directions are taken about the mean of the batch, not
about zero, because the encoder subtracts b_dec.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from dictlearn.ops.control_flow import any_member
from dictlearn.rules import _latents
from dictlearn.rules.normalise_atoms import unit

KIND = "wrapper"


class State(NamedTuple):
    inner: optax.OptState
    step: jax.Array


def resample(
    inner: optax.GradientTransformationExtraArgs,
    *,
    every: int = 25_000,
    until: int = 100_000,
    power: float = 2.0,
    encoder_norm: float = 0.2,
    seed: int = 0,
) -> optax.GradientTransformationExtraArgs:
    """The rule `inner`, followed by the resampling.

    Args:
        inner: the rule to wrap.
        every: the number of steps between resamplings.
        until: the last step at which to resample.
        power: an input is drawn with probability proportional to this power of its squared error.
        encoder_norm: the norm of a new encoder row, as a share of the mean norm over latents that are not dead.
        seed: the seed of the draws.

    Returns:
        An optax transformation.

    Raises:
        ValueError: for an `every` below 1; at its `init`, for a variant without W_enc_FD and W_dec_FD.
    """
    if every < 1:
        raise ValueError(f"{every=} must be at least 1 step.")

    def init(params):
        _latents.require("resample", params, ("W_enc_FD", "W_dec_FD"))
        return State(inner.init(params), jnp.zeros((), jnp.int32))

    def update(updates, state, params=None, **extra):
        assert params is not None, "this rule moves atoms: pass params"
        firing, batch, error_B = (extra[name] for name in ("firing", "batch", "error_B"))
        updates, inner_state = inner.update(updates, state.inner, params, **extra)
        step = state.step + 1
        now = (step % every == 0) & (step <= until)
        dead_F = firing.dead_F & (firing.count_F == 0) & now

        def on(updates, inner_state):
            fresh = _fresh(
                params, batch, error_B, dead_F, jax.random.fold_in(jax.random.key(seed), step)
            )
            return _latents.replace(dead_F, fresh, updates, params, inner_state)

        off = lambda updates, inner_state: (updates, inner_state)
        updates, inner_state = jax.lax.cond(any_member(now), on, off, updates, inner_state)
        return updates, State(inner_state, step)

    def _fresh(params, batch, error_B, dead_F, key):
        below = jnp.cumsum((error_B / jnp.maximum(error_B.max(), 1e-30)) ** power)
        draw_F = jax.random.uniform(key, dead_F.shape) * below[-1]
        chosen_F = jnp.minimum(jnp.searchsorted(below, draw_F, side="right"), len(error_B) - 1)
        rows = lambda a_BD: unit(a_BD[chosen_F] - a_BD.mean(0))
        length_F = jnp.linalg.norm(params["W_enc_FD"], axis=1)
        alive_F = ~dead_F
        mean_length = jnp.sum(length_F * alive_F) / jnp.maximum(alive_F.sum(), 1)
        fresh = {
            "W_dec_FD": rows(batch.y_BD),
            "W_enc_FD": encoder_norm * mean_length * rows(batch.x_BD),
        }
        if "b_enc_F" in params:
            fresh["b_enc_F"] = jnp.zeros_like(params["b_enc_F"])
        return fresh

    return optax.GradientTransformationExtraArgs(init, update)
