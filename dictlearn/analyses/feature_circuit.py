"""Sparse feature circuits of a task, and how faithful they are beside circuits of neurons.

    effect          of a latent or an error on the logit of the patch's answer less that of the answer
    circuit         the nodes of largest effect, at every site, on some pairs
    faithfulness    of other pairs, with all other nodes at their means: 1 where nothing else matters, 0 where
                    the circuit does nothing
    completeness    the same of all other nodes: low where the circuit has all that matters

The sites are those of all dictionaries together. Each curve is of one kind of node: `latents` and errors;
`latents alone`, where errors are at their means; `neurons`, the dimensions of the activations at the same
sites; `random dictionary`, random atoms of the same width and L0, and errors; `random order`, latents and
errors whose effects are exchanged among those that have one. An error is one node, so a circuit of as many
errors as there are sites may be faithful whatever the dictionaries are: random ones show how much of it is
theirs.

A task is pairs of texts (`tasks.agreement`): its labels are structures, of which each has a circuit, and its
attributes `patch`, `answer` and `patch_answer`. A file of your own may have the same columns.

Source: Marks et al. 2024, "Sparse feature circuits" (arXiv:2403.19647), section 3; code of 1d87366.
Differs: circuits of given sizes, where the paper has thresholds. Means are of texts and patches. Effects are
summed over positions.
"""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from dictlearn import lm as language
from dictlearn import tasks as room
from dictlearn.analyses import _documents, _pairs
from dictlearn.analyses._circuits import ALONE, LATENTS, NEURONS, ORDER, RANDOM, Found, told
from dictlearn.analyses._pairs import Pairs
from dictlearn.analyses._result import Result
from dictlearn.analyses._subject import Subject, last
from dictlearn.circuits import features
from dictlearn.circuits.effects import ERROR, METHODS, Node, indirect
from dictlearn.circuits.faithfulness import means, measurer
from dictlearn.circuits.neurons import neurons
from dictlearn.lm import LM
from dictlearn.runs.by_layer import by_layer
from dictlearn.runs.trained import Trained, place

NEEDS = ("model", "origin")

SIZES = (3, 10, 30, 100, 300, 1000, 3000)


class How(NamedTuple):
    """What is measured. The fields are settings of the analysis."""

    at: int
    sizes: tuple[int, ...]
    n_effects: int
    n_test: int
    draws: int
    method: str
    most: int
    seed: int

    @property
    def measured(self) -> list[int]:
        """The sizes of the circuits, `at` among them."""
        return sorted({*self.sizes, self.at})

    def check(self) -> None:
        """Raises ValueError for settings out of bounds."""
        for name in ("at", "n_effects", "n_test", "draws", "most"):
            if (value := self._asdict()[name]) < 1:
                raise ValueError(f"{name}={value} must be at least 1.")
        if min(self.sizes, default=1) < 1:
            raise ValueError(f"sizes={self.sizes} must be numbers of nodes.")
        if self.method not in METHODS:
            raise ValueError(f"method={self.method!r} must be of {', '.join(METHODS)}.")


def feature_circuit(
    subjects: Sequence[Subject],
    *,
    task: str = "agreement",
    given: Mapping[str, Any] = {},
    structures: Sequence[str] = (),
    member: str = "",
    at: int = 100,
    sizes: Sequence[int] = SIZES,
    n_effects: int = 10,
    n_test: int = 10,
    draws: int = 5,
    method: str = "integrated",
    most: int = 20,
    seed: int = 0,
    model: str = "",
) -> Result:
    """The circuit of every structure of a task, its faithfulness, and that of other kinds of nodes.

    Args:
        subjects: runs on a language model's activations, or dictionaries with `model`; of each the last of its
            sweep, or a set (`runs.by_layer`). Each writes a tap of its own.
        task, given, structures: a task of pairs, or the path of a file; its settings; its labels, () for all.
        member: the label of the member that each run gives, as in `replacement`.
        at: the number of nodes at which kinds are compared.
        sizes: the numbers of nodes of the curve.
        n_effects, n_test: pairs of the effects, and held-out ones, of each draw. No pair is in two draws.
        draws: their number, over which intervals are.
        method: of the effects, as in `circuits.effects`.
        most: the nodes that are listed, with the edges between them.
        seed: of the draws, and of what is random.
        model: the language model of dictionaries without a run.

    Returns:
        A Result with a record of each structure, and `at`: the kinds at so many nodes, means of all structures.

    Raises:
        ValueError: for a subject without a model, dictionaries of several taps or of one tap, a task without
            enough aligned pairs, and settings out of bounds.
    """
    how = How(at, tuple(sizes), n_effects, n_test, draws, method, most, seed)
    how.check()
    lm = language.load(model) if model else subjects[0].lm
    own = _sites(lm, subjects, member)
    made = room.make(task, lm.tokenizer, classes=tuple(structures), **given)
    found = {name: _of_structure(lm, own, name, made, how) for name in sorted(made.counts)}
    config = {**how._asdict(), "task": task, "given": given, "model": lm.name}
    return told(found, {**config, "taps": [place(one)[1] for one in own]}, at)


