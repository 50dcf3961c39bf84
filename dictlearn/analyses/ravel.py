"""RAVEL: whether a few latents carry one attribute of an entity, and no other (SAEBench).

    "Oslo is on the continent of"      base: Oslo      source: Cairo
    cause        the share of prompts on the attribute whose completion is the source's once it is moved
    isolation    the share of prompts on other attributes whose completion is still the base's
    score        (cause + isolation) / 2

A binary mask over latents is learned for each attribute (MDBM; analyses/_interchange.py), on 70 % of the pairs.
The baselines have a mask too: over latents of a random dictionary, residual channels, principal components, and
the axes of a rotation that is learned with it (MDAS). Only prompts that the model completes rightly are kept.

Source: SAEBench 8042bb3, whose keys the values have; Huang et al. 2024 (arXiv:2402.17700).
Differs: a pair is of the kind that it was drawn as; SAEBench takes a pair for isolation where the two tokens
that should follow are the same. It has special rules for some values; here "the" in front is left out. No pair
is drawn twice.
"""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from dictlearn.analyses import _asked, _documents, _entities
from dictlearn.analyses._asked import MDAS
from dictlearn.analyses._entities import Couples, Prompts
from dictlearn.analyses._interchange import (
    Basis,
    Coded,
    How,
    Turned,
    completions,
    learned,
    swaps,
)
from dictlearn.analyses._probing import LLM, PCA, RANDOM, SAE, Key
from dictlearn.analyses._result import Result
from dictlearn.analyses._subject import Subject, dense_codes, exactly
from dictlearn.lm import LM
from dictlearn.runs.trained import Trained

NEEDS = ("model", "origin")
KEYS = ["disentanglement_score", "cause_score", "isolation_score"]
Found = dict[Key, list[dict[str, Any]]]
"""{(kind, dictionary): the scores on each attribute of each task in each split}."""


def ravel(
    subjects: Sequence[Subject],
    *,
    tasks: str | Sequence[str] | Mapping[str, Mapping[str, Any]] = "cities",
    n_prompts: int = 0,
    n_entities: int = 500,
    n_pairs: int = 200,
    n_tokens: int = 6,
    lr: float = 1e-3,
    epochs: int = 2,
    error: bool = False,
    splits: int = 1,
    seed: int = 0,
    model: str = "",
    tap: str = "",
) -> Result:
    """The scores of every dictionary, and of the baselines.

    Args:
        subjects: one run on a language model's activations, or dictionaries with `model`.
        tasks: tasks of prompts about entities, one kind of entities each: `cities`, `ravel_prompts`, or the
            path of a file with its `attributes=("entity", "value")`.
        n_prompts: the largest number of prompts of a task that are tried; 0 for all.
        n_entities: the entities that are kept, which have the most right prompts.
        n_pairs: the pairs of each kind for an attribute; SAEBench has 5000.
        n_tokens: the tokens of a completion.
        lr, epochs: the rate of Adam and the passes over the pairs.
        error: whether the dictionary's error stays at the entity.
        splits: how many times pairs are drawn and masks learned.
        seed: the seed of prompts, pairs and random dictionaries.
        model, tap: the model and the tap of dictionaries without a run; empty for the run's, or the file's tap.

    Returns:
        A Result with SAEBench's record of each dictionary, and a row for each setting with the half width of
        its 95 % interval over dictionary seeds and splits. Values are means over attributes, then over tasks;
        NaN where the model completes too few prompts.

    Raises:
        ValueError: for a subject without a model or with several taps, a transcoder, a task without entities,
            and settings out of bounds.
    """
    if min(n_pairs, n_tokens, epochs, splits, n_entities) < 1 or lr <= 0 or n_prompts < 0:
        raise ValueError(
            f"{n_pairs=}, {n_tokens=}, {epochs=}, {splits=}, {n_entities=} must be at least 1, {lr=} positive, "
            f"{n_prompts=} at least 0."
        )
    (subject,) = exactly(1, subjects, "ravel")
    lm, tap = _documents.one_tap(subject, model, tap)
    some = n_prompts, n_entities, n_tokens, seed
    prompts = {
        name: _entities.known(lm, tap, _asked.made(name, own, lm, ()), *some)
        for name, own in _asked.named(tasks).items()
    }
    run = _Run(lm, tap, How(lr, epochs, error), n_pairs, n_tokens, splits, seed)
    config = {
        **{"tasks": _asked.named(tasks), "n_prompts": n_prompts, "n_entities": n_entities},
        **{"n_pairs": n_pairs, "n_tokens": n_tokens, "splits": splits, "seed": seed},
        **{**run.how._asdict(), "model": lm.name, "tap": tap},
    }
    found, l0 = run.measured(subject.trained, prompts)
    values = {
        "eval_type_id": "ravel",
        "eval_config": config,
        "documents": {name: one.counts for name, one in prompts.items()},
    }
    return _result(subject, values, found, l0)


