"""Discrete circuits: the attention heads whose codes tell positive prompts from negative ones.

    positive    "When Mary and John went to the store, John gave a drink to"       right: Mary    wrong: John
    negative    "When Mary and John went to the store, Tom gave a drink to"
    score       the share of positive prompts on which a head has a code that it has on no negative one
    circuit     the n heads of largest score
    m           the mean of logit(right) - logit(wrong) on other positive prompts, where the other heads have
                their mean on negative prompts: with the circuit kept, and with the circuit taken out
    auc         the area under the ROC curve of the score for heads that are known to be in the circuit

A code is the largest latent of an autoencoder of all heads' outputs (circuits/head_codes.py, circuits/tied.py).
The circuit is compared with as many heads of largest score under shuffled labels (`by_chance`), which is large
where codes vary, and with random heads from outside of it.

Source: O'Neill & Bui 2024 (arXiv:2405.12522), read at second hand. UNSURE: the token that is read, the size of
the circuit and the training of the autoencoder, which are settings.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from dictlearn import lm as language
from dictlearn import tasks as room
from dictlearn.analyses import _head_prompts
from dictlearn.analyses._asked import interval
from dictlearn.analyses._head_prompts import Answered, Examples
from dictlearn.analyses._result import Result, Table
from dictlearn.analyses._subject import Subject, exactly
from dictlearn.circuits import graph as graphs
from dictlearn.circuits import head_codes, tied
from dictlearn.lm import LM

NEEDS = ("model",)
_SHUFFLES = 20
CHOICES = ("score", "shuffled labels", "random")
"""How the heads of a row are chosen: the circuit, and those that it is compared with."""


class How(NamedTuple):
    """How circuits are found and tested. The fields are settings of the analysis."""

    place: str
    n: int
    n_test: int
    sizes: tuple[int, ...]
    draws: int


class Found(NamedTuple):
    """A circuit. node_h, edge_hh, chance_h: the scores of heads and of pairs, and of heads under shuffled
    labels. differences: {"kept" or "out": {size: {one of CHOICES: m}}}. whole, none: m with every head,
    and with none."""

    node_h: np.ndarray
    edge_hh: np.ndarray
    chance_h: np.ndarray
    differences: dict[str, dict[int, dict[str, float]]]
    whole: float
    none: float


def discrete_circuit(
    subjects: Sequence[Subject],
    *,
    task: str = "ioi_prompts",
    given: Mapping[str, Any] = {"negatives": True, "n_names": 12},
    positive: Sequence[str] = ("ABB", "BAB"),
    right: str = "io",
    wrong: str = "s",
    place: str = "last",
    n: int = 10,
    n_test: int = 16,
    n_latents: int = 200,
    sparsity: float = 0.02,
    lr: float = 1e-3,
    epochs: int = 500,
    batch: int = 256,
    sizes: Sequence[int] = (10, 20, 40),
    draws: int = 3,
    known: Sequence[Sequence[int]] = (),
    splits: int = 3,
    seed: int = 0,
    model: str = "",
) -> Result:
    """The heads of a language model that a task uses.

    Args:
        subjects: one run with a language model, or any dictionaries with `model`. They are not read.
        task, given: a task whose prompts are positive and negative in turn, or a file of them; its settings.
        positive: the labels of positive prompts.
        right, wrong: the attributes that hold the words whose logits are compared.
        place: where heads are read: at the "last" token, or on the "mean" of all but the first.
        n, n_test: the pairs of prompts whose codes are compared, and the other pairs on which m is measured.
        n_latents, sparsity, lr, epochs, batch: the autoencoder and its training.
        sizes: the numbers of heads of a circuit.
        draws: the random circuits beside each.
        known: heads, as (layer, head), for the area under the ROC curve.
        splits: how many times prompts are drawn and an autoencoder is trained.
        seed: the first seed of both.
        model: the language model, if not the run's.

    Returns:
        A Result with a row for each size and choice of heads, with the half widths of 95 % intervals over
        splits, the scores `[layer][head]`, and the circuit of the largest size as a `graph` of mean scores.

    Raises:
        ValueError: for prompts that are not in turn, too few of them, unknown heads and settings out of bounds.
    """
    (subject,) = exactly(1, subjects, "discrete_circuit")
    lm = language.load(model) if model else subject.lm
    how = How(place, n, n_test, tuple(sizes), draws)
    _check(how, lm, splits)
    member_h, training = _members(lm, known), tied.How(n_latents, sparsity, lr, epochs, batch)
    made = room.make(task, lm.tokenizer, **given)
    own = _head_prompts.examples(lm, made, positive, right, wrong)
    found = [_of_split(lm, own, how, training, at) for at in range(seed, seed + splits)]
    config = {**how._asdict(), **training._asdict(), "task": task, "splits": splits, "seed": seed}
    return _result(lm, config, how, found, member_h)


def _check(how: How, lm: LM, splits: int) -> None:
    """Raises ValueError for settings out of bounds."""
    if how.place not in _head_prompts.PLACES:
        there = ", ".join(_head_prompts.PLACES)
        raise ValueError(f"place={how.place!r} must be one of {there}.")
    if min(how.n, how.n_test, how.draws, splits) < 1:
        raise ValueError(
            f"n={how.n}, n_test={how.n_test}, draws={how.draws} and {splits=} must be at least 1."
        )
    half = lm.spec.n_layers * lm.spec.n_heads // 2
    if not how.sizes or not 1 <= min(how.sizes) <= max(how.sizes) <= half:
        raise ValueError(
            f"sizes={how.sizes} must be in 1..{half}, half of the heads: random ones are of the other half."
        )


def _members(lm: LM, known: Sequence[Sequence[int]]) -> np.ndarray:
    """Which heads are known to be in the circuit. Raises ValueError for heads that the model has not."""
    member_Lh = np.zeros((lm.spec.n_layers, lm.spec.n_heads), bool)
    for layer, head in known:
        if not (0 <= layer < lm.spec.n_layers and 0 <= head < lm.spec.n_heads):
            raise ValueError(
                f"known={(layer, head)} is no head; there are {lm.spec.n_heads} in each of "
                f"{lm.spec.n_layers} layers."
            )
        member_Lh[layer, head] = True
    return member_Lh.ravel()


def _of_split(lm: LM, own: Examples, how: How, training: tied.How, seed: int) -> Found:
    """The circuit of some pairs of prompts, tested on others."""
    there, needed = len(own.positive), how.n + how.n_test
    if needed > there:
        raise ValueError(
            f"n={how.n} and n_test={how.n_test} need {needed} pairs of prompts; there are {there}."
        )
    order_N = np.random.default_rng(seed).permutation(there)
    some = own.some(order_N[: how.n])
    z_Nhw = _head_prompts.outputs(lm, [*some.positive, *some.negative], how.place)
    code_Nh, positive_N = head_codes.coded(z_Nhw, training, seed), np.arange(2 * how.n) < how.n
    scores = scored(code_Nh, positive_N, seed)
    answered = Answered(lm, own.some(order_N[how.n : needed]))
    differences = tested(answered.difference, scores[0], scores[2], how, seed)
    every_h = np.ones(len(scores[0]), bool)
    ends = answered.difference(every_h), answered.difference(~every_h)
    return Found(*scores, differences, *ends)


def scored(
    code_Nh: np.ndarray, positive_N: np.ndarray, seed: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The scores of heads.

    Args:
        code_Nh: the codes.
        positive_N: which examples are positive.
        seed: the seed of the shuffles.

    Returns:
        (of heads, of pairs of heads, of heads in the mean of shuffled labels).
    """
    random, node = np.random.default_rng(seed), head_codes.node_scores
    shuffled = [node(code_Nh, random.permutation(positive_N)) for _ in range(_SHUFFLES)]
    edge_hh = head_codes.edge_scores(code_Nh, positive_N)
    return node(code_Nh, positive_N), edge_hh, np.mean(shuffled, axis=0)


