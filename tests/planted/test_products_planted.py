"""Structures with other activations than their default recover planted atoms, at the right sparsity alone."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.helpers import planted_config, recovery, run, truth

JUMP = {"penalty": "tanh", "threshold_start": 0.1, "bandwidth": 0.5}
PREFIXES = {"prefixes": (0.75, 1.0)}
"""Planted features of `p1` are no tree, and short prefixes have no features of their own to hold."""


@functools.cache
def trained(name, activation, kind, swept, fields):
    """(planted atoms, [module, variables] of both members, the last info): the first at the right sparsity."""
    config = planted_config(
        name,
        steps=800,
        batch_size=256,
        stream={"kind": kind},
        dictionary={"activation": activation, "n_latents": 96, **dict(fields)},
        rule={"lr": 4e-3, "warmup_steps": 30, "decay_fraction": 0.5, "unit_norm": kind == "p1"},
        learner={"dead_after": 20 * 256, "b_dec_start": "zeros"},
        sweep=dict([swept]),
    )
    (program,), states, infos = run(config, 800)
    module = program.members[0].dictionary()
    pick = lambda n: jax.tree.map(lambda leaf: jnp.asarray(leaf[n]), states[program.key].variables)
    return truth(config), module, (pick(0), pick(1)), infos[-1][program.key]


@pytest.mark.parametrize(
    ("name", "activation", "kind", "swept", "fields", "least"),
    [
        ("matryoshka", "jumprelu", "p1", ("sparsity", (0.2, 0.01)), JUMP | PREFIXES, 0.8),
        ("crosscoder", "jumprelu", "views", ("sparsity", (0.06, 1.0)), JUMP, 0.95),
        ("archetypal", "batch_topk", "p1", ("k", (3.0, 24.0)), {}, 0.9),
    ],
)
def test_atoms_are_recovered_at_the_right_sparsity_alone(
    name, activation, kind, swept, fields, least
):
    planted, module, both, info = trained(name, activation, kind, swept, tuple(fields.items()))
    right, wrong = (
        recovery(planted, np.asarray(module.apply(v, method="atoms")), 0.9) for v in both
    )
    assert right >= least
    assert wrong < 0.3
    np.testing.assert_allclose(info["l0"][0], 3, rtol=0.25)


@pytest.mark.parametrize(
    ("activation", "swept", "fields"),
    [
        ("topk", ("k", (3, 24)), ()),
        ("jumprelu", ("sparsity", (0.06, 0.3)), (*JUMP.items(), ("aux_k", 0))),
    ],
)
def test_a_cross_layer_transcoder_recovers_both_layers_and_what_skips_one(
    activation, swept, fields
):
    planted, _, both, info = trained("clt", activation, "layers", swept, fields)
    early, late = planted[::2], planted[1::2, 16:]
    found = [v["params"] for v in both]
    assert recovery(early, found[0]["W_dec_0_FD"], 0.9) >= 0.95
    assert recovery(late, found[0]["W_dec_1_FD"], 0.9) >= 0.9
    right, wrong = (recovery(early[:, 16:], p["W_dec_0_FD"][:, 16:], 0.9) for p in found)
    assert right >= 0.95
    assert wrong < 0.6
    np.testing.assert_allclose(info["l0"][0], 3, rtol=0.25)
