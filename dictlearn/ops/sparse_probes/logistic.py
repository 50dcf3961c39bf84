"""Logistic regression to its optimum, for many binary labels at once.

    L2:  min_{w,b} |w|^2 / 2 + c sum_i s_i log(1 + exp(-y_i (w x_i + b)))        y_i = +-1
    L1:  min_{w,b} |w|_1     + c sum_i s_i log(1 + exp(-y_i (w x_i + b)))

The optimum is scikit-learn's `LogisticRegression(C=c)`; the intercept is not penalised. s_i is the weight of an
example, and 0 leaves it out, so that labels with different examples are one batch. L2 is solved by Newton's
method, in at most as many dimensions as there are examples. L1 is solved by FISTA with restarts. Both run on
centred and scaled columns, which changes neither optimum.

`ridge` and `lasso` are traceable and compute in the dtype of x. `labels` and `supports` take NumPy arrays and
compute in float64.

Axes: B an example, D a column, F a feature, K a feature of a support, Q a label.

Source: Friedman, Hastie & Tibshirani 2010 (Newton); O'Donoghue & Candes 2015 (restarts).
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Int, Shaped

from dictlearn.ops.shrinkage import lipschitz, soft
from dictlearn.types import Scalar

_NEWTON, _FISTA = 60, 10_000
_HALVINGS = 12
_AT_ONCE = 2**24
"""Numbers that `supports` gathers at once."""


class Probe(NamedTuple):
    """Linear probes: the logit of an example is w x + b. Both may have leading axes."""

    w_D: Array | np.ndarray
    b: Array | np.ndarray


class _Problem(NamedTuple):
    """Scaled columns and a column of ones; the scale of each column of x; labels and weights."""

    z_BD: Array
    scale_D: Array
    y_B: Array
    weight_B: Array

    def gradient(self, logit_B: Array) -> Array:
        """The gradient of the loss, without c."""
        return self.z_BD.T @ (self.weight_B * (jax.nn.sigmoid(logit_B) - self.y_B))

    def loss(self, logit_B: Array) -> Array:
        sign_B = jnp.where(self.y_B, -1, 1)
        return jnp.sum(self.weight_B * jax.nn.softplus(sign_B * logit_B), axis=-1)

    def unscaled(self, u_D: Array) -> Probe:
        return Probe(u_D[:-1] / self.scale_D, u_D[-1])


def balanced(y_B: Bool[Array, " B"], weight_B: Float[Array, " B"]) -> Float[Array, " B"]:
    """The weights, changed so that both classes have the same total, and their sum stays."""
    share = lambda side_B: weight_B.sum() / jnp.maximum(2 * jnp.sum(weight_B * side_B), 1e-12)
    return weight_B * jnp.where(y_B, share(y_B), share(~y_B))


def ridge(
    x_BD: Float[Array, "B D"], y_B: Bool[Array, " B"], weight_B: Float[Array, " B"], c: Scalar
) -> Probe:
    """The L2 optimum.

    Args:
        x_BD: the examples.
        y_B: their labels; among those of positive weight, both must occur.
        weight_B: their weights.
        c: the weight of the loss.

    Returns:
        A Probe.
    """
    mean_D = _mean(x_BD, weight_B)
    x_BD = x_BD - mean_D
    if x_BD.shape[1] <= x_BD.shape[0]:
        w_D, b = _newton(_problem(x_BD, y_B, weight_B), c)
    else:  # w lies in the span of the examples.
        basis_DB, r_BB = jnp.linalg.qr(x_BD.T)
        inner_B, b = _newton(_problem(r_BB.T, y_B, weight_B), c)
        w_D = basis_DB @ inner_B
    return Probe(w_D, b - mean_D @ w_D)


def _newton(problem: _Problem, c: Scalar) -> Probe:
    """Newton's method, with the longest of some halved steps that does not raise the loss."""
    z_BD, penalty_D = problem.z_BD, jnp.append(problem.scale_D**-2.0, 0.0)
    eps = jnp.finfo(z_BD.dtype).eps
    halved_K = 0.5 ** jnp.arange(_HALVINGS, dtype=z_BD.dtype)
    value = lambda u, logit: jnp.sum(penalty_D * u**2, -1) / 2 + c * problem.loss(logit)

    def step(state):
        u_D, _, n = state
        logit_B = z_BD @ u_D
        p_B = jax.nn.sigmoid(logit_B)
        g_D = penalty_D * u_D + c * problem.gradient(logit_B)
        h_DD = c * (z_BD.T * (problem.weight_B * p_B * (1 - p_B))) @ z_BD
        diagonal_D = jnp.diag(h_DD) + penalty_D
        h_DD += jnp.diag(penalty_D + 10 * eps * (diagonal_D + eps))
        move_D = jax.scipy.linalg.solve(h_DD, g_D, assume_a="pos")
        tried_KD = u_D - halved_K[:, None] * move_D
        found_K = value(tried_KD, logit_B - halved_K[:, None] * (z_BD @ move_D))
        before = value(u_D, logit_B)
        fine_K = found_K <= before + 32 * eps * before
        decrement = jnp.where(fine_K.any(), g_D @ move_D, 0.0)
        return jnp.where(fine_K.any(), tried_KD[jnp.argmax(fine_K)], u_D), decrement, n + 1

    going = lambda state: (state[1] > 10 * eps) & (state[2] < _NEWTON)
    first = jnp.zeros_like(penalty_D), jnp.asarray(jnp.inf, z_BD.dtype), 0
    return problem.unscaled(lax.while_loop(going, step, first)[0])


