"""Supervised dictionaries of the attributes of prompts, and what a dictionary can do with them (`ioi`).

    mean codes    u_{attr=v} = E[a | attr = v] - E[a]
    MSE codes     least squares of a on the one-hot attributes, of minimal norm, centred within each attribute
    both          a^ = E[a] + sum_attr u_{attr=v(prompt)}

A supervised dictionary has a latent for each value, which is 1 where a prompt has it. So all that is measured
of a dictionary is measured of it too. Independent attributes have the same codes by both.

Source: Makelov, Lange and Nanda 2024 (arXiv:2405.08366); amakelov/sae 1d3ab32.
Differs: a union of values has at most half of them. One of nearly all is that of a latent that always fires.

Axes: S a prompt, V a value of an attribute, N a name; the others as in `dictlearn.types`.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

Attributes = Mapping[str, np.ndarray]
"""{attribute: the value of each prompt, from 0}."""
Head = Callable[[np.ndarray], np.ndarray]
"""Activations of all prompts -> the logits of the names, `[S, N]`."""
_MOST = 10
"""Values of a union."""


class Basis(NamedTuple):
    """The codes of prompts in a dictionary, what a unit of each latent adds, and what is there without any."""

    code_SF: np.ndarray
    atoms_FD: np.ndarray
    rest_D: np.ndarray

    @property
    def whole_SD(self) -> np.ndarray:
        """The reconstructions."""
        return self.rest_D + self.code_SF @ self.atoms_FD

    @property
    def weight_SF(self) -> np.ndarray:
        """The share of each latent in a reconstruction: f_j <d_j, x^ - rest> / |x^ - rest|^2. They sum to 1."""
        own_SD = self.code_SF @ self.atoms_FD
        length_S1 = np.maximum((own_SD**2).sum(1, keepdims=True), 1e-30)
        return self.code_SF * (own_SD @ self.atoms_FD.T) / length_S1


def one_hot(value_S: Int[np.ndarray, " S"]) -> Float[np.ndarray, "S V"]:
    """Which value each prompt has."""
    return (value_S[:, None] == np.arange(value_S.max() + 1)).astype(np.float64)


def mean_codes(x_SD: Float[np.ndarray, "S D"], attributes: Attributes) -> Basis:
    """The supervised dictionary of conditional means.

    Args:
        x_SD: the activations.
        attributes: their attributes.

    Returns:
        A Basis, whose latents are the values of the first attribute, then of the next.
    """
    hot_SV = np.concatenate([one_hot(one) for one in attributes.values()], axis=1)
    mean_D = x_SD.mean(0, dtype=np.float64)
    return Basis(hot_SV, hot_SV.T @ (x_SD - mean_D) / hot_SV.sum(0)[:, None], mean_D)


def mse_codes(x_SD: Float[np.ndarray, "S D"], attributes: Attributes) -> Basis:
    """The supervised dictionary of least squares.

    Args:
        x_SD: the activations.
        attributes: their attributes.

    Returns:
        A Basis, as of `mean_codes`.
    """
    hot = [one_hot(one) for one in attributes.values()]
    mean_D = x_SD.mean(0, dtype=np.float64)
    design_SV = np.concatenate([np.ones((len(x_SD), 1)), *hot], axis=1)
    found_VD = np.linalg.lstsq(design_SV, x_SD - mean_D, rcond=None)[0][1:]
    ends = np.cumsum([one.shape[1] for one in hot])[:-1]
    atoms_VD = np.concatenate([one - one.mean(0) for one in np.split(found_VD, ends)])
    hot_SV = design_SV[:, 1:]
    return Basis(hot_SV, atoms_VD, mean_D - hot_SV.mean(0) @ atoms_VD)


def greedy(
    wanted_SD: Float[np.ndarray, "S D"], change_SF: Float[np.ndarray, "S F"], atoms_FD, k: int
) -> tuple[Int[np.ndarray, "S k"], Bool[np.ndarray, "S k"]]:
    """Chooses the latents whose changes come nearest to a wanted change of the activation, one after another.

    Args:
        wanted_SD: the wanted changes.
        change_SF: the change of each latent's code.
        atoms_FD: the atoms.
        k: the number of latents.

    Returns:
        (the latents in the order of choice, whether each brought it nearer; others are not used).
    """
    left_SD, free_SF = wanted_SD.copy(), change_SF != 0
    length_F, each_S = (atoms_FD**2).sum(1), np.arange(len(wanted_SD))
    chosen, used = [], []
    for _ in range(k):
        gain_SF = change_SF * (2 * left_SD @ atoms_FD.T - change_SF * length_F)
        gain_SF = np.where(free_SF, gain_SF, -np.inf)
        best_S = gain_SF.argmax(1)
        nearer_S = gain_SF[each_S, best_S] > 0
        left_SD -= (nearer_S * change_SF[each_S, best_S])[:, None] * atoms_FD[best_S]
        free_SF[each_S, best_S] = False
        chosen.append(best_S)
        used.append(nearer_S)
    return np.stack(chosen, 1), np.stack(used, 1)


class Edit(NamedTuple):
    """Prompts after an edit. magnitude_S: the share of the reconstruction that was taken out."""

    x_SD: np.ndarray
    magnitude_S: np.ndarray


def agnostic(
    x_SD: np.ndarray, basis: Basis, partner_S: np.ndarray, ks: Sequence[int]
) -> dict[int, Edit]:
    """Edits that exchange the codes of k latents for a counterpart's, chosen by `greedy`.

    Args:
        x_SD: the activations.
        basis: the dictionary.
        partner_S: the counterpart of each prompt.
        ks: the numbers of latents.

    Returns:
        {k: Edit}.
    """
    change_SF = basis.code_SF[partner_S] - basis.code_SF
    wanted_SD = x_SD[partner_S] - x_SD
    chosen_SK, used_SK = greedy(wanted_SD, change_SF, basis.atoms_FD, max(ks))
    by_SK = np.take_along_axis(change_SF, chosen_SK, 1) * used_SK
    weight_SK = np.take_along_axis(basis.weight_SF, chosen_SK, 1) * used_SK
    moved = lambda k: np.einsum("sk,skd->sd", by_SK[:, :k], basis.atoms_FD[chosen_SK[:, :k]])
    return {k: Edit(x_SD + moved(k), weight_SK[:, :k].sum(1)) for k in ks}


def guided(
    x_SD: np.ndarray,
    basis: Basis,
    value_S: np.ndarray,
    partner_S: np.ndarray,
    ks: Sequence[int],
) -> dict[int, Edit]:
    """Edits by what latents mean: the k active ones of largest F1 for the old value are taken out, the k of
    largest F1 for the new one put in, at their mean on prompts of that value.

    Args:
        x_SD, basis, partner_S, ks: as in `agnostic`.
        value_S: the attribute that is edited.

    Returns:
        {k: Edit}.
    """
    hot_SV, code_SF = one_hot(value_S), basis.code_SF
    f1_FV = single_f1(code_SF > 0, value_S)
    mean_FV = code_SF.T @ hot_SV / hot_SV.sum(0)
    old_SF = np.where(code_SF != 0, f1_FV.T[value_S], -1)
    out_SK = np.argsort(-old_SF, axis=1, kind="stable")[:, : max(ks)]
    in_VK = np.argsort(-f1_FV.T, axis=1, kind="stable")[:, : max(ks)]
    in_SK, new_S = in_VK[value_S[partner_S]], value_S[partner_S]
    less_SK = np.take_along_axis(code_SF, out_SK, 1)
    more_SK = mean_FV[in_SK, new_S[:, None]]
    weight_SK = np.take_along_axis(basis.weight_SF, out_SK, 1)
    along = lambda by_SK, at_SK: np.einsum("sk,skd->sd", by_SK, basis.atoms_FD[at_SK])
    moved = lambda k: along(more_SK[:, :k], in_SK[:, :k]) - along(less_SK[:, :k], out_SK[:, :k])
    return {k: Edit(x_SD + moved(k), weight_SK[:, :k].sum(1)) for k in ks}


def single_f1(
    on_SF: Bool[np.ndarray, "S F"], value_S: Int[np.ndarray, " S"]
) -> Float[np.ndarray, "F V"]:
    """The F1 of every latent for every value: 2 both / (fires + has the value)."""
    hot_SV = one_hot(value_S)
    return 2 * (on_SF.T @ hot_SV) / (on_SF.sum(0)[:, None] + hot_SV.sum(0))


def union_f1(
    on_SF: Bool[np.ndarray, "S F"], value_S: Int[np.ndarray, " S"]
) -> Float[np.ndarray, " F"]:
    """The F1 of every latent for a union of values: 10 or half of them at most, added while the F1 rises.

    Args:
        on_SF: where each latent fires.
        value_S: the value of each prompt.

    Returns:
        The F1.
    """
    hot_SV = one_hot(value_S)
    both_FV, size_V, fires_F = on_SF.T @ hot_SV, hot_SV.sum(0), on_SF.sum(0)
    hit_F, has_F, found_F = (np.zeros(len(fires_F)) for _ in range(3))
    free_FV, rows_F = np.ones(both_FV.shape, bool), np.arange(len(fires_F))
    for _ in range(min(_MOST, max(1, len(size_V) // 2))):
        has_FV = (fires_F + has_F)[:, None] + size_V
        f1_FV = np.where(free_FV, 2 * (hit_F[:, None] + both_FV) / has_FV, -1)
        best_F = f1_FV.argmax(1)
        better_F = f1_FV[rows_F, best_F] > found_F
        found_F = np.where(better_F, f1_FV[rows_F, best_F], found_F)
        hit_F += better_F * both_FV[rows_F, best_F]
        has_F += better_F * size_V[best_F]
        free_FV[rows_F, best_F] = False
    return found_F
