"""Absorption of labels by more specific latents, from the activations and the codes of words.

    p            the direction of a probe that tells the label from the activation
    P_x, P_i     x p / |p|, and f_i (W_dec,i p) / |p|: how much of it the activation has, and latent i brings
    M            the main latents: the k best of a sparse probe, as long as one more raises its F1 by over 0.03
    P_M, A       the sum of P_i over M; the sum of the three largest P_i of other latents along p
    fraction     0 if P_M >= P_x or A < 0.4 P_x, 1 if P_M <= 0, else a / (a + P_M) with a = min(A, P_x - P_M)
    full         no latent of M fires, and the latent of the largest P_i has at least 0.4 P_x

Axes: S a word, B some of them, Q a label.

Source: Chanin et al. 2024 (arXiv:2409.14507); SAEBench 8042bb3, whose thresholds these are.
Differs: probes are at their optimum; SAEBench trains them by Adam for 50 epochs. A sparse probe takes latents
whose weight is above 0; SAEBench fills up with others.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from dictlearn.analyses._ablated import Basis
from dictlearn.ops.sparse_probes import logistic, rankers
from dictlearn.ops.sparse_probes.scores import scores
from dictlearn.ops.sparse_probes.sweeps import best

KS = tuple(range(1, 11))
_DECAY, _PENALTY = 1e-4, 0.01
_BETTER = 0.03
"""How much higher F1 must be for one more latent to be a main one."""
_ALONG, _ALONG_FULL = 0.1, 0.025
"""The least cosine of a latent that absorbs with the direction."""
_ENOUGH = 0.4
_TOP = 3
_SILENT = 1e-8
_FEWEST_F1 = 0.6
_COLUMNS = 64
"""Latents with which the search for those of the L1 optimum starts."""
_SLACK = 1e-3
_CLOSE = {"maxiter": 2000, "maxfun": 4000, "maxcor": 20, "ftol": 1e-10, "gtol": 1e-6}


class Words(NamedTuple):
    """Words with a label. x_SD: their activations. label_S: of `names`. test_S: which words are tested. truth:
    the probe of each label. f1_Q: its F1 on the test words."""

    x_SD: np.ndarray
    label_S: np.ndarray
    names: tuple[str, ...]
    test_S: np.ndarray
    truth: logistic.Probe
    f1_Q: np.ndarray


class Label(NamedTuple):
    """A label in a dictionary: the main latents, and the two measures of each word that the probe finds."""

    name: str
    main: np.ndarray
    fraction_B: np.ndarray
    full_B: np.ndarray


def words(x_SD: np.ndarray, label_S: np.ndarray, names: Sequence[str], test_S: np.ndarray) -> Words:
    """Words with the probe of each label, fitted to the train words. There are two labels or more."""
    y_QB = label_S[~test_S] == np.arange(len(names))[:, None]
    there = np.flatnonzero(y_QB.any(1) & ~y_QB.all(1))
    probe = probes(x_SD[~test_S], y_QB[there])
    # A label without train words has a probe that finds nothing.
    truth = logistic.Probe(np.zeros((len(names), x_SD.shape[1])), np.full(len(names), -1.0))
    truth.w_D[there], truth.b[there] = probe
    logit_QB = truth.w_D @ x_SD[test_S].T + truth.b[:, None]
    f1_Q = np.array([_f1(label_S[test_S] == q, logit_B) for q, logit_B in enumerate(logit_QB)])
    return Words(x_SD, label_S, tuple(names), test_S, truth, f1_Q)


def probes(x_BD: np.ndarray, y_QB: np.ndarray) -> logistic.Probe:
    """The L2 probes of many labels on all channels, by L-BFGS. `logistic.labels` has the same optimum, and
    needs the Hessian of each label."""
    from scipy.optimize import minimize
    from scipy.special import expit

    mean_D, scale_D = x_BD.mean(0, dtype=np.float64), x_BD.std(0, dtype=np.float64)
    scale_D = np.where(scale_D > 0, scale_D, 1)
    z_BD = (x_BD - mean_D) / scale_D
    weight_QB = np.stack([*map(_weights, y_QB)]) / len(x_BD)
    sign_QB = np.where(y_QB, -1.0, 1.0)

    def value(flat: np.ndarray) -> tuple[float, np.ndarray]:
        u_QD, b_Q1 = np.split(flat.reshape(len(y_QB), -1), [-1], axis=1)
        wrong_QB = sign_QB * (u_QD @ z_BD.T + b_Q1)
        loss = (weight_QB * np.logaddexp(0, wrong_QB)).sum()
        slope_QB = weight_QB * sign_QB * expit(wrong_QB)
        pulled_QD = _DECAY * u_QD / scale_D**2
        slopes = [slope_QB @ z_BD + pulled_QD, slope_QB.sum(1, keepdims=True)]
        return loss + (pulled_QD * u_QD).sum() / 2, np.hstack(slopes).ravel()

    first = np.zeros(len(y_QB) * (x_BD.shape[1] + 1))
    found = minimize(value, first, jac=True, method="L-BFGS-B", options=_CLOSE).x
    u_QD, b_Q1 = np.split(found.reshape(len(y_QB), -1), [-1], axis=1)
    w_QD = u_QD / scale_D
    return logistic.Probe(w_QD, b_Q1[:, 0] - w_QD @ mean_D)


def measured(of: Words, basis: Basis, fewest: int) -> list[Label]:
    """The labels whose probe works and that have enough test words, in a dictionary."""
    norm_F = np.linalg.norm(basis.atoms_FD, axis=1)
    code_SF = basis.code_SF * norm_F
    atoms_FD = basis.atoms_FD / np.maximum(norm_F, np.finfo(norm_F.dtype).tiny)[:, None]
    enough = lambda q: np.count_nonzero(of.label_S[of.test_S] == q) >= fewest
    kept = [q for q in range(len(of.names)) if of.f1_Q[q] > _FEWEST_F1 and enough(q)]
    found = []
    for q, main in zip(kept, _mains(of, code_SF, kept), strict=True):
        own_S = of.test_S & (of.label_S == q)
        w_D, b = of.truth.w_D[q], of.truth.b[q]
        own_S &= of.x_SD @ w_D + b > 0
        p_D = w_D / np.linalg.norm(w_D)
        along = absorbed(of.x_SD[own_S] @ p_D, code_SF[own_S], atoms_FD @ p_D, main)
        found.append(Label(of.names[q], main, *along))
    return found


def absorbed(
    whole_B: np.ndarray, code_BF: np.ndarray, cosine_F: np.ndarray, main: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(the fraction, whether it is full) of each word. whole_B: P_x. code_BF, cosine_F: of unit atoms."""
    along_BF = code_BF * cosine_F
    others_BF = np.where((cosine_F >= _ALONG) & (along_BF > 0), along_BF, 0.0)
    others_BF[:, main] = 0
    absorbing_B = np.sort(others_BF, axis=1)[:, -_TOP:].sum(1)
    strongest_B = along_BF.argmax(1)
    most_B = along_BF.max(1)
    full_B = (code_BF[:, main] < _SILENT).all(1) & (cosine_F[strongest_B] >= _ALONG_FULL)
    full_B &= (whole_B >= 0) & (most_B >= _ENOUGH * whole_B)
    return fraction(along_BF[:, main].sum(1), absorbing_B, whole_B), full_B


