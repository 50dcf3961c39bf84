"""The attribution graph of many prompts of a task: its nodes are latents at places, such as "second name".

    value of a node    mean over prompts of the sum of its activations at the tokens of its place
    edge               mean over prompts of the sum of the edges between the tokens of both places
    total effect       t = e_0 + w E,   w (I - E / a) = e_0 / a        e_0 the target's row, E those of latents

Both are 0 on a prompt where the latent is not active. So a row sums to the mean of its target's value less what
biases give, as in the graph of a prompt. Targets are the direction of each prompt, together one node, and the
latents with the largest influence on it through the rows so far, ranked again in each of ROUNDS rounds: on
every prompt the same ones. Other latents have edges out alone, and nothing explains them.

Source: the means over aligned examples are those of Marks et al. 2024 (arXiv:2403.19647), here of the edges of
Ameisen et al. 2025, "Circuit tracing".

Axes: G groups of prompts, K places, N latents at places, X explained ones, R the target and the explained
latents, C all sources: latents, then errors by layer and place, then embeddings by place.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import scipy.linalg
import scipy.sparse

from dictlearn.circuits._backward import Backward, Targets
from dictlearn.circuits.attribute import BATCH
from dictlearn.circuits.graph import Graph, Logit
from dictlearn.circuits.influence import partial
from dictlearn.circuits.local import Local
from dictlearn.circuits.logits import Direction

ROUNDS = 4
_ONE = np.ones(1)
"""The weight of the target."""


class Prompt(NamedTuple):
    """A prompt. local: its local replacement model. place_T: the place of each token, from 0. target: the
    direction after its last token. group: its group, from 0."""

    local: Local
    place_T: np.ndarray
    target: Direction
    group: int = 0

    @property
    def latents_N3(self) -> np.ndarray:
        """(layer, place, latent) of each active latent."""
        layer_N, position_N, latent_N = self.local.latents_N3.T
        return np.stack([layer_N, np.asarray(self.place_T)[position_N], latent_N], axis=1)


@dataclass(frozen=True, eq=False)
class Pooled:
    """The edges of groups of prompts.

    Args:
        places: the names of the places.
        n_layers: the layers of the model.
        latents_N3: (layer, place, latent) of every latent that is active on a prompt, in this order.
        values_GN: the mean activations.
        active_GN: the share of the prompts on which each is active.
        explained_X: the latents that have a row, in order.
        edges_GRC: the mean edges: the row of the target, then of the explained latents.
    """

    places: tuple[str, ...]
    n_layers: int
    latents_N3: np.ndarray
    values_GN: np.ndarray
    active_GN: np.ndarray
    explained_X: np.ndarray
    edges_GRC: np.ndarray

    @property
    def kind_C(self) -> np.ndarray:
        """0 for a latent, 1 for an error, 2 for an embedding."""
        n = len(self.places)
        return np.repeat([0, 1, 2], [len(self.latents_N3), self.n_layers * n, n])

    @property
    def place_C(self) -> np.ndarray:
        """The place of each source."""
        at_K = np.arange(len(self.places))
        return np.concatenate([self.latents_N3[:, 1], np.tile(at_K, self.n_layers + 1)])

    @property
    def influence_GC(self) -> np.ndarray:
        """The influence of each source on the target. What is not explained ends its ways."""
        return np.stack([partial(own_RC, self.explained_X, _ONE) for own_RC in self.edges_GRC])

    @property
    def total_GC(self) -> np.ndarray:
        """The total effect of each source on the target, along all paths through explained latents."""
        values_GX = self.values_GN[:, self.explained_X]
        of = zip(self.edges_GRC, values_GX, strict=True)
        return np.stack([_total(*each, self.explained_X) for each in of])

    def graph(self, group: int | None = None) -> Graph:
        """The graph of a group, or the mean of all groups: explained latents, errors, embeddings, the target.

        Args:
            group: the group; None for the mean.

        Returns:
            A Graph whose words are the places, and whose tokens are -1.
        """
        groups = slice(None) if group is None else slice(group, group + 1)
        edges_RC, n = self.edges_GRC[groups].mean(0), len(self.latents_N3)
        columns = np.concatenate([self.explained_X, np.arange(n, edges_RC.shape[1])])
        edges_MM = np.zeros((len(columns) + 1,) * 2)
        edges_MM[: len(self.explained_X), :-1] = edges_RC[1:, columns]
        edges_MM[-1, :-1] = edges_RC[0, columns]
        return Graph(
            **{"prompt": "", "words": self.places, "tokens_T": np.full(len(self.places), -1)},
            n_layers=self.n_layers,
            latents_N3=self.latents_N3[self.explained_X],
            values_N=self.values_GN[groups].mean(0)[self.explained_X],
            logits=(Logit(-1, "target", 1.0),),
            edges_MM=edges_MM,
            n_active=n,
        )


def _total(edges_RC: np.ndarray, values_X: np.ndarray, explained_X: np.ndarray) -> np.ndarray:
    """The total effects: latents are in the order of their layers, so each answers to earlier ones only."""
    size_X = np.where(values_X == 0, 1, values_X)
    share_RX = edges_RC[:, explained_X] / size_X
    lower_XX = np.eye(len(size_X)) - share_RX[1:]
    w_X = scipy.linalg.solve_triangular(lower_XX, share_RX[0], trans=1, lower=True)
    return edges_RC[0] + w_X @ edges_RC[1:]


def pool(prompts: Sequence[Prompt], places: Sequence[str], most: int, size: int = BATCH) -> Pooled:
    """The edges of prompts.

    Args:
        prompts: the prompts, with the same model and dictionaries.
        places: the names of the places.
        most: the largest number of latents that are explained.
        size: the targets of one backward pass.

    Returns:
        Pooled.

    Raises:
        ValueError: for no prompts, `most` or `size` below 1, and places that do not fit the tokens.
    """
    if not prompts or min(most, size) < 1:
        raise ValueError(f"{len(prompts)} prompts, {most=} and {size=} must be at least 1.")
    for one in prompts:
        _check(one, len(places))
    parts = [one.latents_N3 for one in prompts]
    latents_N3, at = np.unique(np.concatenate(parts), axis=0, return_inverse=True)
    ends = np.cumsum([len(part_N3) for part_N3 in parts])[:-1]
    columns = np.split(at.ravel(), ends)
    group_P = np.array([one.group for one in prompts])
    n_layers = prompts[0].local.lm.spec.n_layers
    sums = _Sums(prompts, columns, group_P, (len(latents_N3), n_layers, len(places)), size)
    explained_X, edges_GRC = _explained(sums, min(most, len(latents_N3)))
    return Pooled(tuple(places), n_layers, latents_N3, *sums.values(), explained_X, edges_GRC)


def _check(prompt: Prompt, n_places: int) -> None:
    """Raises ValueError for places that do not fit the tokens."""
    place_T, length = np.asarray(prompt.place_T), len(prompt.local.tokens_T)
    if place_T.shape != (length,) or not set(place_T.tolist()) <= set(range(n_places)):
        raise ValueError(f"{place_T=} must name one of {n_places} places for {length} tokens.")


@dataclass(frozen=True, eq=False)
class _Sums:
    """Means over the prompts of each group. columns: for each prompt, which node each latent is. sizes: the
    numbers of nodes that are latents, of layers and of places. size: targets of a pass."""

    prompts: Sequence[Prompt]
    columns: Sequence[np.ndarray]
    group_P: np.ndarray
    sizes: tuple[int, int, int]
    size: int

    def values(self) -> tuple[np.ndarray, np.ndarray]:
        """(the activations, the share of prompts where they are not zero), `[G, N]`."""
        found_2GN = np.zeros((2, self.group_P.max() + 1, self.sizes[0]))
        for prompt, own, group in zip(self.prompts, self.columns, self.group_P, strict=True):
            np.add.at(found_2GN[0, group], own, prompt.local.values_N)
            found_2GN[1, group, np.unique(own)] += 1
        return tuple(found_2GN / np.bincount(self.group_P)[:, None])

    def rows(self, asked_X: np.ndarray | None) -> np.ndarray:
        """The rows of some latents, `[G, X, C]`; None for the target's."""
        n, n_layers, n_places = self.sizes
        width = n + (n_layers + 1) * n_places
        n_rows = 1 if asked_X is None else len(asked_X)
        found_GXC = np.zeros((self.group_P.max() + 1, n_rows, width))
        for prompt, own, group in zip(self.prompts, self.columns, self.group_P, strict=True):
            targets, row_T = _targets(prompt, own, asked_X)
            if len(row_T):
                edges_TC = Backward(prompt.local, self.size).many(targets)
                into_TC = edges_TC @ self._belongs(prompt, own)
                np.add.at(found_GXC[group], row_T, into_TC)
        return found_GXC / np.bincount(self.group_P)[:, None, None]

    def _belongs(self, prompt: Prompt, own: np.ndarray) -> scipy.sparse.csr_array:
        """Which node each source of a prompt is, 0 or 1."""
        n, n_layers, n_places = self.sizes
        at_LT = np.arange(n_layers + 1)[:, None] * n_places + prompt.place_T
        node_S = np.concatenate([own, n + at_LT.ravel()])
        shape = len(node_S), n + (n_layers + 1) * n_places
        return scipy.sparse.csr_array((np.ones(len(node_S)), (np.arange(shape[0]), node_S)), shape)


