"""Bias adaptation finds planted features at a frequency near theirs, and not at one far above, nor by shifting.

32 features in 20 dimensions, 2 on: s / n is 1 / 16. experiments/gba_recovery.py has the sizes of the paper.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from dictlearn import experiment
from dictlearn.ops.recovery import recovery
from dictlearn.streams import synthetic
from dictlearn.types import Batch
from tests.helpers import planted_config, run, truth

STEPS = 400
STREAM = {"kind": "p5", "d_in": 20, "n_features": 32, "sparsity": 2, "normalise": "token_unit"}


@functools.cache
def found(activation, densities):
    """Recovery at 0.8 and at 0.9, and L0, of each member of one sweep."""
    config = planted_config(
        "gba",
        steps=STEPS,
        batch_size=128,
        stream=STREAM,
        dictionary={"n_latents": 96, "groups": 1, "activation": activation},
        rule={"lr": 1e-2, "warmup_steps": 1, "decay_fraction": 0.5},
        learner={"b_dec_start": "zeros"},
        revive={"name": "adapt_bias", "every": 5},
        sweep={"density_high": densities},
    )
    (program,), states, infos = run(config, STEPS)
    rows = states[program.key].variables["params"]["W_dec_FD"]
    shares = [[recovery(truth(config), W, tau) for tau in (0.8, 0.9)] for W in rows]
    return np.array(shares), infos[-1][program.key]["l0"]


def test_recovery_resonates_at_the_frequency_of_the_features():
    shares, l0 = found("jumprelu", (1 / 16, 0.4))
    assert shares[0, 0] >= 0.9
    assert shares[0, 1] >= 0.65
    assert (shares[0] - shares[1] >= 0.5).all()
    assert l0[0] <= 6


def test_the_shifted_relu_fails_where_the_gated_one_recovers():
    shares, l0 = found("relu", (1 / 16,))
    assert shares[0, 0] < 0.5
    assert l0[0] > 2 * found("jumprelu", (1 / 16, 0.4))[1][0]


def test_modified_ba_finds_gaussian_features_in_a_few_spherical_steps():
    """One group, fixed biases, scale towards zero, power iteration: many latents, one large batch."""
    stream = {**STREAM, "d_in": 48}
    planted = synthetic.plant(**{k: v for k, v in stream.items() if k != "normalise"}, seed=0)
    x, _ = synthetic.draw(planted, 2048, 0)
    x = jnp.asarray(x / np.linalg.norm(x, axis=1, keepdims=True))
    config = planted_config(
        "gba",
        stream=stream,
        dictionary={"n_latents": 512, "groups": 1, "scale_start": 1e-3},
        learner={"b_dec_start": "mean"},
        sweep={"density_high": (1 / 64, 0.5)},
        revive={"name": "adapt_bias", "rate_up": 0.0, "rate_down": 0.0},
    )
    config["rule"] = {"name": "spherical"}
    (program,) = experiment.programs(config, 48, None)
    batch = Batch(x, x)

    @jax.jit
    def steps():
        keys = jnp.stack([jax.random.key(0)] * 2)
        first = program.learner.init(keys, program.hparams, batch)
        one = lambda state, _: (program.learner.update(state, program.hparams, batch)[0], None)
        return first, jax.lax.scan(one, first, length=4)[0]

    first, last = (state.variables["params"] for state in steps())
    right, wrong = (recovery(planted.atoms_ND, W, 0.95) for W in last["W_dec_FD"])
    assert right >= 0.9
    assert wrong < 0.3
    for leaf in ("b_enc_F", "log_scale_F", "b_dec_D"):
        np.testing.assert_array_equal(last[leaf], first[leaf])
