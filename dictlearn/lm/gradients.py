"""Gradients of a language model's loss at its taps, as taps: `grad.resid.9` is the gradient at `resid.9`.

    g = d L / d x,    L = sum over t of -log p(token_{t+1} | tokens_{<=t})

One backward pass serves all of them. L sums over all of a sequence, separators included, so that a token's g
holds what its activation does to every later prediction. It is small: keep it in a dtype with the exponents of
float32.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from dictlearn.lm.taps import Layered, expand_taps

PREFIX = "grad."


def expand(spec: Layered, patterns: str | Sequence[str]) -> list[str]:
    """`taps.expand_taps`, where a pattern may begin with `grad.`. Raises ValueError as that does."""
    found = []
    for pattern in [patterns] if isinstance(patterns, str) else patterns:
        bare = pattern.removeprefix(PREFIX)
        prefix = pattern[: len(pattern) - len(bare)]
        found += [prefix + tap for tap in expand_taps(spec, bare)]
    return list(dict.fromkeys(found))


def read(forward: Callable, params: Any, tokens_BT, names: Sequence[str]) -> dict[str, jax.Array]:
    """{name: [B, T, D]} of taps and, where a name begins with `grad.`, of gradients."""
    at = [name.removeprefix(PREFIX) for name in names if name.startswith(PREFIX)]
    if not at:
        taps = forward(params, tokens_BT)[1]
        return {name: taps[name] for name in names}
    shapes = jax.eval_shape(forward, params, tokens_BT)[1]
    zero = {tap: jnp.zeros(shapes[tap].shape, shapes[tap].dtype) for tap in at}

    def loss(shift):
        edits = {tap: lambda x, *_, by=by: x + by for tap, by in shift.items()}
        logits_BTV, taps = forward(params, tokens_BT, edits=edits)
        logp = jax.nn.log_softmax(logits_BTV[:, :-1])
        return -jnp.take_along_axis(logp, tokens_BT[:, 1:, None], axis=-1).sum(), taps

    gradient, taps = jax.grad(loss, has_aux=True)(zero)
    taps |= {PREFIX + tap: g for tap, g in gradient.items()}
    return {name: taps[name] for name in names}
