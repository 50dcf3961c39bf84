"""Gradient training of any dictionary with any objective and rule.

    loss = mean over tokens of (objective + w(t) e^p penalty + aux_coefficient auxk)
    p <- p + penalty_rate (L0 / penalty_l0 - 1)          where `penalty_l0` is given, else p = 0

The objective is that of the reconstruction plus, weighted, the objectives of the variant's `others`. w(t)
rises linearly to 1 over `penalty_warmup_steps`. p finds the coefficient of the penalty at which a token has
`penalty_l0` active latents, since no coefficient means the same on other data. A latent is dead once
`dead_after` tokens have passed since it last fired; the counter is advanced before AuxK reads it. Logging only
reads `info`.
"""

from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import optax
from jax import lax

from dictlearn.learners._accumulate import Seen, accumulated
from dictlearn.learners._finite import all_finite
from dictlearn.learners._start import Start, start
from dictlearn.ops import auxk
from dictlearn.ops.firing import count, l0
from dictlearn.rules import evaluated
from dictlearn.types import Batch, Dictionary, Firing, Learner, Objective

_SATURATED = 2**30
_PRECISIONS = ("float32", "bfloat16")
_START = start()


class State(NamedTuple):
    """variables: the module's params and stats. rule: the state of the rule. silent_F: the number of tokens
    since each latent last fired, saturating at 2^30. step: the number of updates. pressure: p."""

    variables: dict
    rule: Any
    silent_F: jax.Array
    step: jax.Array
    pressure: jax.Array