def _sites(lm: LM, subjects: Sequence[Subject], member: str) -> list[Trained]:
    """The dictionaries, in the order of the taps that they write."""
    own = [one for subject in subjects for one in by_layer(last(subject, member))]
    order = language.tap_names(lm.spec)
    return sorted(own, key=lambda one: order.index(place(one)[1]))


def _of_structure(lm: LM, own: Sequence[Trained], name: str, task: room.Task, how: How) -> Found:
    some, held = _drawn(_pairs.read(lm, task.of([name])), name, how)
    logits_S = measurer(lm, own, held.question)({})
    axes = [neurons(place(one)[1], one.module.d_out or one.module.d_in) for one in own]
    sets = {LATENTS: own, NEURONS: axes, RANDOM: _random(lm, own, axes, some, how.seed)}
    draws, curves = {}, {}
    for kind, each in sets.items():
        effects = indirect(lm, each, some.question, how.method)
        draws[kind] = _pairs.by_draw(effects, how.draws)
        measured = measurer(lm, each, held.question, means(lm, each, *some.both))
        curve = functools.partial(_pairs.curve, measured, logits_S, sizes=how.measured)
        curves[kind] = curve(draws=draws[kind])
        if kind == LATENTS:
            other = [_pairs.shuffled(one, how.seed + g) for g, one in enumerate(draws[kind])]
            curves |= {ALONE: curve(draws=draws[kind], errors=False), ORDER: curve(draws=other)}
    nodes = _largest(draws[LATENTS], how.most)
    few = some.where(np.arange(how.n_effects)).question
    edges = features.edges(lm, own, few, list(nodes))
    edges = sorted(edges, key=lambda one: -abs(one.weight))[: how.most]
    return Found(logits_S, curves, nodes, edges)


def _drawn(pairs: Pairs, name: str, how: How) -> tuple[Pairs, Pairs]:
    """The pairs of the effects, and the held-out ones, of all draws in turn."""
    n, each = len(pairs.answer_S), how.n_effects + how.n_test
    if n < how.draws * each:
        raise ValueError(
            f"{how.draws} draws of n_effects={how.n_effects} and n_test={how.n_test} are "
            f"{how.draws * each} pairs, but {n} of {name!r} are aligned; ask for fewer, or `given` the task "
            "for more."
        )
    order = np.random.default_rng(how.seed).permutation(n)[: how.draws * each]
    of_GS = order.reshape(how.draws, each)
    halves = np.split(of_GS, [how.n_effects], axis=1)
    return pairs.where(halves[0].ravel()), pairs.where(halves[1].ravel())


def _random(
    lm: LM, own: Sequence[Trained], axes: Sequence[Trained], pairs: Pairs, seed: int
) -> list[Trained]:
    """A random dictionary in the place of each, of the same width and L0, around the mean activation."""
    mean, l0 = means(lm, axes, *pairs.both), _pairs.l0(lm, own, pairs)
    found = []
    for n, (one, at) in enumerate(zip(own, axes, strict=True)):
        mean_D = np.asarray(mean[at.name].codes)[1:].mean(0)
        other = _documents.random_dictionary(one.module.n_latents, l0[at.name], mean_D, seed + n)
        found.append(dataclasses.replace(other, sites=at.sites, name=at.name))
    return found


def _largest(draws: Sequence[_pairs.Draw], most: int) -> dict[Node, list[float]]:
    """The nodes whose mean effect is largest, with their effect in each draw."""
    mean = jax.tree.map(lambda *leaves: np.mean(leaves, axis=0), *draws)
    nodes = list(features.kept(mean, 0.0))[:most]

    def of(one: _pairs.Draw, node: Node) -> float:
        own = one[node.tap]
        return float(own.error if node.latent == ERROR else own.latents[node.latent])

    return {node: [of(one, node) for one in draws] for node in nodes}
