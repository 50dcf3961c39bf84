"""Objectives: `(out, batch) -> loss of each token [B]`, float32. The learner takes the mean over tokens.

`make` finds an objective by its name. The first three differ only in scale, which decides the meaning of a
sparsity coefficient. `squared_error` sums over D, `mean_squared_error` averages over D, `fvu` divides by the
variance of the batch. `kl` is end to end: it measures the language model's predictions from the reconstruction,
not the distance to the activation.
"""

import functools
import inspect
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dictlearn.types import Batch, Objective, Out

__all__ = ["make", "names"]


def squared_error(out: Out, batch: Batch) -> Float[Array, " B"]:
    """`|y - yhat|^2`, summed over D."""
    return jnp.sum((out.y_BD - batch.y_BD) ** 2, -1)


def mean_squared_error(out: Out, batch: Batch) -> Float[Array, " B"]:
    """`|y - yhat|^2 / D`."""
    return jnp.mean((out.y_BD - batch.y_BD) ** 2, -1)


def fvu(out: Out, batch: Batch) -> Float[Array, " B"]:
    """`|y - yhat|^2` divided by the mean squared distance of the batch's targets to their mean. The mean over
    tokens is the fraction of variance unexplained within the batch (the normalised MSE of Gao et al. 2024, with
    the batch's own mean and variance)."""
    centred_BD = batch.y_BD - batch.y_BD.mean(0)
    return squared_error(out, batch) / jnp.mean(jnp.sum(centred_BD**2, -1))


def kl(
    out: Out,
    batch: Batch,
    *,
    coefficient: float = 1.0,
    downstream: Sequence[str] = (),
    downstream_coefficient: float = 0.0,
) -> Float[Array, " B"]:
    """The end-to-end loss:

        c KL(original || spliced) + b / |J| sum_j mean_D (a_j - a_j of the original)^2

    The KL is between next-token distributions (float32) of the original model and of the model with the
    reconstruction spliced in at the tap of the targets. a_j are the raw activations at the taps
    `downstream`, J. c, b: `coefficient`, `downstream_coefficient`; the paper's e2e has 1 and 0, its e2e +
    downstream 0.5 and 2.5 on the residual stream of the later layers. The tap itself may be one of J: its
    term is the local error. The loss is zero at masked tokens, whose activation is kept, and the other
    tokens are weighted so that the mean over B is the mean over them. Memory: about four arrays [S, T,
    V]; the learner's `accumulate` makes S smaller. Members of a sweep that are trained one after another
    each recompute the original. Raises ValueError for a batch without a `context` and for an unknown tap.

    Source: Braun et al. 2024 (arXiv:2405.12241).

    Differs: the paper's atoms are normalised in the forward pass and start orthogonal; here any
    dictionary may have this objective.
    """
    context = batch.context
    if context is None:
        raise ValueError(
            "the objective kl runs the language model; use config.stream.name='from_lm'."
        )
    new_STD = (out.y_BD / context.scale).reshape(context.y_STD.shape)
    original, before = jax.lax.stop_gradient(context.run(context.y_STD))
    spliced, after = context.run(new_STD)
    if unknown := sorted(set(downstream) - set(after)):
        raise ValueError(f"objective.downstream: the model has no tap {', '.join(unknown)}.")
    logp, logq = (jax.nn.log_softmax(logits) for logits in (original, spliced))
    loss_ST = coefficient * jnp.sum(jnp.exp(logp) * (logp - logq), -1)
    wide = lambda a: a.astype(jnp.promote_types(a.dtype, jnp.float32))
    apart = [jnp.mean((wide(after[tap]) - wide(before[tap])) ** 2, -1) for tap in downstream]
    loss_ST += downstream_coefficient * sum(apart) / max(1, len(apart))
    mask_ST = context.mask_ST
    return jnp.where(mask_ST, loss_ST / jnp.maximum(mask_ST.mean(), 1e-9), 0).reshape(-1)


_ALL = {each.__name__: each for each in (squared_error, mean_squared_error, fvu, kl)}
_RUN_MODEL = (kl,)
"""The objectives that read the `context` of a batch."""


def names() -> list[str]:
    """The names of all objectives.

    Returns:
        The names, the local objectives first.

    Example:
        >>> names()
        ['squared_error', 'mean_squared_error', 'fvu', 'kl']
    """
    return list(_ALL)


def factory(name: str) -> Callable[..., Array]:
    """The function `(out, batch, *, ...)` of the objective `name`.

    Raises ValueError for an unknown objective; the message lists the known ones.
    """
    if name not in _ALL:
        raise ValueError(f"unknown objective {name!r}; the objectives are {', '.join(_ALL)}.")
    return _ALL[name]


def runs_model(name: str) -> bool:
    """Whether the objective reads the `context` of a batch."""
    return _ALL.get(name) in _RUN_MODEL


def make(name: str, **settings) -> Objective:
    """The objective `name` with these settings.

    Args:
        name: an objective, of `names()`.
        settings: its keyword-only arguments.

    Returns:
        `(out, batch) -> [B]`.

    Raises:
        ValueError: for an unknown objective or setting; the message lists the known ones.

    Example:
        >>> from dictlearn.types import Codes
        >>> y_BD, yhat_BD = jnp.zeros((1, 4)), jnp.full((1, 4), 0.5)
        >>> out = Out(yhat_BD, Codes(yhat_BD), yhat_BD)
        >>> make("squared_error")(out, Batch(y_BD, y_BD)).tolist()
        [1.0]
    """
    parameters = inspect.signature(factory(name)).parameters.values()
    known = [one.name for one in parameters if one.kind is one.KEYWORD_ONLY]
    for key in settings:
        if key not in known:
            raise ValueError(
                f"objective {name!r} has no {key!r}; it has {', '.join(known) or 'none'}."
            )
    return functools.partial(factory(name), **settings)
