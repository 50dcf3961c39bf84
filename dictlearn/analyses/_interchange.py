"""Interchange interventions: part of the code of one entity takes the place of another's (`ravel`).

    f' = f_base + s (f_source - f_base)        x <- decode(f')

at the last token of the entity of the base prompt. s in [0, 1] is learned for each latent: the loss is the
cross-entropy of the next token, which should be the source's where the prompt asks for the attribute (cause),
and the base's where it asks for another (isolation).

    s = sigmoid(m / T)      T falls from 1 to 1e-4 in equal ratios        after training, s = 1 where m > 0

Axes: S a prompt, P its tokens, B a pair of a batch, K an axis; the others as in `dictlearn.types`.
"""

import dataclasses
import functools
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.tree_util import Partial

from dictlearn import normalise
from dictlearn.analyses import _documents
from dictlearn.lm import LM
from dictlearn.ops.firing import dense
from dictlearn.runs.trained import Trained
from dictlearn.types import Codes, Dictionary

BATCH = 16
_COLDEST, _COLDEST_TURNED = 1e-4, 1e-2


class Turned(NamedTuple):
    """Coordinates along the orthonormal rows of a matrix, from a mean."""

    axes_KD: jax.Array
    mean_D: jax.Array

    @property
    def width(self) -> int:
        """The number of coordinates."""
        return len(self.axes_KD)

    def encode(self, x_BD: jax.Array) -> jax.Array:
        """The coordinates."""
        return (x_BD - self.mean_D) @ self.axes_KD.T

    def decode(self, f_BK: jax.Array) -> jax.Array:
        """The activations."""
        return f_BK @ self.axes_KD + self.mean_D


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Coded:
    """The codes of a dictionary. A reconstruction is linear in them: rest + sum_i f_i atom_i."""

    module: Dictionary = dataclasses.field(metadata={"static": True})
    norm: normalise.Norm
    variables: Any
    atoms_FD: Any
    rest_D: Any

    @classmethod
    def of(cls, one: Trained) -> "Coded":
        """The codes of an autoencoder. Raises ValueError for another dictionary."""
        none = Codes(jnp.zeros((1, one.module.n_latents)))
        atoms_FD = jnp.asarray(_documents.atoms(one))
        return cls(one.module, one.norm, one.variables, atoms_FD, one.decode(none)[0])

    @property
    def width(self) -> int:
        """The number of latents."""
        return len(self.atoms_FD)

    def encode(self, x_BD: jax.Array) -> jax.Array:
        """The codes of raw activations."""
        normed_BD = normalise.forward(self.norm, x_BD)[0]
        codes = self.module.apply(self.variables, normed_BD, method="encode")
        return dense(cast(Codes, codes), self.module.n_latents)

    def decode(self, f_BF: jax.Array) -> jax.Array:
        """Raw reconstructions."""
        return f_BF @ self.atoms_FD + self.rest_D


Basis = Turned | Coded


class How(NamedTuple):
    """How a mask is learned. The fields are settings of the analysis."""

    lr: float
    epochs: int
    error: bool


class Pairs(NamedTuple):
    """What a batch of pairs reads. tokens_BP, length_B, at_B: of the base prompt, and where its entity ends.
    base_BD, source_BD: the activations there, and at the end of the source's entity. target_B: the token that
    should follow."""

    tokens_BP: np.ndarray
    length_B: np.ndarray
    at_B: np.ndarray
    base_BD: np.ndarray
    source_BD: np.ndarray
    target_B: np.ndarray


def swapped(basis: Basis, s_F: jax.Array, base_BD, source_BD, error: bool) -> jax.Array:
    """The base's activations with a share s of the source's codes. error: whether the base's error stays."""
    f_BF = basis.encode(base_BD)
    new_BD = basis.decode(f_BF + s_F * (basis.encode(source_BD) - f_BF))
    return new_BD + (base_BD - basis.decode(f_BF) if error else 0)


def swaps(
    basis: Basis, mask_F: np.ndarray, base_ND: np.ndarray, source_ND: np.ndarray, error: bool
) -> np.ndarray:
    """`swapped` for any number of pairs."""
    found = [np.zeros((0, base_ND.shape[1]), np.float32)]
    for start in range(0, len(base_ND), BATCH):
        own = np.resize(np.arange(len(base_ND))[start : start + BATCH], BATCH)
        found.append(np.asarray(_swapped(basis, mask_F, base_ND[own], source_ND[own], error)))
    return np.concatenate(found)[: len(base_ND)]


_swapped = jax.jit(swapped, static_argnames="error")


def put(at_B, new_BD, x_BTD, mask_BT, taps) -> jax.Array:
    """The edit that replaces the activation of one token of each prompt."""
    return x_BTD.at[jnp.arange(len(x_BTD)), at_B].set(new_BD.astype(x_BTD.dtype))


class _Theta(NamedTuple):
    """What is learned: m of the mask, and the axes of a rotation, or None for a basis that stays."""

    m_F: Any
    axes_DD: Any

    def of(self, basis: Basis | None) -> Basis:
        """The basis: the rotation in the place of None."""
        return basis if basis is not None else Turned(self.axes_DD, jnp.zeros(len(self.axes_DD)))


