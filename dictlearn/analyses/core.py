"""The core evaluation of SAEBench: fidelity, sparsity and how often latents fire, under its keys.

The numbers are our meters' (docs/meters.md): sums over all tokens, divided once. The model runs with the
reconstruction of each dictionary in the place of the activation, and with zero there.

Baselines at the L0 of each dictionary: the largest channels of the activation on each token, the largest
principal components, and a random dictionary. All three are TopK; a channel is two latents, one for each sign.

Source: SAEBench 8042bb3, whose keys the values have.
Differs: `explained_variance` and `mse` are right; SAEBench's formulas are in `eval_result_unstructured`, and
depend on the size of the batches, here 8 sequences. The reconstruction bias is of all tokens, not a mean over
batches.
"""

import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dictlearn import lm as language
from dictlearn import meters
from dictlearn.analyses import _asked, _core, _documents
from dictlearn.analyses._probing import LLM, PCA, RANDOM, SAE, Key
from dictlearn.analyses._result import Result
from dictlearn.analyses._subject import Subject, exactly
from dictlearn.evaluate import Splice
from dictlearn.experiment.models import SEQUENCES, held_out_sequences
from dictlearn.experiment.stream import origin
from dictlearn.lm import LM
from dictlearn.meters import Reading
from dictlearn.meters.loss_recovered import loss_recovered
from dictlearn.ops.firing import dense, l0
from dictlearn.runs import on_texts
from dictlearn.runs.trained import Trained, reconstruct
from dictlearn.types import Codes

NEEDS = ("model", "origin")
_HELD_OUT = 0.9
"""The share of the documents of a text of its own that is measured; the rest is left out."""
_FIRST = 4
"""Passes whose tokens give the L0 of the baselines, and the principal components."""
_BESIDE = (RANDOM, LLM, PCA)
_METERS = {"reconstruction": {"compat": True}, "firing": {}}
_HEADS = {
    "explained_variance": "EV",
    "cossim": "cosine",
    "ce_loss_score": "CE score",
    "kl_div_score": "KL score",
    "frac_alive": "alive",
}


def core(
    subjects: Sequence[Subject],
    *,
    n_tokens: int = 32_768,
    n_sequences: int = 32,
    text: str = "",
    context: int = 128,
    seed: int = 0,
    latents: bool = False,
    model: str = "",
    tap: str = "",
) -> Result:
    """The core numbers of every dictionary, and of the baselines.

    Args:
        subjects: one run on a language model's activations, or dictionaries with `model`.
        n_tokens: the largest number of tokens.
        n_sequences: the number of sequences on which the loss of the spliced model is measured, rounded up to
            whole passes.
        text: the text, as `lm.documents` takes it; empty for the held-out text of the run, or for "wiki".
        context: the length of the sequences of such a text.
        seed: the seed of its order, and of the random dictionaries.
        latents: whether the record has the numbers of each latent too.
        model, tap: the model and the tap of dictionaries without a run; empty for the run's, or the file's tap.

    Returns:
        A Result with SAEBench's record of each dictionary, and a row for each setting with the half width of
        its 95 % interval over dictionary seeds.

    Raises:
        ValueError: for a subject without a model, a transcoder, and too little text.
    """
    (subject,) = exactly(1, subjects, "core")
    lm, taps = _documents.site(subject, model, tap)
    _documents.refuse_transcoders(subject.trained)
    given = _text(subject, lm, text, context, seed)
    batches = _Batches(lm, taps, *given, n_tokens, n_sequences)
    measured = _all(_with_baselines(subject.trained, batches, seed), batches)
    flat = {at: _core.flat(own) for at, own in measured.items()}
    mean = lambda kind, names: float(np.mean([flat[kind, name]["l0"] for name in names]))
    rows = _asked.rows(subject, _core.KEYS, lambda at, key: [flat[at][key]], mean, (), _BESIDE)
    config = {"n_tokens": n_tokens, "n_sequences": n_sequences, "text": text, "context": context}
    values = {
        "eval_type_id": "core",
        "eval_config": {**config, "seed": seed, "model": lm.name, "tap": taps},
        "dictionaries": {
            one.name: _core.record(measured[SAE, one.name], latents) for one in subject.trained
        },
        "settings": rows,
    }
    return Result(values, [_asked.table("Core", rows, _HEADS)])


def _text(subject: Subject, lm: LM, text: str, context: int, seed: int):
    """The sequences: of the run's held-out text, or of a text of its own."""
    sources = [] if text or not (subject.setup or subject.run) else origin(subject.config)
    if sources:
        found = held_out_sequences(list(sources))
    else:
        more = {"seed": seed, "held_out": _HELD_OUT, "vocab": lm.spec.vocab}
        found = language.sequences(text or "wiki", lm.tokenizer, context, lm.separator, **more)[1]
    if len(found.tokens_ST) < SEQUENCES:
        raise ValueError(
            f"the text has {len(found.tokens_ST)} sequences; {SEQUENCES} are needed. Give more text, or a "
            "smaller context."
        )
    lm.check_tokens(np.asarray(found.tokens_ST), "The text")
    return found


