"""Rotary positions as a `config.json` states them.

Source: Llama 3's scaling is `apply_scaling` of meta-llama/llama-models; linear scaling is Chen et al. 2023
(arXiv:2306.15595).
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from dictlearn.lm.families._config import Config


def rope(config: Config, head_dim: int, base: float = 1e4, part: float = 1.0) -> dict[str, Any]:
    """The rotary fields of a `Spec`; `base` and `part`, the share of a head's dimensions that turn, where the
    file states none. Transformers 5 writes `rope_parameters`, older ones separate keys."""
    values = config.values
    old = {"rope_theta": values.get("rope_theta", values.get("rotary_emb_base", base))}
    old["partial_rotary_factor"] = values.get("partial_rotary_factor", values.get("rotary_pct"))
    full = old | (values.get("rope_scaling") or {}) | (values.get("rope_parameters") or {})
    local = Config({"rope_theta": values.get("rope_local_base_freq")})
    if "full_attention" in full:
        local = Config(full.get("sliding_attention") or {})
        full = old | (full["full_attention"] or {})
    if local.values.get("rope_type", "default") != "default":
        raise ValueError("config.json: rope scaling of sliding layers is not known.")
    base = Config(full).number("rope_theta", base, float)
    width = int(head_dim * Config(full).number("partial_rotary_factor", part, float))
    return {
        "rope_base": base,
        "rope_width": None if width == head_dim else width,
        "rope_divisors": _divisors(full, base, width),
        "local_rope_base": local.maybe("rope_theta"),
    }


def _divisors(rope: Mapping[str, Any], base: float, width: int) -> tuple[float, ...]:
    kind = rope.get("rope_type", rope.get("type", "default"))
    values = Config(rope)
    if kind == "default":
        return ()
    if kind == "linear":
        return (values.number("factor", kind=float),) * (width // 2)
    if kind == "llama3":
        names = ("factor", "low_freq_factor", "high_freq_factor")
        return _llama3_divisors(
            base,
            width,
            *(values.number(name, kind=float) for name in names),
            context=values.number("original_max_position_embeddings"),
        )
    raise ValueError(f"config.json: rope type {kind!r}; known: 'default', 'linear', 'llama3'.")


def _llama3_divisors(
    base: float, width: int, factor: float, low: float, high: float, context: int
) -> tuple[float, ...]:
    """What Llama 3 divides each pair's frequency by: `factor` where it makes fewer than `low` turns
    in `context` positions, 1 where more than `high`, and linear in between, in the frequency."""
    turns = context * base ** (-np.arange(width // 2) / (width // 2)) / (2 * math.pi)
    kept = np.clip((turns - low) / (high - low), 0, 1)
    return tuple((1 / (kept + (1 - kept) / factor)).tolist())