def lasso(
    x_BD: Float[Array, "B D"], y_B: Bool[Array, " B"], weight_B: Float[Array, " B"], c: Scalar
) -> Probe:
    """The L1 optimum. The arguments are those of `ridge`."""
    mean_D = _mean(x_BD, weight_B)
    problem = _problem(x_BD - mean_D, y_B, weight_B)
    z_BD, penalty_D = problem.z_BD, jnp.append(1 / problem.scale_D, 0.0)
    rate = 4 / (1.02 * c * lipschitz((z_BD * jnp.sqrt(weight_B)[:, None]).T))
    close = 1e3 * jnp.finfo(z_BD.dtype).eps

    def step(state):
        u_D, v_D, t, _, n = state
        down_D = v_D - rate * c * problem.gradient(z_BD @ v_D)
        new_D = soft(down_D[None], rate * penalty_D, positive=False)[0]
        restart = (v_D - new_D) @ (new_D - u_D) > 0
        t = jnp.where(restart, 1.0, t)
        longer = (1 + jnp.sqrt(1 + 4 * t**2)) / 2
        ahead_D = new_D + (t - 1) / longer * (new_D - u_D)
        moved = jnp.abs(new_D - v_D).max() / jnp.maximum(jnp.abs(new_D).max(), close)
        return new_D, ahead_D, longer, moved, n + 1

    going = lambda state: (state[3] > close) & (state[4] < _FISTA)
    zero_D, one = jnp.zeros_like(penalty_D), jnp.ones((), z_BD.dtype)
    w_D, b = problem.unscaled(lax.while_loop(going, step, (zero_D, zero_D, one, one, 0))[0])
    return Probe(w_D, b - mean_D @ w_D)


def _mean(x_BD: Array, weight_B: Array) -> Array:
    return weight_B @ x_BD / weight_B.sum()


def _problem(x_BD: Array, y_B: Array, weight_B: Array) -> _Problem:
    """The problem of columns that are centred. A column that does not vary has the scale 1."""
    scale_D = jnp.sqrt(weight_B @ x_BD**2 / weight_B.sum())
    scale_D = jnp.where(scale_D > 0, scale_D, 1.0)
    z_BD = jnp.concatenate([x_BD / scale_D, jnp.ones_like(x_BD[:, :1])], axis=1)
    return _Problem(z_BD, scale_D, y_B, weight_B)


