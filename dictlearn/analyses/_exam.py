"""Multiple-choice questions that a model answers, with and without edits.

    {question}
    A. {option}
    B. {option}
    C. {option}
    D. {option}
    Answer:

The answer is the letter with the largest log-probability as the next token, with a space in front or without.
A question is known if the model answers it in several orders of its options. Known questions are asked again
of the edited model, in the order of the file.
"""

import functools
import itertools
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from dictlearn import lm as language
from dictlearn import steering
from dictlearn.lm import LM, Prompts
from dictlearn.tasks import Task
from dictlearn.tasks._choices import LETTERS

PROMPT = (
    "The following are multiple choice questions (with answers) about {subject}.\n"
    "{question}\n{choices}\nAnswer:"
)
_BATCH = 8
Edit = Callable[[Prompts], Mapping[str, Any]]
"""prompts -> the edits of a forward pass over them, by tap."""


def unedited(prompts: Prompts) -> Mapping[str, Any]:
    """No edits."""
    return {}


class Exam(NamedTuple):
    """Questions as prompts, question by question, each in every order, the one of the file first. answer_Q:
    the place of the right option in each prompt. subject_S: of each question. letters_FL: the tokens of the
    letters, a row for each form."""

    lm: LM
    prompts: Prompts
    answer_Q: np.ndarray
    subject_S: np.ndarray
    letters_FL: np.ndarray

    @property
    def counts(self) -> dict[str, int]:
        """The number of questions on each subject."""
        names, n = np.unique(self.subject_S, return_counts=True)
        return dict(zip(names.tolist(), n.tolist(), strict=True))

    def known(self) -> "Exam":
        """The questions that the model answers in every order, from now on in the first order alone. After an
        order that it fails, a question is not asked again."""
        orders = len(self.answer_Q) // max(len(self.subject_S), 1)
        left = np.arange(len(self.subject_S))
        for order in range(orders):
            at_Q = left * orders + order
            left = left[self._right(at_Q, unedited)]
        kept_Q = left * orders
        prompts = Prompts(*(a[kept_Q] for a in self.prompts))
        return self._replace(
            prompts=prompts, answer_Q=self.answer_Q[kept_Q], subject_S=self.subject_S[left]
        )

    def accuracy(self, edit: Edit) -> float:
        """The share of right answers with edits, over all questions and orders; NaN without a question."""
        right_Q = self._right(np.arange(len(self.answer_Q)), edit)
        return float(right_Q.mean()) if len(right_Q) else np.nan

    def _right(self, at_Q: np.ndarray, edit: Edit) -> np.ndarray:
        """Whether the answers to some prompts are right."""
        found = [np.zeros(0, int)]
        for start in range(0, len(at_Q), _BATCH):
            own = np.resize(at_Q[start : start + _BATCH], _BATCH)
            given = Prompts(*(a[own] for a in self.prompts))
            lm, edits = self.lm, edit(given)
            inputs = given.tokens_BP, steering.whole(given), given.length_B, self.letters_FL
            found.append(np.asarray(_letter(lm.forward, lm.params, edits, *inputs)))
        return np.concatenate(found)[: len(at_Q)] == self.answer_Q[at_Q]


class How(NamedTuple):
    """How questions are asked. The fields are settings of the analysis."""

    prompt: str
    permutations: int
    n_questions: int
    seed: int

    def orders(self) -> list[tuple[int, ...]]:
        """So many orders of the options, drawn at random; the order of the file is always one."""
        every = list(itertools.permutations(range(len(LETTERS))))
        if not 1 <= self.permutations <= len(every):
            raise ValueError(f"permutations={self.permutations} must be in 1..{len(every)}.")
        drawn = np.random.default_rng(self.seed).permutation(len(every) - 1) + 1
        return [every[0], *(every[i] for i in sorted(drawn[: self.permutations - 1]))]

    def asked(self, subject: str, question: str, options: Sequence[str]) -> str:
        """The prompt of a question. Raises ValueError for a prompt without {question} and {choices}."""
        lines = zip(LETTERS, options, strict=True)
        choices = "\n".join(f"{letter}. {option}" for letter, option in lines)
        if not all(part in self.prompt for part in ("{question}", "{choices}")):
            raise ValueError(f"prompt={self.prompt!r} must have {{question}} and {{choices}}.")
        told = {"{subject}": subject, "{question}": question, "{choices}": choices}
        return re.sub("|".join(map(re.escape, told)), lambda part: told[part[0]], self.prompt)


@functools.partial(jax.jit, static_argnums=0)
def _letter(forward, params, edits, tokens_BP, mask_BP, length_B, letters_FL):
    """The place of the letter of the largest logit after each prompt."""
    logits_BPV = forward(params, tokens_BP, edits=edits, mask_BT=mask_BP)[0]
    next_BV = logits_BPV[np.arange(len(tokens_BP)), length_B - 1]
    return next_BV[:, letters_FL].max(1).argmax(-1)


def exam(lm: LM, task: Task, how: How) -> Exam:
    """The exam of a task of questions.

    Args:
        lm: the model.
        task: the questions (tasks/_choices.py).
        how: how they are asked.

    Returns:
        The Exam.

    Raises:
        ValueError: for a task without options, a bad prompt, and a tokenizer without tokens for the letters.
    """
    if missing := [name for name in (*LETTERS, "answer") if name not in task.attributes]:
        raise ValueError(
            f"the task has no attribute {missing[0]!r}; the tasks of questions are multiple_choice, wmdp, mmlu "
            "and planted_questions."
        )
    chosen_S = np.random.default_rng(how.seed).permutation(len(task.text))[
        : how.n_questions or None
    ]
    texts, answers, orders = [], [], how.orders()
    for s in chosen_S:
        options = [str(task.attributes[one][s]) for one in LETTERS]
        right = LETTERS.index(str(task.attributes["answer"][s]))
        for order in orders:
            moved = [options[i] for i in order]
            texts.append(how.asked(str(task.label_S[s]), task.text[s], moved))
            answers.append(order.index(right))
    encoded = lm.tokenizer.encode_batch_fast(texts, add_special_tokens=False)
    prompts = language.prompts(lm, [[lm.separator, *one.ids] for one in encoded])
    return Exam(lm, prompts, np.array(answers), task.label_S[chosen_S], _letters(lm))


def _letters(lm: LM) -> np.ndarray:
    """The tokens of the letters, `[F, L]`: with a space in front, and without, where each is one token."""
    encode = lambda text: lm.tokenizer.encode(text, add_special_tokens=False).ids
    forms = [[encode(space + one) for one in LETTERS] for space in (" ", "")]
    single = [form for form in forms if all(len(ids) == 1 for ids in form)]
    if not single:
        raise ValueError(
            f"the tokenizer of {lm.name} has not one token for each of {', '.join(LETTERS)}."
        )
    return np.array(single)[:, :, 0]