def learned(
    lm: LM, tap: str, basis: Basis | None, pairs: Pairs, how: How, seed: int
) -> tuple[Basis, np.ndarray]:
    """Learns the mask of a basis.

    Args:
        lm: the model.
        tap: the tap that is edited.
        basis: the basis; None for a rotation that is learned with the mask, from the identity.
        pairs: the pairs.
        how: the rate, the epochs and whether the error stays.
        seed: the seed of the batches.

    Returns:
        (the basis, the mask `[F]` of 0 and 1).
    """
    width, n = pairs.base_BD.shape[1], len(pairs.length_B)
    theta = _Theta(jnp.zeros(width), jnp.eye(width))
    if basis is not None:
        theta = _Theta(jnp.zeros(basis.width), None)
    coldest, random = _COLDEST_TURNED if basis is None else 0, np.random.default_rng(seed)
    each = max(n // BATCH, 1)
    order = [np.resize(random.permutation(n), each * BATCH) for _ in range(how.epochs)]
    batches = np.concatenate(order).reshape(-1, BATCH)
    state = optax.adam(how.lr).init(theta)
    for at_B, heat in zip(batches, np.geomspace(1, _COLDEST, len(batches)), strict=True):
        own, heat = Pairs(*(a[at_B] for a in pairs)), max(heat, coldest)
        theta, state = _step(lm.forward, tap, how, lm.params, basis, theta, state, own, heat)
    return theta.of(basis), np.asarray(theta.m_F > 0, np.float32)


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _step(forward, tap: str, how: How, params, basis, theta: _Theta, state, own: Pairs, heat):
    """(theta, the optimiser's state) after a batch."""

    def loss(theta: _Theta):
        s_F = jax.nn.sigmoid(theta.m_F / heat)
        new_BD = swapped(theta.of(basis), s_F, own.base_BD, own.source_BD, how.error)
        edits = {tap: Partial(put, own.at_B, new_BD)}
        logits_BPV = forward(params, own.tokens_BP, edits=edits, mask_BT=_all(own.tokens_BP))[0]
        next_BV = logits_BPV[jnp.arange(len(own.at_B)), own.length_B - 1].astype(jnp.float32)
        return optax.softmax_cross_entropy_with_integer_labels(next_BV, own.target_B).mean()

    change, state = optax.adam(how.lr).update(jax.grad(loss)(theta), state)
    m_F, axes_DD = cast(_Theta, optax.apply_updates(theta, change))
    return _Theta(m_F, axes_DD if axes_DD is None else _rotation(axes_DD)), state


def _all(tokens_BP) -> jax.Array:
    return jnp.ones(tokens_BP.shape, bool)


def _rotation(axes_KD: jax.Array) -> jax.Array:
    """The rotation near a matrix: its rows made orthonormal, with determinant 1."""
    q_DK, r_KK = jnp.linalg.qr(axes_KD.T)
    q_DK = q_DK * jnp.where(jnp.diag(r_KK) < 0, -1, 1)
    return q_DK.at[:, 0].multiply(jnp.linalg.slogdet(q_DK)[0]).T


def completions(
    lm: LM, tap: str, n_tokens: int, tokens_SP: np.ndarray, length_S, at_S, new_SD
) -> np.ndarray:
    """The greedy continuations of prompts whose activation at one token is replaced.

    Args:
        lm: the model.
        tap: the tap.
        n_tokens: the number of tokens to generate, for which `tokens_SP` has room after each prompt.
        tokens_SP, length_S: the prompts, and their lengths.
        at_S, new_SD: the token of each prompt, and its new activation.

    Returns:
        The tokens of each, `[S, n_tokens]`.
    """
    found = [np.zeros((0, n_tokens), np.int32)]
    for start in range(0, len(length_S), BATCH):
        own = np.resize(np.arange(len(length_S))[start : start + BATCH], BATCH)
        given = tokens_SP[own], length_S[own], at_S[own], new_SD[own]
        found.append(np.asarray(_greedy(lm.forward, tap, n_tokens, lm.params, *given)))
    return np.concatenate(found)[: len(length_S)]


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _greedy(forward, tap: str, n_tokens: int, params, tokens_BP, length_B, at_B, new_BD):
    """The tokens that are generated, `[B, n_tokens]`."""
    rows_B, edits = jnp.arange(len(length_B)), {tap: Partial(put, at_B, new_BD)}

    def next_token(tokens_BP, i):
        logits_BPV = forward(params, tokens_BP, edits=edits, mask_BT=_all(tokens_BP))[0]
        token_B = logits_BPV[rows_B, length_B - 1 + i].argmax(-1).astype(tokens_BP.dtype)
        return tokens_BP.at[rows_B, length_B + i].set(token_B), token_B

    _, found_NB = jax.lax.scan(next_token, jnp.asarray(tokens_BP), jnp.arange(n_tokens))
    return found_NB.T
