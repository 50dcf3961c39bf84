"""Activations with a known dictionary, drawn at every step: x = a V + noise.

    p1  planted          every feature on by itself with probability s/N, coefficient U[0.5, 1.5]
    p2  zipf             p1 with probabilities proportional to 1/rank, at most 0.9, summing to s
    p3  tree             families of a parent and three children: a child is on only with its parent
                         (probability 1/4 each, never two together), coefficient 1, orthonormal V
    p4  over-realised    exactly s features on, gaussian coefficients scaled to unit norm
    p5  balanced         exactly s features on, coefficients U[0.5, 1.5] / sqrt(s)
    p6  imbalanced       p5 with 6 s / 23 features on in half of the tokens and 40 s / 23 in the others
    views                p1 seen twice, x = [x^1 x^2]: of every three features the first is in both views,
                         by unrelated directions, the second in x^1 only, the third in x^2 only
    layers               p1 through two layers, x = [x^1 x^2] to y = [y^1 y^2] = a U: every other feature
                         is read from x^1 and written to y^1 and y^2, the others from x^2 to y^2

V holds N unit rows, gaussian directions except in p3. The sizes mean the same in all:
`sparsity` is the mean number s of features on, `noise` a standard deviation per coordinate of x.

Source: p4 is the noisy over-realised setting of Chidambaram et al. 2023; p5 and p6 are X = H V of Chen et al.
2025 (arXiv:2506.14002), p6 with its 3 and 20 features on. UNSURE: the paper's law of the coefficients, and
whether p6 is the setting that it calls imbalanced (in p6 the tokens differ; in p2 the features differ).
Differs: p2 rescales the other probabilities for the cap of 0.9, so that they still sum to s.
Batch t is drawn by Philox from (seed, t) alone; every process draws the global batch and keeps its own rows.
"""

import math
import sys
from collections.abc import Callable, Sequence
from typing import NamedTuple

import grain
import jax
import numpy as np

from dictlearn.normalise import apply, check_kind, estimate
from dictlearn.streams import Process, Stream
from dictlearn.types import Batch

_CHILDREN, _P_CHILD = 3, 0.25
_SHARES = (6 / 23, 40 / 23)
_HELD_OUT_FROM = 2**48
"""Steps from here on are never trained on."""


class Sizes(NamedTuple):
    """The sizes of a planted set. `noise` None is 1/sqrt(d_in)."""

    d_in: int
    n_features: int
    sparsity: float | int
    noise: float | int | None


_OWN_SIZES = {
    "p1": Sizes(32, 64, 3.0, 0.01),
    "p2": Sizes(32, 64, 3.0, 0.01),
    "p3": Sizes(20, 12, 1.575, 0.0),
    "p4": Sizes(100, 200, 5.0, None),
    "p5": Sizes(32, 64, 3.0, 0.0),
    "p6": Sizes(42, 128, 11.5, 0.0),
    "views": Sizes(32, 48, 3.0, 0.01),
    "layers": Sizes(32, 48, 3.0, 0.0),
}
_HALVES = {"views": ((1, 1), (1, 0), (0, 1)), "layers": ((1, 0), (0, 1))}
"""In which halves of x the features are, in turn."""
_WRITTEN = ((1, 1), (0, 1))
"""In which halves of y the features of `layers` are, in turn."""


class Planted(NamedTuple):
    """A planted dictionary: unit atoms [N, D], and `draw_codes(random, B)`, which returns coefficients [B, N].
    written_ND: the unit rows U of the targets; None if y is x.
    """

    atoms_ND: np.ndarray
    draw_codes: Callable[[np.random.Generator, int], np.ndarray]
    noise: float
    seed: int
    written_ND: np.ndarray | None = None


