"""Codes with an unknown number of active latents: sparse for tokens with few of them, dense for the others.

A `body` is written once, over `Entries`: pre-activations, as `[B, F]` or as the `k_sparse` entries of largest
score of each token. Tokens with fewer than `k_sparse` entries of positive score take the sparse form, with the
gradients of coding.py, in groups of tokens with similar numbers of entries and in loops as long as the longest
of a group needs. The other tokens, at most one in 8, take the dense form together. If there are more, the whole
batch is dense. All forms are exact. The backward pass recomputes the body: only the arguments are kept.
"""

import itertools
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int, Shaped

from dictlearn.ops import blocks
from dictlearn.ops.control_flow import any_member, max_over_members, switch, switch_or_not
from dictlearn.ops.sparse import coding, nested
from dictlearn.ops.sparse.crowded import fullest, grouped, shares
from dictlearn.ops.topk.exact import top_k
from dictlearn.sharding import is_split


class Entries(NamedTuple):
    """z: pre-activations `[B, F]`, or `[B, M]` at `idx`, with gradient. on: which of them count; `body` must
    return zero for the others. n_used: the largest number of entries that any token uses,
    or that any of each group of tokens does."""

    z: Float[Array, "B M"]
    on: Bool[Array, "B M"]
    idx: Int[Array, "B M"] | None = None
    n_used: Int[Array, ""] | None = None

    def of(self, p_F: Shaped[Array, " F"]):
        """A parameter of each entry's latent, in a shape that broadcasts against `z`."""
        return p_F if self.idx is None else p_F[self.idx]

    def decode(self, val: Float[Array, "B M"], W_FD: Float[Array, "F D"]) -> Float[Array, "B D"]:
        """`sum over entries of val W`."""
        if self.idx is None:
            return val @ W_FD
        return coding.decode(val, self.idx, W_FD, self.n_used)

    def decode_nested(
        self, val: Float[Array, "B M"], W_FD: Float[Array, "F D"], widths: tuple[int, ...]
    ):
        """The same for the latents before each of `widths`, which ascend: a tuple of `[B, D]`."""
        if self.idx is None:
            bounds = itertools.pairwise((0, *widths))
            parts = [val[:, low:high] @ W_FD[low:high] for low, high in bounds]
        else:
            parts = nested.decode_parts(val, self.idx, W_FD, widths, self.n_used)
        return tuple(itertools.accumulate(parts))


def over(
    body: Callable,
    score_BF: Float[Array, "B F"],
    pre_BF: Float[Array, "B F"],
    k_sparse: int,
    read: tuple,
    more: tuple,
    arguments: tuple = (),
    near: tuple[Float[Array, "B M"], Int[Array, "B M"]] | None = None,
    window: bool = False,
):
    """`body(entries, *more, *arguments)`, arrays over tokens `[B, ...]`, with gradient to `read`, `more` and
    `arguments`.

    score_BF: positive for the entries that count, without gradient. pre_BF: `x W_enc^T + b_enc`, without
    gradient. k_sparse: tokens with as many entries are computed densely; with k_sparse = F all tokens are.
    read: (x_BD, W_enc_FD, b_enc_F). near: the `k_sparse` largest scores of each token and their latents, where
    they are known. window: whether entries that do not count have a gradient to `arguments`, too, which may
    be thresholds. Then `on` is true for them where that gradient is computed, and the body must return zero
    for them by itself.
    """
    tiers = shares(len(score_BF))

    def sparse_form(score_BF, pre_BF, near, read, more, arguments):
        held = lax.stop_gradient(arguments) if window else arguments
        score_BM, idx_BM = near
        n_B, full_B = _filled(near)
        on_BM = (score_BM > 0) & ~full_B[:, None]
        z_BM = jnp.take_along_axis(pre_BF, idx_BM, axis=1)
        take, put_all, n_used = grouped(jnp.where(full_B, 0, n_B))
        z_BM, on_BM, idx_BM = map(take, (z_BM, on_BM, idx_BM))
        n_used = max_over_members(n_used)

        def few(read, more, held):
            z_TM = coding.select(z_BM, idx_BM, take(read[0]), *read[1:], n_used)
            return body(Entries(z_TM, on_BM, idx_BM, n_used), *more, *held)

        shapes = jax.eval_shape(few, read, more, held)
        nothing = jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), shapes)

        def at(share, score_BF, pre_BF, n_B, read, more, held):
            take, put, _ = fullest(n_B, share)
            on_CF = (take(score_BF) > 0) & take(n_B == k_sparse)[:, None]
            z_CF = coding.given(take(pre_BF), take(read[0]), *read[1:])
            return jax.tree.map(put, nothing, body(Entries(z_CF, on_CF), *more, *held))

        fixed, moving = (score_BF, pre_BF, n_B), (read, more, held)
        if is_split():  # gradients within a branch would be summed over the shards a second time
            full = at(tiers[-1], *fixed, *moving)
        else:
            forms = [partial(at, share) for share in tiers]
            tier = _tier(near, tiers[:-1])
            full, *moving = switch_or_not(tier, nothing, forms, fixed, *moving)
        found = jax.tree.map(put_all, full, few(*moving))
        return _learned(body, found, (pre_BF, more), arguments) if window else found

    def dense_form(score_BF, pre_BF, near, read, more, arguments):
        entries = Entries(coding.given(pre_BF, *read), learning(score_BF, window))
        return body(entries, *more, *arguments)

    score_BF, pre_BF, near = lax.stop_gradient((score_BF, pre_BF, near))
    if k_sparse >= score_BF.shape[1] or not tiers:
        return dense_form(score_BF, pre_BF, near, read, more, arguments)
    near = near or top_k(score_BF, k_sparse)
    n_B, full_B = _filled(near)
    crowded = any_member(~fullest(n_B, tiers[-1])[2](full_B)).astype(jnp.int32)
    forms, fixed = (sparse_form, dense_form), (score_BF, pre_BF, near)
    return switch(crowded, forms, fixed, read, more, arguments)


def learning(score_BF: Float[Array, "B F"], window: bool) -> Bool[Array, "B F"]:
    """The entries that may have a gradient: where the score is positive, or all."""
    return jnp.ones_like(score_BF, bool) if window else score_BF > 0


def _learned(body, found, fixed, arguments):
    """`found`, which must be what `body` returns, with gradient to itself and, through all entries, to
    `arguments`."""

    @jax.custom_vjp
    def learn(found, fixed, arguments):
        return found

    def backward(saved, g):
        (pre_BF, more), arguments = saved

        def pull(pre_bF, g):
            of = partial(body, Entries(pre_bF, learning(pre_bF, window=True)), *more)
            return jax.vjp(of, *arguments)[1](g)

        return g, None, blocks.summed(pull, pre_BF, g)

    learn.defvjp(lambda found, fixed, arguments: (found, (fixed, arguments)), backward)
    return learn(found, lax.stop_gradient(fixed), arguments)


def _filled(near):
    """The number of entries of each token that count, and whether it may have more."""
    n_B = jnp.sum(near[0] > 0, axis=1)
    return n_B, n_B == near[0].shape[1]


def _tier(near, tiers):
    """0 if no token has more entries than are near, otherwise 1 + the number of `tiers` that are too small for
    the tokens that have."""
    n_B, full_B = _filled(near)
    misfits = [jnp.any(full_B), *(~fullest(n_B, share)[2](full_B) for share in tiers)]
    return sum(any_member(each).astype(jnp.int32) for each in misfits)
