"""How often each latent fires, and the distribution of these densities.

A latent fires on a token if its code is not zero. density_i = tokens on which i fired / tokens. A latent
is dead if it never fired on the measured tokens, whose number is `firing_tokens`. `effective_latents` is
the exponential of the entropy of the normalised densities. Shares of the firing latents are NaN if none fires.
"""

import jax.numpy as jnp
import numpy as np

from dictlearn.meters import Column, Reading, Subject
from dictlearn.ops.firing import bincount_l0, count, largest
from dictlearn.types import Meter

NOTE = (
    "A latent is called dead if it never fired on {firing_tokens:,.0f} such tokens; it may"
    " still fire on more text."
)
COLUMNS = (
    Column(
        "dead_fraction", "dead", "latents that never fired on the tokens measured", ".1%", -1, 4
    ),
    Column("freq_over_1_percent", "dense", "latents that fired on over 1 % of tokens", ".1%", 0),
    Column("effective_latents", "effective", "exp of the entropy of the densities", ",.0f", 0),
)
LOG10_EDGES = np.arange(-10, 0.25, 0.25)
"""Edges of the density histogram, in log10(density + 1e-10)."""


def firing(subject: Subject) -> Meter:
    """A meter of how often the latents of a dictionary fire."""
    n_latents = subject.dictionary.n_latents

    def measure(reading: Reading) -> dict:
        val = jnp.where(reading.mask_B[:, None], reading.codes.val, 0)
        codes = reading.codes._replace(val=val)
        return {
            "n": reading.mask_B.sum(dtype=jnp.float32),
            "count_F": count(codes, n_latents).astype(jnp.float32),
            "largest_F": largest(codes, n_latents),
            "tokens_with_l0": bincount_l0(codes, reading.mask_B),
        }

    return Meter(measure, dict, update, result)


def update(totals: dict, sums: dict) -> dict:
    """Adds the counts, and keeps the larger of the maximum activations."""
    sums = {name: np.asarray(value, np.float64) for name, value in sums.items()}
    if not totals:
        return sums
    merged = {name: totals[name] + sums[name] for name in sums}
    merged["largest_F"] = np.maximum(totals["largest_F"], sums["largest_F"])
    return merged


def result(t: dict) -> dict:
    """`density_histogram` holds the edges in log10 and the number of latents between them; `l0_quantiles`
    the 5, 25, 50, 75 and 95 % quantiles over tokens."""
    if not t or t["n"] == 0:
        raise ValueError("no unmasked token was measured.")
    density = t["count_F"] / t["n"]
    share = density / density.sum() if density.any() else np.full(density.shape, np.nan)
    entropy = -(share[share != 0] * np.log(share[share != 0])).sum()
    latents, _ = np.histogram(np.minimum(np.log10(density + 1e-10), 0), LOG10_EDGES)
    reached = np.cumsum(t["tokens_with_l0"]) / t["n"]
    quantiles = (0.05, 0.25, 0.5, 0.75, 0.95)
    dense = {"1": 0.01, "10": 0.1}
    return {
        "firing_tokens": float(t["n"]),
        "dead_fraction": float(np.mean(density == 0)),
        "frac_alive": float(np.mean(density > 0)),
        **{f"freq_over_{p}_percent": float(np.mean(density > d)) for p, d in dense.items()},
        **{
            f"normalized_freq_over_{p}_percent": float((share * (density > d)).sum())
            for p, d in dense.items()
        },
        "effective_latents": float(np.exp(entropy)),
        "l0_quantiles": {str(q): int(np.searchsorted(reached, q - 1e-9)) for q in quantiles},
        "density_histogram": {"log10_edges": LOG10_EDGES.tolist(), "latents": latents.tolist()},
    }