def synthetic(
    kind: str = "p1",
    *,
    batch_size: int,
    seed: int,
    d_in: int | None = None,
    n_features: int | None = None,
    sparsity: float | int | None = None,
    noise: float | int | None = None,
    normalise: str = "none",
    keys: bool = False,
    gradients: bool = False,
    process: Process | None = None,
) -> Stream:
    """A stream of planted activations, drawn at every step; `truth` holds the atoms of its targets.

    The default sizes (d_in, n_features, sparsity, noise) are p1 and p2 32, 64, 3, 0.01; p3 20, 12, 1.575, 0;
    p4 100, 200, 5, 1/sqrt(d_in); p5 32, 64, 3, 0; p6 42, 128, 11.5, 0; views 32, 48, 3, 0.01; layers 32, 48,
    3, 0. In views and layers they count both halves together, and each half is normalised by itself.

    Args:
        kind: one of the kinds above. d_in, n_features, sparsity, noise: its sizes; None for the defaults.
        batch_size, seed, normalise, process: as in every stream.
        keys, gradients: batches carry each token's step and row; the gradients of a planted loss <x, w>.

    Returns:
        A Stream. Raises ValueError for an unknown kind, impossible sizes, or a batch that cannot be shared.
    """
    check_kind(normalise, transcoder=kind == "layers")
    index, count = process or (jax.process_index(), jax.process_count())
    if batch_size < 1 or batch_size % count:
        raise ValueError(f"{batch_size=} must be a positive multiple of the {count} process(es).")
    planted = plant(
        kind, seed=seed, d_in=d_in, n_features=n_features, sparsity=sparsity, noise=noise
    )

    def whole(step: int) -> Batch:
        x_BD, codes_BN = draw(planted, batch_size, step)
        written_ND = planted.written_ND
        return Batch(x_BD, x_BD if written_ND is None else codes_BN @ written_ND)

    halves = len(_HALVES[kind][0]) if kind in _HALVES else 1
    norm = estimate(normalise, map(whole, range(sys.maxsize)), sources=(halves, halves))
    slope_D = _random(seed, 2).standard_normal(planted.atoms_ND.shape[1]).astype(np.float32)
    slope_D /= np.sqrt(np.mean(slope_D**2))

    mine = slice(index * batch_size // count, (index + 1) * batch_size // count)

    def batch(step: int) -> Batch:
        x_BD, y_BD = whole(step)[:2]
        mine_BD = x_BD[mine]
        row_B = np.arange(batch_size, dtype=np.int32)[mine]
        found = Batch(mine_BD, mine_BD if y_BD is x_BD else y_BD[mine])
        if keys:
            found = found._replace(sequence_B=np.full_like(row_B, step), position_B=row_B)
        if gradients:
            found = found._replace(g_BD=np.broadcast_to(slope_D, mine_BD.shape))
        return apply(norm, found)

    sizes = {"d_in": d_in, "n_features": n_features, "sparsity": sparsity, "noise": noise}
    width = planted.atoms_ND.shape[1]
    steps = grain.MapDataset.range(_HELD_OUT_FROM)
    rest = grain.MapDataset.range(_HELD_OUT_FROM, sys.maxsize)
    return Stream(
        d_in=width,
        d_out=width,
        batches=steps.map(batch),
        norm=norm,
        held_out=rest.map(whole),
        truth=planted.atoms_ND if planted.written_ND is None else planted.written_ND,
        reads={"kind": kind, "seed": seed, **sizes},
    )


def plant(
    kind: str = "p1",
    *,
    seed: int,
    d_in: int | None = None,
    n_features: int | None = None,
    sparsity: float | int | None = None,
    noise: float | int | None = None,
) -> Planted:
    """The planted dictionary of `synthetic` for the same arguments."""
    if kind not in _OWN_SIZES:
        raise ValueError(f"unknown planted set {kind!r}; the sets are {', '.join(_OWN_SIZES)}.")
    given = dict(zip(Sizes._fields, (d_in, n_features, sparsity, noise), strict=True))
    chosen = {name: size for name, size in given.items() if size is not None}
    sizes = _OWN_SIZES[kind]._replace(**chosen)
    if min(sizes.d_in, sizes.n_features, sizes.sparsity) <= 0 or (sizes.noise or 0) < 0:
        raise ValueError(f"{sizes} must be positive; noise may be zero.")
    atoms_ND = _random(seed, 0).standard_normal((sizes.n_features, sizes.d_in))
    if kind == "p3":
        draw_codes = _tree(sizes)
        atoms_ND = np.linalg.qr(atoms_ND.T)[0].T
    elif kind == "p4":
        draw_codes = _exactly(sizes)
    elif kind in ("p5", "p6"):
        draw_codes = _positive(sizes, shares=(1.0,) if kind == "p5" else _SHARES)
    else:
        draw_codes = _independent(_probabilities(sizes, zipf=kind == "p2"))
    level = 1.0 / math.sqrt(sizes.d_in) if sizes.noise is None else float(sizes.noise)
    if kind in _HALVES:
        atoms_ND = _in_halves(atoms_ND, _HALVES[kind])
    written_ND = None
    if kind == "layers":
        written_ND = _in_halves(_random(seed, 2).standard_normal(atoms_ND.shape), _WRITTEN)
        written_ND = _unit(written_ND)
    return Planted(_unit(atoms_ND), draw_codes, level, seed, written_ND)


def _in_halves(atoms_ND: np.ndarray, halves: Sequence[tuple[int, int]]) -> np.ndarray:
    """Keeps row n in the halves of the columns that `halves` lists in turn, and sets the others to zero."""
    n_features, width = atoms_ND.shape
    if width % 2:
        raise ValueError(f"d_in={width} must be even: it is split into two halves.")
    return atoms_ND * np.resize(halves, (n_features, 2)).repeat(width // 2, axis=1)


def _unit(atoms_ND: np.ndarray) -> np.ndarray:
    return (atoms_ND / np.linalg.norm(atoms_ND, axis=1, keepdims=True)).astype(np.float32)


def draw(planted: Planted, batch_size: int, step: int) -> tuple[np.ndarray, np.ndarray]:
    """The raw global batch `step`: x [B, D] and its true coefficients [B, N], both float32."""
    random = _random(planted.seed, 1, step)
    codes_BN = planted.draw_codes(random, batch_size).astype(np.float32)
    x_BD = codes_BN @ planted.atoms_ND
    noise_BD = random.standard_normal(x_BD.shape, dtype=np.float32)
    return x_BD + np.float32(planted.noise) * noise_BD, codes_BN


def _random(seed: int, *key: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(seed, spawn_key=key)))


def _probabilities(sizes: Sizes, zipf: bool) -> np.ndarray:
    """Probabilities [N] that sum to `sparsity`, none above 0.9 under Zipf's law."""
    _, n_features, sparsity, _ = sizes
    cap = 0.9 if zipf else 1.0
    if sparsity > cap * n_features:
        raise ValueError(f"{sparsity=} exceeds {cap * n_features}, the most {n_features=} allow.")
    if not zipf:
        return np.full(n_features, sparsity / n_features)
    law_N = 1.0 / np.arange(1, n_features + 1)
    low, high = 0.0, float(n_features)
    for _ in range(60):
        middle = (low + high) / 2
        enough = np.minimum(middle * law_N, cap).sum() >= sparsity
        low, high = (low, middle) if enough else (middle, high)
    return np.minimum(high * law_N, cap)


def _independent(p_N: np.ndarray) -> Callable:
    def draw_codes(random: np.random.Generator, tokens: int) -> np.ndarray:
        on_BN = random.random((tokens, len(p_N))) < p_N
        return on_BN * random.uniform(0.5, 1.5, on_BN.shape)

    return draw_codes


def _tree(sizes: Sizes) -> Callable:
    """Parents are features 0 .. P-1, and the children of parent i are P + 3 i + (0, 1, 2)."""
    d_in, n_features, sparsity, _ = sizes
    parents, left = divmod(n_features, 1 + _CHILDREN)
    if left or n_features > d_in:
        raise ValueError(
            f"A tree needs {n_features=} to be a multiple of {1 + _CHILDREN} and at most {d_in=}."
        )
    p_parent = sparsity / (parents * (1 + _CHILDREN * _P_CHILD))
    if p_parent > 1:
        raise ValueError(f"{sparsity=} exceeds {sparsity / p_parent}, the most a tree here allows.")

    def draw_codes(random: np.random.Generator, tokens: int) -> np.ndarray:
        parent_BP = random.random((tokens, parents)) < p_parent
        chosen_BP = random.random((tokens, parents)) // _P_CHILD
        child_BPC = parent_BP[:, :, None] & (chosen_BP[:, :, None] == np.arange(_CHILDREN))
        return np.concatenate([parent_BP, child_BPC.reshape(tokens, -1)], axis=1)

    return draw_codes


def _exactly(sizes: Sizes) -> Callable:
    _, n_features, sparsity, _ = sizes
    k = int(sparsity)
    if k != sparsity or k > n_features:
        raise ValueError(f"{sparsity=} must be a whole number, at most {n_features=}.")

    def draw_codes(random: np.random.Generator, tokens: int) -> np.ndarray:
        idx_BK = np.argsort(random.random((tokens, n_features)), axis=1)[:, :k]
        val_BK = random.standard_normal((tokens, k))
        codes_BN = np.zeros((tokens, n_features))
        unit_BK = val_BK / np.linalg.norm(val_BK, axis=1, keepdims=True)
        np.put_along_axis(codes_BN, idx_BK, unit_BK, axis=1)
        return codes_BN

    return draw_codes


def _positive(sizes: Sizes, shares: tuple[float, ...]) -> Callable:
    """Half of the tokens have the first share of `sparsity` features on, the other half the second."""
    _, n_features, sparsity, _ = sizes
    exact = [share * sparsity for share in shares]
    number = [round(k) for k in exact]
    if (
        not np.allclose(exact, number, atol=1e-6)
        or not 1 <= min(number) <= max(number) <= n_features
    ):
        raise ValueError(
            f"{sparsity=} must give whole numbers of features on, at most {n_features=}; it gives "
            f"{', '.join(f'{k:.4g}' for k in exact)}."
        )

    def draw_codes(random: np.random.Generator, tokens: int) -> np.ndarray:
        k_B = np.resize(number, tokens)
        rank_BN = np.argsort(np.argsort(random.random((tokens, n_features)), axis=1), axis=1)
        size_BN = random.uniform(0.5, 1.5, (tokens, n_features)) / np.sqrt(k_B)[:, None]
        return (rank_BN < k_B[:, None]) * size_BN

    return draw_codes
