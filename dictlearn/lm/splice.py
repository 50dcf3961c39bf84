"""The splice: a language model with functions at its taps, and its three runs (original, spliced, ablated).

    original    the model        spliced    a function at each tap        ablated    zero at the taps

Masked tokens keep their activations in all three runs. `meters.loss_recovered` computes their losses.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from dictlearn.lm import edits

RUNS = ("original", "spliced", "ablated")


def side_by_side(taps: Mapping[str, jax.Array], names: Sequence[str]) -> jax.Array:
    """Concatenates the activations at several taps.

    Args:
        taps: the activations `[S, T, D]` of each tap, as a forward pass returns them.
        names: the taps to concatenate, in order.

    Returns:
        One array `[S, T, sum of the widths]`.

    Example:
        >>> side_by_side({"resid.0": jnp.zeros((1, 3, 4)), "resid.1": jnp.ones((1, 3, 4))},
        ...              ["resid.0", "resid.1"]).shape
        (1, 3, 8)
    """
    return jnp.concatenate([taps[name] for name in names], axis=-1)


def run(
    forward: Callable, names: Sequence[str], params: Any, tokens_ST, mask_ST, old_STD, new_STD
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Runs the model with other activations at some taps.

    Args:
        forward: the forward pass, `LM.forward`.
        names: the taps to write.
        params: the parameters of the model.
        tokens_ST: the tokens.
        mask_ST: True where a token is data; the other tokens keep their activations.
        old_STD: the model's own activations at the taps, concatenated.
        new_STD: the new activations at the taps, concatenated.

    Returns:
        (logits `[S, T, V]`, taps). The activations at the taps are given, so a compiled caller does not
        compute the layers before them.

    Example:
        >>> from dictlearn.lm import decoder
        >>> from dictlearn.lm.spec import Spec, random_params
        >>> spec = Spec(n_layers=1, d_model=4, n_heads=1, n_kv_heads=1, head_dim=4, d_mlp=8, vocab=5)
        >>> params = random_params(spec, jax.random.key(0))
        >>> forward = lambda *inputs, **options: decoder.forward(spec, *inputs, **options)
        >>> tokens_ST, mask_ST = jnp.array([[1, 2, 3]]), jnp.array([[False, True, True]])
        >>> old_STD = forward(params, tokens_ST)[1]["resid.0"]
        >>> logits_STV, taps = run(forward, ["resid.0"], params, tokens_ST, mask_ST, old_STD, 2 * old_STD)
        >>> taps["resid.0"][0, :, 0] / old_STD[0, :, 0]
        Array([1., 2., 2.], dtype=float32)
    """
    whole_STD = jnp.where(mask_ST[..., None], new_STD, old_STD)
    parts = zip(names, jnp.split(whole_STD, len(names), axis=-1), strict=True)
    put = {name: lambda *_, part=part: part for name, part in parts}
    return forward(params, tokens_ST, edits=put, mask_BT=mask_ST)


def runs(
    forward: Callable,
    params: Any,
    tokens_ST,
    mask_ST,
    change: Mapping[str, edits.Edit],
    written: Iterable[str],
) -> dict[str, jax.Array]:
    """Runs the model three times: as it is, with edits, and with zero at some taps.

    Args:
        forward: the forward pass, `LM.forward`.
        params: the parameters of the model.
        tokens_ST: the tokens.
        mask_ST: True where a token is data; the other tokens keep their activations.
        change: the edits of the spliced run, by tap.
        written: the taps that are zero in the ablated run.

    Returns:
        The logits `[S, T, V]` of the runs "original", "spliced" and "ablated".

    Example:
        >>> from dictlearn.lm import decoder
        >>> from dictlearn.lm.spec import Spec, random_params
        >>> spec = Spec(n_layers=1, d_model=4, n_heads=1, n_kv_heads=1, head_dim=4, d_mlp=8, vocab=5)
        >>> params = random_params(spec, jax.random.key(0))
        >>> forward = lambda *inputs, **options: decoder.forward(spec, *inputs, **options)
        >>> tokens_ST = jnp.array([[1, 2, 3]])
        >>> change = {"mlp_out.0": edits.zero()}
        >>> logits = runs(forward, params, tokens_ST, tokens_ST > 0, change, ["mlp_out.0"])
        >>> bool((logits["spliced"] == logits["ablated"]).all())
        True
    """
    zero = {name: edits.zero() for name in written}
    logits = lambda put: forward(params, tokens_ST, edits=put, mask_BT=mask_ST)[0]
    return {"original": logits({}), "spliced": logits(change), "ablated": logits(zero)}
