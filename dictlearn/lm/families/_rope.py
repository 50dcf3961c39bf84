"""Rotary positions in a `config.json`.

Source: Llama 3's scaling is `apply_scaling` of meta-llama/llama-models; linear scaling is Chen et al. 2023
(arXiv:2306.15595).
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from dictlearn.lm.families._config import Config

_OLD = ("rope_theta", "rotary_emb_base"), ("partial_rotary_factor", "rotary_pct")
"""Names of the base and of the share that turns, in configs that have them at the top level."""


def rope(config: Config, head_dim: int, base: float = 1e4, part: float = 1.0) -> dict[str, Any]:
    """The rotary fields of a `Spec`; `base` and `part`, the share of a head's dimensions that turn, are
    defaults.

    Transformers 5 writes `rope_parameters`, earlier versions separate keys.
    """
    named = ("rope_theta", "partial_rotary_factor")
    first = lambda keys: next((v for v in map(config.get, keys) if v is not None), None)
    old = {name: first(keys) for name, keys in zip(named, _OLD, strict=True)}
    full, local = _parts(config, old)
    if local.get("rope_type", local.get("type", "default")) != "default":
        raise ValueError("config.json: rope scaling of sliding layers is not known.")
    base = full.number("rope_theta", base, float)
    width = int(head_dim * full.number("partial_rotary_factor", part, float))
    return {
        "rope_base": base,
        "rope_width": None if width == head_dim else width,
        "rope_divisors": _divisors(config, full, base, width),
        "local_rope_base": local.maybe("rope_theta"),
    }


def _parts(config: Config, old: Mapping[str, Any]) -> tuple[Config, Config]:
    """The settings of the layers that attend to all positions, and of the layers that slide."""
    stated = [key for key in ("rope_scaling", "rope_parameters") if config.get(key)]
    if len(stated) == 2 and config.get(stated[0]) != config.get(stated[1]):
        raise ValueError("config.json: rope_scaling and rope_parameters differ; state one of them.")
    key = stated[-1] if stated else "rope_parameters"
    local = Config({"rope_theta": config.get("rope_local_base_freq")})
    kinds = {"full_attention", "sliding_attention"} & set(config.get(key) or {})
    if not kinds:
        return config.part(key, **old), local
    parts = config.part(key)
    sliding = parts.part("sliding_attention") if "sliding_attention" in kinds else local
    return parts.part("full_attention", **old), sliding


def _divisors(config: Config, rope: Config, base: float, width: int) -> tuple[float, ...]:
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind == "default":
        if rope.get("factor", 1) not in (1, None):
            raise ValueError(
                f"config.json: {rope.room}factor is {rope.get('factor')!r}, and {rope.room}rope_type is"
                " none or 'default'; known: 'linear', 'llama3'."
            )
        return ()
    if kind == "linear":
        return (rope.number("factor", kind=float),) * (width // 2)
    if kind == "llama3":
        names = ("factor", "low_freq_factor", "high_freq_factor")
        stated = config.get("original_max_position_embeddings")
        return _llama3_divisors(
            base,
            width,
            *(rope.number(name, kind=float) for name in names),
            context=rope.number("original_max_position_embeddings") if stated is None else stated,
        )
    raise ValueError(f"config.json: rope type {kind!r}; known: 'default', 'linear', 'llama3'.")


def _llama3_divisors(
    base: float, width: int, factor: float, low: float, high: float, context: int
) -> tuple[float, ...]:
    """Llama 3's divisors of the frequency of each pair.

    A pair that makes fewer than `low` turns in `context` positions has `factor`, more than `high` turns 1;
    between them the frequency is interpolated linearly.
    """
    turns = context * base ** (-np.arange(width // 2) / (width // 2)) / (2 * math.pi)
    kept = np.clip((turns - low) / (high - low), 0, 1)
    return tuple((1 / (kept + (1 - kept) / factor)).tolist())
