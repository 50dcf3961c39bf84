"""Probe loss: how well a single latent tells labelled rows apart.

    loss of a task = the cross-entropy of its best latent's probe            probe loss = its mean over tasks

A task is one label against the rest. A probe is a logistic regression on one latent's pre-activation, averaged
over the tokens of a text (`ops/probes.py`). Half of the rows fit the probes and choose the latent, the loss is
of the other half. Beside it are the loss of the best dimension of the activations and of the constant probe.

Source: Gao et al. 2024 (arXiv:2406.04093), section 4.2, there on 61 curated tasks.

Differs: UNSURE how the paper joins the tokens of a text; here by their mean.
"""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dictlearn import normalise
from dictlearn.analyses._labelled import Labelled, labelled, mean, tasks
from dictlearn.analyses._result import Result, Table
from dictlearn.analyses._subject import Subject, exactly
from dictlearn.ops import probes
from dictlearn.runs.trained import Trained

NEEDS = ("labels",)
_ROWS = 1024


def probe_loss(
    subjects: Sequence[Subject],
    *,
    texts: str = "",
    n_texts: int = 1024,
    length: int = 48,
    labels: str = "",
    key: str = "class",
) -> Result:
    """The probe loss of every dictionary of a run.

    Args:
        subjects: one run on an array with labels, or on a language model's activations.
        texts: of a run on a model: a task of `tasks`, or a file of records with "text" and "label"; empty for
            Wikipedia leads and their topics.
        n_texts, length: the number of texts, and of the tokens that are read of each.
        labels, key: of a run on an array: a JSON file with the labels of its rows under this key; empty for
            `labels.json` in its folder.

    Returns:
        A Result with `rows`, one for each dictionary and both baselines.

    Raises:
        ValueError: for labels that make no task.
    """
    (subject,) = exactly(1, subjects, "probe_loss")
    given = labelled(subject, texts, n_texts, length, labels, key)
    of = tasks(given.label_N)
    inputs = {one.name: _pooled(one, given) for one in subject.trained}
    rows = [{"name": name, **_losses(z_NF, of)} for name, z_NF in sorted(inputs.items())]
    best = min(rows, key=lambda row: row["probe_loss"])
    mean_ND = mean(given.x_NTD, given.mask_NT)
    rows.append({"name": "best dimension", **_losses(mean_ND, of)})
    rows.append({"name": "no probe", **_losses(np.zeros((len(mean_ND), 1), "f"), of)})
    table = Table(
        "Probe loss", ("dictionary", "nats"), [(r["name"], r["probe_loss"]) for r in rows]
    )
    shown = [
        (task, own["latent"], own["loss"], rows[-1]["tasks"][task]["loss"])
        for task, own in best["tasks"].items()
    ]
    columns = ("label", "latent", "loss", "no probe")
    return Result({"rows": rows}, [table, Table(f"Labels by {best['name']}", columns, shown)])


@functools.partial(jax.jit, static_argnums=0)
def _pre(module, norm, variables, x_BD):
    """The pre-activations, as the training pass of any dictionary gives them."""
    x_BD, _ = normalise.forward(norm, x_BD)
    alive_F = jnp.zeros(module.n_latents, bool)
    return module.apply(variables, jnp.asarray(x_BD), alive_F, mutable=["stats"])[0].pre_BF


def _pooled(one: Trained, given: Labelled) -> np.ndarray:
    """The mean pre-activations of each text, `[N, F]`."""
    n, length, width = given.x_NTD.shape
    size = max(1, _ROWS // length)
    short = ((0, -n % size), (0, 0))
    x_NTD, mask_NT = np.pad(given.x_NTD, (*short, (0, 0))), np.pad(given.mask_NT, short)
    parts = []
    for start in range(0, len(x_NTD), size):
        now = slice(start, start + size)
        pre_BF = _pre(one.module, one.norm, one.variables, x_NTD[now].reshape(-1, width))
        parts.append(mean(np.asarray(pre_BF).reshape(size, length, -1), mask_NT[now]))
    return np.concatenate(parts)[:n]


def _losses(z_NF: np.ndarray, of: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """{"probe_loss", "tasks"}: latents are chosen on the even rows, the loss is of the odd ones."""
    found = {}
    for task, is_N in of.items():
        fitted = probes.logistic(z_NF[::2], is_N[::2])
        latent = int(probes.cross_entropy(fitted, z_NF[::2], is_N[::2]).argmin())
        loss_F = probes.cross_entropy(fitted, z_NF[1::2], is_N[1::2])
        found[task] = {"latent": latent, "loss": float(loss_F[latent])}
    return {"probe_loss": float(np.mean([own["loss"] for own in found.values()])), "tasks": found}
