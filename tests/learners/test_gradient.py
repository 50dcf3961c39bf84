"""Gradient training: dead latents in tokens, a lean step, and nothing that logging could change."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dictlearn import dictionaries, objectives, rules
from dictlearn.learners.gradient import gradient
from dictlearn.ops.auxk import FEW
from dictlearn.types import Batch
from tests.helpers import planted_config, run


def learner(name="topk", d=16, n=64, objective="squared_error", steps=100, **fields):
    learner_fields = {k: fields.pop(k) for k in ("dead_after",) if k in fields}
    return gradient(
        dictionaries.make(name, d_in=d, n_latents=n, **fields),
        objectives.make(objective),
        rules.make("adam", lr=1e-3, steps=steps, warmup_steps=1),
        **learner_fields,
    )


def data(n_tokens=32, d=16, key=0):
    x = jax.random.normal(jax.random.key(key), (n_tokens, d))
    return Batch(x, x)


def test_dead_latents_are_counted_in_tokens():
    train = learner(k=2, dead_after=96)
    state = train.init(jax.random.key(0), data())
    silenced = state.variables["params"]["b_enc_F"].at[5].set(-1e6)
    state.variables["params"]["b_enc_F"] = silenced
    for t in range(4):
        state, info = train.update(state, data(key=t))
        assert int(state.silent_F[5]) == 32 * (t + 1)
        dead = np.asarray(state.silent_F) >= 96
        assert float(info["dead_fraction"]) == pytest.approx(dead.mean())
        assert bool(dead[5]) == (t >= 2)


def test_the_counter_saturates_instead_of_overflowing():
    train = learner(k=2)
    state = train.init(jax.random.key(0), data())
    state = state._replace(silent_F=jnp.full(64, 2**30, jnp.int32))
    state, _ = train.update(state, data())
    assert int(state.silent_F.max()) == 2**30
    assert int(state.silent_F.min()) == 0


def test_the_decoder_bias_starts_at_the_geometric_median_of_the_sample():
    x = jnp.concatenate([jnp.zeros((60, 16)) + 3.0, 1e3 * jnp.ones((10, 16))])
    state = learner(k=2).init(jax.random.key(0), Batch(x, x))
    np.testing.assert_allclose(state.variables["params"]["b_dec_D"], 3.0, rtol=1e-3)


def temporary_bytes(name, objective, n_tokens, n, d, **fields):
    train = learner(name, d=d, n=n, objective=objective, **fields)
    batch = data(n_tokens, d)
    state = jax.eval_shape(lambda: train.init(jax.random.key(0), batch))
    compiled = jax.jit(train.update, donate_argnums=0).lower(state, batch).compile()
    return compiled.memory_analysis().temp_size_in_bytes


@pytest.mark.parametrize(("aux_k", "bound"), [(0, 1.25), (16, 1.25 + 4 / FEW[-1])])
def test_the_topk_step_holds_no_array_over_tokens_and_latents_but_the_pre_activations(aux_k, bound):
    """AuxK cuts at most one latent in 8 out of them, and holds a few arrays of that width."""
    n_tokens, n, d = 512, 16384, 4
    pre = 4 * n_tokens * n
    found = temporary_bytes("topk", "fvu", n_tokens, n, d, k=4, aux_k=aux_k)
    assert found < bound * pre
    assert (
        temporary_bytes("relu", "fvu", n_tokens, n, d, sparsity=0.1) > 1.9 * pre
    )  # the dense form does


def test_a_sweep_over_traced_values_compiles_once_per_width():
    config = planted_config(
        sweep={"n_latents": (64, 128), "k": (2, 3, 5), "seed": (0, 1), "lr": (1e-3, 2e-3)}
    )
    programs, states, _ = run(config, 3)  # run() asserts one compilation a program
    assert [p.n_latents for p in programs] == [64, 128]
    assert [len(p.members) for p in programs] == [12, 12]
    for p in programs:
        assert p.variables(states[p.key])["params"]["W_dec_FD"].shape == (12, p.n_latents, 32)
        assert len({m.name for m in p.members}) == 12


def test_k_of_each_member_is_its_own():
    programs, _, infos = run(planted_config(sweep={"k": (1, 2, 7)}), 1)
    l0 = infos[0][programs[0].key]["l0"]
    assert l0[0] == 1
    assert l0[0] < l0[1] < l0[2] <= 7


@pytest.mark.parametrize("name", ["relu", "gated"])
def test_the_penalty_finds_the_coefficient_of_the_wanted_l0(name):
    """From coefficients ten times too small and too large; without a target each keeps an L0 of its own."""

    def l0s(target):
        config = planted_config(
            name,
            steps=600,
            dictionary={"n_latents": 64},
            rule={"lr": 4e-3, "warmup_steps": 30, "decay_fraction": 0.3},
            learner={"penalty_l0": target, "penalty_rate": 0.05} if target else {},
            sweep={"sparsity": (0.03, 3.0)},
        )
        _, _, infos = run(config, 600)
        (found,) = infos[-1].values()
        return np.asarray(found["l0"])

    np.testing.assert_allclose(l0s(4.0), 4.0, rtol=0.1)
    assert np.ptp(l0s(None)) > 4


def test_a_target_without_a_penalty_is_refused():
    train = gradient(
        dictionaries.make("topk", d_in=16, n_latents=64, k=2),
        objectives.make("fvu"),
        rules.make("adam", lr=1e-3, steps=10),
        penalty_l0=4.0,
    )
    state = train.init(jax.random.key(0), data())
    with pytest.raises(ValueError, match=r"penalty_l0=4\.0.*penalty"):
        train.update(state, data())
