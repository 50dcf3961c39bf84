"""The transcoder of each layer of a set that was trained as one dictionary (dictionaries/transcoders.py).

layer l: latents l, l + L, ...; the l-th part of the taps, of b_dec and of the scales
"""

import numpy as np

from dictlearn.normalise import SCALAR_KINDS, Norm
from dictlearn.runs.trained import Trained


def by_layer(dictionary: Trained) -> list[Trained]:
    """The transcoders of a set, with the codes and reconstructions that they have in it.

    Args:
        dictionary: a trained dictionary.

    Returns:
        One Trained for each layer of a set, named NAME.0, NAME.1, ..., in the order of its taps; any other
        dictionary alone.

    Raises:
        ValueError: for a normalisation that is no scale, and for sites without a tap and target of each layer.

    Example:
        >>> import jax
        >>> from dictlearn import dictionaries
        >>> module = dictionaries.make("transcoders", d_in=6, d_out=6, n_latents=8, sources=2, k=2)
        >>> variables = module.init(jax.random.key(0), method="declare")
        >>> [one.module.n_latents for one in by_layer(Trained(module, variables, name="all"))]
        [4, 4]
    """
    parts = dictionary.module.by_layer(dictionary.variables)
    if not parts:
        return [dictionary]
    _check(dictionary, len(parts))
    return [_part(dictionary, *part, layer, len(parts)) for layer, part in enumerate(parts)]


def _check(dictionary: Trained, n: int) -> None:
    if dictionary.norm.kind not in SCALAR_KINDS:
        raise ValueError(
            f"{dictionary.norm.kind} of {dictionary.name!r} is no scale, so it has no part of one layer; "
            f"train with one of {', '.join(SCALAR_KINDS)}."
        )
    for site in dictionary.sites:
        if not len(site.tap) == len(site.target) == n:
            raise ValueError(
                f"{dictionary.name!r} has {n} layers, but the taps {site.tap} and the targets {site.target}; "
                "a set has one of each for every layer."
            )


def _part(dictionary: Trained, module, variables, layer: int, n: int) -> Trained:
    """The transcoder of a layer of n."""
    norm = dictionary.norm
    scale = lambda all: float(np.broadcast_to(np.asarray(all), (n,))[layer])
    sites = tuple(
        site._replace(tap=(site.tap[layer],), target=(site.target[layer],))
        for site in dictionary.sites
    )
    scales = Norm(norm.kind, scale(norm.scale_in), scale(norm.scale_out))
    name = f"{dictionary.name}.{layer}"
    return Trained(module, variables, scales, sites, name, dictionary.hparams)
