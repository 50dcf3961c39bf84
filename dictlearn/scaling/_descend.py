"""Many small fits of one law at once: BFGS on the mean Huber loss, batched in NumPy.

A report on a grid of runs takes thousands of fits of at most six parameters: every start, every cell held
out, every bootstrap sample. One at a time they spend their time in calls of Python, not in arithmetic. All of
them share the runs and differ in the weights of the runs and in the start, so they descend together; the
converged ones leave the batch.

Every problem is solved in coordinates that whiten the law's Jacobian at its start: over a real grid the
features are so nearly collinear that plain coordinates stall in a valley. The line search bisects for the
weak Wolfe conditions, which also end where the gradient has kinks, as that of the Huber loss has.

Source: Nocedal & Wright 2006, "Numerical optimization", chapter 6, for BFGS; Lewis & Overton 2013, "Nonsmooth
optimization via quasi-Newton methods", for the line search.

Axes: B problems, R runs, P parameters, E exponential terms.
"""

import numpy as np

_SCALE = 1e6  # of the objective, so that the tolerances lie far below any residual that matters
_SMALLEST_SINGULAR = 1e-2  # of the largest: flatter directions are stretched no further than this
_ITERATIONS, _TRIALS = 500, 40
_RELATIVE_DECREASE, _GRADIENT = 1e-10, 1e-9
_ARMIJO, _CURVATURE = 1e-4, 0.9
_AT_ONCE = 1024
"""Problems in memory at a time: a grid of 200 runs takes 20 kB for each."""


