"""Gradients of a language model's loss at its taps, named as taps: `grad.resid.9` is the gradient at `resid.9`.

    g = d L / d x,    L = sum over t of -log p(token_{t+1} | tokens_{<=t})

One backward pass computes the gradients at all taps. L is summed over the whole sequence, separators
included, so the g of a token contains the effect of its activation on every later prediction. Gradients are
small: store them in a dtype with the exponent range of float32.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from dictlearn.lm.taps import Layered, expand_taps

PREFIX = "grad."


def expand(spec: Layered, patterns: str | Sequence[str]) -> list[str]:
    """Expands patterns of taps and of gradients, as `expand_taps` does.

    Args:
        spec: the hyperparameters of the model.
        patterns: patterns of `expand_taps`; the prefix `grad.` asks for the gradients at the taps.

    Returns:
        The names, each once, in the order of the patterns.

    Raises:
        ValueError: for a pattern that matches no tap; the message lists the taps.

    Example:
        >>> from dictlearn.lm.bert import BertSpec
        >>> spec = BertSpec(n_layers=2, d_model=4, n_heads=1, d_mlp=8, vocab=5, n_positions=8)
        >>> expand(spec, ["resid.0", "grad.resid.*"])
        ['resid.0', 'grad.resid.0', 'grad.resid.1']
    """
    found = []
    for pattern in [patterns] if isinstance(patterns, str) else patterns:
        bare = pattern.removeprefix(PREFIX)
        prefix = pattern[: len(pattern) - len(bare)]
        found += [prefix + tap for tap in expand_taps(spec, bare)]
    return list(dict.fromkeys(found))


def read(forward: Callable, params: Any, tokens_BT, names: Sequence[str]) -> dict[str, jax.Array]:
    """Runs the model, and its backward pass where a name asks for it.

    Args:
        forward: the forward pass, of (params, tokens_BT, edits).
        params: the parameters of the model.
        tokens_BT: the tokens.
        names: taps, or `grad.TAP` for the gradient of the loss at a tap.

    Returns:
        {name: activations or gradients `[B, T, D]`}.

    Example:
        >>> from dictlearn.lm import decoder
        >>> from dictlearn.lm.spec import Spec, random_params
        >>> spec = Spec(n_layers=1, d_model=4, n_heads=1, n_kv_heads=1, head_dim=4, d_mlp=8, vocab=5)
        >>> params = random_params(spec, jax.random.key(0))
        >>> forward = lambda *inputs, **options: decoder.forward(spec, *inputs, **options)
        >>> found = read(forward, params, jnp.array([[1, 2, 3]]), ["resid.0", "grad.resid.0"])
        >>> bool((found["grad.resid.0"][0, -1] == 0).all())  # the last token predicts nothing
        True
    """
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
