"""Bias adaptation: every `every` steps, each bias is moved by the firing frequency of its latent.

    p_m = share of the tokens since the last update on which m fired      r_m = max(largest y_m, 0)
    p_m > target_m    b_m <- max(b_m - rate_down r_m, lowest)
    p_m < dead_below  b_m <- min(b_m + rate_up T, 0)       T = mean of r over m's group where r > 0
    else              b_m stays

Between updates, only a count and a maximum for each latent are kept, over the global batch. The targets are the
dictionary's (`targets`, see dictionaries/gba.py); latents with equal targets form a group. A target is an upper
bound: a latent that is below its target but not dead is left unchanged.

A dictionary without targets is held at a mean number `l0` of active latents of a token instead. All latents
then form one group:

    b_m <- b_m - rate_down r_m clip(L0 / l0 - 1, -1, 1)    b within [lowest, 0]

and dead latents rise as above. Use this form if the wanted L0 is known and the coefficient of a penalty is not:
for JumpReLU with sparsity 0, whose threshold theta is -b. For a ReLU with sparsity 0 it acts as a bound, at a
cost. The encoder grows against the bias, so `rate_down` / `every` must be large compared with lr, and `lowest`
must be far below zero. Values also shrink by the bias. Do not use it for variants that choose k latents,
because no bias changes their L0.

The gradient of the biases is set to zero before `inner` receives it.

Source: Chen et al. 2025 (arXiv:2506.14002), algorithm 1, read at second hand, with its defaults; a review says
that it prints min and max swapped.

UNSURE: dead_below, from memory, and the rates at another `every`.

Differs: the form that holds an L0 is ours.
"""

from typing import NamedTuple, cast

import jax
import jax.numpy as jnp
import optax

from dictlearn.rules._points import begun_at
from dictlearn.types import Scalar

KIND = "wrapper"
LEAVES = ("log_threshold_F", "threshold_F", "b_enc_F")
"""The parameters that the rule controls, in order of preference."""

_LEAST_THRESHOLD = 1e-6


class State(NamedTuple):
    """count_F, max_F and tokens are counted since the last update of the biases."""

    inner: optax.OptState
    count_F: jax.Array
    max_F: jax.Array
    tokens: jax.Array
    step: jax.Array


def adapt_bias(
    inner: optax.GradientTransformationExtraArgs,
    *,
    every: int = 50,
    rate_down: Scalar = 0.01,
    rate_up: Scalar = 0.01,
    dead_below: Scalar = 1e-6,
    lowest: Scalar = -1.0,
    l0: Scalar = 0.0,
) -> optax.GradientTransformationExtraArgs:
    """The rule `inner`, with the biases moved by this rule instead.

    Args:
        inner: the rule to wrap.
        every: the number of steps between updates of the biases.
        rate_down, rate_up: the shares of the largest pre-activation by which a bias falls and rises.
        dead_below: the share of the tokens below which a latent is dead.
        lowest: the lower bound of the biases, on the scale of the inputs.
        l0: the number of active latents of a token, for a dictionary without targets; 0 for none.

    Returns:
        An optax transformation.

    Raises:
        ValueError: for an `every` below 1. At the first use: for a variant without a bias or a threshold, and
            for one with both targets and an l0, or with neither.
    """
    if every < 1:
        raise ValueError(f"{every=} must be at least 1 step.")

    def init(params):
        zero_F = jnp.zeros_like(_held(params)[1])
        nothing = lambda: jnp.zeros((), jnp.int32)
        count_F = jnp.zeros(zero_F.shape, jnp.int32)
        return State(inner.init(params), count_F, zero_F - jnp.inf, nothing(), nothing())

    def update(updates, state, params=None, **extra):
        assert params is not None, "this rule moves biases: pass params"
        leaf, b_F = _held(params)
        firing, n_tokens = extra["firing"], extra["batch"].x_BD.shape[0]
        blind = {**updates, leaf: jnp.zeros_like(updates[leaf])}
        updates, inner_state = inner.update(blind, state.inner, params, **extra)
        count_F = state.count_F + firing.count_F.astype(jnp.int32)
        above_F = firing.max_F if leaf == "b_enc_F" else firing.max_F + b_F
        max_F = jnp.maximum(state.max_F, above_F)
        tokens, step = state.tokens + n_tokens, state.step + 1
        now = step % every == 0
        moved_F = _moved(b_F, count_F / tokens, jax.nn.relu(max_F), firing.target_F)
        change = jnp.where(now, _as_leaf(leaf, moved_F) - params[leaf], 0)
        inner_state = begun_at(inner_state, {leaf: params[leaf] + change})
        count_F, tokens = jnp.where(now, 0, count_F), jnp.where(now, 0, tokens)
        max_F = jnp.where(now, -jnp.inf, max_F)
        return {**cast(dict, updates), leaf: change}, State(
            inner_state, count_F, max_F, tokens, step
        )

    def _moved(b_F, p_F, r_F, target_F):
        if (target_F is None) == (isinstance(l0, int | float) and l0 <= 0):
            has = "no targets of its own" if target_F is None else "targets of its own"
            raise ValueError(
                f"this dictionary has {has}, and {l0=}; adapt_bias needs exactly one of the two."
            )
        if target_F is None:
            fall_F = r_F * jnp.clip(p_F.sum() / l0 - 1, -1, 1)
            group_F = jnp.zeros(len(b_F), jnp.int32)
        else:
            fall_F = jnp.where(p_F > target_F, r_F, 0)
            group_F = jnp.cumsum(target_F != jnp.roll(target_F, 1)) % len(b_F)
        rise_F = jnp.where(p_F < dead_below, _group_mean(r_F, group_F), 0)
        return jnp.clip(b_F - rate_down * fall_F + rate_up * rise_F, lowest, 0)

    return optax.GradientTransformationExtraArgs(init, update)


def _held(params):
    """(leaf, biases); a threshold is a bias of the opposite sign."""
    for leaf in LEAVES:
        if leaf in params:
            value = params[leaf]
            return leaf, {"log_": -jnp.exp(value), "thre": -value}.get(leaf[:4], value)
    raise ValueError(
        f"rule adapt_bias controls {', '.join(LEAVES)}, and this dictionary has none of them; "
        "leave config.revive out."
    )


def _as_leaf(leaf, b_F):
    if leaf == "log_threshold_F":
        return jnp.log(jnp.maximum(-b_F, _LEAST_THRESHOLD))
    return -b_F if leaf == "threshold_F" else b_F


def _group_mean(r_F, group_F):
    """Mean of the positive r of each latent's group, 0 where there is none."""
    total = lambda a_F: jax.ops.segment_sum(a_F, group_F, len(a_F))[group_F]
    return total(r_F) / jnp.maximum(total((r_F > 0).astype(r_F.dtype)), 1)
