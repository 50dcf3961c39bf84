"""Gradient training of any dictionary under any objective and rule.

    loss = mean over tokens of (objective + w(t) penalty + aux_coefficient auxk)

where the objective is that of the reconstruction plus, weighted, those of the variant's `others`. w(t)
rises linearly to 1 over `penalty_warmup_steps`. A latent is dead once `dead_after` tokens have passed
since it last fired; the counter is advanced before AuxK looks at it. Logging reads `info` and nothing else.

A step whose loss or gradient is not finite is skipped and counted (`_skip.py`).
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax

from dictlearn.learners import _skip, _start
from dictlearn.ops import auxk
from dictlearn.ops import skip as linear
from dictlearn.ops.firing import count, l0
from dictlearn.types import Batch, Firing, Learner, Out

_SATURATED = 2**30


class State(NamedTuple):
    """variables: the module's params and stats. rule: the rule's state. silent_F: tokens since each
    latent last fired, saturating at 2^30. step: updates done. ema: the params' running mean before its
    correction for the start at zero; None without one. skipped, bad_batch: steps not taken, and the last
    batch that was not."""

    variables: dict
    rule: Any
    silent_F: jax.Array
    step: jax.Array
    skipped: jax.Array
    bad_batch: jax.Array
    ema: Any = None


class _Seen(NamedTuple):
    """What a forward pass leaves for rules and readings."""

    count_F: jax.Array
    max_F: jax.Array
    error_B: jax.Array
    l0_B: jax.Array


def gradient(
    dictionary: Callable,
    objective: Callable,
    rule: Callable,
    *,
    dead_after: int = 10_000_000,
    aux_coefficient: float = 1 / 32,
    penalty_warmup_steps: int = 0,
    atoms_start: str = "tied",
    atom_norm: float = 1.0,
    b_enc_start: str = "own",
    b_dec_start: str = "geometric_median",
    skip: bool = False,
    ema_decay: float | None = None,
    accumulate: int = 1,
    compute_dtype: str = "float32",
    max_skipped: int = 10,
) -> Learner:
    """A learner from three factories, each called with `hparams` under the trace:
    `dictionary(hparams) -> module`, `objective(hparams) -> (out, batch) -> [B]`, `rule(hparams) -> rule`.

    dead_after: tokens without firing after which a latent is dead. atoms_start: "tied" (the encoder a
    copy of random atoms), "kaiming_uniform" (both drawn), "zeros" (the encoder drawn so, atoms zero: for
    a rule that does not hold them at unit norm) or "data_rows" (tokens of the batch handed to `init`).
    atom_norm: norm of the atoms at the start. b_enc_start: "own" (as the variant declares) or "centred"
    (mean pre-activations on that batch are zero; for transcoders). b_dec_start: "zeros", "mean" or
    "geometric_median" of that batch. skip: a linear map of the input joins the reconstruction
    (ops/skip.py), which starts at zero; ValueError for an autoencoder, which it would make trivial.
    ema_decay: `variables` gives the params' exponential mean, corrected for its start (Gao et al. 2024:
    0.999); None for none. accumulate: parts of the batch that are passed through one after another;
    dictionary and objective see a part as their batch. compute_dtype: "float32" or "bfloat16", in which a
    copy of the parameters and the inputs is computed with; state, gradients and losses are float32 always.
    max_skipped: steps that may be skipped because their loss or gradient is not finite; one more ends the
    run. Raises ValueError for any other."""
    _start.check(atoms_start, b_enc_start, b_dec_start)
    _skip.check(max_skipped)
    if compute_dtype not in ("float32", "bfloat16"):
        raise ValueError(f"{compute_dtype=} must be float32 or bfloat16.")
    if ema_decay is not None and not 0 < ema_decay < 1:
        raise ValueError(f"{ema_decay=} must lie between 0 and 1; None for no mean.")
    if accumulate < 1:
        raise ValueError(f"{accumulate=} must be at least 1.")

    def init(key, hparams, batch: Batch) -> State:
        module = dictionary(hparams)
        k_module, k_start = jax.random.split(key)
        variables = module.init(k_module, batch.x_BD, jnp.zeros(module.n_latents, bool))
        params = _start.atoms(atoms_start, atom_norm, k_start, dict(variables["params"]), batch)
        params = _start.bias(module, b_enc_start, b_dec_start, params, batch)
        params = _start.linear(module, params, batch) if skip else params
        variables = {**variables, "params": params}
        variables = module.start(k_start, variables, batch)
        state = rule(hparams).init(variables["params"])
        silent_F, step = jnp.zeros(module.n_latents, jnp.int32), jnp.zeros((), jnp.int32)
        ema = None if ema_decay is None else jax.tree.map(jnp.zeros_like, variables["params"])
        return State(variables, state, silent_F, step, **_skip.start(), ema=ema)

    def losses(params, rest, state: State, hparams, batch: Batch, dead_F):
        if compute_dtype != "float32":
            low = lambda leaf: leaf.astype(compute_dtype)
            params, x_BD = jax.tree.map(low, params), low(batch.x_BD)
        else:
            x_BD = batch.x_BD
        module, reads = dictionary(hparams), [x_BD, dead_F]
        if module.reads_gradient and batch.g_BD is not None:
            reads.append(batch.g_BD.astype(x_BD.dtype))
        out, changed = module.apply({"params": params, **rest}, *reads, mutable=list(rest))
        out = _with_linear(out, params, x_BD)
        wide = lambda y_BD: y_BD.astype(batch.y_BD.dtype)
        error = lambda y_BD: objective(hparams)(out._replace(y_BD=wide(y_BD)), batch).mean()
        parts = {"reconstruction": error(out.y_BD)}
        if out.others:
            parts["others"] = sum(weight * error(y_BD) for weight, y_BD in out.others)
        if out.penalty_B is not None:
            warm = jnp.minimum(1.0, (state.step + 1) / max(1, penalty_warmup_steps))
            parts["penalty"] = warm * wide(out.penalty_B).mean()
        residual_BD = batch.y_BD - wide(out.y_BD)
        if out.residual_BD is not None:
            aux_B = auxk.loss(residual_BD, wide(out.residual_BD))
            parts["auxk"] = aux_coefficient * aux_B.mean()
        n, error_B = len(dead_F), jnp.sum(residual_BD**2, -1)
        seen = _Seen(count(out.codes, n), wide(out.pre_BF.max(0)), error_B, l0(out.codes))
        return sum(parts.values()), (parts, changed, lax.stop_gradient(seen))

    def differentiate(params, rest, state, hparams, batch, dead_F):
        into = jax.value_and_grad(losses, has_aux=True)
        (_, (parts, changed, seen)), grads = into(params, rest, state, hparams, batch, dead_F)
        return (grads, parts), changed, seen

    def differentiate_parts(params, rest, state, hparams, batch, dead_F):
        """The same over `accumulate` parts of the batch: means of gradients and losses."""

        def one(carry, part):
            total, rest = carry
            part = with_params(part)
            found, rest, seen = differentiate(params, rest, state, hparams, part, dead_F)
            return (jax.tree.map(jnp.add, total, found), rest), seen

        def with_params(part):
            if part.context is None:
                return part
            whole = dataclasses.replace(part.context, params=batch.context.params)
            return part._replace(context=whole)

        parts = _parts(batch, accumulate)
        first = with_params(jax.tree.map(lambda leaf: leaf[0], parts))
        shapes = jax.eval_shape(differentiate, params, rest, state, hparams, first, dead_F)[0]
        zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
        (total, rest), seen = lax.scan(one, (zeros, rest), parts)
        length = 1 if batch.context is None else batch.context.tokens_ST.shape[1]
        whole = lambda leaf_AB: leaf_AB.reshape(accumulate, -1, length).swapaxes(0, 1).reshape(-1)
        seen = _Seen(seen[0].sum(0), seen[1].max(0), whole(seen[2]), whole(seen[3]))
        return jax.tree.map(lambda leaf: leaf / accumulate, total), rest, seen

    def update(state: State, hparams, batch: Batch):
        params = state.variables["params"]
        rest = {name: value for name, value in state.variables.items() if name != "params"}
        n_tokens = batch.x_BD.shape[0]
        dead_F = state.silent_F + n_tokens > dead_after
        find = differentiate if accumulate == 1 else differentiate_parts
        (grads, parts), changed, seen = find(params, rest, state, hparams, batch, dead_F)
        module = dictionary(hparams)
        target_F = module.targets()
        firing = Firing(seen.count_F, seen.max_F, dead_F, target_F)

        def take() -> State:
            updates, rule_state = rule(hparams).update(
                grads, state.rule, params, firing=firing, batch=batch, error_B=seen.error_B
            )
            new = optax.apply_updates(params, updates)
            new = module.project(new)
            silent_F = jnp.minimum(state.silent_F + n_tokens, _SATURATED)
            return state._replace(
                variables={**changed, "params": new},
                rule=rule_state,
                silent_F=jnp.where(firing.count_F > 0, 0, silent_F),
                step=state.step + 1,
                ema=ema_decay and optax.incremental_update(new, state.ema, 1 - ema_decay),
            )

        loss = sum(parts.values())
        state = _skip.unless_finite((loss, grads), take, state)
        info = {"loss": loss, **parts, **_reading(seen, batch, state.silent_F >= dead_after)}
        return state, info | _skip.reading(state, max_skipped)

    def variables(state: State) -> dict:
        if ema_decay is None:
            return state.variables
        weight = 1 - ema_decay ** state.step.astype(jnp.float32)
        share = lambda mean: weight.reshape(weight.shape + (1,) * (mean.ndim - weight.ndim))
        mean = lambda mean, new: jnp.where(share(mean) > 0, mean / share(mean), new)
        return {
            **state.variables,
            "params": jax.tree.map(mean, state.ema, state.variables["params"]),
        }

    return Learner(init, update, variables)


def _with_linear(out: Out, params, x_BD) -> Out:
    """`out` with the skip's part in every reconstruction of the target, where there is a skip."""
    others = tuple((weight, linear.add(params, x_BD, y_BD)) for weight, y_BD in out.others)
    return out._replace(y_BD=linear.add(params, x_BD, out.y_BD), others=others)


