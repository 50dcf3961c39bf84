"""Gradient training of any dictionary under any objective and rule.

    loss = mean over tokens of (objective + w(t) penalty + aux_coefficient auxk)

w(t) rises linearly to 1 over `penalty_warmup_steps`. A latent is dead once `dead_after` tokens have passed
since it last fired; the counter is advanced before AuxK looks at it. Logging reads `info` and nothing else.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from dictlearn.ops import auxk
from dictlearn.ops.firing import count, l0
from dictlearn.ops.initialise import geometric_median
from dictlearn.types import Batch, Firing, Learner

_SATURATED = 2**30

BIAS_STARTS = {
    "zeros": lambda y_BD: jnp.zeros(y_BD.shape[1], y_BD.dtype),
    "mean": lambda y_BD: y_BD.mean(0),
    "geometric_median": geometric_median,
}


class State(NamedTuple):
    """variables: the module's params and stats. rule: the rule's state. silent_F: tokens since each
    latent last fired, saturating at 2^30. step: updates done."""

    variables: dict
    rule: Any
    silent_F: jax.Array
    step: jax.Array


def gradient(
    dictionary: Callable,
    objective: Callable,
    rule: Callable,
    *,
    dead_after: int = 10_000_000,
    aux_coefficient: float = 1 / 32,
    penalty_warmup_steps: int = 0,
    b_dec_start: str = "geometric_median",
) -> Learner:
    """A learner from three factories, each called with `hparams` under the trace:
    `dictionary(hparams) -> module`, `objective(hparams) -> (out, batch) -> [B]`, `rule(hparams) -> rule`.

    dead_after: tokens without firing after which a latent is dead. b_dec_start: "zeros", "mean" or
    "geometric_median" of the batch handed to `init`. Raises ValueError for another."""
    if b_dec_start not in BIAS_STARTS:
        raise ValueError(f"{b_dec_start=} must be one of {', '.join(BIAS_STARTS)}.")

    def init(key, hparams, batch: Batch) -> State:
        module = dictionary(hparams)
        alive_F = jnp.zeros(module.n_latents, bool)
        variables = module.init(key, batch.x_BD, alive_F)
        params = dict(variables["params"])
        if "b_dec_D" in params:
            params["b_dec_D"] = BIAS_STARTS[b_dec_start](batch.y_BD)
        silent_F = jnp.zeros(module.n_latents, jnp.int32)
        state = rule(hparams).init(params)
        return State({**variables, "params": params}, state, silent_F, jnp.zeros((), jnp.int32))

    def losses(params, state: State, hparams, batch: Batch):
        n_tokens = batch.x_BD.shape[0]
        rest = {name: value for name, value in state.variables.items() if name != "params"}
        dead_F = state.silent_F + n_tokens > dead_after
        out, changed = dictionary(hparams).apply(
            {"params": params, **rest}, batch.x_BD, dead_F, mutable=list(rest)
        )
        parts = {"reconstruction": objective(hparams)(out, batch).mean()}
        if out.penalty_B is not None:
            warm = jnp.minimum(1.0, (state.step + 1) / max(1, penalty_warmup_steps))
            parts["penalty"] = warm * out.penalty_B.mean()
        if out.residual_BD is not None:
            aux_B = auxk.loss(batch.y_BD - out.y_BD, out.residual_BD)
            parts["auxk"] = aux_coefficient * aux_B.mean()
        return sum(parts.values()), (parts, out, changed)

    def update(state: State, hparams, batch: Batch):
        params = state.variables["params"]
        differentiate = jax.value_and_grad(losses, has_aux=True)
        (loss, (parts, out, changed)), grads = differentiate(params, state, hparams, batch)
        firing = Firing(count(out.codes, len(state.silent_F)), out.pre_BF.max(0))
        updates, rule_state = rule(hparams).update(grads, state.rule, params, firing=firing)
        variables = {**changed, "params": optax.apply_updates(params, updates)}
        silent_F = jnp.minimum(state.silent_F + batch.x_BD.shape[0], _SATURATED)
        silent_F = jnp.where(firing.count_F > 0, 0, silent_F)
        info = {"loss": loss, **parts, **_reading(out, batch, silent_F >= dead_after)}
        return State(variables, rule_state, silent_F, state.step + 1), info

    return Learner(init, update, lambda state: state.variables)


def _reading(out, batch: Batch, dead_F) -> dict:
    """What one logs of a batch; the variance is about the batch's own mean."""
    error = jnp.sum((batch.y_BD - out.y_BD) ** 2)
    variance = jnp.sum((batch.y_BD - batch.y_BD.mean(0)) ** 2)
    return {
        "explained_variance": 1 - error / variance,
        "l0": l0(out.codes).mean(dtype=jnp.float32),
        "dead_fraction": dead_F.mean(dtype=jnp.float32),
    }
