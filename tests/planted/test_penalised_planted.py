"""Planted latents under penalties and thresholds (P1 small, F = 2 N): found at the right setting, not at a
wrong one; and who shrinks what it finds.

gamma = E|yhat|^2 / E<yhat, y> is 1 for a reconstruction of the right length, less for one that shrinks.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dictlearn.experiment.stream import open_stream
from tests.helpers import planted_config, recovery, run, truth


class Found(NamedTuple):
    at_90: float
    at_95: float
    l0: float
    gamma: float


@functools.cache
def trained(name, swept, values, fields=(), steps=700, april=False) -> list[Found]:
    """What each member of one sweep found. fields: more of the dictionary's, as pairs."""
    config = planted_config(
        name,
        steps=steps,
        batch_size=256,
        dictionary={"n_latents": 128, **dict(fields)},
        rule={"lr": 4e-3, "warmup_steps": 30, "decay_fraction": 0.5, "unit_norm": not april},
        learner={
            "dead_after": 20 * 256,
            "b_dec_start": "zeros",
            "atom_norm": 0.1 if april else 1.0,
        },
        sweep={swept: values},
    )
    (program,), states, infos = run(config, steps)
    variables, l0 = states[program.key].variables, infos[-1][program.key]["l0"]
    x = open_stream(config).batches[10**6].x_BD
    found = []
    for n in range(len(values)):
        one = jax.tree.map(lambda leaf, n=n: jnp.asarray(leaf[n]), variables)
        module = program.module_of(n)
        codes = module.apply(one, x, method="encode")
        y = np.asarray(module.apply(one, codes, method="decode"))
        rows = variables["params"]["W_dec_FD"][n]
        shares = (recovery(truth(config), rows, threshold) for threshold in (0.9, 0.95))
        found.append(Found(*shares, float(l0[n]), float((y**2).sum() / (y * x).sum())))
    return found


def relu():
    return trained("relu", "sparsity", (0.3, 0.05, 1.1, 1.7), steps=500)


def gated():
    return trained("gated", "sparsity", (1.2, 0.3))


def p_anneal():
    fields = (("anneal_start", 230), ("anneal_end", 560), ("p_end", 0.2))
    return trained("p_anneal", "sparsity", (0.4, 0.05), fields)


def test_relu_with_unit_atoms_recovers_and_a_weak_penalty_fails():
    right, weak, *_ = relu()
    assert right.at_90 >= 0.95
    assert weak.at_90 < 0.3
    assert weak.l0 > 30


def test_the_april_form_recovers_without_unit_atoms_and_a_weak_penalty_fails():
    fields = (("norm_weighted", True), ("subtract_b_dec", False))
    right, weak = trained("relu", "sparsity", (0.3, 0.05), fields, steps=500, april=True)
    assert right.at_90 >= 0.95
    assert weak.at_90 < 0.3
    assert weak.l0 > 30


@pytest.mark.parametrize(("penalty", "sparsity"), [("sqrt", 0.2), ("tanh", 0.1)])
def test_concave_penalties_recover_at_fewer_active_latents_and_weak_ones_fail(penalty, sparsity):
    right, weak = trained("relu", "sparsity", (sparsity, 0.02), (("penalty", penalty),))
    assert right.at_90 >= 0.9
    assert right.l0 < 0.7 * relu()[0].l0
    assert weak.at_90 < 0.3


JUMPS = [
    ("l0", "sparsity", (0.1, 0.02), (("bandwidth", 0.1),)),
    ("tanh", "sparsity", (0.06, 0.01), (("bandwidth", 0.5),)),
    ("target_l0", "target_l0", (3.0, 16.0), (("bandwidth", 0.1), ("sparsity", 1.0))),
]


@pytest.mark.parametrize(("penalty", "swept", "values", "fields"), JUMPS)
def test_jumprelu_recovers_with_the_planted_l0_and_a_weak_penalty_fails(
    penalty, swept, values, fields
):
    fields = (("penalty", penalty), ("threshold_start", 0.1), *fields)
    right, weak = trained("jumprelu", swept, values, fields, steps=1500)
    assert right.at_95 >= 0.95
    np.testing.assert_allclose(right.l0, 3, rtol=0.2)
    np.testing.assert_allclose(right.gamma, 1, atol=0.02)
    assert weak.at_95 < 0.3
    assert weak.l0 > 2 * right.l0


def test_gated_recovers_with_the_planted_l0_and_a_weak_penalty_fails():
    right, weak = gated()
    assert right.at_95 >= 0.95
    np.testing.assert_allclose(right.l0, 3, rtol=0.2)
    assert weak.at_95 < 0.3
    assert weak.l0 > 10


def test_p_anneal_recovers_and_a_weak_penalty_fails():
    right, weak = p_anneal()
    assert right.at_95 >= 0.95
    np.testing.assert_allclose(right.l0, 4, rtol=0.2)
    assert weak.at_95 < 0.3


def test_l1_shrinks_and_topk_does_not():
    (topk,) = trained("topk", "seed", (0,), steps=400)
    assert relu()[0].gamma < 0.95
    assert topk.gamma > 0.98


def test_gated_does_not_shrink_where_l1_at_its_l0_does():
    right, l1 = gated()[0], relu()[3]
    np.testing.assert_allclose(l1.l0, right.l0, rtol=0.2)
    assert 0.98 <= right.gamma <= 1.02
    assert l1.gamma < 0.95


def test_p_anneal_shrinks_less_than_l1_at_its_l0_and_recovers_no_less():
    right, l1 = p_anneal()[0], relu()[2]
    np.testing.assert_allclose(l1.l0, right.l0, rtol=0.2)
    assert l1.gamma + 0.1 < right.gamma < 1
    assert right.at_90 >= l1.at_90
