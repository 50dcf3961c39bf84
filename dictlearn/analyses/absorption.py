"""Absorption: whether a latent of a first letter is silent on words that a more specific latent has (SAEBench).

    "\\n" + ten lines " Oslo has the first letter: O" + " Paris has the first letter:"

The activation is read at the last token of the last word. A probe tells the letter from it; sparse probes
find the latents of the letter. analyses/_absorption.py measures how much of the probe's direction other latents
bring where these do not. 0 is best.

The words are cut into five parts. The words of the lines above a word are of its part, and each split tests one
part and trains on the others.

Source: Chanin et al. 2024 (arXiv:2409.14507); SAEBench 8042bb3, whose keys the values have.
Differs: analyses/_absorption.py. Words are tokens with a leading space (tasks/first_letters.py), put together
as tokens, so that a word is the same token wherever it is.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dictlearn import tasks as room
from dictlearn.analyses import _ablated, _absorption, _asked, _documents
from dictlearn.analyses._ablated import Basis
from dictlearn.analyses._absorption import Label
from dictlearn.analyses._probing import SAE, Key
from dictlearn.analyses._result import Result
from dictlearn.analyses._subject import Subject, exactly
from dictlearn.lm import LM
from dictlearn.tasks import Task

NEEDS = ("model", "origin")
_FOLDS = 5
_MEASURES = {
    "absorption_fraction_score": "fraction",
    "full_absorption_score": "full",
    "num_split_features": "split features",
}
KEYS = [f"{part}_{key}" for key in _MEASURES for part in ("mean", "std_dev")]


def absorption(
    subjects: Sequence[Subject],
    *,
    task: str = "first_letters",
    n_words: int = 2000,
    n_examples: int = 10,
    min_words: int = 5,
    splits: int = 3,
    seed: int = 0,
    model: str = "",
    tap: str = "",
) -> Result:
    """How much every dictionary absorbs, and the baselines.

    Args:
        subjects: one run on a language model's activations, or dictionaries with `model`.
        task: a task of words and their first letters: `first_letters`, of the model's own tokenizer, or the
            path of a file of words.
        n_words: the largest number of words, drawn at random; 0 for all, as SAEBench has it.
        n_examples: the lines above the word.
        min_words: the fewest test words of a letter; SAEBench has 20.
        splits: how many of the five parts are tested.
        seed: the seed of the words and the lines.
        model, tap: the model and the tap of dictionaries without a run; empty for the run's, or the file's tap.

    Returns:
        A Result with SAEBench's record of each dictionary, and a row for each setting with the half width of
        its 95 % interval over dictionary seeds and splits. A mean is over the letters whose probe has an F1
        above 0.6, and NaN where there is none.

    Raises:
        ValueError: for a subject without a model, too few words, and settings out of bounds.
    """
    (subject,) = exactly(1, subjects, "absorption")
    if not 1 <= splits <= _FOLDS or n_examples < 0 or min_words < 1:
        raise ValueError(
            f"{splits=} must be in 1..{_FOLDS}, {n_examples=} at least 0, {min_words=} at least 1."
        )
    lm, taps = _documents.site(subject, model, tap)
    chosen = _chosen(room.make(task, lm.tokenizer), n_words, n_examples, seed)
    part_S = np.arange(len(chosen.text)) % _FOLDS
    x_SD = _documents.last_rows(lm, taps, _prompts(lm, chosen, part_S, n_examples, seed))
    bases, l0 = _ablated.bases(subject, x_SD, seed)
    found = _found(x_SD, chosen, bases, [part_S == n for n in range(splits)], min_words)
    flat = {at: [_metrics(labels) for labels in each] for at, each in found.items()}
    mean_l0 = lambda kind, names: float(np.mean([l0[kind, one] for one in names]))
    rows = _asked.rows(subject, KEYS, lambda at, key: [one[key] for one in flat[at]], mean_l0)
    config = {"task": task, "n_words": len(chosen.text), "n_examples": n_examples}
    config |= {"min_words": min_words, "splits": splits, "seed": seed}
    record = lambda one: _record(flat[SAE, one], found[SAE, one])
    values = {
        "eval_type_id": "absorption_first_letter",
        "eval_config": {**config, "model": lm.name, "tap": taps},
        "documents": {task: chosen.counts},
        "dictionaries": {one.name: record(one.name) for one in subject.trained},
        "settings": rows,
    }
    heads = {f"mean_{key}": head for key, head in _MEASURES.items()}
    return Result(values, [_asked.table("Absorption of first letters", rows, heads)])


def _found(
    x_SD: np.ndarray,
    task: Task,
    bases: Mapping[Key, Basis],
    tests: Sequence[np.ndarray],
    min_words: int,
) -> dict[Key, list[list[Label]]]:
    """The labels of each dictionary in each split. tests: the test words of each split."""
    names = tuple(task.counts)
    label_S = np.array([names.index(one) for one in task.label_S.tolist()])
    found: dict[Key, list[list[Label]]] = {at: [] for at in bases}
    for test_S in tests:
        words = _absorption.words(x_SD, label_S, names, test_S)
        different = {id(basis): basis for basis in bases.values()}
        own = {i: _absorption.measured(words, basis, min_words) for i, basis in different.items()}
        for at, basis in bases.items():
            found[at].append(own[id(basis)])
    return found


def _chosen(task: Task, n_words: int, n_examples: int, seed: int) -> Task:
    """Words in a random order. Raises ValueError for one letter, and for too few to fill the lines above."""
    order_S = np.random.default_rng(seed).permutation(len(task.text))[: n_words or None]
    if len(order_S) < _FOLDS * (n_examples + 1):
        raise ValueError(
            f"{len(order_S)} words; {n_examples=} lines above a word of its own part need "
            f"{_FOLDS * (n_examples + 1)}. Lower n_examples, or give more words."
        )
    found = Task(tuple(task.text[s] for s in order_S), task.label_S[order_S])
    if len(found.counts) < 2:
        raise ValueError(f"all words have the letter {list(found.counts)}; two are needed.")
    return found


def _prompts(lm: LM, task: Task, part_S: np.ndarray, n_examples: int, seed: int) -> list[list[int]]:
    """The tokens of the prompt of each word, which end with the word."""
    encoded = lambda texts: [
        one.ids for one in lm.tokenizer.encode_batch_fast(texts, add_special_tokens=False)
    ]
    word = encoded(list(task.text))
    (asks, newline), random = encoded([" has the first letter:", "\n"]), np.random.default_rng(seed)
    answer = dict(zip(task.counts, encoded([f" {one}" for one in task.counts]), strict=True))
    line = [
        [*word[s], *asks, *answer[one], *newline] for s, one in enumerate(task.label_S.tolist())
    ]
    found = []
    for s, own in enumerate(word):
        others = np.flatnonzero(part_S == part_S[s])
        above = random.choice(others[others != s], n_examples, replace=False)
        found.append([lm.separator, *newline, *(token for o in above for token in line[o]), *own])
    return found


def _of_label(one: Label) -> dict[str, float]:
    """The three measures of a label; 0 where the probe finds no word."""
    mean = lambda a_B: float(a_B.mean()) if len(a_B) else 0.0
    values = mean(one.fraction_B), mean(one.full_B), float(len(one.main))
    return dict(zip(_MEASURES, values, strict=True))


def _metrics(labels: Sequence[Label]) -> dict[str, float]:
    """SAEBench's metrics of a dictionary in a split."""
    found = {}
    for key in _MEASURES:
        values = [_of_label(one)[key] for one in labels]
        found[f"mean_{key}"] = float(np.mean(values)) if values else np.nan
        found[f"std_dev_{key}"] = float(np.std(values, ddof=1)) if len(values) > 1 else np.nan
    return found


def _record(
    flat: Sequence[Mapping[str, float]], found: Sequence[Sequence[Label]]
) -> dict[str, Any]:
    """The record of a dictionary as SAEBench writes it: means over splits, and every letter of every split."""
    details = [
        {
            "first_letter": one.name,
            "mean_absorption_fraction": _of_label(one)["absorption_fraction_score"],
            "full_absorption_rate": _of_label(one)["full_absorption_score"],
            "num_full_absorption": int(one.full_B.sum()),
            "num_probe_true_positives": len(one.full_B),
            "num_split_features": len(one.main),
        }
        for labels in found
        for one in labels
    ]
    mean = {key: float(np.mean([one[key] for one in flat])) for key in KEYS}
    return {"eval_result_metrics": {"mean": mean}, "eval_result_details": details}
