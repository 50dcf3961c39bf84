"""Greedy paths of contributions back from a latent or a logit, and the pruned graph that they make.

At each of `depth` levels every path is grown by its `width` largest contributions, and of all grown paths the
`width` largest remain. A path's value is that of its last step, in the units of what is explained. Merged, an
edge is the sum of the paths that share it.

Source: Dunefsky et al. 2024 (arXiv:2406.11944), appendix on the greedy search; code of 8721ff0.
Differs: a head's source token is a step of its own; paths end at embeddings; whatever is not kept is told as
the rest of a node.
"""

import heapq
from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple

from dictlearn.circuits.contributions import FOLLOWED, Contribution, Linear, Reader

STEPS = (*FOLLOWED, "token", "position")
"""Kinds of contributions that paths go to."""
Path = tuple[Contribution, ...]
"""Steps from what is explained backwards. Its value is that of the last step."""
Key = tuple[str, int, int, int | None]
"""A node of the pruned graph: kind, layer, index, and token (None where tokens are summed)."""


class Pruned(NamedTuple):
    """A pruned graph. edges: {(source, target): weight}; the target of first steps is None, what is explained.
    rest: by node, what it has without the contributions that are kept."""

    edges: dict[tuple[Key, Key | None], float]
    rest: dict[Key, float]


def search(
    linear: Linear,
    start: Reader,
    depth: int = 5,
    width: int | None = 5,
    *,
    absolute: bool = False,
    cap: bool = False,
    n_ignored: int = 1,
    keep: Callable[[Contribution], bool] = lambda one: True,
) -> list[Path]:
    """The largest paths to what is explained.

    Args:
        linear: the linear model of the prompt.
        start: what is explained, of `linear.latent` or `linear.logit`.
        depth: the largest number of steps of a path.
        width: the number of steps that a path is grown by, and of paths that remain of a level; None for all.
        absolute: whether negative contributions count by their size. Otherwise the most positive come first.
        cap: whether no step adds more to a latent than the latent's activation: what removing it would take.
        n_ignored: the first tokens, to which no path goes.
        keep: which contributions may be steps, by layer, token, kind or value.

    Returns:
        The paths of all levels, the shortest first, and of each level the largest first.

    Raises:
        ValueError: for a depth or a width below 1.
    """
    if depth < 1 or (width is not None and width < 1):
        raise ValueError(f"{depth=} and {width=} must be at least 1.")
    size = lambda path: abs(path[-1].value) if absolute else path[-1].value
    allowed = lambda one: one.kind in STEPS and one.position >= n_ignored and keep(one)
    found, ends = [], [((), start)]
    for _ in range(depth):
        grown = []
        for path, reader in ends:
            steps = map(
                lambda one: _capped(path, one) if cap else one, linear.contributions(reader)
            )
            longer = [(*path, one) for one in steps if allowed(one)]
            grown += [(each, reader) for each in _largest(longer, width, size)]
        grown = _largest(grown, width, lambda one: size(one[0]))
        found += [path for path, _ in grown]
        going = [(path, reader) for path, reader in grown if path[-1].kind in FOLLOWED]
        ends = [(path, linear.follow(reader, path[-1])) for path, reader in going]
    return found


def _largest(items: list, width: int | None, size: Callable) -> list:
    return heapq.nlargest(len(items) if width is None else width, items, key=size)


def _capped(path: Path, one: Contribution) -> Contribution:
    """A contribution to a latent that is not larger than the latent's own."""
    if not path or path[-1].kind != "latent":
        return one
    own = path[-1].value
    return one._replace(value=min(one.value, own) if own > 0 else max(one.value, own))


def merged(paths: Collection[Path], by_token: bool = True) -> Pruned:
    """The graph of paths.

    Args:
        paths: paths with all their beginnings, of `search`; those of several prompts may be joined.
        by_token: whether nodes of different tokens stay apart.

    Returns:
        Pruned.
    """
    edges: dict[tuple[Key, Key | None], float] = {}
    rest: dict[Key, float] = {}
    for path in paths:
        value, node = path[-1].value, _key(path[-1], by_token)
        above = _key(path[-2], by_token) if len(path) > 1 else None
        edges[node, above] = edges.get((node, above), 0.0) + value
        rest[node] = rest.get(node, 0.0) + value
        if above is not None:
            rest[above] = rest.get(above, 0.0) - value
    return Pruned(edges, rest)


def _key(one: Contribution, by_token: bool) -> Key:
    return one.kind, one.layer, one.index, one.position if by_token else None


def told(paths: Sequence[Path], words: Sequence[str]) -> list[str]:
    """Paths as lines, from the embedding to what is explained.

    Args:
        paths: the paths.
        words: the text of each token of the prompt.

    Returns:
        A line for each, such as "+1.20  token 'cat' > latent 0.17 'cat' > head 1.3 'cat'".
    """
    name = lambda one: one.kind if one.layer < 0 else f"{one.kind} {one.layer}.{one.index}"
    step = lambda one: f"{name(one)} {words[one.position]!r}"
    return [f"{path[-1].value:+.2f}  {' > '.join(map(step, reversed(path)))}" for path in paths]
