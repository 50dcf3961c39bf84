"""The error of dictionaries, split by linear maps: the fold behind the analysis `dark_matter`.

Even blocks of tokens fit the maps, odd blocks are measured, and each is read once. See `dark_matter.py`.
"""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from dictlearn.analyses._blocks import Block, Blocks
from dictlearn.analyses._linear import Explained, Moments
from dictlearn.evaluate import Splice
from dictlearn.experiment.models import SEQUENCES
from dictlearn.lm import LM
from dictlearn.meters.loss_recovered import loss_recovered
from dictlearn.ops.firing import l0
from dictlearn.runs.trained import Trained, reconstruct

FORMS = ("reconstruction", "with_linear", "with_nonlinear")
"""What is spliced into the model: the reconstruction alone, or with a part of its error."""


@functools.partial(jax.jit, static_argnums=0)
def _read(module, norm, variables, x_BD):
    yhat_BD, codes = reconstruct(module, norm, variables, x_BD)
    return yhat_BD, l0(codes)


def _error(one: Trained, block: Block) -> tuple[np.ndarray, np.ndarray]:
    """(the error of every token, float64, and its L0)."""
    yhat_BD, l0_B = _read(one.module, one.norm, one.variables, block.x_BD)
    return block.y_BD - np.asarray(yhat_BD, np.float64), np.asarray(l0_B)


def fitted(rows: Blocks, chosen: Sequence[Trained], ridge: float) -> "list[Error]":
    """The maps of every dictionary, from the even blocks."""
    own, others = Moments(), {}
    for block in map(rows.read, range(0, rows.n, 2)):
        on_B = block.mask_B
        errors = [_error(one, block)[0][on_B] for one in chosen]
        squares = [(e_BD**2).sum(1, keepdims=True) for e_BD in errors]
        own.add(block.x_BD[on_B], np.concatenate([*errors, *squares], 1))
        for tap, z_BD in block.taps.items():
            both = np.concatenate([block.x_BD[on_B], *errors], 1)
            others.setdefault(tap, Moments()).add(z_BD[on_B], both)
    width = chosen[0].module.d_in
    if own.n <= width or rows.n < 2:
        raise ValueError(
            f"{own.n} tokens fit a map from {width} activations, and it is measured on {rows.n // 2} blocks; "
            f"raise n_tokens well above {2 * width} and two blocks, or hold out more text."
        )
    return _maps(own, others, chosen, ridge)


def _maps(own: Moments, others, chosen: Sequence[Trained], ridge: float) -> "list[Error]":
    n = len(chosen)
    map_DE = own.through_zero(ridge, slice(None, -n))
    square_DN, offset_N = own.affine(ridge, slice(-n, None))
    linear = np.split(map_DE, n, axis=1)
    found = [Error(*each) for each in zip(chosen, linear, square_DN.T, offset_N, strict=True)]
    for tap, moments in others.items():
        # The nonlinear part is e - x A, so the map to it is the map to e less the map to x, times A.
        to_x_DD, *to_e = np.split(moments.through_zero(ridge), [len(map_DE)], axis=1)
        for error, to_DE in zip(found, np.split(to_e[0], n, axis=1), strict=True):
            error.from_tap[tap] = to_DE - to_x_DD @ error.map_DE
    return found


