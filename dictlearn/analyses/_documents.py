"""The mean activations and the mean codes of documents. The model runs once for all dictionaries.

The separator of documents stands in front of each, as in training, and counts in no mean: the activations of a
first token are unlike all others. Documents are cut after `context` tokens, the separator included.

Source: SAEBench 8042bb3, whose masked means these are.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dictlearn import dictionaries
from dictlearn import lm as language
from dictlearn.analyses._probing import LLM, PCA, RANDOM
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


def one_tap(subject: Subject, model: str = "", tap: str = "") -> tuple[LM, str]:
    """`site` of autoencoders of one tap, which is edited while the model runs. Raises ValueError for others."""
    lm, taps = site(subject, model, tap)
    refuse_transcoders(subject.trained)
    if len(taps) != 1:
        raise ValueError(f"{subject.name} reads {', '.join(taps)}; one tap is edited, not several.")
    return lm, taps[0]


def refuse_transcoders(trained: Sequence[Trained]) -> None:
    """Raises ValueError for a dictionary that writes elsewhere than it reads."""
    if wrong := [one.name for one in trained if one.module.d_out is not None]:
        raise ValueError(
            f"{wrong[0]} is a transcoder; `dictlearn eval` measures it, and this reads autoencoders."
        )


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
    for chosen, x_BD, count_S in rows(lm, tap, documents):
        n_tokens += len(x_BD)
        _spread(x_SD, chosen, x_BD, count_S)
        for i, one in enumerate(trained):
            code_BF = dense_codes(one, x_BD)
            active[i] += np.count_nonzero(code_BF)
            _spread(codes[i], chosen, code_BF, count_S)
    stacked = [np.stack(each).astype(np.float32) for each in codes]
    return Means(np.stack(x_SD).astype(np.float32), stacked, (active / n_tokens).tolist())


def rows(
    lm: LM, tap: Sequence[str], documents: Sequence[Sequence[int]]
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """(which documents, the activations of their tokens without the first one, the number of each document's)
    of every batch: documents of similar lengths, of which the last batch may have fewer."""
    order_S = np.argsort([len(one) for one in documents], kind="stable")
    for start in range(0, len(order_S), _BATCH):
        chosen = order_S[start : start + _BATCH]
        given = language.prompts(lm, [documents[s] for s in np.resize(chosen, _BATCH).tolist()])
        at_BT = np.arange(given.tokens_BP.shape[1])[None]
        mask_BT = (at_BT > 0) & (at_BT < given.length_B[:, None])
        mask_BT[len(chosen) :] = False
        x_BTD = np.asarray(on_texts.activations(lm, tap, given.tokens_BP))
        yield chosen, x_BTD[mask_BT], mask_BT.sum(1)[: len(chosen)]


def last_rows(lm: LM, taps: Sequence[str], prompts: Sequence[Sequence[int]]) -> np.ndarray:
    """The activations at the last tokens of prompts, `[S, D]`."""
    given = language.prompts(lm, prompts)
    order_S = np.argsort(given.length_B, kind="stable")
    padded = np.concatenate([order_S, np.resize(order_S, -len(order_S) % _BATCH)])
    found: list[np.ndarray] = [np.empty(0)] * len(prompts)
    for some in padded.reshape(-1, _BATCH):
        x_BTD = np.asarray(on_texts.activations(lm, taps, given.tokens_BP[some]))
        for s, x_TD in zip(some, x_BTD, strict=True):
            found[s] = x_TD[given.length_B[s] - 1]
    return np.stack(found)


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


def mirrored(axes_KD: np.ndarray, mean_D: np.ndarray, l0: float) -> Trained:
    """A baseline: TopK whose latents are directions, one for each sign. mean_D: what it subtracts."""
    both_FD = jnp.asarray(np.concatenate([axes_KD, -axes_KD]), jnp.float32)
    k = max(1, min(len(axes_KD), round(l0)))
    module = dictionaries.make("topk", d_in=both_FD.shape[1], n_latents=len(both_FD), k=k)
    params = module.init(jax.random.key(0), method="declare")["params"]
    own = {"W_enc_FD": both_FD, "W_dec_FD": both_FD, "b_dec_D": jnp.asarray(mean_D, jnp.float32)}
    return Trained(module, {"params": {**params, **own}})


def baselines(x_BD: np.ndarray, seed: int) -> Callable[[Trained, float], dict[str, Trained]]:
    """(a dictionary, its L0) -> its baselines at that L0, by kind: a random one of its width, the largest
    channels of the activation on each token, and the largest principal components of the activations `x_BD`."""
    mean_D = x_BD.mean(0)
    axes_DD = np.linalg.svd(x_BD - mean_D, full_matrices=False)[2]
    return lambda one, l0: {
        RANDOM: random_dictionary(one.module.n_latents, l0, mean_D, seed),
        LLM: mirrored(np.eye(len(mean_D)), np.zeros_like(mean_D), l0),
        PCA: mirrored(axes_DD, mean_D, l0),
    }