def fraction(main_B: np.ndarray, absorbing_B: np.ndarray, whole_B: np.ndarray) -> np.ndarray:
    """The fraction of each word, from P_M, A and P_x."""
    part_B = np.minimum(absorbing_B, whole_B - main_B)
    found_B = np.where(main_B <= 0, 1.0, part_B / np.where(main_B <= 0, 1, part_B + main_B))
    none_B = (main_B >= whole_B) | (absorbing_B < _ENOUGH * whole_B)
    return np.where(none_B, 0.0, np.clip(found_B, 0, 1))


def n_main(f1_K: Sequence[float] | np.ndarray) -> int:
    """How many latents are the main ones: the first one more that does not raise F1 by over 0.03 ends it."""
    k = 1
    while k < len(f1_K) and f1_K[k] > f1_K[k - 1] + _BETTER:
        k += 1
    return k


def _mains(of: Words, code_SF: np.ndarray, kept: Sequence[int]) -> list[np.ndarray]:
    """The main latents of labels."""
    if not kept:
        return []
    train_BF, test_BF = code_SF[~of.test_S], code_SF[of.test_S]
    y_QB = of.label_S[~of.test_S] == np.array(kept)[:, None]
    orders = [_chosen(train_BF, y_B) for y_B in y_QB]
    rows = np.repeat(np.arange(len(kept)), len(KS))
    support = lambda order, k: np.pad(order[:k], (0, KS[-1] - len(order[:k])), constant_values=-1)
    support_RK = np.stack([support(order, k) for order in orders for k in KS])
    weight_QB = np.stack([*map(rankers.weights, y_QB)])
    probe = logistic.supports(train_BF, support_RK, y_QB[rows], weight_QB[rows])
    f1_QK = np.zeros((len(kept), len(KS)))
    for r, (at_K, w_K, b) in enumerate(zip(support_RK, probe.w_D, probe.b, strict=True)):
        q, k = divmod(r, len(KS))
        f1_QK[q, k] = _f1(of.label_S[of.test_S] == kept[q], test_BF[:, at_K] @ w_K + b)
    return [order[: n_main(f1_K)] for order, f1_K in zip(orders, f1_QK, strict=True)]


def _chosen(x_BF: np.ndarray, y_B: np.ndarray) -> np.ndarray:
    """The latents of the largest weights of the L1 probe, those above 0; at least one latent."""
    w_F = _lasso(x_BF, y_B)
    order = best(w_F)[: KS[-1]]
    return order[: max(1, np.count_nonzero(w_F[order] > 0))]


def _lasso(x_BF: np.ndarray, y_B: np.ndarray) -> np.ndarray:
    """The L1 optimum, found among few latents: one whose slope is below the penalty has weight 0."""
    weight_B = _weights(y_B)
    c = 1 / (_PENALTY * len(y_B))
    slope = lambda p_B: c * np.abs((weight_B * (p_B - y_B)) @ x_BF)
    w_F, n = np.zeros(x_BF.shape[1]), _COLUMNS
    slope_F = slope((weight_B @ y_B) / weight_B.sum())
    while True:
        chosen = best(np.where(w_F != 0, np.inf, slope_F))[:n]
        probe = logistic.labels(x_BF[:, chosen], y_B[None], weight_B[None], c=c, kind="l1")
        w_F[:] = 0
        w_F[chosen] = probe.w_D[0]
        slope_F = slope(1 / (1 + np.exp(-(x_BF @ w_F + probe.b[0]))))
        outside_F = np.isin(np.arange(len(w_F)), chosen, invert=True)
        if not (outside_F & (slope_F > 1 + _SLACK)).any():
            return w_F
        n *= 2


def _weights(y_B: np.ndarray) -> np.ndarray:
    """The weights of torch's `pos_weight` = negatives / positives."""
    positive = np.count_nonzero(y_B)
    return np.where(y_B, (len(y_B) - positive) / positive, 1.0)


def _f1(y_B: np.ndarray, logit_B: np.ndarray) -> float:
    return scores(y_B, logit_B)["f1"] if y_B.any() else 0.0
