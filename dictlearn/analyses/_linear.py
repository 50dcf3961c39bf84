"""Linear maps from second moments that are summed over blocks of tokens, and how much they explain of others.

    A = argmin_A |T - X A|^2 + ridge m |A|^2            m: the mean of the diagonal of X^T X
    r2 = mean_j [ 1 - sum_t (t - x A)_tj^2 / sum_t (t_tj - mean t_j)^2 ]           over columns j that vary

Sums are float64: a language model's activations have directions of which one is a millionth of another. The
rows that a map is fitted to must not be those on which it is measured, because it explains noise on its own
rows. Intervals are of 1,000 resamples of the measured blocks.
"""

import numpy as np

_CONSTANT = 1e-12
"""A column with less than this share of the largest variance is rounding error."""
_RESAMPLES = 1000


class Moments:
    """The sums of x x^T, x t^T, x and t over tokens."""

    def __init__(self):
        self.n, self._sums = 0, None

    def add(self, x_BD: np.ndarray, t_BE: np.ndarray) -> None:
        """Adds a block of inputs and of targets."""
        x_BD, t_BE = np.asarray(x_BD, np.float64), np.asarray(t_BE, np.float64)
        sums = (x_BD.T @ x_BD, x_BD.T @ t_BE, x_BD.sum(0), t_BE.sum(0))
        self._sums = sums if self._sums is None else tuple(map(np.add, self._sums, sums))
        self.n += len(x_BD)

    def through_zero(self, ridge: float, of: slice = slice(None)) -> np.ndarray:
        """The map [D, E] of some columns of t, without an intercept."""
        xx_DD, xt_DE, _, _ = self._given()
        return _solve(xx_DD, xt_DE[:, of], ridge)

    def affine(self, ridge: float, of: slice = slice(None)) -> tuple[np.ndarray, np.ndarray]:
        """(the map [D, E] of some columns of t, the intercepts [E])."""
        xx_DD, xt_DE, x_D, t_E = self._given()
        t_E, centred_DD = t_E[of], xx_DD - np.outer(x_D, x_D) / self.n
        map_DE = _solve(centred_DD, xt_DE[:, of] - np.outer(x_D, t_E) / self.n, ridge)
        return map_DE, (t_E - x_D @ map_DE) / self.n

    def _given(self):
        if self._sums is None:
            raise ValueError("no token was given.")
        return self._sums


def _solve(xx_DD: np.ndarray, xt_DE: np.ndarray, ridge: float) -> np.ndarray:
    """The solution of the normal equations; zero where the inputs do not vary at all."""
    size = float(np.diag(xx_DD).mean()) or 1.0
    return np.linalg.solve(xx_DD + ridge * size * np.eye(len(xx_DD)), xt_DE)


class Explained:
    """How much of targets a prediction explains, from sums that are kept for each block."""

    def __init__(self):
        self._blocks = []

    def add(self, t_BE: np.ndarray, missed_BE: np.ndarray) -> None:
        """Adds a block of targets, and what the prediction misses of them."""
        sums = (t_BE.sum(0), (t_BE**2).sum(0), (missed_BE**2).sum(0))
        self._blocks.append((np.full(1, float(len(t_BE))), *sums))

    def values(self, name: str) -> dict[str, float]:
        """The share as `name`, and its 5 and 95 % quantiles over resampled blocks; NaN where nothing varies."""
        sums = tuple(map(np.stack, zip(*self._blocks, strict=True)))
        n = len(self._blocks)
        draws_RN = np.random.default_rng(0).multinomial(n, np.full(n, 1 / n), _RESAMPLES)
        low, high = np.quantile(_shares(sums, draws_RN), (0.05, 0.95))
        whole = float(_shares(sums, np.ones((1, n)))[0])
        return {name: whole, f"{name}_low": float(low), f"{name}_high": float(high)}

    def variance(self) -> float:
        """The sum of squared distances of the targets from their mean."""
        n, first_E, second_E, _ = (np.sum(part, 0) for part in zip(*self._blocks, strict=True))
        return float((second_E - first_E**2 / n).sum())


def _shares(sums: tuple[np.ndarray, ...], weight_RN: np.ndarray) -> np.ndarray:
    """The share for each weighting of the blocks."""
    spread = lambda n, first, second: second - first**2 / n
    whole_E = spread(*(part.sum(0) for part in sums[:3]))
    varies_E = whole_E > _CONSTANT * whole_E.max()
    if not varies_E.any():
        return np.full(len(weight_RN), np.nan)
    n_R1, *rest = (weight_RN @ part for part in sums)
    first_RE, second_RE, missed_RE = (part[:, varies_E] for part in rest)
    return (1 - missed_RE / spread(n_R1, first_RE, second_RE)).mean(1)
