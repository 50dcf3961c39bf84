"""The split site: an activation as latents and an error, each with a gradient of its own.

    y' = decode(f + df) + e + de + (y - const(y))      f = const(encode(x)),  e = const(y - decode(f))

x is the tap that the dictionary reads, y the tap that it writes: the same one for an autoencoder. At df = de =
0 nothing changes but rounding. The gradients of df and de are those of the latents and of the error of this
site alone. The gradient of y goes to the layers below once, as without the split. So one backward pass gives
the gradients of all sites. The skip of a transcoder belongs to its error.

Source: Marks et al. 2024, "Sparse feature circuits" (arXiv:2403.19647), whose pass-through gradients these are.
Differs: any dictionary with one tap to read and one to write, transcoders too; every normalisation.

Axes: S sequences, T positions, F latents, D the width of the written tap.
"""

from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dictlearn import normalise
from dictlearn.lm.edits import Edit
from dictlearn.ops.firing import dense
from dictlearn.runs.trained import Trained, place
from dictlearn.types import Codes


class Parts(NamedTuple):
    """The parts of an activation at one site, or what is added to them.

    codes: `[S, T, F]`. error: `[S, T, D]`.
    """

    codes: jax.Array
    error: jax.Array


Run = Callable[[Mapping[str, Edit]], tuple[jax.Array, Mapping[str, jax.Array]]]
"""edits -> (logits, taps): a forward pass of a model on given tokens."""
Metric = Callable[[jax.Array], jax.Array]
"""logits `[S, T, V]` -> one number for each sequence, `[S]`."""


def by_tap(dictionaries: Collection[Trained]) -> dict[str, Trained]:
    """The dictionaries by the tap that they write.

    Args:
        dictionaries: dictionaries that read one tap and write one, as their sites say.

    Returns:
        {tap: dictionary}.

    Raises:
        ValueError: for two that write one tap, and for a dictionary with several taps.
    """
    found: dict[str, Trained] = {}
    for one in dictionaries:
        tap = place(one)[1]
        if tap in found:
            raise ValueError(f"{found[tap].name!r} and {one.name!r} write {tap!r}; give one.")
        found[tap] = one
    return found


def parts(
    dictionary: Trained, x_STD: Float[Array, "S T D"], y_STD: Float[Array, "S T E"]
) -> tuple[Parts, Callable[[jax.Array], jax.Array]]:
    """The parts of an activation.

    Args:
        dictionary: the dictionary.
        x_STD: the activation at the tap that it reads.
        y_STD: the activation at the tap that it writes.

    Returns:
        (the parts, the function that decodes codes `[S, T, F]` to activations).
    """
    wide = jnp.promote_types(y_STD.dtype, jnp.float32)
    x_BD, undo = normalise.forward(dictionary.norm, x_STD.reshape(-1, x_STD.shape[-1]).astype(wide))
    apply = lambda given, method: dictionary.module.apply(
        dictionary.variables, given, method=method
    )

    def decode(f_STF: jax.Array) -> jax.Array:
        codes = Codes(f_STF.reshape(len(x_BD), -1))
        return undo(apply(codes, "decode")).reshape(y_STD.shape)

    codes: Any = apply(jnp.asarray(x_BD), "encode")
    f_BF = dense(codes, dictionary.module.n_latents)
    f_STF = f_BF.reshape(*y_STD.shape[:2], -1)
    return Parts(f_STF, y_STD.astype(wide) - decode(f_STF)), decode


def site(dictionary: Trained, added: Parts, through: bool = True) -> Edit:
    """The edit that splits an activation and adds to its parts.

    Args:
        dictionary: the dictionary.
        added: what is added; its gradients are those of the latents and of the error.
        through: whether the gradient of the activation goes on to the layers below.

    Returns:
        An edit for the tap that the dictionary writes. Masked tokens are not split.
    """
    read = place(dictionary)[0]

    def edit(y_STD, mask_ST, taps):
        own, decode = parts(dictionary, taps[read], y_STD)
        f_STF, e_STD = jax.lax.stop_gradient(own)
        new_STD = decode(f_STF + added.codes) + e_STD + added.error
        new_STD = new_STD.astype(y_STD.dtype)
        if through:
            new_STD = new_STD + (y_STD - jax.lax.stop_gradient(y_STD))
        return jnp.where(mask_ST[..., None], new_STD, y_STD)

    return edit


def at(dictionary: Trained, taps: Mapping[str, jax.Array]) -> Parts:
    """The parts at the taps of a dictionary in a forward pass, with gradient.

    Args:
        dictionary: the dictionary.
        taps: the activations of the pass.

    Returns:
        Parts.
    """
    read, written = place(dictionary)
    return parts(dictionary, taps[read], taps[written])[0]


def states(run: Run, dictionaries: Mapping[str, Trained], mask_ST: jax.Array) -> dict[str, Parts]:
    """The parts at every site in one pass of the model.

    Args:
        run: the forward pass.
        dictionaries: the dictionaries by the tap that they write.
        mask_ST: True where a token is data.

    Returns:
        {tap: parts}, zero at masked tokens.
    """
    taps = run({})[1]
    found = {}
    keep = lambda leaf: jnp.where(mask_ST[..., None], leaf, 0)
    for tap, one in dictionaries.items():
        found[tap] = jax.tree.map(keep, at(one, taps))
    return found


def measured(
    run: Run, dictionaries: Mapping[str, Trained], metric: Metric
) -> Callable[[Mapping[str, Parts]], jax.Array]:
    """The metric as a function of what is added to the parts of each site.

    Args:
        run: the forward pass.
        dictionaries: the dictionaries by the tap that they write.
        metric: the metric.

    Returns:
        A function of {tap: added parts} that returns `[S]`. Sites that it is not given are not split.
    """

    def function(added: Mapping[str, Parts]) -> jax.Array:
        edits = {tap: site(dictionaries[tap], own) for tap, own in added.items()}
        return metric(run(edits)[0])

    return function