def _targets(prompt: Prompt, own: np.ndarray, asked_X) -> tuple[Targets, np.ndarray]:
    """The targets of a prompt, and the row to which each adds. own: which node each latent is."""
    local = prompt.local
    if asked_X is None:
        last, vector_D = len(local.tokens_T) - 1, np.asarray(prompt.target.vector_D)
        end = np.array([local.lm.spec.n_layers]), np.array([last])
        return Targets(*end, vector_D[None].astype(local.errors_LTD.dtype)), np.zeros(1, int)
    chosen = np.flatnonzero(np.isin(own, asked_X))
    layer_X, position_X, _ = local.latents_N3[chosen].T
    order = np.argsort(asked_X)
    row = order[np.searchsorted(asked_X, own[chosen], sorter=order)]
    return Targets(layer_X, position_X, local.rows_ND[chosen]), row


def _explained(sums: _Sums, most: int) -> tuple[np.ndarray, np.ndarray]:
    """(the explained latents in order, the edges)."""
    n, each = sums.sizes[0], -(-most // ROUNDS)
    rows, picked = [sums.rows(None)], np.zeros(0, int)
    while (room := most - len(picked)) > 0:
        edges_RC = np.concatenate(rows, axis=1).mean(0)
        influence_N = partial(edges_RC, picked, _ONE)[:n]
        influence_N[picked] = 0
        queue = np.argsort(-influence_N, kind="stable")[: min(each, room)]
        queue = queue[influence_N[queue] > 0]
        if not len(queue):
            break
        rows.append(sums.rows(queue))
        picked = np.concatenate([picked, queue])
    edges_GRC, order = np.concatenate(rows, axis=1), np.argsort(picked)
    return picked[order], edges_GRC[:, np.concatenate([[0], 1 + order])]
