"""What the analyses that take latents out of the means of documents share (`tpp`, `scr`).

    effect of latent i on a probe    (its mean on the positive documents - on the others) (w W_dec,i)
    documents without latents        x - sum_i f_i W_dec,i

The probe reads the mean over tokens, so the means of documents are enough. The channels of the activation and
its principal components are latents too, with codes of either sign.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from dictlearn.analyses import _asked, _documents
from dictlearn.analyses._asked import Opened
from dictlearn.analyses._probing import LLM, PCA, RANDOM, SAE, Key, components
from dictlearn.analyses._subject import Subject, dense_codes
from dictlearn.ops.sparse_probes.sweeps import best
from dictlearn.tasks import Question

Scores = dict[Key, list[dict[str, float]]]
"""{(kind, dictionary): {key: value} in each split}."""


class Basis(NamedTuple):
    """The codes of documents, and what a unit of each latent adds to the activation."""

    code_SF: np.ndarray
    atoms_FD: np.ndarray

    def without(self, x_SD: np.ndarray, latents: np.ndarray) -> np.ndarray:
        """The documents with latents taken out."""
        return x_SD - self.code_SF[:, latents] @ self.atoms_FD[latents]

    def apart(self, one: Question) -> np.ndarray:
        """How much higher the mean of each latent is on the positive train documents of a question."""
        y_B, code_BF = one.positive(one.train_S), self.code_SF[one.train_S]
        return code_BF[y_B].mean(0) - code_BF[~y_B].mean(0)

    def mirrored(self) -> "Basis":
        """The latents, and each again with the opposite sign."""
        signs = lambda a, axis: np.concatenate([a, -a], axis)
        return Basis(signs(self.code_SF, 1), signs(self.atoms_FD, 0))


def check(ns: Sequence[int], splits: int) -> None:
    """Raises ValueError for settings out of bounds."""
    if not ns or min(ns) < 1 or splits < 1:
        raise ValueError(f"{ns=} must be numbers of latents, and {splits=} at least 1.")


def largest(effect_F: np.ndarray, n: int) -> np.ndarray:
    """The n latents of largest effect, without latents of none."""
    chosen = best(effect_F)[:n]
    return chosen[effect_F[chosen] != 0]


def dictionaries(subject: Subject, asked: _asked.Asked) -> dict[Key, Basis]:
    """The dictionaries of a subject, and the random one beside each."""
    found = {(SAE, one.name): one for one in subject.trained}
    found |= {(RANDOM, name): one for name, one in asked.random.items()}
    return {at: Basis(asked.rows[at], _documents.atoms(one)) for at, one in found.items()}


def directions(asked: _asked.Asked, questions: Sequence[Question]) -> dict[Key, Basis]:
    """The channels of the activation, and its principal components on the train documents."""
    x_SD = asked.rows[LLM, ""]
    return {
        (LLM, ""): Basis(x_SD, np.eye(x_SD.shape[1], dtype=x_SD.dtype)),
        (PCA, ""): Basis(*components(x_SD, questions)),
    }


def bases(
    subject: Subject, x_SD: np.ndarray, seed: int
) -> tuple[dict[Key, Basis], dict[Key, float]]:
    """(the dictionaries and the baselines, their L0 on the rows). A direction is two latents, one a sign.
    Dictionaries of one width and L0 share the random one."""
    active = lambda code_SF: float(np.count_nonzero(code_SF, axis=1).mean())
    coded = lambda one: Basis(dense_codes(one, x_SD), _documents.atoms(one))
    bases: dict[Key, Basis] = {}
    random: dict[str, Basis] = {}
    for one in subject.trained:
        bases[SAE, one.name] = own = coded(one)
        l0 = active(own.code_SF)
        other = _documents.random_dictionary(one.module.n_latents, l0, x_SD.mean(0), seed)
        if other.name not in random:
            random[other.name] = coded(other)
        bases[RANDOM, one.name] = random[other.name]
    mean_D = x_SD.mean(0)
    axes_KD = np.linalg.svd(x_SD - mean_D, full_matrices=False)[2]
    directions = {(LLM, ""): (x_SD, np.eye(len(mean_D))), (PCA, ""): (x_SD - mean_D, axes_KD)}
    for at, (from_SD, own_KD) in directions.items():
        both = Basis(from_SD @ own_KD.T, own_KD).mirrored()
        bases[at] = both._replace(code_SF=np.maximum(both.code_SF, 0))
    return bases, {at: active(basis.code_SF) for at, basis in bases.items()}


def mean(of: Sequence[Scores]) -> Scores:
    """The mean over several tasks, in each split."""
    one = lambda splits: {key: float(np.mean([each[key] for each in splits])) for key in splits[0]}
    together = lambda at: zip(*(each[at] for each in of), strict=True)
    return {at: [one(splits) for splits in together(at)] for at in of[0]}


def values(
    name: str, opened: Opened, found: Mapping[str, Scores], keys: Sequence[str]
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The rows of a table, and the record of each dictionary as SAEBench writes it.

    name: the analysis. found: {task: scores}. keys: the keys of the scores.
    """
    whole = mean(list(found.values()))
    runs = lambda at, key: [split[key] for split in whole[at]]
    rows = _asked.rows(opened.subject, keys, runs, opened.l0)
    of = lambda scores, one: {
        key: float(np.mean([split[key] for split in scores[SAE, one]])) for key in keys
    }
    record: Callable[[str], dict[str, Any]] = lambda one: {
        "eval_result_metrics": {f"{name}_metrics": of(whole, one)},
        "eval_result_details": [
            {"dataset_name": task, **of(scores, one)} for task, scores in found.items()
        ],
    }
    return rows, {one.name: record(one.name) for one in opened.subject.trained}