class _Run(NamedTuple):
    """The settings, and the model."""

    lm: LM
    tap: str
    how: How
    n_pairs: int
    n_tokens: int
    splits: int
    seed: int

    def measured(
        self, trained: Sequence[Trained], prompts: Mapping[str, Prompts]
    ) -> tuple[Found, dict[Key, float]]:
        """(the scores, the mean L0 of every dictionary at the entities) of tasks whose prompts are known."""
        found: Found = {}
        l0: dict[Key, list[float]] = {}
        for name, own in prompts.items():
            bases = self._bases(trained, own, l0) if len(own.at_S) else {}
            for split, attribute in itertools.product(range(self.splits), own.counts):
                drawn = _entities.couples(own, attribute, self.n_pairs, self.seed + split)
                if drawn is None:
                    continue
                for at, basis in bases.items():
                    cause, isolation = self._scores(own, basis, *drawn)
                    of = zip(KEYS, ((cause + isolation) / 2, cause, isolation), strict=True)
                    row = {"dataset_name": name, "attribute": attribute, "split": split, **dict(of)}
                    found.setdefault(at, []).append(row)
        return found, {at: float(np.mean(each)) for at, each in l0.items()}

    def _bases(
        self, trained: Sequence[Trained], prompts: Prompts, l0: dict[Key, list[float]]
    ) -> dict[Key, Basis | None]:
        """The dictionaries and the baselines, whose L0 is added to `l0`; None for the learned rotation."""
        x_SD = prompts.x_SD
        mean_D = x_SD.mean(0)
        axes_DD = np.linalg.eigh(np.cov(x_SD.T, ddof=0))[1].T[::-1]
        still = Turned(jnp.eye(len(mean_D)), jnp.zeros(len(mean_D)))
        found: dict[Key, Basis | None] = {(LLM, ""): still, (MDAS, ""): None}
        found[PCA, ""] = Turned(jnp.asarray(axes_DD, jnp.float32), jnp.asarray(mean_D))
        for one in trained:
            active = _active(one, x_SD)
            random = _documents.random_dictionary(one.module.n_latents, active, mean_D, self.seed)
            for kind, each in ((SAE, one), (RANDOM, random)):
                found[kind, one.name] = Coded.of(each)
                l0.setdefault((kind, one.name), []).append(_active(each, x_SD))
        return found

    def _scores(
        self, prompts: Prompts, basis: Basis | None, train: Couples, test: Couples
    ) -> tuple[float, float]:
        """(cause, isolation) of a mask that is learned on some pairs, on others."""
        pairs = train.pairs(prompts)
        basis, mask_F = learned(self.lm, self.tap, basis, pairs, self.how, self.seed)
        return self.scored(prompts, basis, mask_F, test)

    def scored(
        self, prompts: Prompts, basis: Basis, mask_F: np.ndarray, test: Couples
    ) -> tuple[float, float]:
        """(cause, isolation) of a mask."""
        own = test.pairs(prompts)
        new_ND = swaps(basis, mask_F, own.base_BD, own.source_BD, self.how.error)
        given = own.tokens_BP, own.length_B, own.at_B, new_ND
        said_NT = completions(self.lm, self.tap, self.n_tokens, *given)
        right_N = _entities.rights(self.lm, prompts.value_S[test.wanted_N], said_NT)
        return float(right_N[test.cause_N].mean()), float(right_N[~test.cause_N].mean())


def _active(one: Trained, x_SD: np.ndarray) -> float:
    return float(np.count_nonzero(dense_codes(one, x_SD), axis=1).mean())


def _result(
    subject: Subject, values: dict[str, Any], found: Found, l0: Mapping[Key, float]
) -> Result:
    """The record of each dictionary as SAEBench writes it, and the rows."""
    runs = lambda at, key: _splits(found.get(at, []), key)
    own = lambda kind, names: (
        float(np.mean([l0[kind, name] for name in names])) if l0 and kind in (SAE, RANDOM) else None
    )
    rows = _asked.rows(subject, KEYS, runs, own, (LLM, PCA, MDAS))
    mean = lambda at, key: float(np.mean(runs(at, key) or [np.nan]))
    record = lambda at: {
        "eval_result_metrics": {"ravel": {key: mean(at, key) for key in KEYS}},
        "eval_result_details": found.get(at, []),
    }
    dictionaries = {one.name: record((SAE, one.name)) for one in subject.trained}
    heads = dict(zip(KEYS, ("score", "cause", "isolation"), strict=True))
    table = _asked.table("RAVEL", rows, heads)
    return Result({**values, "dictionaries": dictionaries, "settings": rows}, [table])


def _splits(rows: Sequence[Mapping[str, Any]], key: str) -> list[float]:
    """The value in each split: the mean over the attributes of a task, then over tasks."""
    found: dict[int, dict[str, list[float]]] = {}
    for row in rows:
        of = found.setdefault(row["split"], {})
        of.setdefault(row["dataset_name"], []).append(row[key])
    return [float(np.mean([np.mean(one) for one in of.values()])) for of in found.values()]
