"""Recommended settings: from a dictionary's kind, widths and sparsity, and the length of its run.

    inputs       mean_norm_sqrt_d, so that the coefficients of l0 unit atoms are about sqrt(d_in / l0)
    objective    fvu
    Adam         plateau lr sqrt(2^14 / n_latents), with lr the lower of 0.04 / sqrt(steps) and
                 sqrt(batch_size) / 12000; warm-up over 1/40 of the steps, decay over 1/2; b2 remembers
                 1/16 of the steps, between 100 and the usual 1000
    batch        1/1600 of the tokens, rounded down to a power of two, between 128 and 4096
    AuxK         d_in / 2 dead latents for a token, not rectified; dead after 1/100 of the tokens
    activation   what holds its L0, and its scales (`Activation.recommended`)

The figures behind each choice are in docs/recommended.md, measured by `benchmarks/recommended.py`. The 1/100
is at least 10,000 tokens, since a rare latent would otherwise count as dead between two of its tokens, and at
most the published 10 million.
"""

import dataclasses
from collections.abc import Mapping

from dictlearn import dictionaries, learners
from dictlearn.types import Dictionary

WARMUP, MEMORY, FEWEST, MOST = 1 / 40, 1 / 16, 10_000, 10_000_000
"""The shares of the steps that warm up and that b2 remembers; the bounds of the tokens after which a latent is
dead."""
STEPS, SMALLEST, LARGEST = 1600, 128, 4096
"""The number of steps that a batch size is chosen for, and the bounds of that size."""
HORIZON, NOISE = 0.04, 1 / 12_000
"""The law of the learning rate that `benchmarks/rates.py` measures: what a longer run wants lower, and what the
noise of a batch allows. The first is 1e-3 for 1600 steps, the second for a batch of 144."""


def recommended(
    kind: str,
    *,
    d_in: int,
    n_latents: int,
    tokens: int,
    batch_size: int | None = None,
    l0: float = 32,
    activation: str | None = None,
) -> dict:
    """The recommended settings of a dictionary, as subtrees of a config.

    Args:
        kind: the name of a dictionary, from `dictionaries.names()`.
        d_in: the width of the input.
        n_latents: F.
        tokens: the number of tokens of the run.
        batch_size: the number of tokens of a batch; None for the recommended one.
        l0: the wanted number of active latents of a token.
        activation: the name of the activation of a structure; None for its default.

    Returns:
        {"steps", "batch_size", "stream": the normalisation, "dictionary", "objective", "rule", "learner"}.
        A run fills in d_in from its stream.

    Raises:
        ValueError: for an unknown dictionary, for a number out of its bounds, and for a dictionary that has
            a field for which nothing is recommended.

    Example:
        >>> found = recommended("topk", d_in=64, n_latents=512, tokens=1_000_000, l0=8)
        >>> found["dictionary"]["k"], found["dictionary"]["aux_k"], found["batch_size"], found["steps"]
        (8, 32, 512, 1953)
    """
    batch_size = _batch_of(tokens) if batch_size is None else batch_size
    _check(d_in, n_latents, tokens, batch_size, l0)
    known, steps = dictionaries.fields(kind, activation), tokens // batch_size
    structure: type[Dictionary] = dictionaries.variant(kind)
    found: dict = {
        "steps": steps,
        "batch_size": batch_size,
        "stream": {"normalise": "mean_norm_sqrt_d"},
        "dictionary": {"name": kind, "n_latents": n_latents},
        "learner": {"name": structure.learner},
    }
    if activation is not None:
        found["dictionary"]["activation"] = activation
    if "k" in known:
        found["dictionary"]["k"] = max(1, round(l0))
    if "aux_k" in known:
        found["dictionary"]["aux_k"] = min(d_in // 2, n_latents)
    if "rule" in learners.reads(structure.learner):
        found["objective"] = {"name": "fvu"}
        found["rule"] = {
            "name": "adam",
            "lr": min(HORIZON / steps**0.5, NOISE * batch_size**0.5),
            "lr_law": "sqrt_latents",
            "warmup_steps": min(1000, round(WARMUP * steps)),
            "decay_fraction": 0.5,
            "b2": 1 - 1 / min(1000, max(100, round(MEMORY * steps))),
        }
        found["learner"]["dead_after"] = max(FEWEST, min(tokens // 100, MOST))
    for part in reversed(dictionaries.parts(kind, activation)):
        own = part.recommended(d_in=d_in, n_latents=n_latents, steps=steps, l0=l0)
        found = _joined(found, own)
    _refuse_missing(kind, known, found["dictionary"])
    return found


def _batch_of(tokens: int) -> int:
    """The batch size: smaller ones only take longer, and in larger ones a run has too few steps."""
    share = max(SMALLEST, min(tokens // STEPS, LARGEST))
    return min(1 << (share.bit_length() - 1), max(1, tokens))


def _check(d_in: int, n_latents: int, tokens: int, batch_size: int, l0: float) -> None:
    sizes = {"d_in": d_in, "n_latents": n_latents, "tokens": tokens, "batch_size": batch_size}
    for name, value in sizes.items():
        if value < 1:
            raise ValueError(f"{name}={value} must be at least 1.")
    if not 0 < l0 <= n_latents:
        raise ValueError(f"{l0=} must lie between 0 and {n_latents=}.")
    if tokens < batch_size:
        raise ValueError(f"{tokens=} are less than one batch; {batch_size=}.")


def _joined(found: Mapping, own: Mapping) -> dict:
    """`found`, whose subtrees are extended or changed by those of `own`."""
    both = lambda key: {**found.get(key, {}), **own[key]}
    return {**found, **{key: both(key) for key in own}}


def _refuse_missing(kind: str, known: Mapping, given: Mapping) -> None:
    needed = [
        name
        for name, field in known.items()
        if field.default is field.default_factory is dataclasses.MISSING
        and name not in ("d_in", "activation", *given)
    ]
    if needed:
        raise ValueError(
            f"there is no recommendation for dictionary.{needed[0]} of {kind!r}: nothing here finds the value "
            f"that gives an L0. Sweep it: config.sweep = {{'dictionary.{needed[0]}': (...)}}."
        )