def tested(
    difference, node_h: np.ndarray, chance_h: np.ndarray, how: How, seed: int
) -> dict[str, dict]:
    """m of circuits and of other heads, kept and taken out.

    Args:
        difference: from the heads that are kept to m.
        node_h, chance_h: the scores, and those under shuffled labels.
        how: the sizes and the draws.
        seed: the seed of the random heads.

    Returns:
        `Found.differences`.
    """
    random, order_h = np.random.default_rng(seed), largest(node_h)
    only = lambda chosen: np.isin(np.arange(len(node_h)), chosen)
    found: dict[str, dict] = {"kept": {}, "out": {}}
    for size in how.sizes:
        drawn = [random.choice(order_h[size:], size, replace=False) for _ in range(how.draws)]
        chosen = [order_h[:size]], [largest(chance_h)[:size]], drawn
        for name, turn in (("kept", only), ("out", lambda chosen: ~only(chosen))):
            m = lambda own, turn=turn: float(np.mean([difference(turn(one)) for one in own]))
            found[name][size] = dict(zip(CHOICES, map(m, chosen), strict=True))
    return found


def largest(node_h: np.ndarray) -> np.ndarray:
    """The heads, those with the largest score first, of equal ones the first."""
    return np.argsort(-node_h, kind="stable")


def _result(
    lm: LM, config: Mapping[str, Any], how: How, found: Sequence[Found], member_h: np.ndarray
) -> Result:
    mean = lambda name: np.mean([getattr(one, name) for one in found], axis=0)
    node_h, edge_hh = mean("node_h"), mean("edge_hh")
    rows = [_row(size, choice, found) for size in how.sizes for choice in CHOICES]
    chosen = largest(node_h)[: max(how.sizes)]
    told = {"prompt": config["task"], "model": lm.name}
    graph = head_codes.graph(node_h, edge_hh, chosen, lm.spec.n_layers, **told)
    by_layer = lambda one_h: one_h.reshape(lm.spec.n_layers, -1)
    values = {
        "config": config,
        "settings": rows,
        "scores": by_layer(node_h),
        "by_chance": by_layer(mean("chance_h")),
        "whole": interval([one.whole for one in found]),
        "none": interval([one.none for one in found]),
        "graph": graphs.told(graph),
    }
    if member_h.any():
        values["auc"] = interval([head_codes.auc(one.node_h, member_h) for one in found])
    return Result(values, [_table(rows, values)])


def _row(size: int, choice: str, found: Sequence[Found]) -> dict[str, Any]:
    """The row of a size and a choice of heads."""
    row: dict[str, Any] = {"heads": size, "by": choice, "runs": len(found)}
    for name in ("kept", "out"):
        values = [one.differences[name][size][choice] for one in found]
        row[name], row[f"{name}_half"] = interval(values)
    return row


def _table(rows: Sequence[Mapping[str, Any]], values: Mapping[str, Any]) -> Table:
    every, none, runs = values["whole"], values["none"], rows[0]["runs"]
    columns = ("heads", "chosen by", "kept", "kept \u00b1", "out", "out \u00b1", "runs")
    keys = ("heads", "by", "kept", "kept_half", "out", "out_half", "runs")
    cells = [("all", "", *every, *none, runs), *([row[key] for key in keys] for row in rows)]
    return Table("Logit difference with some heads", columns, cells)
