"""Multinomial logistic regression: one linear probe of all classes.

    min over W, b    |W|^2 / 2 + c sum_i -log softmax(W x_i + b)[y_i]

The optimum is scikit-learn's `LogisticRegression(C=c)` of several classes; the intercepts are not penalised. It
is found by L-BFGS in float32, with at most `STEPS` steps, and so by products of rows and weights alone, which
tens of thousands of rows of a thousand columns allow.

Source: Liu & Nocedal 1989 (L-BFGS), SciPy's.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from dictlearn.types import Scalar

STEPS = 500
_CLOSE = 1e-7
"""The fall of the mean loss of a row in one step at which the search ends, in nats."""


class SoftmaxProbe(NamedTuple):
    """The logits of a row are W x + b."""

    W_CD: np.ndarray
    b_C: np.ndarray

    def logits(self, x_BD: Float[np.ndarray, "B D"]) -> Float[np.ndarray, "B C"]:
        """The logits of rows."""
        return x_BD @ self.W_CD.T + self.b_C


def none(n_classes: int, width: int) -> SoftmaxProbe:
    """The probe that gives all classes the same logit."""
    return SoftmaxProbe(np.zeros((n_classes, width), "f"), np.zeros(n_classes, "f"))


def softmax(
    x_BD: Float[np.ndarray, "B D"],
    class_B: Int[np.ndarray, " B"],
    c: float,
    start: SoftmaxProbe,
) -> SoftmaxProbe:
    """The optimum.

    Args:
        x_BD: the rows; columns of about one size, so that the search is short.
        class_B: the class of each, from 0.
        c: the weight of the loss.
        start: the probe at which the search starts, such as the one of a smaller c, or `none`.

    Returns:
        A SoftmaxProbe.

    Example:
        >>> x_BD = np.array([[-2.0], [-1.0], [1.0], [2.0]], "f")
        >>> softmax(x_BD, np.array([0, 0, 1, 1]), 1.0, none(2, 1)).logits(x_BD).argmax(1).tolist()
        [0, 0, 1, 1]
    """
    from scipy.optimize import minimize  # a third of a second to import

    rows = jnp.asarray(x_BD, jnp.float32), jnp.asarray(class_B), c * len(x_BD)
    shape = start.W_CD.shape
    split = lambda flat: (flat[: -shape[0]].reshape(shape), flat[-shape[0] :])

    def value(flat):
        found, slope = _value(*split(np.float32(flat)), *rows)
        return float(found), np.concatenate([np.ravel(part) for part in slope]).astype(np.float64)

    first = np.concatenate([start.W_CD.ravel(), start.b_C])
    options = {"maxiter": STEPS, "ftol": _CLOSE}
    found = minimize(value, first, jac=True, method="L-BFGS-B", options=options)
    return SoftmaxProbe(*split(found.x.astype("f")))


@jax.jit
def _value(W_CD: Array, b_C: Array, x_BD: Array, class_B: Array, weight: Scalar):
    """The mean loss of a row with its share of the penalty, and its slope."""

    def value(W_CD, b_C):
        log_BC = jax.nn.log_softmax(x_BD @ W_CD.T + b_C)
        loss = -jnp.take_along_axis(log_BC, class_B[:, None], 1).mean()
        return loss + (W_CD**2).sum() / (2 * weight)

    return jax.value_and_grad(value, (0, 1))(W_CD, b_C)
