"""Meta-structure: whether the atoms of a dictionary are sums of a few directions that many of them share.

    score = 1 - sum_i |d_i - m(d_i)|^2 / sum_i |d_i - mean|^2        d_i the atom of latent i, of unit length

m is a BatchTopK dictionary of a quarter of the width that is trained on the atoms. 1: every atom is a sum of k
shared directions. Any atoms score above 0, fewer dimensions more, so two baselines have a dictionary m of their
own: random atoms of the same mean and covariance, and the atoms that the dictionary began with.

Source: SAEBench 8042bb3, whose settings are the defaults; Leask et al. 2025 (arXiv:2502.04878).
Differs: the baselines and the interval. Where there are no more atoms than `batch`, each step reads all.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from dictlearn import dictionaries, objectives, rules
from dictlearn.analyses import _asked
from dictlearn.analyses._asked import UNTRAINED
from dictlearn.analyses._probing import RANDOM, SAE, Key
from dictlearn.analyses._result import Result
from dictlearn.analyses._subject import Subject, exactly
from dictlearn.learners.gradient import gradient
from dictlearn.ops.firing import l0
from dictlearn.runs.atoms import atoms
from dictlearn.runs.trained import Trained
from dictlearn.types import Batch, Codes

KEYS = ["meta_structure_score"]


class How(NamedTuple):
    """How a dictionary of atoms is trained. The fields are settings of the analysis."""

    k: int
    width: float
    steps: int
    batch: int
    lr: float


def meta_structure(
    subjects: Sequence[Subject],
    *,
    k: int = 4,
    width: float = 0.25,
    steps: int = 1500,
    batch: int = 1024,
    lr: float = 5e-4,
    seeds: int = 3,
    seed: int = 0,
) -> Result:
    """The score of every dictionary, and of the baselines.

    Args:
        subjects: one run, or dictionaries.
        k: the mean number of directions of an atom.
        width: the number of directions, as a share of the number of latents.
        steps, batch, lr: the training of the directions: its steps, the atoms of a step, and the rate of Adam.
        seeds: how many times they are trained.
        seed: the first seed, also of the baselines.

    Returns:
        A Result with a record of each dictionary, and a row for each setting with the half width of its 95 %
        interval over dictionary seeds and trainings. `l0` is the mean number of directions of an atom.

    Raises:
        ValueError: for settings out of bounds, and for fewer directions than k.
    """
    (subject,) = exactly(1, subjects, "meta_structure")
    if min(k, steps, batch, seeds) < 1 or lr <= 0 or not 0 < width <= 1:
        raise ValueError(
            f"{k=}, {steps=}, {batch=} and {seeds=} must be at least 1, {lr=} positive, {width=} in (0, 1]."
        )
    how = How(k, width, steps, batch, lr)
    found: dict[Key, list[tuple[float, float]]] = {}
    for one in subject.trained:
        for kind, rows in _rows(one).items():
            trained = [scored(rows(n), how, n) for n in range(seed, seed + seeds)]
            found[kind, one.name] = trained
    return _result(subject, {**how._asdict(), "seeds": seeds, "seed": seed}, found)


def _rows(one: Trained) -> dict[str, Callable[[int], np.ndarray]]:
    """seed -> unit atoms, of a dictionary and of its baselines. ITDA begins without atoms."""
    own_FD, first = _unit(atoms(one)), lambda seed: _unit(atoms(_begun(one, seed)))
    found = {SAE: lambda seed: own_FD, RANDOM: lambda seed: alike(own_FD, seed)}
    return found | ({UNTRAINED: first} if len(first(0)) else {})


def _begun(one: Trained, seed: int) -> Trained:
    """The dictionary with the weights that it declares."""
    return dataclasses.replace(
        one, variables=one.module.init(jax.random.key(seed), method="declare")
    )


def _unit(rows_FD: np.ndarray) -> np.ndarray:
    """The rows at unit length, without rows of none."""
    length_F = np.linalg.norm(rows_FD, axis=1)
    return (rows_FD[length_F > 0] / length_F[length_F > 0, None]).astype(np.float32)


def alike(own_FD: Float[np.ndarray, "F D"], seed: int) -> Float[np.ndarray, "F D"]:
    """Random rows of unit length, of the mean and the covariance of others.

    Args:
        own_FD: the others, of unit length.
        seed: the seed.

    Returns:
        As many rows.
    """
    mean_D = own_FD.mean(0)
    share_D, axes_DD = np.linalg.eigh(np.cov(own_FD.T, ddof=0))
    drawn_FD = np.random.default_rng(seed).normal(size=own_FD.shape)
    return _unit(mean_D + drawn_FD * np.sqrt(np.maximum(share_D, 0)) @ axes_DD.T)


def scored(rows_FD: Float[np.ndarray, "F D"], how: How, seed: int) -> tuple[float, float]:
    """Trains a dictionary of rows.

    Args:
        rows_FD: the rows.
        how: its training.
        seed: the seed of its weights and of its batches.

    Returns:
        (the score, the mean number of directions of a row).

    Raises:
        ValueError: for fewer directions than k.
    """
    n = round(how.width * len(rows_FD))
    if n < how.k:
        raise ValueError(
            f"{n} directions for {len(rows_FD)} atoms are fewer than k={how.k}; raise width, or lower k."
        )
    score, active = _trained(jnp.asarray(rows_FD), how, n, jax.random.key(seed))
    return float(score), float(active)


@functools.partial(jax.jit, static_argnums=(1, 2))
def _trained(rows_FD: jax.Array, how: How, n: int, key: jax.Array):
    """(the score, the mean L0) of a dictionary of n directions."""
    rule = rules.make("adam", lr=how.lr, steps=how.steps, warmup_steps=0)
    module = dictionaries.make("batch_topk", d_in=rows_FD.shape[1], n_latents=n, k=how.k)
    learner, size = gradient(module, objectives.make("squared_error"), rule), len(rows_FD)

    def step(state, key):
        drawn = lambda: rows_FD[jax.random.randint(key, (how.batch,), 0, size)]
        own_BD = rows_FD if size <= how.batch else drawn()
        return learner.update(state, Batch(own_BD, own_BD))[0], None

    state = learner.init(key, Batch(rows_FD, rows_FD))
    state = jax.lax.scan(step, state, jax.random.split(key, how.steps))[0]
    variables = learner.variables(state)
    codes = cast(Codes, module.apply(variables, rows_FD, method="encode"))
    error_FD = rows_FD - cast(jax.Array, module.apply(variables, codes, method="decode"))
    whole = jnp.sum((rows_FD - rows_FD.mean(0)) ** 2)
    return 1 - jnp.sum(error_FD**2) / whole, l0(codes).mean()


def _result(
    subject: Subject, config: Mapping[str, Any], found: Mapping[Key, Sequence[tuple[float, float]]]
) -> Result:
    """The record of each dictionary, and the rows."""
    trained = lambda at: found.get(at, ())
    score = lambda at: [one for one, _ in trained(at)]
    active = lambda kind, names: [own for name in names for _, own in trained((kind, name))]
    mean_l0 = lambda kind, names: float(np.mean(active(kind, names) or [np.nan]))
    beside = (RANDOM, UNTRAINED)
    rows = _asked.rows(subject, KEYS, lambda at, key: score(at), mean_l0, (), beside)
    record = lambda at: {
        "eval_result_metrics": {"meta_structure": {KEYS[0]: float(np.mean(score(at)))}},
        "eval_result_details": [{"score": one, "l0": own} for one, own in found[at]],
    }
    values = {
        "eval_type_id": "meta_structure",
        "eval_config": config,
        "dictionaries": {one.name: record((SAE, one.name)) for one in subject.trained},
        "settings": rows,
    }
    return Result(values, [_asked.table("Meta-structure of atoms", rows, {KEYS[0]: "score"})])
