"""Makes the attribution graph of a prompt.

    A[t, s] = <gradient of t at the place where s writes, what s writes>

With attention patterns, denominators of norms and outputs of MLPs held constant the model is linear, so A is
the direct effect, and a row sums to the target's pre-activation (or logit less the mean logit) less what biases
give. Latents are targets in batches. If there are more than `most` active latents, those with the largest
influence on the logits through the rows so far come next, ranked again every RERANK batches.

Source: Ameisen et al. 2025, "Circuit tracing"; circuit-tracer's `attribute`, whose procedure this is.
Differs: a block is differentiated alone, from the highest layer of a batch down and over the positions up to
its last one (circuits/_backward.py); a layer without a dictionary is all error.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from jax.sharding import Mesh

from dictlearn.circuits._backward import STEP, Backward, Targets
from dictlearn.circuits.graph import Graph, Logit
from dictlearn.circuits.influence import partial
from dictlearn.circuits.local import Local, local
from dictlearn.circuits.logits import MASS, MOST, Target, targets
from dictlearn.lm import cells
from dictlearn.lm.model import LM
from dictlearn.runs.trained import Trained

LATENTS, BATCH, RERANK = 7500, 256, 4


def attribute(
    lm: LM,
    dictionaries: Sequence[Trained],
    prompt: str | Sequence[int],
    *,
    chosen: Sequence[Target] | None = None,
    n_logits: int = MOST,
    mass: float = MASS,
    most: int = LATENTS,
    batch_size: int = BATCH,
    n_ignored: int = 1,
    mesh: Mesh | None = None,
) -> Graph:
    """The attribution graph of a prompt.

    Args:
        lm: the language model.
        dictionaries: transcoders or skip transcoders of its MLPs, one at most for a layer, or a cross-layer
            transcoder.
        prompt: a text, in front of which the separator of documents is put; or tokens as they are.
        chosen: the targets, as tokens, their texts or directions; None for the likeliest next tokens.
        n_logits, mass: the largest number of likeliest tokens, and the probability that they should have.
        most: the largest number of latents that become nodes.
        batch_size: targets of one backward pass.
        n_ignored: the first tokens whose latents and errors are no sources and no targets.
        mesh: the devices that share the targets of a pass, as `sharding.mesh` makes it; None for one.

    Returns:
        The graph.

    Raises:
        ValueError: for what `local` and `targets` refuse, and for `most` or `batch_size` below 1.
    """
    if most < 1 or batch_size < 1:
        raise ValueError(f"{most=} and {batch_size=} must be at least 1.")
    found = local(lm, dictionaries, tokens(lm, prompt), n_ignored)
    logits, rows_KD = targets(lm, found.logits_V, chosen, n_logits, mass)
    backward = Backward(found, batch_size, mesh)
    end, last = lm.spec.n_layers, len(found.tokens_T) - 1
    of_logits = Targets(np.full(len(logits), end), np.full(len(logits), last), rows_KD)
    edges_RC = [backward.many(of_logits)]
    weights_K = np.array([one.weight for one in logits])
    chosen_R = _selected(found, backward, edges_RC, weights_K, most, batch_size)
    return _graph(found, dictionaries, prompt, logits, edges_RC, chosen_R)


def tokens(lm: LM, prompt: str | Sequence[int]) -> np.ndarray:
    """The tokens of a prompt.

    Args:
        lm: the language model.
        prompt: a text, in front of which the separator is put; or tokens.

    Returns:
        The tokens.

    Raises:
        ValueError: for an empty prompt.
    """
    if not len(prompt):
        raise ValueError("The prompt is empty; give a text or tokens.")
    if isinstance(prompt, str):
        return np.array([lm.separator, *lm.tokenizer.encode(prompt, add_special_tokens=False).ids])
    return np.asarray(prompt)


def _selected(
    found: Local, backward: Backward, edges_RC: list, weights_K: np.ndarray, most: int, size: int
) -> np.ndarray:
    """Adds the rows of latents to the rows of the logits, and returns which latents they are."""
    n, picked = len(found.values_N), []
    for batch in _batches(found, edges_RC, picked, weights_K, most, size) if n else ():
        layers_X, positions_X, _ = found.latents_N3[batch].T
        edges_RC.append(backward.rows(Targets(layers_X, positions_X, found.rows_ND[batch])))
        picked.append(batch)
    return np.concatenate([np.zeros(0, int), *picked])


def _batches(
    found: Local, edges_RC: list, picked: list, weights_K, most: int, size: int
) -> Iterator[np.ndarray]:
    """The latents of each batch. Reads the rows so far where not all latents become nodes."""
    n = len(found.values_N)
    if n <= most:
        yield from _cut(found, np.arange(n), size)
        return
    left = np.ones(n, bool)
    while (room := most - sum(map(len, picked))) > 0:
        rows_X = np.concatenate([np.zeros(0, int), *picked])
        influence_N = partial(np.concatenate(edges_RC), rows_X, weights_K)[:n]
        order = np.argsort(-influence_N, kind="stable")
        queue = order[left[order]][: min(RERANK * size, room)]
        left[queue] = False
        yield from _cut(found, queue, size)


def _cut(found: Local, latents: np.ndarray, size: int) -> Iterator[np.ndarray]:
    """Batches of latents near each other: a pass starts at the last layer and position of its batch."""
    layer_X, position_X, _ = found.latents_N3[latents].T
    near = np.lexsort((layer_X, position_X // STEP))
    for start in range(0, len(latents), size):
        yield latents[near[start : start + size]]


def _square(edges_RC: list, chosen: np.ndarray, n: int, n_logits: int) -> np.ndarray:
    """The edges with a row for every node, of the rows of the logits and then of the chosen latents of n. The
    list is emptied on the way, so that memory never holds all rows twice."""
    order, others = np.argsort(chosen), np.arange(n, edges_RC[0].shape[1])
    columns = np.concatenate([chosen[order], others])
    edges_MM = np.zeros((len(columns) + n_logits,) * 2, edges_RC[0].dtype)
    place_R, start = np.concatenate([len(columns) + np.arange(n_logits), np.argsort(order)]), 0
    while edges_RC:
        rows_XC = edges_RC.pop(0)
        place_X = place_R[start : start + len(rows_XC)]
        edges_MM[place_X, : len(columns)] = rows_XC[:, columns]
        start += len(rows_XC)
    return edges_MM


def _graph(
    found: Local, dictionaries, prompt, logits: list[Logit], edges_RC: list, chosen
) -> Graph:
    """The graph, with its nodes in order."""
    lm, n, kept = found.lm, len(found.values_N), np.sort(chosen)
    said = lambda tokens: cells.decode(lm.tokenizer, tokens)
    return Graph(
        prompt=prompt if isinstance(prompt, str) else said(found.tokens_T.tolist()),
        words=tuple(said([token]) for token in found.tokens_T.tolist()),
        tokens_T=found.tokens_T,
        n_layers=lm.spec.n_layers,
        latents_N3=found.latents_N3[kept],
        values_N=found.values_N[kept],
        logits=tuple(logits),
        edges_MM=_square(edges_RC, chosen, n, len(logits)),
        n_active=n,
        model=lm.name,
        dictionaries=tuple(one.name for one in dictionaries),
        interleaved=max(one.module.sources for one in dictionaries),
    )
