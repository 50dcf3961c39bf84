"""Prompts in pairs that differ in what decides the next token, and circuits of several draws of them at once
(`feature_circuit`).

    m = logit(the patch's answer) - logit(the answer)        after the last token of the prompt

Axes: S a pair, T a token of its prompts, G a draw; the others as in `dictlearn.types`.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dictlearn.circuits import split
from dictlearn.circuits.effects import Effects, total
from dictlearn.circuits.faithfulness import Kept, above, complement, share, threshold_of
from dictlearn.circuits.question import Question
from dictlearn.lm import LM
from dictlearn.runs.trained import Trained
from dictlearn.tasks import Task

PATCH, ANSWER, OTHER = "patch", "answer", "patch_answer"
"""The attributes of a task of pairs: the patch of a text, and the answers of both."""
Measured = Callable[[Mapping[str, Kept]], np.ndarray]
"""What is kept -> the metric of each pair."""
Draw = Mapping[str, Effects]
"""The effects of one draw, at every site."""


class Pairs(NamedTuple):
    """Prompts and their patches, of one length, with the separator first. answer_S, other_S: the tokens that
    should follow the prompt and its patch."""

    clean_ST: np.ndarray
    patch_ST: np.ndarray
    answer_S: np.ndarray
    other_S: np.ndarray

    def where(self, chosen_S: np.ndarray) -> "Pairs":
        """Some of the pairs."""
        return Pairs(*(one[chosen_S] for one in self))

    @property
    def question(self) -> Question:
        """The metric, on the prompts, patched with the patches."""
        rows_S = np.arange(len(self.answer_S))

        def metric(logits_STV: jax.Array) -> jax.Array:
            last_SV = logits_STV[:, -1]
            return last_SV[rows_S, self.other_S] - last_SV[rows_S, self.answer_S]

        return Question(metric, self.clean_ST, self.patch_ST)

    @property
    def both(self) -> tuple[np.ndarray, np.ndarray]:
        """The tokens of prompts and patches, and True where a token is not the separator."""
        tokens_ST = np.concatenate([self.clean_ST, self.patch_ST])
        return tokens_ST, np.broadcast_to(np.arange(tokens_ST.shape[1]) > 0, tokens_ST.shape)


def read(lm: LM, task: Task) -> Pairs:
    """Reads the pairs of a task that are aligned: text and patch have equally many tokens, as many as most
    pairs, and their answers differ in the next token. Tokens that both answers begin with are in the prompts.

    Raises ValueError for a task without pairs, and for one of which none is aligned.
    """
    if missing := [one for one in (PATCH, ANSWER, OTHER) if one not in task.attributes]:
        there = ", ".join(task.attributes) or "none"
        raise ValueError(f"the task has no attribute {missing[0]!r}; there are {there}.")
    answers = ([f" {one}" for one in task.attributes[key]] for key in (ANSWER, OTHER))
    columns = (task.text, task.attributes[PATCH].tolist(), *answers)
    coded = [lm.tokenizer.encode_batch(list(one), add_special_tokens=False) for one in columns]
    found = [one for four in zip(*coded, strict=True) if (one := _aligned(lm, *four))]
    if not found:
        raise ValueError(
            f"no text of the task has as many tokens of {lm.name} as its patch, and another next token; for "
            f"example {columns[0][0]!r} and {columns[1][0]!r}."
        )
    length = Counter(len(one[0]) for one in found).most_common(1)[0][0]
    rows = [one for one in found if len(one[0]) == length]
    return Pairs(*(np.array(one) for one in zip(*rows, strict=True)))


def _aligned(lm: LM, text, patch, answer, other) -> tuple[list[int], list[int], int, int] | None:
    """(prompt, patch, next tokens of both); None where they are not aligned."""
    both = list(zip(answer.ids, other.ids, strict=False))
    n = next((i for i, (a, b) in enumerate(both) if a != b), None)
    if n is None or len(text.ids) != len(patch.ids):
        return None
    prompt = lambda one: [lm.separator, *one.ids, *answer.ids[:n]]
    return prompt(text), prompt(patch), *both[n]


def l0(lm: LM, dictionaries: Sequence[Trained], pairs: Pairs) -> dict[str, float]:
    """{written tap: mean number of active latents} on the tokens of pairs."""
    by_tap, (tokens_ST, mask_ST) = split.by_tap(dictionaries), pairs.both

    @jax.jit
    def counted(params):
        run = lambda edits: lm.forward(params, tokens_ST, edits=edits)
        states = split.states(run, by_tap, jnp.asarray(mask_ST))
        return {tap: (one.codes != 0).sum() / mask_ST.sum() for tap, one in states.items()}

    return {tap: float(one) for tap, one in counted(lm.params).items()}


def by_draw(effects: Mapping[str, Effects], draws: int) -> list[dict[str, Effects]]:
    """The effects of each draw, of those of the pairs of all draws in turn."""
    own = lambda one, g: jax.tree.map(lambda leaf: jnp.split(leaf, draws)[g], one)
    found = [{tap: total(own(one, g)) for tap, one in effects.items()} for g in range(draws)]
    return jax.tree.map(np.asarray, found)


def shuffled(draw: Draw, seed: int) -> Draw:
    """The same effects at other nodes: those that have one exchange theirs at random."""
    leaves, tree = jax.tree.flatten(dict(draw))
    flat_N = np.concatenate([np.ravel(one) for one in leaves])
    some = np.flatnonzero(flat_N)
    flat_N[some] = np.random.default_rng(seed).permutation(flat_N[some])
    ends = np.cumsum([one.size for one in leaves])[:-1]
    parts = zip(np.split(flat_N, ends), leaves, strict=True)
    return jax.tree.unflatten(tree, [part.reshape(one.shape) for part, one in parts])


class Point(NamedTuple):
    """The circuits of all draws with so many nodes: at most `size`, fewer where fewer have an effect."""

    size: int
    nodes_G: list[int]
    faithfulness_G: list[float]
    completeness_G: list[float]


def curve(
    measured: Measured,
    everything_S: np.ndarray,
    draws: Sequence[Draw],
    sizes: Sequence[int],
    errors: bool = True,
) -> list[Point]:
    """Faithfulness and completeness of circuits of several sizes, of each draw on its own held-out pairs.

    measured: the metric of the held-out pairs of all draws in turn. everything_S: its values in the model.
    draws: the effects of each draw. errors: whether errors are nodes; otherwise none is kept.
    """
    mean_G = lambda m_S: m_S.reshape(len(draws), -1).mean(1)
    spread = lambda *leaf: np.repeat(np.stack(leaf), len(everything_S) // len(draws), 0)[:, None]
    mean = lambda kept: mean_G(measured(jax.tree.map(spread, *kept)))
    everything_G, nothing_G = mean_G(everything_S), mean([above(one, np.inf) for one in draws])
    found = []
    for size in sizes:
        kept = [above(one, threshold_of(one, size, errors), errors) for one in draws]
        nodes_G = [sum(int(np.sum(leaf)) for leaf in jax.tree.leaves(one)) for one in kept]
        means = (mean(kept), mean([complement(one) for one in kept]))
        of = [zip(m_G, nothing_G, everything_G, strict=True) for m_G in means]
        found.append(Point(size, nodes_G, *([share(*map(float, one)) for one in m] for m in of)))
    return found
