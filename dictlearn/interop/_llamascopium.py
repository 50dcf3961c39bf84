"""Shared by Llamascopium's formats: the kind of a folder, its arrays, its normalisation and its config."""

import math
from collections.abc import Container, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dictlearn.interop import _foreign, _hooks
from dictlearn.normalise import Norm
from dictlearn.runs.trained import Trained

CONFIG, WEIGHTS = "config.json", "sae_weights.safetensors"
LOG = "activation_function.log_jumprelu_threshold"
RANKS = "sparsity_include_decoder_norm"
_AVERAGE = "dataset_average_activation_norm."
_NORM = "norm_activation"
WISE = "dataset-wise"
SAE, CROSSCODER, CLT = "sae", "crosscoder", "clt"
"""Values of sae_type."""


def kind(path: Path) -> Any:
    """The sae_type of a folder, SAE where its config cannot be read; None for a path that is no folder of
    Llamascopium."""
    if not _foreign.has(path, CONFIG, WEIGHTS):
        return None
    try:
        return _foreign.config(path, CONFIG).get("sae_type", SAE)
    except ValueError:
        return SAE


def shape(path: Path, key: str, axes: int) -> tuple[int, ...]:
    """The shape of an array of the weights. Raises ValueError for another number of axes."""
    there = _foreign.shapes(_foreign.inside(path, WEIGHTS))
    if len(there.get(key, ())) != axes:
        raise ValueError(
            f"{WEIGHTS} lacks a {key} of {axes} axes; it holds {', '.join(sorted(there))}."
        )
    return there[key]


def arrays(
    path: Path, wanted: Mapping[str, tuple[int, ...]]
) -> tuple[dict[str, np.ndarray], dict[str, float]]:
    """(exactly these arrays, the average norms of the activations by hook) of the weights."""
    there = _foreign.shapes(_foreign.inside(path, WEIGHTS))
    norms = {key: () for key in there if key.startswith(_AVERAGE)}
    found = _foreign.tensors(path, WEIGHTS, {**wanted, **norms})
    averages = {key.removeprefix(_AVERAGE): float(found[key]) for key in norms}
    return {key: found[key] for key in wanted}, averages


def hooks(told: Mapping[str, Any], key: str, n: int) -> list[str]:
    """The n hooks of a config."""
    found = told.get(key)
    if not isinstance(found, list) or [type(hook) for hook in found] != [str] * n:
        raise ValueError(f"{key}={found!r} must be {n} hooks, as many as the arrays are for.")
    return found


def scales(
    sides: Sequence[Sequence[Any]], averages: Mapping[str, float], width: int
) -> Iterator[list[float]]:
    """The scales of the hooks of each side, sqrt(D) over their average norms."""
    every = {str(hook) for side in sides for hook in side}
    if lacking := sorted(every - {hook for hook, value in averages.items() if value > 0}):
        raise ValueError(
            f"{_NORM}={WISE!r} needs {_AVERAGE}{lacking[0]} in {WEIGHTS}: save it from Llamascopium after "
            "set_dataset_average_activation_norm."
        )
    return ([math.sqrt(width) / averages[str(hook)] for hook in side] for side in sides)


def norm_kind(told: Mapping[str, Any], *more: str) -> str:
    """The normalisation of a config."""
    return _foreign.one_of(told, _NORM, (WISE, "inference", *more), WISE)


def norm(
    told: Mapping[str, Any], sides: Sequence[list[str]], averages: Mapping[str, float], width: int
) -> Norm:
    """The normalisation of several sources."""
    if norm_kind(told) == "inference":
        return Norm()
    return Norm("mean_norm_sqrt_d", *scales(sides, averages, width))


def normed(trained: Trained, sides: Sequence[list[str]], width: int) -> dict[str, np.ndarray]:
    """The average norms of a dictionary of several sources, as arrays."""
    given = {}
    for hooks, scale in zip(sides, (trained.norm.scale_in, trained.norm.scale_out), strict=True):
        average = math.sqrt(width) / np.asarray(scale, np.float64)
        given |= dict(zip(hooks, np.broadcast_to(average, len(hooks)), strict=True))
    return {f"{_AVERAGE}{hook}": average for hook, average in given.items()}


def of_norm(trained: Trained) -> str:
    """The norm_activation of a dictionary of several sources. Raises ValueError where Llamascopium has none."""
    if trained.norm.kind == "mean_norm_sqrt_d":
        return WISE
    _foreign.check_raw(trained)
    return "inference"


def places(trained: Trained, n: int, across: bool) -> list[list[str]]:
    """The hooks of the n sources and of their targets; "in.0", "out.0" ... where they are not known."""
    site = trained.sites[0] if len(trained.sites) == 1 else None
    ends = "in", "out" if across else "in"
    if site is None or len(site.tap) != n or (across and len(site.target) != n):
        return [[f"{end}.{i}" if n > 1 else end for i in range(n)] for end in ends]
    taps = site.tap, site.target if across else site.tap
    return [[_hooks.hook(tap) for tap in side] for side in taps]


def config(sae_type: str, width: int, n_latents: int, **told: Any) -> dict[str, Any]:
    """config.json, as the library writes it. Raises ValueError for a number of latents that it cannot say."""
    if int(width * (n_latents / width)) != n_latents:
        raise ValueError(f"Llamascopium cannot express F={n_latents} as a multiple of D={width}.")
    return {
        "sae_type": sae_type,
        "d_model": width,
        "d_sae": n_latents,
        "expansion_factor": n_latents / width,
        "use_decoder_bias": True,
        **told,
    }


def check(made: Mapping[str, Any], names: Container[str], kinds: Mapping[str, str]) -> str:
    """The act_fn of a dictionary, by its activation. Raises ValueError for another name, and for what the
    library does not compute; `made` describes the dictionary."""
    name, activation = made["name"], str(made.get("activation"))
    if name not in names or activation not in kinds:
        raise ValueError(f"Llamascopium has no act_fn for {name} with {activation}.")
    if made["d_out"] not in (None, made["d_in"]) or made.get("skip"):
        raise ValueError(f"Llamascopium's {name} writes {made['d_in']} columns and has no skip.")
    if made["d_out"] is None and made["subtract_b_dec"]:
        raise ValueError(f"Llamascopium subtracts nothing; this {name} subtracts b_dec.")
    if made.get("anneal_steps"):
        raise ValueError(f"Llamascopium has no anneal_steps, which {name} has.")
    return kinds[activation]