KINDS: dict[str, Callable[..., Probe]] = {"l2": ridge, "l1": lasso}


def labels(
    x_BD: Float[np.ndarray, "B D"],
    y_QB: Bool[np.ndarray, "Q B"],
    weight_QB: Shaped[np.ndarray, "Q B"] | None = None,
    *,
    c: float | Float[np.ndarray, " Q"] = 1.0,
    kind: str = "l2",
) -> Probe:
    """The probe of each label on all columns, in float64.

    Args:
        x_BD, y_QB: the examples and their labels.
        weight_QB: the weights of the examples for each label, e.g. 0 or 1; None for 1.
        c: the weight of the loss, scikit-learn's C; one for all labels, or one for each.
        kind: "l2" or "l1".

    Returns:
        A Probe `[Q, D]`.

    Raises:
        ValueError: for a label that has one class only.

    Example:
        >>> x_BD = np.array([[-2.0], [-1.0], [1.0], [2.0]])
        >>> labels(x_BD, x_BD.T > 0).w_D.round(2).tolist()
        [[0.95]]
    """
    given = y_QB, _weights(y_QB, weight_QB), np.broadcast_to(np.float64(c), len(y_QB))
    with jax.enable_x64(True):
        return Probe(*map(np.asarray, _labels(kind, np.float64(x_BD), *given)))


@functools.partial(jax.jit, static_argnums=0)
def _labels(kind: str, x_BD, y_QB, weight_QB, c_Q) -> Probe:
    return lax.map(lambda one: KINDS[kind](x_BD, *one), (y_QB, weight_QB, c_Q))


def supports(
    x_BF: Shaped[np.ndarray, "B F"],
    support_QK: Int[np.ndarray, "Q K"],
    y_QB: Bool[np.ndarray, "Q B"],
    weight_QB: Shaped[np.ndarray, "Q B"] | None = None,
    *,
    c: float = 1.0,
) -> Probe:
    """The L2 probe of each label on its own features, all in one program, in float64.

    Args:
        x_BF, y_QB, weight_QB, c: as in `labels`, with its errors.
        support_QK: the features of each label; -1 for none, so that supports of different sizes fit.

    Returns:
        A Probe `[Q, K]`, with 0 for a feature that is none.

    Example:
        >>> x_BF = np.array([[0.0, -2.0], [0.0, -1.0], [0.0, 1.0], [0.0, 2.0]])
        >>> supports(x_BF, np.array([[1, -1]]), x_BF[:, 1][None] > 0).w_D.round(2).tolist()
        [[0.95, 0.0]]
    """
    used_F, at_QK = np.unique(support_QK, return_inverse=True)
    x_BF = np.where(used_F >= 0, x_BF[:, used_F], 0.0)
    given = at_QK.reshape(support_QK.shape), y_QB, _weights(y_QB, weight_QB), np.float64(c)
    at_once = max(1, _AT_ONCE // (len(x_BF) * support_QK.shape[1]))
    with jax.enable_x64(True):
        return Probe(*map(np.asarray, _supports(at_once, np.float64(x_BF), *given)))


@functools.partial(jax.jit, static_argnums=0)
def _supports(at_once: int, x_BF, support_QK, y_QB, weight_QB, c) -> Probe:
    one = lambda each: ridge(x_BF[:, each[0]], each[1], each[2], c)
    return lax.map(one, (support_QK, y_QB, weight_QB), batch_size=at_once)


def _weights(y_QB: np.ndarray, weight_QB: np.ndarray | None) -> np.ndarray:
    """The weights in float64. Raises ValueError for a label with one class."""
    found_QB = np.ones(y_QB.shape) if weight_QB is None else weight_QB.astype(np.float64)
    for q, (y_B, weight_B) in enumerate(zip(y_QB, found_QB, strict=True)):
        n, positive = np.count_nonzero(weight_B), np.count_nonzero(weight_B * y_B)
        if positive in (0, n):
            raise ValueError(
                f"label {q} has {positive} positive examples of {n}; a probe needs both classes."
            )
    return found_QB
