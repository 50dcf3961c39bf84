"""Latents chosen with the gradient of the model's loss, against the same dictionary without it.

    plain       encode(x)          as at inference, where the loss is unknown
    gradient    encode(x, g)       g = dL/dx at the original activation, with the text itself as labels

Both are measured on the same held-out tokens, with the reconstruction spliced into the model. For a
dictionary that reads no gradient, only the plain form is measured.

Source: Olmo et al. 2024 (arXiv:2411.10397), gradient SAEs (`dictionaries/gsae.py`).
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from dictlearn import lm as language
from dictlearn import normalise
from dictlearn.analyses._result import Result, Table
from dictlearn.analyses._subject import Subject, exactly
from dictlearn.evaluate import Splice
from dictlearn.experiment.stream import origin
from dictlearn.meters import loss_recovered
from dictlearn.ops.lengths import explained_variance
from dictlearn.runs.trained import Trained

NEEDS = ("model", "origin")

SHOWN = ("explained_variance", "ce_score", "kl")
PASS = 4
"""Sequences to one backward pass of the model."""


def gradient_choice(subjects: Sequence[Subject], *, n_sequences: int = 8) -> Result:
    """Explained variance and loss of every dictionary, with the gradient and without it.

    Args:
        subjects: one evaluated run on one tap of a language model.
        n_sequences: the number of held-out sequences.

    Returns:
        A Result with `rows`, one for each dictionary and form.

    Raises:
        ValueError: for a run without a language model, or on several taps.
    """
    (subject,) = exactly(1, subjects, "gradient_choice")
    sources = list(origin(subject.config) or ())
    taps = [tap for source in sources for tap in source.read]
    if len(taps) != 1:
        raise ValueError(f"{subject.name} reads the taps {taps} of language models; one is needed.")
    (source,), (tap,) = sources, taps
    subject.lm.check_tokens(source.held_out().tokens_ST[:n_sequences], "The held-out text")
    text = [jnp.asarray(np.asarray(part[:n_sequences])) for part in source.held_out()]
    x_STD, g_STD = _read(subject.lm, text[0], tap)
    score = _scorer(subject.lm, tap, text, x_STD)
    rows = []
    for one in subject.trained:
        modes = {"plain": None} | ({"gradient": g_STD} if one.module.reads_gradient else {})
        for mode, given_STD in modes.items():
            yhat_STD = _reconstruct(one, x_STD, given_STD)
            rows.append({"dictionary": one.name, "choice": mode, **score(yhat_STD)})
    columns = ("dictionary", "choice", *SHOWN)
    table = Table("By gradient", columns, [[row[key] for key in columns] for row in rows])
    return Result({"rows": rows}, [table])


def _read(lm: language.LM, tokens_ST: jax.Array, tap: str) -> list[jax.Array]:
    """The activations and the gradients at the tap, each [S, T, D]."""
    names = (tap, language.gradients.PREFIX + tap)
    read = jax.jit(lambda params, at: language.gradients.read(lm.forward, params, at, names))
    starts = range(0, len(tokens_ST), PASS)
    parts = [read(lm.params, tokens_ST[start : start + PASS]) for start in starts]
    return [jnp.concatenate([part[name] for part in parts]) for name in names]


def _reconstruct(one: Trained, x_STD: jax.Array, g_STD: jax.Array | None) -> jax.Array:
    rows = lambda a: a.reshape(-1, a.shape[-1])
    if g_STD is None:
        return one.reconstruct(rows(x_STD)).reshape(x_STD.shape)
    x_BD, undo = normalise.forward(one.norm, rows(x_STD))
    g_BD = one.norm.scale_gradient * rows(g_STD)
    codes = one.module.apply(one.variables, x_BD, g_BD, method="encode")
    yhat_BD = undo(one.module.apply(one.variables, codes, method="decode"))
    return jnp.asarray(yhat_BD).reshape(x_STD.shape)


def _scorer(lm: language.LM, tap: str, text: list[jax.Array], x_STD) -> Callable:
    """A function of a reconstruction [S, T, D] that returns its explained variance and the loss meter's values,
    over unmasked tokens.
    """
    meter, (tokens_ST, mask_ST) = loss_recovered.loss_recovered(), text
    splice = Splice(lm, (tap,), {"loss": meter})
    splice.begin(tokens_ST, mask_ST, x_STD)
    x_BD = x_STD[mask_ST]

    def score(yhat_STD) -> dict[str, float]:
        found = meter.result(meter.update(meter.init(), splice(yhat_STD)["loss"]))
        return {**found, "explained_variance": explained_variance(x_BD, yhat_STD[mask_ST])}

    return score
