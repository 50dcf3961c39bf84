"""Documents in a model whose latents can be taken out: means, codes, and effects on a classifier of the means.

    x' at a tap, where f_i = 0 for every latent i that is taken out, at every site and token; errors stay
    effect of latent i    the mean over documents of sum_t IE_it of  +- (w mean_t x_t + b)

The effect is that of integrated gradients to zero (`circuits.effects`); + for documents of the positive class.
The activation of the first site, if an autoencoder's, is kept, so that the blocks below it run once.

Axes: S a document, T a token, B a document of a batch; the others as in `dictlearn.types`.
"""

import dataclasses
import functools
from collections.abc import Collection, Iterator, Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from dictlearn.circuits import split
from dictlearn.circuits.effects import integrated
from dictlearn.circuits.faithfulness import Kept, only
from dictlearn.circuits.split import Parts
from dictlearn.lm import LM
from dictlearn.lm.edits import Edit
from dictlearn.lm.taps import tap_names
from dictlearn.ops.sparse_probes.logistic import Probe
from dictlearn.runs.trained import Trained, place

BATCH = 8
Latents = Mapping[str, Collection[int]]
"""Latents by the tap that their dictionary writes."""


class Texts:
    """Documents, read by a model with some dictionaries.

    Args:
        lm: the model.
        dictionaries: dictionaries that read one tap and write one, each another.
        tap: the tap that the classifier reads.
        documents: the tokens of each document, the separator first; it counts in no mean.
    """

    def __init__(
        self,
        lm: LM,
        dictionaries: Sequence[Trained],
        tap: str,
        documents: Sequence[Sequence[int]],
    ):
        self.lm, self.tap, self.by_tap = lm, tap, split.by_tap(dictionaries)
        self._variables = {at: one.variables for at, one in self.by_tap.items()}
        length_S = np.array([len(one) for one in documents])
        at_T = np.arange(length_S.max())
        self._mask_ST = (at_T > 0) & (at_T < length_S[:, None])
        self._tokens_ST = np.full(self._mask_ST.shape, lm.separator, np.int32)
        for s, one in enumerate(documents):
            self._tokens_ST[s, : len(one)] = one
        lm.check_tokens(self._tokens_ST, "The documents")
        self._read, self._attribute = jax.jit(self._reading), jax.jit(self._attributed)
        self._first = min(self.by_tap, key=tap_names(lm.spec).index)
        self._kept_STD = None
        if place(self.by_tap[self._first])[0] == self._first:
            below = jax.jit(lambda params, tokens_BT: lm.forward(params, tokens_BT)[1][self._first])
            parts = [below(lm.params, self._tokens_ST[own]) for own in self._batches(self._all)]
            self._kept_STD = np.concatenate(list(map(np.asarray, parts)))[: len(self._all)]

    def without(self, removed: Latents) -> np.ndarray:
        """The mean activation of each document with latents taken out, `[S, D]`.

        Raises ValueError for latents that no dictionary has.
        """
        sizes = {at: one.module.n_latents for at, one in self.by_tap.items()}
        for at, own in removed.items():
            if not all(0 <= i < sizes.get(at, 0) for i in own):
                raise ValueError(
                    f"{at!r} has not all of the latents {sorted(own)}; there are {sizes}."
                )
        kept = {at: ~np.isin(np.arange(n), list(removed.get(at, ()))) for at, n in sizes.items()}
        return self._means(kept)[0]

    @functools.cached_property
    def whole(self) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """(the mean activation of each document, its mean codes, `[S, F]`, by site), with all latents."""
        return self._means(
            {at: np.ones(own.module.n_latents, bool) for at, own in self.by_tap.items()}
        )

    def _means(self, kept: Mapping[str, np.ndarray]) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        parts = [self._read(*self._given(own), kept) for own in self._batches(self._all)]
        joined = lambda of: np.concatenate([np.asarray(of(part)) for part in parts])[
            : len(self._all)
        ]
        codes = {at: joined(lambda part, at=at: part[1][at]) for at in self.by_tap}
        return joined(lambda part: part[0]), codes

    def effects(
        self, chosen_S: np.ndarray, positive_S: np.ndarray, probe: Probe
    ) -> dict[str, np.ndarray]:
        """The effect `[F]` of every latent on the classifier, by site, over chosen documents.

        positive_S: whether each of them is of the positive class.
        """
        sign_S = np.where(positive_S, 1.0, -1.0)
        total = {at: np.zeros(one.module.n_latents) for at, one in self.by_tap.items()}
        for own in self._batches(np.arange(len(chosen_S))):
            # Documents that only fill the last batch have the sign 0.
            sign_B = np.where(np.arange(BATCH) < len(np.unique(own)), sign_S[own], 0.0)
            found = self._attribute(*self._given(chosen_S[own]), sign_B, probe.w_D, probe.b)
            for at, effect_F in found.items():
                total[at] += np.asarray(effect_F)
        return {at: effect_F / len(chosen_S) for at, effect_F in total.items()}

    @property
    def _all(self) -> np.ndarray:
        return np.arange(len(self._tokens_ST))

    def _batches(self, chosen_S: np.ndarray) -> Iterator[np.ndarray]:
        """Batches of one size; the last one repeats its last document."""
        padded = np.pad(chosen_S, (0, -len(chosen_S) % BATCH), "edge")
        yield from padded.reshape(-1, BATCH)

    def _given(self, own: np.ndarray):
        kept_BTD = None if self._kept_STD is None else self._kept_STD[own]
        return self.lm.params, self._variables, self._tokens_ST[own], self._mask_ST[own], kept_BTD

    def _with(self, variables: Mapping) -> dict[str, Trained]:
        replace = dataclasses.replace
        return {at: replace(one, variables=variables[at]) for at, one in self.by_tap.items()}

    def _run(self, params, tokens_BT, mask_BT, kept_BTD) -> split.Run:
        """edits -> (the tap that the classifier reads, all taps)."""

        def run(edits):
            if kept_BTD is not None:
                first = self._first
                edits = {**edits, first: _known(first, kept_BTD, edits.get(first))}
            taps = self.lm.forward(params, tokens_BT, edits=edits, mask_BT=mask_BT)[1]
            return taps[self.tap], taps

        return run

    def _reading(self, params, variables, tokens_BT, mask_BT, kept_BTD, kept):
        """(mean activations with the kept latents alone, mean codes of the same run by site)."""
        own = self._with(variables)
        run = self._run(params, tokens_BT, mask_BT, kept_BTD)
        none = Parts(jnp.zeros(()), jnp.zeros(()))
        edits = {at: only(own[at], Kept(kept[at], np.ones((), bool)), none) for at in own}
        x_BTD, taps = run(edits)
        codes = {at: mean(split.at(one, taps).codes, mask_BT) for at, one in own.items()}
        return mean(x_BTD, mask_BT), codes

    def _attributed(self, params, variables, tokens_BT, mask_BT, kept_BTD, sign_B, w_D, b):
        own = self._with(variables)
        run = self._run(params, tokens_BT, mask_BT, kept_BTD)
        logit = lambda x_BTD: sign_B * (mean(x_BTD, mask_BT) @ w_D + b)
        measure = split.measured(run, own, logit)
        change = jax.tree.map(jnp.negative, split.states(run, own, mask_BT))
        found = {at: integrated(measure, {at: part})[at] for at, part in change.items()}
        return {at: part.codes.sum((0, 1)) for at, part in found.items()}


def _known(tap: str, kept_BTD: jax.Array, edit: Edit | None) -> Edit:
    """The edit of a tap whose activation is known: nothing below it is computed."""

    def whole(x_BTD, mask_BT, taps):
        return edit(kept_BTD, mask_BT, {**taps, tap: kept_BTD}) if edit else kept_BTD

    return whole


def mean(x_BTD: jax.Array, mask_BT: jax.Array) -> jax.Array:
    """The mean over the tokens that count."""
    return jnp.where(mask_BT[..., None], x_BTD, 0).sum(1) / mask_BT.sum(1, keepdims=True)
