"""Unlearning: whether clamping a few latents takes away what a model knows of a subject, and little else.

    f_i on a forget text and on a retain text: the share of tokens on which latent i fires
    chosen     the n latents that fire most on the forget text, of those below a threshold on the retain text
    clamped    x - sum_i (f_i + c) W_dec,i        over chosen latents that fire; the dictionary's error stays

The model answers multiple-choice questions that it knew, on the subject and on others (analyses/_exam.py).
The score is 1 - the lowest accuracy on the subject, over thresholds, n and c for which the accuracy on the
others stays at 0.99 or more. It is 0 where nothing is unlearned. The baselines are TopK dictionaries at the L0
of each (random, residual channels, principal components), and RMU, which trains the model (analyses/_rmu.py).

Source: SAEBench 8042bb3, whose key the value has; Farrell et al. 2024 (arXiv:2410.19278).
Differs: a latent fires where it is not 0, of either sign. Texts are pieces of single documents, the separator
in front, and short ones are kept; SAEBench joins documents. The loss that is added on the retain text is
measured.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dictlearn import lm as language
from dictlearn.analyses import _asked, _documents, _exam, _rmu
from dictlearn.analyses._probing import LLM, PCA, RANDOM, SAE, Key
from dictlearn.analyses._result import Result
from dictlearn.analyses._subject import Subject, exactly
from dictlearn.analyses._unlearning import KEYS, Course, How, Trial, best
from dictlearn.lm import LM
from dictlearn.tasks import Task

NEEDS = ("model", "origin")
_OTHERS = ("metal", "animal", "colour", "city")
Source = str | Mapping[str, Mapping[str, Any]]


def unlearning(
    subjects: Sequence[Subject],
    *,
    forget_questions: str | Mapping[str, Mapping[str, Any]] = {
        "planted_questions": {"classes": ("fruit",)}
    },
    other_questions: str | Mapping[str, Mapping[str, Any]] = {
        "planted_questions": {"classes": _OTHERS}
    },
    forget_text: str | Mapping[str, Mapping[str, Any]] = {"planted": {"classes": ("fruit",)}},
    retain_text: str | Mapping[str, Mapping[str, Any]] = {"planted": {"classes": _OTHERS}},
    thresholds: Sequence[float] = (0.001, 0.01),
    ns: Sequence[int] = (10, 20),
    clamps: Sequence[float] = (25, 50, 100, 200),
    n_sequences: int = 256,
    context: int = 128,
    n_loss: int = 32,
    n_questions: int = 0,
    permutations: int = 24,
    prompt: str = _exam.PROMPT,
    rmu: Mapping[str, Any] = {},
    seed: int = 0,
    model: str = "",
    tap: str = "",
) -> Result:
    """The score of every dictionary, and of the baselines.

    Args:
        subjects: one run on a language model's activations, or dictionaries with `model`.
        forget_questions, other_questions: tasks of questions, a name or {name: settings}: `wmdp`, `mmlu`,
            `planted_questions`, `multiple_choice` of your own.
        forget_text, retain_text: a text, as `lm.documents` takes it, or {task: settings}.
        thresholds: a chosen latent fires on a smaller share of the retain text.
        ns: the numbers of latents that are clamped.
        clamps: the values c, in units of the dictionary's codes.
        n_sequences, context: the pieces of each text, and their length; SAEBench has 1024 of 1024.
        n_loss: the pieces of the retain text on which the loss is measured.
        n_questions: the largest number of questions on either side; 0 for all.
        permutations: in how many of the 24 orders of its options the model must answer a question to know it.
        prompt: the prompt, with {subject}, {question} and {choices}. An instruct model wants its chat format.
        rmu: `coefficients`, `alpha`, `lr` and `steps` of the baseline RMU (analyses/_rmu.py).
        seed: the seed of the texts, questions, orders and random dictionaries.
        model, tap: the model and the tap of dictionaries without a run; empty for the run's, or the file's tap.

    Returns:
        A Result with SAEBench's record of each dictionary, and a row for each setting with the half width of
        its 95 % interval over dictionary seeds. The accuracies and the loss are of the best settings. Without a
        question that the model knows on both sides, they are NaN.

    Raises:
        ValueError: for a subject without a model, a transcoder, tasks and texts that do not exist, and settings
            out of bounds.
    """
    how = How(tuple(thresholds), tuple(ns), tuple(clamps))
    how.check()
    training = _rmu.How.of(rmu)
    (subject,) = exactly(1, subjects, "unlearning")
    lm, tap = _documents.one_tap(subject, model, tap)
    ask = _exam.How(prompt, permutations, n_questions, seed)
    forget, others = (
        _exam.exam(lm, _tasks(source, lm), ask).known()
        for source in (forget_questions, other_questions)
    )
    cut = lambda source: _pieces(lm, _texts(source, lm, seed), n_sequences, context)
    course = Course(lm, tap, forget, others, cut(forget_text), cut(retain_text), n_loss, how)
    found = course.dictionaries(subject.trained, seed)
    shares = [course.shares(found, text) for text in (course.forget_text, course.retain_text)]
    tried = {at: course.tried(one, *(each[at] for each in shares)) for at, one in found.items()}
    tried[_asked.RMU, ""] = course.misdirected(training, seed)
    active = {at: float(share_F.sum()) for at, share_F in shares[1].items()}
    given = {
        **{"forget_questions": forget_questions, "other_questions": other_questions},
        **{"forget_text": forget_text, "retain_text": retain_text, "n_sequences": n_sequences},
        **{"context": context, "n_loss": n_loss, "rmu": training._asdict()},
        **{"model": lm.name, "tap": tap},
    }
    return _result(subject, course, {**how._asdict(), **ask._asdict(), **given}, tried, active)


def _tasks(source: Source, lm: LM) -> Task:
    """The documents of tasks, in one task."""
    found = [_asked.made(name, more, lm, ()) for name, more in _asked.named(source).items()]
    joined = lambda column: np.concatenate(list(map(column, found)))
    both = [name for name in found[0].attributes if all(name in one.attributes for one in found)]
    return Task(
        tuple(text for one in found for text in one.text),
        joined(lambda one: one.label_S),
        attributes={name: joined(lambda one, of=name: one.attributes[of]) for name in both},
    )


def _texts(source: Source, lm: LM, seed: int) -> list[str]:
    """The documents of a text, or of tasks, in a random order."""
    if isinstance(source, str):
        return language.documents(source, seed, held_out=0.0)[0]
    text = _tasks(source, lm).text
    return [text[s] for s in np.random.default_rng(seed).permutation(len(text))]


def _pieces(lm: LM, texts: Sequence[str], n: int, context: int) -> list[list[int]]:
    """The first `n` pieces of documents, as tokens with the separator first. Raises ValueError for no token."""
    if n < 1 or context < 2:
        raise ValueError(f"n_sequences={n} must be at least 1, and {context=} at least 2.")
    found: list[list[int]] = []
    for text in texts:
        if len(found) >= n:
            break
        ids = lm.tokenizer.encode(text, add_special_tokens=False).ids
        cuts = range(0, len(ids), context - 1)
        found += [[lm.separator, *ids[cut : cut + context - 1]] for cut in cuts]
    if not found:
        raise ValueError("the text has no token; name another, in forget_text or retain_text.")
    return found[:n]


def _result(
    subject: Subject,
    course: Course,
    config: Mapping[str, Any],
    tried: Mapping[Key, Sequence[Trial]],
    active: Mapping[Key, float],
) -> Result:
    """The record of each dictionary as SAEBench writes it, and the rows. active: the L0 on the retain text."""
    scores = {at: best(one) for at, one in tried.items()}
    l0 = lambda kind, names: (
        float(np.mean([active[kind, name] for name in names])) if kind != _asked.RMU else None
    )
    of = lambda at, key: [scores[at][key]]
    rows = _asked.rows(subject, KEYS, of, l0, (_asked.RMU,), (RANDOM, LLM, PCA))
    record = lambda at: {
        "eval_result_metrics": {"unlearning": scores[at]},
        "eval_result_details": [one._asdict() for one in tried[at]],
    }
    values = {
        "eval_type_id": "unlearning",
        "eval_config": config,
        "documents": {"forget": course.forget.counts, "others": course.others.counts},
        "dictionaries": {one.name: record((SAE, one.name)) for one in subject.trained},
        "settings": rows,
        "rmu": [one._asdict() for one in tried[_asked.RMU, ""]],
    }
    heads = dict(zip(KEYS, ("score", "forget", "retained", "loss added"), strict=True))
    return Result(values, [_asked.table("Unlearning", rows, heads)])
