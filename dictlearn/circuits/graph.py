"""An attribution graph: the nodes of one prompt and the direct effect of each on each, with its file.

Nodes are, in this order: active latents (by layer, position and latent), errors (each layer, each position),
the embeddings of the tokens, and logits. `edges_MM[target, source]` is the direct effect: by how much the
target's pre-activation, or logit less the mean logit, would fall without the source, if attention patterns,
denominators of norms and all other nodes stayed as they are. A row sums to the target's value less what biases
give. Rows of errors and embeddings are zero: nothing explains them.

Source: Ameisen et al. 2025, "Circuit tracing: revealing computational graphs in language models"; the order of
nodes is circuit-tracer's.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from safetensors import safe_open

from dictlearn import files

KINDS = ("latent", "error", "token", "logit")
_SCHEMA = 1
_ARRAYS = ("tokens_T", "latents_N3", "values_N", "edges_MM")


class Logit(NamedTuple):
    """A target: the token, its text, and its weight, which is its probability. A direction that is no token has
    token -1."""

    token: int
    text: str
    weight: float


class Node(NamedTuple):
    """A node of a graph. kind: one of KINDS. layer: of a latent or an error, otherwise -1. index: the latent,
    the token of an embedding or of a logit, otherwise -1. value: the activation of a latent, the probability of
    a logit, otherwise 0."""

    kind: str
    layer: int
    position: int
    index: int
    value: float


@dataclass(frozen=True, eq=False)
class Graph:
    """The graph of one prompt.

    Args:
        prompt: the text.
        words: the text of each token.
        tokens_T: the tokens.
        n_layers: the layers of the model.
        latents_N3: (layer, position, latent) of each latent that is a node.
        values_N: their activations.
        logits: the targets, the most probable first.
        edges_MM: the direct effects.
        n_active: how many latents were active; more than N if only the most influential became nodes.
        model: the name of the model.
        dictionaries: the names of the dictionaries.
        interleaved: L for a cross-layer transcoder, whose latent j L + l is latent j of layer l; otherwise 1.
    """

    prompt: str
    words: tuple[str, ...]
    tokens_T: np.ndarray
    n_layers: int
    latents_N3: np.ndarray
    values_N: np.ndarray
    logits: tuple[Logit, ...]
    edges_MM: np.ndarray
    n_active: int
    model: str = ""
    dictionaries: tuple[str, ...] = ()
    interleaved: int = 1

    def __len__(self) -> int:
        return len(self.edges_MM)

    @property
    def errors(self) -> slice:
        """The indices of the errors."""
        n, length = len(self.values_N), len(self.tokens_T)
        return slice(n, n + self.n_layers * length)

    @property
    def embeddings(self) -> slice:
        """The indices of the embeddings."""
        return slice(self.errors.stop, self.errors.stop + len(self.tokens_T))

    @property
    def targets(self) -> slice:
        """The indices of the logits."""
        return slice(self.embeddings.stop, self.embeddings.stop + len(self.logits))

    @property
    def weights_M(self) -> np.ndarray:
        """The weights of the logits at their indices, 0 elsewhere."""
        weights_M = np.zeros(self.targets.stop, self.edges_MM.dtype)
        weights_M[self.targets] = [one.weight for one in self.logits]
        return weights_M

    def nodes(self) -> Iterator[Node]:
        """Every node, in order."""
        for (layer, position, latent), value in zip(self.latents_N3, self.values_N, strict=True):
            yield Node("latent", int(layer), int(position), int(latent), float(value))
        for layer in range(self.n_layers):
            for position in range(len(self.tokens_T)):
                yield Node("error", layer, position, -1, 0.0)
        for position, token in enumerate(self.tokens_T):
            yield Node("token", -1, position, int(token), 0.0)
        for one in self.logits:
            yield Node("logit", -1, len(self.tokens_T) - 1, one.token, one.weight)


def told(graph: Graph) -> dict[str, Any]:
    """A graph as JSON holds it.

    Args:
        graph: the graph.

    Returns:
        {"nodes": the fields of each, "edges": (source, target, weight) by the places of their nodes}.
    """
    targets, sources = np.nonzero(graph.edges_MM)
    edges = [(i, j, graph.edges_MM[j, i]) for j, i in zip(targets, sources, strict=True)]
    return {"nodes": [one._asdict() for one in graph.nodes()], "edges": edges}


def save(graph: Graph, path: str | Path) -> None:
    """Writes a graph to a safetensors file, atomically.

    Args:
        graph: the graph.
        path: the file.
    """
    fields: dict[str, Any] = {
        name: value for name, value in vars(graph).items() if name not in _ARRAYS
    }
    fields["logits"] = [one._asdict() for one in graph.logits]
    arrays = {name: np.ascontiguousarray(vars(graph)[name]) for name in _ARRAYS}
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with files.whole(path) as half:
        files.save_tensors(arrays, half, {"graph": json.dumps({**fields, "schema": _SCHEMA})})


def load(path: str | Path) -> Graph:
    """Reads a graph.

    Args:
        path: the file.

    Returns:
        The graph.

    Raises:
        FileNotFoundError: if there is no file.
        ValueError: for a file that `save` did not write.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path} does not exist; `dictlearn circuit` writes graphs.")
    try:
        with safe_open(path, "numpy") as file:
            fields = json.loads(file.metadata()["graph"])
            arrays = {name: file.get_tensor(name) for name in _ARRAYS}
    except (*files.DAMAGE, KeyError, TypeError) as error:
        raise ValueError(f"{path} holds no graph: {error}") from error
    if fields.pop("schema") != _SCHEMA:
        raise ValueError(f"{path} was written by another version; make the graph again.")
    fields["logits"] = tuple(Logit(**one) for one in fields["logits"])
    lists = {name: tuple(fields[name]) for name in ("words", "dictionaries")}
    return Graph(**{**fields, **lists, **arrays})
