"""A published dictionary as a run with one dictionary, so that everything that measures runs can measure it."""

import re
from collections.abc import Mapping
from pathlib import Path

import jax
import jax.numpy as jnp

from dictlearn import dictionaries
from dictlearn.experiment import Member, Part, Program
from dictlearn.runs.trained import Run, Trained
from dictlearn.sweep import sweep
from dictlearn.types import Learner


def imported(trained: Trained, config: Mapping, path: Path) -> Run:
    """A run with one dictionary.

    Args:
        trained: the dictionary.
        config: the stream, the models and the evaluation of the run; its dictionary, objective, rule and
            learner are not read.
        path: the folder of the results.

    Returns:
        A Run without a fingerprint, because the training data of the dictionary is not known.
    """
    described = dictionaries.describe(trained.module)
    part = Part(dictionaries.make, described, {}, {})
    label = re.sub(r"\W+", "_", re.sub(r"_n\d+_\d+$", "", trained.name)) or described["name"]
    hparams = trained.hparams | {"dictionary": described, "seed": 0}
    member = Member(label, 0, hparams, 0, {}, part, None, None, None, Part(_learner, {}, {}, {}))
    program = Program([member], lambda hparams: trained.module, sweep(_learner), {})
    variables = jax.tree.map(lambda leaf: jnp.asarray(leaf)[None], dict(trained.variables))
    return Run(
        *(path, 0, dict(config), {}, trained.norm, trained.sites, [program]),
        {program.key: variables},
    )


def _learner(hparams: Mapping) -> Learner:
    raise TypeError("A published dictionary can only be measured; config.start.path trains it.")