def _parts(batch: Batch, n: int) -> Batch:
    """`[n, B / n, D]`: part a holds every n-th token from a on, so that each has a share of every device;
    every n-th sequence of a batch of sequences."""
    size, context = batch.x_BD.shape[0], batch.context
    length = 1 if context is None else context.tokens_ST.shape[1]
    if size // length % n or size % length:
        raise ValueError(
            f"accumulate={n} does not divide batch_size={size}, {size // length} sequences of {length}."
        )
    cut = lambda a_SX: a_SX.reshape(size // length // n, n, *a_SX.shape[1:]).swapaxes(0, 1)
    rows = lambda a_BD: cut(a_BD.reshape(size // length, -1)).reshape(n, size // n, a_BD.shape[1])
    g_BD = None if batch.g_BD is None else rows(batch.g_BD)
    parts = Batch(rows(batch.x_BD), rows(batch.y_BD), g_BD=g_BD)
    if context is None:
        return parts
    own = {name: cut(getattr(context, name)) for name in ("tokens_ST", "mask_ST", "y_STD")}
    return parts._replace(context=dataclasses.replace(context, params=None, **own))


def _reading(seen: _Seen, batch: Batch, dead_F) -> dict:
    """What one logs of a batch; the variance is about the batch's own mean."""
    variance = jnp.sum((batch.y_BD - batch.y_BD.mean(0)) ** 2)
    return {
        "explained_variance": 1 - jnp.sum(seen.error_B) / variance,
        "l0": seen.l0_B.mean(dtype=jnp.float32),
        "dead_fraction": dead_F.mean(dtype=jnp.float32),
    }
