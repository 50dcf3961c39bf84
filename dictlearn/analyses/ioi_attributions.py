"""Which latents write the indirect object: the attribution graph of prompts that end before it, by places.

    "When Mary and John went to the store, John gave a drink to"     io: Mary    s1, s2: John    end: to
    target      logit(io) - logit(s) of each prompt
    node        a latent, an error or the embeddings at a place (analyses/_ioi_places.py), averaged over prompts
    direct      the edge to the target; what sources and biases add is the target
    influence   the share of the absolute weight of all ways to the target (circuits/influence.py)
    total       the effect along all paths through latents of the graph (circuits/pooled.py)
    taken out   by how much logit(io) - logit(s) falls in the model as it is without the node, to which `direct`
                and `total` are compared, for the latents of largest influence and for random active ones

Latents that are no nodes of the graph, because others have a larger influence, are in the sums of their place.

Source: Wang et al. 2023 (arXiv:2211.00593), the task; Ameisen et al. 2025, "Circuit tracing", the graph;
Kissane et al. 2024 (arXiv:2406.17759), the check: live latents set to zero with the error kept, and the error.
"""

from collections.abc import Sequence

import numpy as np

from dictlearn import tasks as room
from dictlearn.analyses import _ioi_told
from dictlearn.analyses._ioi_places import PLACES, Placed, placed
from dictlearn.analyses._ioi_told import Checked
from dictlearn.analyses._result import Result
from dictlearn.analyses._subject import Subject, last
from dictlearn.circuits import pooled
from dictlearn.circuits.local import local
from dictlearn.circuits.logits import difference
from dictlearn.circuits.pooled import Pooled, Prompt
from dictlearn.circuits.removal import Written, removed
from dictlearn.runs.by_layer import by_layer

NEEDS = ("model", "origin", "transcoders")


def ioi_attributions(
    subjects: Sequence[Subject],
    *,
    member: str = "",
    n_pairs: int = 2,
    n_templates: int = 1,
    splits: int = 3,
    most: int = 400,
    n_checked: int = 20,
    at: str = "",
    seed: int = 0,
) -> Result:
    """The graph of the logit difference, and what it predicts of ablations.

    Args:
        subjects: runs of transcoders of one language model's MLPs: one for each layer, or a set of all.
        member: the label of the member that each run gives, as in `replacement`.
        n_pairs, n_templates: pairs of names and templates of the task `ioi_prompts`; each name is as often the
            indirect object as the subject, so that what the model thinks of names whatever the prompt cancels.
        splits: how many times names are drawn.
        most: the largest number of latents that are nodes of the graph.
        n_checked: the latents of largest influence, and the random active ones, that are taken out.
        at: the place of these, such as "s2"; empty for all places.
        seed: the first seed of the names, and the seed of the random latents.

    Returns:
        A Result with a row for each place and kind of node, for each latent of the graph or taken out for its
        influence, and for each choice of these, with the half widths of 95 % intervals over splits; and the
        mean `graph`, with the edges that `influence.prune` keeps.

    Raises:
        ValueError: for dictionaries that are no transcoders of MLPs, names that the next token does not tell
            apart, and settings out of bounds.
    """
    if min(splits, most, n_checked) < 1:
        raise ValueError(f"{splits=}, {most=} and {n_checked=} must be at least 1.")
    if at not in ("", *PLACES):
        raise ValueError(f"{at=} must be empty or one of {', '.join(PLACES)}.")
    lm = subjects[0].lm
    parts = [one for subject in subjects for one in by_layer(last(subject, member))]
    told, prompts = [], []
    for split in range(splits):
        of = {"n_names": n_pairs, "n_templates": n_templates, "pairs": True, "seed": seed + split}
        for one in placed(lm, room.make("ioi_prompts", lm.tokenizer, **of)):
            model, target = local(lm, parts, np.array(one.tokens)), difference(lm, one.io, one.s)
            told.append(one)
            prompts.append(Prompt(model, one.place_T, target, split))
    found = pooled.pool(prompts, PLACES, most)
    checked = check(found, prompts, told, n_checked, at, seed)
    config = {"n_pairs": n_pairs, "n_templates": n_templates, "splits": splits, "most": most}
    config |= {"n_checked": n_checked, "at": at, "seed": seed}
    config |= {"model": lm.name, "prompts": len(told)}
    return _ioi_told.told(found, checked, config)


def check(
    found: Pooled, prompts: Sequence[Prompt], told: Sequence[Placed], n: int, at: str, seed: int
) -> Checked:
    """Takes nodes out of the model.

    Args:
        found: the edges.
        prompts: their prompts.
        told: the right and the wrong answer of each.
        n, at: the number of latents of largest influence, and of random ones; their place, or "".
        seed: the seed of these.

    Returns:
        Checked.
    """
    influence_N = found.influence_GC.mean(0)[: len(found.latents_N3)]
    order = np.argsort(-influence_N, kind="stable")
    if at:
        order = order[found.latents_N3[order, 1] == PLACES.index(at)]
    largest = order[:n]
    rest, random = np.sort(order[n:]), np.random.default_rng(seed)
    drawn = np.sort(random.choice(rest, min(n, len(rest)), replace=False))
    each = [
        _changes(found, prompt, one, np.concatenate([largest, drawn]))
        for prompt, one in zip(prompts, told, strict=True)
    ]
    group_P = np.array([one.group for one in prompts])
    mean = lambda rows: np.array([rows[group_P == g].mean(0) for g in range(group_P.max() + 1)])
    whole_P, latents_PJ, places_PKk = (np.array(one) for one in zip(*each, strict=True))
    return Checked(largest, drawn, mean(whole_P), mean(latents_PJ), mean(places_PKk))


def _changes(found: Pooled, prompt: Prompt, one: Placed, nodes_J: np.ndarray) -> tuple:
    """(the logit difference, how much of it goes without each latent at its place, and without all latents and
    all errors of each place, `[K, 2]`)."""
    place_T, mine_N3 = prompt.place_T, prompt.latents_N3
    nothing_T = np.zeros(len(place_T), bool)
    asked = [Written(np.zeros(0, int), nothing_T)]
    for node in nodes_J:
        own = np.flatnonzero((mine_N3 == found.latents_N3[node]).all(1))
        asked.append(Written(own, nothing_T))
    for place in range(len(PLACES)):
        asked.append(Written(np.flatnonzero(mine_N3[:, 1] == place), nothing_T))
        asked.append(Written(np.zeros(0, int), place_T == place))
    logits_A2 = removed(prompt.local, asked, np.array([one.io, one.s])).astype(np.float64)
    whole, *left_A = logits_A2[:, 0] - logits_A2[:, 1]
    lost_A = whole - np.array(left_A)
    n = len(nodes_J)
    return whole, lost_A[:n], lost_A[n:].reshape(len(PLACES), 2)