class _Batch(NamedTuple):
    """Sequences, which tokens count, their activations `[S, T, D]`, and whether the model is spliced."""

    tokens_ST: jax.Array
    mask_ST: jax.Array
    x_STD: jax.Array
    spliced: bool

    @property
    def rows(self) -> np.ndarray:
        """The activations of the tokens that count."""
        return np.asarray(self.x_STD)[np.asarray(self.mask_ST)]


class _Batches:
    """The batches of the sequences."""

    def __init__(self, lm: LM, taps, tokens_ST, mask_ST, n_tokens: int, n_sequences: int):
        self._lm, self._taps = lm, taps
        whole = lambda n: min(-(-n // SEQUENCES), len(tokens_ST) // SEQUENCES)
        self._spliced = whole(n_sequences)
        self._n = max(self._spliced, whole(n_tokens // tokens_ST.shape[1]), 1)
        self._tokens_ST, self._mask_ST = np.asarray(tokens_ST), np.asarray(mask_ST)
        self.splice = Splice(lm, taps, {"loss_recovered": loss_recovered()})

    def __iter__(self) -> Iterator[_Batch]:
        for t in range(self._n):
            at = slice(t * SEQUENCES, (t + 1) * SEQUENCES)
            x_STD = on_texts.activations(self._lm, self._taps, self._tokens_ST[at])
            tokens_ST, mask_ST = (jnp.asarray(a[at]) for a in (self._tokens_ST, self._mask_ST))
            yield _Batch(tokens_ST, mask_ST, x_STD, t < self._spliced)


def _with_baselines(trained: Sequence[Trained], batches: _Batches, seed: int) -> dict[Key, Trained]:
    """The dictionaries, and the baselines at their L0 on the first tokens."""
    x_BD = np.concatenate([each.rows for each, _ in zip(batches, range(_FIRST), strict=False)])
    beside, found = _documents.baselines(x_BD, seed), {}
    for one in trained:
        own = float(np.mean(l0(one.encode(jnp.asarray(x_BD)))))
        found[SAE, one.name] = one
        found |= {(kind, one.name): other for kind, other in beside(one, own).items()}
    return found


def _all(given: Mapping[Key, Trained], batches: _Batches) -> dict[Key, dict[str, Any]]:
    """The numbers of dictionaries and baselines. Dictionaries of one L0 share their baselines."""
    shared = {at: at if at[0] == SAE else (at[0], one.module) for at, one in given.items()}
    tallies = {key: _Tally(given[at]) for at, key in shared.items()}
    for each in batches:
        if each.spliced:
            batches.splice.begin(each.tokens_ST, each.mask_ST, each.x_STD)
        for tally in tallies.values():
            tally.add(each, batches.splice)
    found = {key: tally.result() for key, tally in tallies.items()}
    return {at: found[key] for at, key in shared.items()}


class _Tally:
    """The meters of a dictionary, and in how many sequences each latent fires."""

    def __init__(self, one: Trained):
        self._one = one
        self._made = _made(one.module) | {"loss_recovered": loss_recovered()}
        self._totals = {name: meter.init() for name, meter in self._made.items()}
        self._inside_F = np.zeros(one.module.n_latents)

    def add(self, each: _Batch, splice: Splice) -> None:
        """Adds a batch, which `splice` has begun if the model is spliced on it."""
        one = self._one
        given = one.module, one.norm, one.variables, each.x_STD, each.mask_ST
        yhat_STD, sums, inside_F = _sums(*given)
        self._inside_F += np.asarray(inside_F)
        if each.spliced:
            sums |= splice(yhat_STD)
        for name, own in jax.device_get(sums).items():
            self._totals[name] = self._made[name].update(self._totals[name], own)

    def result(self) -> dict[str, Any]:
        """All numbers, by our keys; `density` and others are of each latent."""
        results = [meter.result(self._totals[name]) for name, meter in self._made.items()]
        found = {key: value for each in results for key, value in each.items()}
        fired_F, n = self._totals["firing"]["count_F"], self._totals["firing"]["n"]
        own = {"density": fired_F / n, "consistent": fired_F / np.maximum(self._inside_F, 1)}
        return found | own | _core.weights(self._one)


def _made(module) -> dict[str, Any]:
    subject = meters.Subject(module)
    return {name: meters.make(name, subject, **settings) for name, settings in _METERS.items()}


@functools.partial(jax.jit, static_argnums=0)
def _sums(module, norm, variables, x_STD, mask_ST):
    """(reconstructions, the sums of the meters, the number of sequences in which each latent fires)."""
    x_BD, mask_B = x_STD.reshape(-1, x_STD.shape[-1]), mask_ST.reshape(-1)
    yhat_BD, codes = reconstruct(module, norm, variables, x_BD)
    reading = Reading(x_BD, yhat_BD, codes, mask_B)
    sums = {name: meter.measure(reading) for name, meter in _made(module).items()}
    fired_BK = ((codes.val != 0) & mask_B[:, None]).astype(jnp.float32)
    fired_BF = dense(Codes(fired_BK, codes.idx_BK), module.n_latents)
    inside_F = (fired_BF.reshape(*mask_ST.shape, -1).max(1) > 0).sum(0)
    return yhat_BD.reshape(x_STD.shape), sums, inside_F
