"""A new learner is one new file: dropped into the folder, it trains the existing dictionaries."""

import pytest

from tests.dropin import drop_in

LEARNER = '''
"""Gradient descent on the reconstruction alone (a test's learner)."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from dictlearn.learners._finite import all_finite
from dictlearn.learners._start import Start
from dictlearn.types import Batch, Dictionary, Learner, Objective


class State(NamedTuple):
    variables: dict
    rule: Any


def dropped_in(
    dictionary: Dictionary, objective: Objective, rule, start: Start, *, scale: float = 1.0
) -> Learner:
    def init(key: jax.Array, batch: Batch) -> State:
        variables = start(dictionary, key, batch)
        return State(variables, rule.init(variables["params"]))

    def update(state: State, batch: Batch):
        params, rest = state.variables["params"], dict(state.variables)
        del rest["params"]
        alive = jnp.zeros(dictionary.n_latents, bool)

        def loss(params):
            everything = {"params": params, **rest}
            out, changed = dictionary.apply(everything, batch.x_BD, alive, mutable=list(rest))
            return scale * objective(out, batch).mean(), (out, changed)

        (value, (out, changed)), grads = jax.value_and_grad(loss, has_aux=True)(params)
        updates, moved = rule.update(grads, state.rule, params)
        new = dictionary.project(optax.apply_updates(params, updates))
        error = jnp.sum((batch.y_BD - out.y_BD) ** 2)
        variance = jnp.sum((batch.y_BD - batch.y_BD.mean(0)) ** 2)
        info = {
            "loss": value,
            "explained_variance": 1 - error / variance,
            "l0": (out.codes.val != 0).sum(-1).mean(dtype=jnp.float32),
            "finite": all_finite((value, grads)),
        }
        return State({**changed, "params": new}, moved), info

    return Learner(init, update, lambda state: state.variables)
'''

SUITE = "tests/learners/test_conformance.py"


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    forgetful = LEARNER.replace("optax.apply_updates(params, updates)", "params")
    assert forgetful != LEARNER
    files = {"dropped_in": LEARNER, "forgetful": forgetful.replace("dropped_in", "forgetful")}
    files = {f"learners/{name}": text for name, text in files.items()}
    chosen = "dropped_in or forgetful and trains"
    return drop_in(tmp_path_factory.mktemp("new"), files, SUITE, chosen)


def test_one_dropped_in_learner_passes_conformance_untouched(found):
    passed, failed, log = found["dropped_in"]
    assert len(passed) == 5, log
    assert not failed, log


def test_a_learner_that_forgets_the_batch_is_caught(found):
    _, failed, log = found["forgetful"]
    assert failed == {"test_it_trains_and_its_loss_is_told_and_finite"}, log
    assert "np.mean(explained[-5:]) >" in log
