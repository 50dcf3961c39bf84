"""Labelled rows of a run: an array with labels, or texts with labels that pass through the run's model."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from dictlearn import lm as language
from dictlearn import tasks as room
from dictlearn.analyses._subject import Subject
from dictlearn.experiment.models import SEQUENCES
from dictlearn.experiment.stream import origin
from dictlearn.runs import on_texts
from dictlearn.runs.workdir import read_json

FEWEST = 4
"""Rows with a label, and without it, that either half must have."""


class Labelled(NamedTuple):
    """N texts in a random order. x_NTD: the raw activations of their tokens. mask_NT: which count. label_N: a
    label for each. new_N: which of them are known to be held out from training."""

    x_NTD: np.ndarray
    mask_NT: np.ndarray
    label_N: np.ndarray
    new_N: np.ndarray


def labelled(
    subject: Subject, texts: str, n_texts: int, length: int, labels: str, key: str
) -> Labelled:
    """The labelled rows of a run: texts if it has a language model, else the rows of its array."""
    if subject.config.get("model"):
        return of_texts(subject, texts, n_texts, length)
    return of_array(subject, labels, key)


def tasks(label_N: np.ndarray) -> dict[str, np.ndarray]:
    """{label: which rows have it}, of labels that even and odd rows have often enough.

    Raises ValueError where there is none.
    """
    found = {str(label): label_N == label for label in np.unique(label_N)}
    halves = lambda is_N: (is_N[::2], is_N[1::2])
    enough = lambda is_N: all(FEWEST <= half.sum() <= len(half) - FEWEST for half in halves(is_N))
    chosen = {label: is_N for label, is_N in found.items() if enough(is_N)}
    if not chosen:
        raise ValueError(
            f"no label of {len(label_N)} rows is that of {FEWEST} rows of each half, and not of {FEWEST} "
            f"others; there are {list(found)[:8]}. Give more rows."
        )
    return chosen


def of_array(subject: Subject, labels: str, key: str) -> Labelled:
    """The rows of the array of a run, one token each, with the labels of a JSON file {key: [...]}.

    Raises ValueError for a run without an array, labels of another number of rows, and an unknown key.
    """
    path = Path(subject.config["stream"].get("path", ""))
    if path.suffix != ".npy":
        raise ValueError(
            f"{subject.name} has neither a language model nor an array, so its rows have no labels; set model, "
            "or stream.name to npy."
        )
    x_ND = np.load(path)
    of = read_json(Path(labels or path.with_name("labels.json")), "the script that made the array")
    if key not in of or len(of[key]) != len(x_ND):
        sizes = {name: len(values) for name, values in of.items()}
        raise ValueError(
            f"labels of {key!r} for {len(x_ND)} rows are needed; the file has {sizes}. Set key, or labels to "
            "another file."
        )
    order_N = np.random.default_rng(0).permutation(len(x_ND))
    label_N = np.array(list(map(str, of[key])))[order_N]
    n_train = len(x_ND) - round(subject.stream.reads["held_out"] * len(x_ND))
    mask_N1 = np.ones((len(x_ND), 1), bool)
    return Labelled(x_ND[order_N, None], mask_N1, label_N, order_N >= n_train)


def of_texts(subject: Subject, texts: str, n: int, length: int) -> Labelled:
    """The first tokens of `n` labelled texts, without the first of each.

    Args:
        subject: a run on one language model.
        texts: a task of `tasks`, or a file of records with "text" and "label"; empty for Wikipedia leads, whose
            labels are their topics.
        n: the largest number of texts.
        length: the number of tokens that are read of each text.

    Returns:
        A Labelled.

    Raises:
        ValueError: for a run on several models or one of several taps, and for a record without text or label.
    """
    sources = list(origin(subject.config) or ())
    if len(sources) != 1 or sources[0].scales:
        raise ValueError(
            f"{subject.name} reads {len(sources)} language models or one of several taps; labelled texts need "
            "the taps of one model."
        )
    task = room.make(texts or "wiki_topics", subject.lm.tokenizer)
    pairs = list(zip(task.text, task.label_S.tolist(), strict=True))
    pairs = pairs if texts else sorted(pairs)
    chosen = [pairs[i] for i in np.random.default_rng(0).permutation(len(pairs))[:n]]
    tokens_NT, mask_NT = _tokens(subject.lm, [text for text, _ in chosen], length)
    x_NTD = _activations(subject.lm, tokens_NT, sources[0].read)
    label_N = np.array([label for _, label in chosen])
    return Labelled(x_NTD, mask_NT, label_N, np.zeros(len(label_N), bool))


def _tokens(lm: language.LM, texts: Sequence[str], length: int) -> tuple[np.ndarray, np.ndarray]:
    """Token ids padded on the right, and which count: all but padding and the first one."""
    tokens_NT = np.full((len(texts), length), lm.separator, np.int32)
    mask_NT = np.zeros(tokens_NT.shape, bool)
    for row, found in enumerate(lm.tokenizer.encode_batch(list(texts), add_special_tokens=False)):
        ids = found.ids[:length]
        tokens_NT[row, : len(ids)] = ids
        mask_NT[row, 1 : len(ids)] = True
    lm.check_tokens(tokens_NT, "The labelled text")
    return tokens_NT, mask_NT


def _activations(lm: language.LM, tokens_NT: np.ndarray, taps: Sequence[str]) -> np.ndarray:
    short = -len(tokens_NT) % SEQUENCES
    padded_NT = np.pad(tokens_NT, ((0, short), (0, 0)), "edge")
    parts = np.split(padded_NT, len(padded_NT) // SEQUENCES)
    found = [np.asarray(on_texts.activations(lm, taps, part)) for part in parts]
    return np.concatenate(found)[: len(tokens_NT)]


def mean(rows_NTF: np.ndarray, mask_NT: np.ndarray) -> np.ndarray:
    """The mean over the tokens of each text that count, `[N, F]`."""
    n_N1 = np.maximum(mask_NT.sum(1, keepdims=True), 1)
    return np.einsum("ntf,nt->nf", rows_NTF, mask_NT.astype(np.float32)) / n_N1
