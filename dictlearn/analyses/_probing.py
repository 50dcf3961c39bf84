"""The accuracy of sparse probes, as SAEBench measures it: the k columns whose class means differ most, an L2
logistic regression on them, the share of right answers on the test documents.

The rows of documents have keys (kind, name): ("llm", "") the activation, ("pca", "") its principal components,
("sae", NAME) the codes of a dictionary, ("random", NAME) those of a random one of its width and L0.

Source: SAEBench 8042bb3.
Differs: the probe of all columns is an L2 logistic regression whose C is chosen on a fifth of the train
documents. SAEBench trains it by AdamW, and keeps the epoch with the best accuracy on the test documents.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from dictlearn.ops.sparse_probes import logistic, rankers
from dictlearn.ops.sparse_probes.sweeps import best
from dictlearn.tasks import Drawn, Question, questions

LLM, PCA, SAE, RANDOM = "llm", "pca", "sae", "random"
ALL = "test_accuracy"
"""The key of the probe of all columns."""

_CS = (1e-3, 1e-1, 1e1)
_VALIDATED = 5
"""One in so many train documents chooses C."""

Key = tuple[str, str]
Accuracies = dict[str, dict[str, float]]
"""{key: {class: accuracy}}; the keys are SAEBench's without "llm_" or "sae_" in front."""
Found = dict[Key, list[Accuracies]]
"""The accuracies of each kind of rows, in each split."""


class How(NamedTuple):
    """Which probes. The fields are settings of the analysis."""

    ks: tuple[int, ...]
    splits: int
    all_latents: bool
    seed: int

    @property
    def keys(self) -> list[str]:
        """The keys of the accuracies."""
        return [*map(top, self.ks), ALL]

    def check(self) -> None:
        """Raises ValueError for no k, a k below 1 and no split."""
        if not self.ks or min(self.ks) < 1 or self.splits < 1:
            raise ValueError(
                f"ks={self.ks} must be numbers of latents, and splits={self.splits} at least 1."
            )


def top(k: int) -> str:
    """The key of the probe of k columns."""
    return f"top_{k}_test_accuracy"


def measured(how: How, drawn: Drawn, rows: Mapping[Key, np.ndarray]) -> Found:
    """The accuracies of all rows [S, F] of the documents of a task, and of the principal components."""
    found: Found = {key: [] for key in [*rows, (PCA, "")]}
    for n in range(how.splits):
        asked = questions(drawn, how.seed + n)
        components_SD = components(rows[LLM, ""], asked)[0]
        for key, row_SF in {**rows, (PCA, ""): components_SD}.items():
            got = {top(k): value for k, value in sparse(row_SF, asked, how.ks).items()}
            if key[0] == LLM or (key[0] == SAE and how.all_latents):
                got[ALL] = whole(row_SF, asked)
            found[key].append(got)
    return found


def components(x_SD: np.ndarray, asked: Sequence[Question]) -> tuple[np.ndarray, np.ndarray]:
    """(all documents in the principal components of the train documents' activations, the components)."""
    train_S = np.unique(np.concatenate([one.train_S for one in asked]))
    mean_D = x_SD[train_S].mean(0)
    axes_KD = np.linalg.svd(x_SD[train_S] - mean_D, full_matrices=False)[2]
    return (x_SD - mean_D) @ axes_KD.T, axes_KD


def record(name: str, found: Mapping[str, Found]) -> dict[str, Any]:
    """The record of a dictionary as SAEBench writes it, from {task: Found}, averaged over splits; the baselines
    that SAEBench does not have are two more categories."""
    kinds = {LLM: (LLM, ""), SAE: (SAE, name), PCA: (PCA, ""), RANDOM: (RANDOM, name)}
    by_class = {
        task: {
            f"{kind}_{key}": {
                one: _mean(split[key][one] for split in of[at]) for one in of[at][0][key]
            }
            for kind, at in kinds.items()
            for key in of[at][0]
        }
        for task, of in found.items()
    }
    by_task = {
        task: {key: _mean(each.values()) for key, each in of.items()}
        for task, of in by_class.items()
    }
    first = next(iter(by_task.values()))
    over_tasks = {key: _mean(of[key] for of in by_task.values()) for key in first}
    return {
        "eval_result_metrics": {
            kind: {key: one for key, one in over_tasks.items() if key.startswith(f"{kind}_")}
            for kind in kinds
        },
        "eval_result_details": [{"dataset_name": task, **of} for task, of in by_task.items()],
        "eval_result_unstructured": {f"{task}_results": of for task, of in by_class.items()},
    }


def runs(at: Key, key: str, found: Mapping[str, Found]) -> list[float]:
    """The accuracy in each split, averaged over the classes of each task and then over tasks; none if it was
    not measured."""
    splits = zip(*(of[at] for of in found.values()), strict=True)
    return [_mean(_mean(of[key].values()) for of in split) for split in splits if key in split[0]]


def _mean(values) -> float:
    return float(np.mean(list(values)))


def sparse(
    row_SF: np.ndarray, asked: Sequence[Question], ks: Sequence[int]
) -> dict[int, dict[str, float]]:
    """{k: {class: accuracy}} of the probes of k columns, all in one program."""
    widest = min(max(ks), row_SF.shape[1])
    supports, labels, weights = [], [], []
    for one in asked:
        y_B = one.positive(one.train_S)
        chosen_K = best(rankers.mean_difference(row_SF[one.train_S], y_B))[:widest]
        supports += [np.where(np.arange(widest) < k, chosen_K, -1) for k in ks]
        y_S, weight_S = np.zeros(len(row_SF), bool), np.zeros(len(row_SF))
        y_S[one.train_S], weight_S[one.train_S] = y_B, 1
        labels += [y_S] * len(ks)
        weights += [weight_S] * len(ks)
    probe = logistic.supports(row_SF, np.stack(supports), np.stack(labels), np.stack(weights))
    found: dict[int, dict[str, float]] = {k: {} for k in ks}
    cells = ((one, k) for one in asked for k in ks)
    for (one, k), at_K, w_K, b in zip(cells, supports, probe.w_D, probe.b, strict=True):
        found[k][one.name] = right(row_SF[one.test_S][:, at_K] @ w_K + b, one)
    return found


def whole(row_SF: np.ndarray, asked: Sequence[Question]) -> dict[str, float]:
    """{class: accuracy} of the probes of all columns."""
    probes = {one.name: linear(row_SF, one) for one in asked}
    logit = lambda one: row_SF[one.test_S] @ probes[one.name].w_D + probes[one.name].b
    return {one.name: right(logit(one), one) for one in asked}


def linear(row_SF: np.ndarray, one: Question) -> logistic.Probe:
    """The probe of all columns. C is the best on a fifth of the train documents."""
    x_BF, y_B = row_SF[one.train_S], one.positive(one.train_S)
    held_B = np.arange(len(y_B)) % _VALIDATED == 0
    tried = logistic.labels(x_BF[~held_B], np.tile(y_B[~held_B], (len(_CS), 1)), c=np.array(_CS))
    logit_QB = tried.w_D @ x_BF[held_B].T + tried.b[:, None]
    c = _CS[int(((logit_QB > 0) == y_B[held_B]).mean(1).argmax())]
    probe = logistic.labels(x_BF, y_B[None], c=c)
    return logistic.Probe(probe.w_D[0], probe.b[0])


def right(logit_B: np.ndarray, one: Question) -> float:
    """The share of the test documents whose logit has the right sign."""
    return float(((logit_B > 0) == one.positive(one.test_S)).mean())