def descend(
    table_ERP: np.ndarray,
    log_losses_R: np.ndarray,
    weights_BR: np.ndarray,
    starts_BP: np.ndarray,
    delta: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Minimises the weighted mean Huber loss of the log residuals, once for each row of weights and start.

    Args:
        table_ERP: the features of the law for every run.
        log_losses_R: the logarithms of the losses.
        weights_BR, starts_BP: of each fit; the weights sum to 1, and 0 leaves a run out.
        delta: the residual from which the Huber loss is linear.

    Returns:
        (the parameters, the mean Huber loss at them).
    """
    ends = [
        _descend(
            table_ERP,
            log_losses_R,
            weights_BR[i : i + _AT_ONCE],
            starts_BP[i : i + _AT_ONCE],
            delta,
        )
        for i in range(0, len(starts_BP), _AT_ONCE)
    ]
    points, values = zip(*ends, strict=True)
    return np.concatenate(points), np.concatenate(values)


class _Problems:
    """Problems that still descend, in their whitened coordinates: step 0 is the start."""

    def __init__(self, table_ERP, log_losses_R, weights_BR, starts_BP, delta):
        self.log_losses_R, self.delta = log_losses_R, delta
        self.weights_BR = weights_BR
        self.start_BER = np.einsum("erp,bp->ber", table_ERP, starts_BP)
        self.whiten_BPP = _whitening(table_ERP, self.start_BER, weights_BR)
        self.white_BERP = np.einsum("erp,bpq->berq", table_ERP, self.whiten_BPP)

    def keep(self, chosen_B) -> None:
        self.weights_BR = self.weights_BR[chosen_B]
        self.start_BER = self.start_BER[chosen_B]
        self.white_BERP = self.white_BERP[chosen_B]

    def __call__(self, step_BP):
        """The objective [B] and its gradient [B, P]."""
        n, terms, runs, parameters = self.white_BERP.shape
        flat_BQP = self.white_BERP.reshape(n, terms * runs, parameters)
        exponent_BER = self.start_BER + (flat_BQP @ step_BP[..., None]).reshape(n, terms, runs)
        log_loss_BR = np.logaddexp.reduce(exponent_BER, axis=1)
        residual_BR = log_loss_BR - self.log_losses_R
        inside_BR = np.clip(residual_BR, -self.delta, self.delta)
        value_B = (self.weights_BR * inside_BR * (residual_BR - 0.5 * inside_BR)).sum(1)
        slope_BER = (
            np.exp(exponent_BER - log_loss_BR[:, None]) * (self.weights_BR * inside_BR)[:, None]
        )
        gradient_BP = (slope_BER.reshape(n, 1, terms * runs) @ flat_BQP)[:, 0]
        return _SCALE * value_B, _SCALE * gradient_BP


def _descend(table_ERP, log_losses_R, weights_BR, starts_BP, delta):
    problems = _Problems(table_ERP, log_losses_R, weights_BR, starts_BP, delta)
    whiten_BPP, steps_BP = problems.whiten_BPP, np.zeros_like(starts_BP)
    value_B, gradient_BP = problems(steps_BP)
    values_B, left_B = value_B.copy(), np.arange(len(starts_BP))
    step_BP, inverse_BPP = steps_BP, _steepest(gradient_BP)
    for iteration in range(_ITERATIONS):
        direction_BP = -(inverse_BPP @ gradient_BP[..., None])[..., 0]
        moved_BP, new_B, new_gradient_BP = _search(
            problems, step_BP, value_B, gradient_BP, direction_BP
        )
        inverse_BPP = _updated(inverse_BPP, moved_BP, new_gradient_BP - gradient_BP, iteration == 0)
        size_B = np.maximum(np.maximum(np.abs(value_B), np.abs(new_B)), 1.0)
        going_B = (value_B - new_B > _RELATIVE_DECREASE * size_B) & (
            np.abs(new_gradient_BP).max(1) > _GRADIENT
        )
        step_BP, value_B, gradient_BP = step_BP + moved_BP, new_B, new_gradient_BP
        steps_BP[left_B], values_B[left_B] = step_BP, value_B
        if not going_B.any():
            break
        if not going_B.all():
            problems.keep(going_B)
            left_B, step_BP, value_B = left_B[going_B], step_BP[going_B], value_B[going_B]
            gradient_BP, inverse_BPP = gradient_BP[going_B], inverse_BPP[going_B]
    ends_BP = starts_BP + (whiten_BPP @ steps_BP[..., None])[..., 0]
    return ends_BP, values_B / _SCALE


def _steepest(gradient_BP):
    """Inverse Hessians with which the first step has length 1, or 0 where there is no slope."""
    norm_B = np.linalg.norm(gradient_BP, axis=1)
    eye_PP = np.eye(gradient_BP.shape[1])
    return eye_PP / np.where(norm_B > 0, norm_B, 1.0)[:, None, None]


def _search(problems, step_BP, value_B, gradient_BP, direction_BP):
    """Steps along the directions that meet the weak Wolfe conditions; no step where none of the trials does."""
    slope_B = (gradient_BP * direction_BP).sum(1)
    low_B, high_B, at_B = (
        np.zeros_like(value_B),
        np.full_like(value_B, np.inf),
        np.ones_like(value_B),
    )
    best_BP, best_B, best_gradient_BP = np.zeros_like(step_BP), value_B.copy(), gradient_BP.copy()
    open_B = slope_B < 0
    for _ in range(_TRIALS):
        moved_BP = at_B[:, None] * direction_BP
        new_B, new_gradient_BP = problems(step_BP + moved_BP)
        lower_B = new_B <= value_B + _ARMIJO * at_B * slope_B
        flat_B = (new_gradient_BP * direction_BP).sum(1) >= _CURVATURE * slope_B
        taken_B = open_B & lower_B
        best_BP[taken_B], best_B[taken_B] = moved_BP[taken_B], new_B[taken_B]
        best_gradient_BP[taken_B] = new_gradient_BP[taken_B]
        open_B &= ~(lower_B & flat_B)
        if not open_B.any():
            break
        low_B, high_B = np.where(lower_B, at_B, low_B), np.where(lower_B, high_B, at_B)
        at_B = np.where(np.isfinite(high_B), 0.5 * (low_B + high_B), 2 * low_B)
    return best_BP, best_B, best_gradient_BP


def _updated(inverse_BPP, moved_BP, change_BP, first: bool):
    """BFGS's update of the inverse Hessians; none where the curvature along the step is not positive."""
    curvature_B = (moved_BP * change_BP).sum(1)
    square_B = (change_BP**2).sum(1)
    usable_B = curvature_B > 1e-14 * square_B
    safe_B = np.where(usable_B, curvature_B, 1.0)
    eye_PP = np.eye(moved_BP.shape[1])
    if first:
        scale_B = safe_B / np.where(square_B > 0, square_B, 1.0)
        inverse_BPP = np.where(
            usable_B[:, None, None], scale_B[:, None, None] * eye_PP, inverse_BPP
        )
    outer_BPP = moved_BP[:, :, None] * change_BP[:, None, :] / safe_B[:, None, None]
    left_BPP = eye_PP - outer_BPP
    square_BPP = moved_BP[:, :, None] * moved_BP[:, None, :] / safe_B[:, None, None]
    updated_BPP = left_BPP @ inverse_BPP @ left_BPP.transpose(0, 2, 1) + square_BPP
    return np.where(usable_B[:, None, None], updated_BPP, inverse_BPP)


def _whitening(table_ERP, exponent_BER, weights_BR):
    """Directions, one per column, along each of which the log losses change by about one: [B, P, P]."""
    share_BER = np.exp(exponent_BER - np.logaddexp.reduce(exponent_BER, axis=1)[:, None])
    jacobian_BRP = np.einsum("ber,erp->brp", share_BER, table_ERP)
    gram_BPP = np.einsum("brp,br,brq->bpq", jacobian_BRP, weights_BR, jacobian_BRP)
    squares_BP, directions_BPP = np.linalg.eigh(gram_BPP)
    smallest_B1 = _SMALLEST_SINGULAR**2 * squares_BP[:, -1:]
    return directions_BPP / np.sqrt(np.maximum(squares_BP, smallest_B1))[:, None, :]
