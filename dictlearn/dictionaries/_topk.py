"""Shared by the TopK family: checks on k, k annealing, and how many entries are computed sparsely.

    k_t = k + (k_start - k) left(t / anneal_steps)      left: 1 - t   or   (e^{-ct} - e^{-c}) / (1 - e^{-c})

Source: Llama Scope (He et al. 2024, arXiv:2410.20526), section 3, K-annealing, linear; the exponential
curve is from the authors' code.

UNSURE: c = 5, because no value is published.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dictlearn.ops.control_flow import max_over_members
from dictlearn.types import Codes, Scalar

_RATE = 5.0


class Annealing(NamedTuple):
    """A k that falls from `start` over `steps` passes (0: no annealing) along the curve `form`, "linear" or
    "exponential"."""

    steps: int
    start: int
    form: str

    def check(self, n_latents: int) -> None:
        """Raises ValueError for an unknown curve, or for a start that is not between 1 and the number of
        latents."""
        if self.form not in ("linear", "exponential"):
            raise ValueError(f"anneal={self.form!r} must be linear or exponential.")
        if not 1 <= self.start <= n_latents:
            raise ValueError(f"k_start={self.start} must lie between 1 and {n_latents=}.")

    def k(self, k: Scalar, step: jax.Array) -> Scalar:
        """k at this step."""
        share = step / self.steps
        if self.form == "exponential":
            share = (1 - jnp.exp(-_RATE * share)) / (1 - jnp.exp(-_RATE))
        falling = k + (self.start - k) * (1 - share)
        return jnp.where(step < self.steps, falling, k)


def threshold_decay(steps: int) -> float:
    """The decay of a running threshold that follows a run of so many steps: it averages over 1/30 of them, and
    at most over the published 1000."""
    return 1 - 1 / min(1000, max(10, steps // 30))


def check_share(k: Scalar, n_latents: int) -> None:
    """Raises ValueError unless the mean number of active latents, k, is between 0 and `n_latents`."""
    if isinstance(k, int | float) and not 0 < k <= n_latents:
        raise ValueError(f"k={k} must lie between 0 and n_latents={n_latents}.")


def check_aux(aux_k: int, aux_every: int, n_latents: int) -> None:
    """Raises ValueError if AuxK would use more latents than there are, or no token."""
    if aux_k > n_latents:
        raise ValueError(f"aux_k={aux_k} exceeds n_latents={n_latents}.")
    if aux_every < 1:
        raise ValueError(f"{aux_every=} must be at least 1: AuxK reads one token in so many.")


def bound(k: Scalar, k_max: int | None, n_latents: int) -> int:
    """The static upper bound on `k`: `k_max`, or k itself. Raises ValueError unless 1 <= k <= k_max <=
    n_latents."""
    for one in (k, k_max):
        if isinstance(one, float) and one % 1:
            raise ValueError(f"k={one} must be a whole number of latents a token.")
    if k_max is None and not isinstance(k, int):
        raise ValueError(f"k={k} is not an int; give k_max, an upper bound on k.")
    if k_max is not None and k_max > n_latents:
        raise ValueError(f"{k_max=} exceeds {n_latents=}.")
    if isinstance(k, int | float) and not 1 <= k <= (k_max or n_latents):
        bound = f"{n_latents=}" if k_max is None else f"{k_max=}"
        raise ValueError(f"{k=} must lie between 1 and {bound}.")
    return int(k) if k_max is None else k_max


def n_used(k: Scalar, width: int) -> jax.Array | None:
    """The number of entries, in order of rank, that a traced `k` keeps of `width` entries (a fraction counts as
    one entry). With it, loops need not be as long as the bound. None, for all, if k is a Python number."""
    if isinstance(k, int):
        return None
    return max_over_members(jnp.minimum(jnp.ceil(jnp.asarray(k)), width).astype(jnp.int32))


def k_sparse(k: Scalar | None, n_latents: int) -> int:
    """The number of active latents up to which a token is computed sparsely, where k is shared by the batch:
    3 k. All latents if 3 k is a large part of them, or if k is None (it has no bound, or it is annealed)."""
    if k is None:
        return n_latents
    few = max(8, round(3 * float(k)))
    return few if 8 * few <= n_latents else n_latents


def k_sparse_unbounded(n_latents: int) -> int:
    """`k_sparse` where nothing bounds the number of active latents: 96 or, in wide dictionaries, 1 in 128;
    all latents where there are so few that dense codes are cheap."""
    few = max(96, n_latents // 128)
    return few if 8 * few <= n_latents else n_latents


def none_active(pre_BF: Float[Array, "B F"]) -> Codes:
    """Codes without an active latent, for an AuxK that also uses active latents."""
    return Codes(jnp.zeros((len(pre_BF), 1)), jnp.zeros((len(pre_BF), 1), jnp.int32))
