"""The settings of unlearning on one dictionary: which latents are clamped, to what, and what the model then
answers (`unlearning`).
"""

import dataclasses
import functools
import itertools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from dictlearn import lm as language
from dictlearn import steering
from dictlearn.analyses import _ablated, _documents, _exam, _rmu
from dictlearn.analyses._exam import Edit, Exam
from dictlearn.analyses._probing import SAE, Key
from dictlearn.analyses._subject import dense_codes
from dictlearn.lm import LM, Prompts
from dictlearn.runs.trained import Site, Trained
from dictlearn.steering import Intervention

KEYS = ["unlearning_score", "forget_accuracy", "retained_accuracy", "loss_added"]
_RETAINED = 0.99
_FIRST = 64
"""Pieces of the retain text whose tokens give the L0 of the baselines, and the principal components."""
_BATCH = 8
_UNKNOWN = np.nan, np.nan, np.nan


class How(NamedTuple):
    """Which latents are clamped, and to what. The fields are settings of the analysis."""

    thresholds: tuple[float, ...]
    ns: tuple[int, ...]
    clamps: tuple[float, ...]

    def check(self) -> None:
        """Raises ValueError for settings out of bounds."""
        if not all(self) or min(map(min, self)) <= 0 or max(self.thresholds) > 1:
            raise ValueError(
                f"thresholds={self.thresholds} must be in (0, 1], ns={self.ns} at least 1, and "
                f"clamps={self.clamps} positive."
            )


class Trial(NamedTuple):
    """What latents clamped to -clamp do: the accuracies on the questions, and the loss added on the retain
    text."""

    threshold: float
    n: int
    clamp: float
    latents: tuple[int, ...]
    forget: float
    retained: float
    loss: float


class Course(NamedTuple):
    """The questions that a model knows, and texts as tokens."""

    lm: LM
    tap: str
    forget: Exam
    others: Exam
    forget_text: list[list[int]]
    retain_text: list[list[int]]
    n_loss: int
    how: How

    def dictionaries(self, trained: Sequence[Trained], seed: int) -> dict[Key, Trained]:
        """Dictionaries and their baselines, each at the tap that is edited."""
        some = self.retain_text[:_FIRST]
        x_BD = np.concatenate([x_BD for _, x_BD, _ in _documents.rows(self.lm, [self.tap], some)])
        beside, found = _documents.baselines(x_BD, seed), {}
        for one in trained:
            l0 = float(np.count_nonzero(dense_codes(one, x_BD), axis=1).mean())
            found[SAE, one.name] = one
            found |= {(kind, one.name): other for kind, other in beside(one, l0).items()}
        site = Site({}, (self.tap,), (self.tap,), {})
        return {at: dataclasses.replace(one, sites=(site,)) for at, one in found.items()}

    def shares(
        self, found: Mapping[Key, Trained], text: Sequence[Sequence[int]]
    ) -> dict[Key, np.ndarray]:
        """The share of the tokens of a text on which each latent fires, `[F]`."""
        count = {at: np.zeros(one.module.n_latents) for at, one in found.items()}
        n_tokens = 0
        for _, x_BD, _ in _documents.rows(self.lm, [self.tap], text):
            n_tokens += len(x_BD)
            for at, one in found.items():
                count[at] += np.count_nonzero(dense_codes(one, x_BD), axis=0)
        return {at: count_F / n_tokens for at, count_F in count.items()}

    def tried(self, one: Trained, forget_F: np.ndarray, retain_F: np.ndarray) -> list[Trial]:
        """Every setting on a dictionary, from the shares of tokens on which its latents fire. Settings of the
        same latents are measured once."""
        measure = functools.cache(functools.partial(self._measured, one, self._before()))
        found = []
        for threshold, n, clamp in itertools.product(*self.how):
            latents = tuple(choose(forget_F, retain_F, threshold, n).tolist())
            found.append(Trial(threshold, n, clamp, latents, *measure(latents, clamp)))
        return found

    def _measured(
        self, one: Trained, before: float | None, latents: tuple[int, ...], clamp: float
    ) -> tuple[float, float, float]:
        """(the accuracy on the questions of the subject, on others, the loss that is added)."""
        if before is None:
            return _UNKNOWN
        if not latents:
            return 1.0, 1.0, 0.0
        edit = functools.partial(clamped, self.lm, one, latents, clamp)
        return self._asked(self.lm, edit, before)

    def _before(self) -> float | None:
        """The loss of the model on the retain text; None where there is nothing to forget or to keep."""
        if not (self.forget.counts and self.others.counts):
            return None
        return self._loss(self.lm, _exam.unedited)

    def _loss(self, lm: LM, edit: Edit) -> float:
        return loss(lm, language.prompts(lm, self.retain_text[: self.n_loss]), edit)

    def _asked(self, lm: LM, edit: Edit, before: float) -> tuple[float, float, float]:
        """The same of a model with edits."""
        exams = (one._replace(lm=lm) for one in (self.forget, self.others))
        forget, retained = (one.accuracy(edit) for one in exams)
        return forget, retained, self._loss(lm, edit) - before

    def misdirected(self, how: _rmu.How, seed: int) -> list[Trial]:
        """The baseline that trains the model, at every coefficient, which takes the place of the clamp."""
        before = self._before()
        if before is None:
            return [Trial(np.nan, 0, c, (), *_UNKNOWN) for c in how.coefficients]
        forget, retain = (
            language.prompts(self.lm, one) for one in (self.forget_text, self.retain_text)
        )
        found = []
        for c in how.coefficients:
            lm = _rmu.misdirected(self.lm, self.tap, forget, retain, how, c, seed)
            found.append(Trial(np.nan, 0, c, (), *self._asked(lm, _exam.unedited, before)))
        return found