def gradient(
    dictionary: Dictionary,
    objective: Objective,
    rule: optax.GradientTransformation,
    start: Start = _START,
    *,
    dead_after: int = 10_000_000,
    aux_coefficient: float = 1 / 32,
    penalty_warmup_steps: int = 0,
    penalty_l0: float | None = None,
    penalty_rate: float = 0.01,
    accumulate: int = 1,
    compute_dtype: str = "float32",
) -> Learner:
    """A learner that trains `dictionary` with gradients of `objective`.

    Args:
        dictionary: the module. Its fields annotated `Scalar` may be tracers, as in a sweep.
        objective: `(out, batch) -> [B]`, from `objectives.make`.
        rule: the optimiser, from `rules.make` or from optax.
        start: the initialisation, from `learners.start`.
        dead_after: the number of tokens without firing after which a latent is dead.
        aux_coefficient: the coefficient of AuxK.
        penalty_warmup_steps: the number of steps over which the penalty rises to its full weight.
        penalty_l0: the wanted number of active latents of a token; None for the penalty as the dictionary
            states it.
        penalty_rate: the speed of the search for the coefficient.
        accumulate: the number of parts of the batch that are processed one after another; dictionary and
            objective see a part as their batch.
        compute_dtype: "float32" or "bfloat16", the precision of the forward and backward pass; state,
            gradients and losses are always float32.

    Returns:
        A Learner. Its info has the loss and its parts, explained variance, L0, the fraction of dead
        latents, and `finite`: whether loss and gradient are finite.

    Raises:
        ValueError: for another precision, for an `accumulate` below 1, and, at the first update, for a
            `penalty_l0` of a dictionary without a penalty.

    Example:
        >>> import jax, optax
        >>> from dictlearn import Batch, dictionaries, objectives
        >>> x_BD = jax.random.normal(jax.random.key(0), (32, 4))
        >>> batch = Batch(x_BD, x_BD)
        >>> module = dictionaries.make("topk", d_in=4, n_latents=16, k=2)
        >>> learner = gradient(module, objectives.make("fvu"), optax.adam(1e-3))
        >>> state = learner.init(jax.random.key(1), batch)
        >>> state, info = jax.jit(learner.update)(state, batch)
        >>> float(info["l0"]) <= 2
        True
    """
    if compute_dtype not in _PRECISIONS:
        raise ValueError(f"{compute_dtype=} must be {' or '.join(_PRECISIONS)}.")
    moves = optax.with_extra_args_support(rule)
    project = lambda params: dictionary.project(cast(dict, params))

    def init(key: jax.Array, batch: Batch) -> State:
        variables = start(dictionary, key, batch)
        silent_F = jnp.zeros(dictionary.n_latents, jnp.int32)
        rule_state, zero = moves.init(variables["params"]), jnp.zeros(())
        return State(variables, rule_state, silent_F, zero.astype(jnp.int32), zero)

    def losses(params, rest, strength, batch: Batch, dead_F):
        out, changed = _forward(dictionary, compute_dtype, params, rest, batch, dead_F)
        wide = lambda y_BD: y_BD.astype(batch.y_BD.dtype)
        error = lambda y_BD: objective(out._replace(y_BD=wide(y_BD)), batch).mean()
        parts = {"reconstruction": error(out.y_BD)}
        if out.others:
            weighted = [weight * error(y_BD) for weight, y_BD in out.others]
            parts["others"] = jnp.asarray(sum(weighted))
        if out.penalty_B is not None:
            parts["penalty"] = strength * wide(out.penalty_B).mean()
        elif penalty_l0 is not None:
            raise ValueError(f"{penalty_l0=} needs a dictionary with a penalty; others state k.")
        residual_BD = batch.y_BD - wide(out.y_BD)
        if out.residual_SD is not None:
            aux_B = auxk.loss(residual_BD, wide(out.residual_SD))
            parts["auxk"] = aux_coefficient * aux_B.mean()
        n, error_B = len(dead_F), jnp.sum(residual_BD**2, -1)
        seen = Seen(count(out.codes, n), wide(out.pre_BF.max(0)), error_B, l0(out.codes))
        return sum(parts.values()), (parts, changed, lax.stop_gradient(seen))

    def differentiate(params, rest, strength, batch: Batch, dead_F):
        into = jax.value_and_grad(losses, has_aux=True)
        (_, (parts, changed, seen)), grads = into(params, rest, strength, batch, dead_F)
        return (grads, parts), changed, seen

    find = accumulated(differentiate, accumulate)

    def update(state: State, batch: Batch) -> tuple[State, dict]:
        params = state.variables["params"]
        rest = {name: value for name, value in state.variables.items() if name != "params"}
        silent_F = state.silent_F + batch.x_BD.shape[0]
        dead_F = silent_F > dead_after
        warm = jnp.minimum(1.0, (state.step + 1) / max(1, penalty_warmup_steps))
        strength = warm * jnp.exp(state.pressure)
        (grads, parts), changed, seen = find(params, rest, strength, batch, dead_F)
        firing = Firing(seen.count_F, seen.max_F, dead_F, dictionary.targets())
        extra = {"firing": firing, "batch": batch, "error_B": seen.error_B}
        updates, rule_state = moves.update(grads, state.rule, params, **extra)
        params = project(optax.apply_updates(params, updates))
        silent_F = jnp.where(firing.count_F > 0, 0, jnp.minimum(silent_F, _SATURATED))
        loss = sum(parts.values())
        info = {"loss": loss, **parts, **_reading(seen, batch, silent_F >= dead_after)}
        info["finite"] = all_finite((loss, grads))
        pressure = state.pressure
        if penalty_l0 is not None:
            pressure += penalty_rate * jnp.clip(info["l0"] / penalty_l0 - 1, -1, 1)
        variables = {**changed, "params": params}
        return State(variables, rule_state, silent_F, state.step + 1, pressure), info

    def variables(state: State) -> dict:
        params = state.variables["params"]
        read = evaluated(state.rule, params)
        return state.variables if read is params else {**state.variables, "params": project(read)}

    return Learner(init, update, variables)


def _forward(module: Dictionary, precision: str, params, rest, batch: Batch, dead_F):
    """(out, other variables after it) of the training forward pass in this precision."""
    x_BD = batch.x_BD
    if precision != "float32":
        low = lambda leaf: leaf.astype(precision)
        params, x_BD = jax.tree.map(low, params), low(x_BD)
    reads = [x_BD, dead_F]
    if module.reads_gradient and batch.g_BD is not None:
        reads.append(batch.g_BD.astype(x_BD.dtype))
    return module.apply({"params": params, **rest}, *reads, mutable=list(rest))


def _reading(seen: Seen, batch: Batch, dead_F) -> dict:
    """The logged values of a batch; the variance is about the mean of the batch."""
    variance = jnp.sum((batch.y_BD - batch.y_BD.mean(0)) ** 2)
    return {
        "explained_variance": 1 - jnp.sum(seen.error_B) / variance,
        "l0": seen.l0_B.mean(dtype=jnp.float32),
        "dead_fraction": dead_F.mean(dtype=jnp.float32),
    }