class Error:
    """The error of one dictionary: its maps, and the sums over the tokens that are measured."""

    def __init__(self, one: Trained, map_DE, square_D, offset: float):
        self.one, self.map_DE, self._square = one, map_DE, (square_D, offset)
        self.from_tap: dict[str, np.ndarray] = {}
        self._target, self._vector, self._norm = Explained(), Explained(), Explained()
        self._taps: dict[str, Explained] = {}
        self._sums: Any = np.zeros(4)

    def add(self, block: Block) -> tuple[np.ndarray, np.ndarray]:
        """Measures a block; returns the error of all tokens, and its linear part."""
        all_BD, l0_B = _error(self.one, block)
        linear_BD = block.x_BD @ self.map_DE
        on_B, (square_D, offset) = block.mask_B, self._square
        e_BD, rest_BD = all_BD[on_B], (all_BD - linear_BD)[on_B]
        square_B = (e_BD**2).sum(1)
        self._target.add(block.y_BD[on_B].astype(np.float64), e_BD)
        missed_B = square_B - block.x_BD[on_B] @ square_D - offset
        self._vector.add(e_BD, rest_BD)
        self._norm.add(square_B[:, None], missed_B[:, None])
        for tap, to_DE in self.from_tap.items():
            missed_BD = rest_BD - block.taps[tap][on_B] @ to_DE
            self._taps.setdefault(tap, Explained()).add(rest_BD, missed_BD)
        sums = (on_B.sum(), l0_B[on_B].sum(), square_B.sum(), (rest_BD**2).sum())
        self._sums = self._sums + np.array(sums, np.float64)
        return all_BD, linear_BD

    def values(self) -> dict[str, Any]:
        """The row of the dictionary."""
        n, active, whole, rest = self._sums
        fvu, left = np.array((whole, rest)) / self._target.variance()
        taps = {tap: explained.values("r2") for tap, explained in self._taps.items()}
        parts = {"fvu": fvu, "fvu_linear": fvu - left, "fvu_nonlinear": left}
        return {
            "dictionary": self.one.name,
            "n_latents": self.one.module.n_latents,
            "l0": active / n,
            **{name: float(value) for name, value in parts.items()},
            **self._vector.values("error_r2"),
            **self._norm.values("norm_r2"),
            "earlier": taps,
        }


def measured(rows: Blocks, errors: Sequence[Error], loss: "Loss | None") -> np.ndarray:
    """Measures the odd blocks; returns the second moments of (1, |e| of each dictionary, |e - ê| of each)."""
    moments = np.zeros((2 * len(errors) + 1,) * 2)
    for block in map(rows.read, range(1, rows.n, 2)):
        on_B, norms = block.mask_B, []
        splice = loss.begin(block) if loss else None
        for error in errors:
            all_BD, linear_BD = error.add(block)
            norms.append([np.linalg.norm(e[on_B], axis=1) for e in (all_BD, all_BD - linear_BD)])
            if splice:
                splice(error.one.name, block.y_BD - all_BD, linear_BD, all_BD - linear_BD)
        columns = [np.ones(on_B.sum()), *(e for e, _ in norms), *(rest for _, rest in norms)]
        moments += np.stack(columns) @ np.stack(columns).T
    return moments


class Loss:
    """The model's loss with each of FORMS at the tap, on the first blocks that are measured."""

    def __init__(self, lm: LM, written: Sequence[str], n_sequences: int):
        self._meter, self._left = loss_recovered(), -(-n_sequences // SEQUENCES)
        self._splice = Splice(lm, written, {"loss": self._meter})
        self._totals: dict[tuple[str, str], Any] = {}

    def begin(self, block: Block):
        """A function that splices a dictionary's parts into the block's text; None after the last one."""
        if not self._left or block.text is None:
            return None
        self._left -= 1
        shape = (*block.text[0].shape, -1)
        put = lambda rows_BD: self._splice(rows_BD.astype(np.float32).reshape(shape))["loss"]
        self._splice.begin(*block.text, block.y_BD.reshape(shape))

        def add(name: str, yhat_BD, linear_BD, rest_BD) -> None:
            rows = (yhat_BD, yhat_BD + linear_BD, yhat_BD + rest_BD)
            for form, rows_BD in zip(FORMS, rows, strict=True):
                total = self._totals.get((name, form), self._meter.init())
                self._totals[name, form] = self._meter.update(total, put(rows_BD))

        return add

    def values(self, name: str) -> dict[str, Mapping[str, float]]:
        """{form: the values of the meter `loss_recovered`} of a dictionary."""
        found = {form: self._totals.get((name, form)) for form in FORMS}
        return {form: self._meter.result(total) for form, total in found.items() if total}