def choose(
    forget_F: Float[np.ndarray, " F"], retain_F: Float[np.ndarray, " F"], threshold: float, n: int
) -> np.ndarray:
    """The latents to clamp.

    Args:
        forget_F, retain_F: the share of the tokens of each text on which each latent fires.
        threshold: chosen latents fire on a smaller share of the retain text.
        n: how many, at most.

    Returns:
        Latents that fire on the forget text, the most frequent there first.
    """
    return _ablated.largest(np.where(retain_F < threshold, forget_F, 0), n)


def clamped(
    lm: LM, one: Trained, latents: Sequence[int], clamp: float, prompts: Prompts
) -> Mapping[str, Any]:
    """The edits that set latents that fire to -clamp, but on the first token of each prompt."""
    clamping = Intervention("clamp_if_active", latents=tuple(latents))
    return steering.edits_of(lm, one, clamping, prompts, -clamp).prompt


def loss(lm: LM, prompts: Prompts, edit: Edit) -> float:
    """The mean loss of the next token of texts with edits, in nats."""
    total, n_tokens = 0.0, 0
    for start in range(0, len(prompts.length_B), _BATCH):
        at_B = np.arange(start, start + _BATCH)
        given = _rmu.some(prompts, at_B)
        mask_BP = steering.whole(given)
        counted_BP = mask_BP & (at_B < len(prompts.length_B))[:, None]
        inputs = lm.params, edit(given), given.tokens_BP, mask_BP, counted_BP
        total += float(_losses(lm.forward, *inputs))
        n_tokens += int(counted_BP[:, 1:].sum())
    return total / n_tokens


@functools.partial(jax.jit, static_argnums=0)
def _losses(forward, params, edits, tokens_BP, mask_BP, counted_BP) -> jax.Array:
    """The sum of the losses of the counted tokens but the first."""
    logits_BPV = forward(params, tokens_BP, edits=edits, mask_BT=mask_BP)[0]
    log_BPV = jax.nn.log_softmax(logits_BPV[:, :-1].astype(jnp.float32))
    own_BP = jnp.take_along_axis(log_BPV, tokens_BP[:, 1:, None], 2)[..., 0]
    return -jnp.where(counted_BP[:, 1:], own_BP, 0).sum()


def best(tried: Sequence[Trial]) -> dict[str, float]:
    """The score, with the accuracies and the loss of the setting that has it.

    Args:
        tried: the settings.

    Returns:
        {key of KEYS: value}; that of no clamp where no setting retains enough, and NaN where nothing is known.
    """
    if any(np.isnan(one.forget) for one in tried):
        return dict.fromkeys(KEYS, np.nan)
    kept = [one for one in tried if one.retained >= _RETAINED]
    forget, retained, added = min(
        [(one.forget, one.retained, one.loss) for one in kept] or [(1.0, 1.0, 0.0)],
        key=lambda each: (each[0], each[2]),
    )
    return dict(zip(KEYS, (1 - forget, forget, retained, added), strict=True))
