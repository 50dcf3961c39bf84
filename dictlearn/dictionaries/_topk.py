"""Shared by the TopK family: checks on k, k annealing, and how many entries are computed.

    k_t = k + (k_start - k) left(t / anneal_steps)      left: 1 - t   or   (e^{-ct} - e^{-c}) / (1 - e^{-c})

Source: Llama Scope (He et al. 2024, arXiv:2410.20526), section 3, K-annealing, linear; the exponential is that
of its authors' code, with c = 5 for want of a published value.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from dictlearn.ops.control_flow import most_of_members
from dictlearn.types import Codes, Scalar

_RATE = 5.0


class Annealing(NamedTuple):
    """A k that falls from `start` over `steps` passes (0: none), as `form` says, "linear" or "exponential"."""

    steps: int
    start: int
    form: str

    def check(self, n_latents: int) -> None:
        """Raises ValueError for an unknown form, or a start outside the latents."""
        if self.form not in ("linear", "exponential"):
            raise ValueError(f"anneal={self.form!r} must be linear or exponential.")
        if not 1 <= self.start <= n_latents:
            raise ValueError(f"k_start={self.start} must lie between 1 and {n_latents=}.")

    def k(self, k: Scalar, step: jax.Array) -> Scalar:
        """The k of this step."""
        share = step / self.steps
        if self.form == "exponential":
            share = (1 - jnp.exp(-_RATE * share)) / (1 - jnp.exp(-_RATE))
        falling = k + (self.start - k) * (1 - share)
        return jnp.where(step < self.steps, falling, k)


def check_share(k: Scalar, n_latents: int) -> None:
    """Raises ValueError for a mean number of active latents that there cannot be."""
    if isinstance(k, int | float) and not 0 < k <= n_latents:
        raise ValueError(f"k={k} must lie between 0 and n_latents={n_latents}.")


def check_aux(aux_k: int, n_latents: int) -> None:
    """Raises ValueError for more dead latents than there are latents."""
    if aux_k > n_latents:
        raise ValueError(f"aux_k={aux_k} exceeds n_latents={n_latents}.")


def most(k: Scalar, k_max: int | None, n_latents: int) -> int:
    """The bound on `k`: `k_max`, or k itself. Raises ValueError unless 1 <= k <= k_max <= n_latents."""
    if k_max is None and not isinstance(k, int):
        raise ValueError(f"k={k} is not an int; give k_max, the most entries kept.")
    if k_max is not None and k_max > n_latents:
        raise ValueError(f"{k_max=} exceeds {n_latents=}.")
    if isinstance(k, int) and not 1 <= k <= (k_max or n_latents):
        bound = f"{n_latents=}" if k_max is None else f"{k_max=}"
        raise ValueError(f"{k=} must lie between 1 and {bound}.")
    return int(k) if k_max is None else k_max


def used(k: Scalar, width: int) -> jax.Array | None:
    """Of `width` entries in order of rank, those that a traced `k` keeps (a fraction counts whole), for
    loops that need not be as long as its bound; None, all, where k is known and is the width."""
    if isinstance(k, int):
        return None
    return most_of_members(jnp.minimum(jnp.ceil(jnp.asarray(k)), width).astype(jnp.int32))


def crowd(k: Scalar | None, n_latents: int) -> int:
    """Active latents of one token up to which it is computed sparsely where the batch shares out k: 3 k; all
    latents where that is much of them, or k is None: has no bound, or falls from a start."""
    if k is None:
        return n_latents
    few = max(8, round(3 * float(k)))
    return few if 8 * few <= n_latents else n_latents


def crowd_of_any(n_latents: int) -> int:
    """The same where nothing bounds how many are active: 96 or, in wide dictionaries, one in 128; all latents
    where these are so few that dense codes are cheap."""
    few = max(96, n_latents // 128)
    return few if 8 * few <= n_latents else n_latents


def none_active(pre_BF: jax.Array) -> Codes:
    """Codes of no latent, for an AuxK that helps active ones too."""
    return Codes(jnp.zeros((len(pre_BF), 1)), jnp.zeros((len(pre_BF), 1), jnp.int32))
