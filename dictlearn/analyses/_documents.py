"""The mean activations and the mean codes of documents. The model runs once for all dictionaries.

The separator of documents stands in front of each, as in training, and counts in no mean: the activations of a
first token are unlike all others. Documents are cut after `context` tokens, the separator included.

Source: SAEBench 8042bb3, whose masked means these are.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dictlearn import dictionaries
from dictlearn import lm as language
from dictlearn.analyses._subject import PASS, Subject, dense_codes
from dictlearn.experiment.stream import origin
from dictlearn.lm import LM
from dictlearn.normalise import SCALAR_KINDS
from dictlearn.runs import on_texts
from dictlearn.runs.trained import Trained
from dictlearn.types import Codes

_BATCH = 16


class Means(NamedTuple):
    """The mean of each document: its activation, and its codes in each dictionary. l0: of each dictionary."""

    x_SD: np.ndarray
    code_SF: list[np.ndarray]
    l0: list[float]


def site(subject: Subject, model: str = "", tap: str = "") -> tuple[LM, tuple[str, ...]]:
    """The model and the taps that the dictionaries of a subject read: those of the run, or `model` and `tap`.

    An imported dictionary knows its tap if its file says so. Raises ValueError for a subject without a model or
    a tap, and for dictionaries of another width.
    """
    if not model and (subject.setup or subject.run is not None):
        lm, found = subject.lm, {one.read for one in origin(subject.config) or ()}
    elif model:
        lm = language.load(model)
        named = tuple(language.expand_taps(lm.spec, tap)) if tap else None
        found = {named} if named else {one.tap for each in subject.trained for one in each.sites}
    else:
        raise ValueError(f"{subject.name} is no run and has no language model; name its model.")
    if len(found) != 1:
        raise ValueError(
            f"{subject.name} reads {sorted(found)}; documents need one model and its tap. Name the model and "
            "the tap."
        )
    (taps,) = found
    names = [one.name for one in subject.trained]
    if len(set(names)) < len(names):
        raise ValueError(f"{subject.name} has the dictionaries {names}; give each its own name.")
    width = _width(lm, taps)
    if wrong := [one for one in subject.trained if one.module.d_in != width]:
        raise ValueError(
            f"{wrong[0].name} reads {wrong[0].module.d_in} numbers, but {', '.join(taps)} of {lm.name} has "
            f"{width}."
        )
    return lm, taps


def _width(lm: LM, taps: Sequence[str]) -> int:
    found = jax.eval_shape(lm.forward, lm.params, jax.ShapeDtypeStruct((1, 2), jnp.int32))[1]
    return sum(found[one].shape[-1] for one in taps)


def tokens(lm: LM, texts: Sequence[str], context: int) -> list[list[int]]:
    """The tokens of documents, the separator first. Raises ValueError for a document without a token."""
    encoded = lm.tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
    found = [[lm.separator, *one.ids[: context - 1]] for one in encoded]
    if short := [text for text, ids in zip(texts, found, strict=True) if len(ids) < 2]:
        raise ValueError(f"the document {short[0]!r} has no token, or {context=} is below 2.")
    return found


def means(
    lm: LM, tap: Sequence[str], trained: Sequence[Trained], documents: Sequence[Sequence[int]]
) -> Means:
    """The means of documents, which are given as tokens with the separator first."""
    x_SD: list[np.ndarray] = [np.empty(0)] * len(documents)
    codes = [x_SD.copy() for _ in trained]
    active, n_tokens = np.zeros(len(trained)), 0
    for chosen in _batches(documents):
        given = language.prompts(lm, [documents[s] for s in chosen])
        at_BT = np.arange(given.tokens_BP.shape[1])[None]
        mask_BT = (at_BT > 0) & (at_BT < given.length_B[:, None])
        x_BD = np.asarray(on_texts.activations(lm, tap, given.tokens_BP))[mask_BT]
        count_S = mask_BT.sum(1)
        n_tokens += len(x_BD)
        _spread(x_SD, chosen, x_BD, count_S)
        for i, one in enumerate(trained):
            code_BF = dense_codes(one, x_BD)
            active[i] += np.count_nonzero(code_BF)
            _spread(codes[i], chosen, code_BF, count_S)
    stacked = [np.stack(each).astype(np.float32) for each in codes]
    return Means(np.stack(x_SD).astype(np.float32), stacked, (active / n_tokens).tolist())


def _batches(documents: Sequence[Sequence[int]]) -> Iterator[np.ndarray]:
    """The documents in batches of one size and similar lengths; the last one repeats documents."""
    order_S = np.argsort([len(one) for one in documents], kind="stable")
    order_S = np.concatenate([order_S, np.resize(order_S, -len(order_S) % _BATCH)])
    yield from order_S.reshape(-1, _BATCH)


def _spread(
    into: list[np.ndarray], chosen: np.ndarray, row_BF: np.ndarray, count_S: np.ndarray
) -> None:
    """Puts the mean of the rows of each document in its place."""
    start_S = np.cumsum(count_S) - count_S
    mean_SF = np.add.reduceat(row_BF, start_S, axis=0, dtype=np.float64) / count_S[:, None]
    for s, mean_F in zip(chosen, mean_SF, strict=True):
        into[s] = mean_F


def atoms(dictionary: Trained) -> np.ndarray:
    """What one unit of each latent adds to the raw activation that the dictionary reads, `[F, D]`.

    Raises ValueError for a dictionary that writes elsewhere, and for a normalisation by token.
    """
    if dictionary.module.d_out is not None or dictionary.norm.kind not in SCALAR_KINDS:
        raise ValueError(
            f"{dictionary.name} is a transcoder, or its input is normalised by token ({dictionary.norm.kind}); "
            "latents are taken out of what an autoencoder reads."
        )
    n = dictionary.module.n_latents
    one = lambda val, at_B: dictionary.decode(Codes(jnp.full((len(at_B), 1), val), at_B[:, None]))
    at_B = jnp.arange(-(-n // PASS) * PASS) % n
    parts = [one(1.0, at_B[i : i + PASS]) for i in range(0, len(at_B), PASS)]
    return np.concatenate([np.asarray(each) for each in parts])[:n] - np.asarray(one(0.0, at_B[:1]))


def random_dictionary(n_latents: int, l0: float, mean_D: np.ndarray, seed: int) -> Trained:
    """A baseline: TopK with random unit atoms, and as many active latents. mean_D: what it subtracts."""
    k = max(1, min(n_latents, round(l0)))
    module = dictionaries.make("topk", d_in=len(mean_D), n_latents=n_latents, k=k)
    variables = module.init(jax.random.key(seed), method="declare")
    params = {**variables["params"], "b_dec_D": jnp.asarray(mean_D, jnp.float32)}
    return Trained(module, {**variables, "params": params}, name=f"random n {n_latents} k {k}")
