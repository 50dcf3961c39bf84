"""Planted features of two sources: a crosscoder tells shared from exclusive ones, a cross-layer transcoder
finds what skips a layer; at the right sparsity, not at a wrong one."""

import functools

import jax
import numpy as np
import pytest

from dictlearn.ops import sources
from dictlearn.ops.cosine import nearest
from tests.helpers import planted_config, recovery, run, truth


@functools.cache
def trained(name, kind, swept, values, steps, fields=()):
    """(planted rows, parameters, infos of the last step) of a sweep over `swept`."""
    config = planted_config(
        name,
        steps=steps,
        batch_size=256,
        stream={"kind": kind},
        dictionary={"n_latents": 96, **dict(fields)},
        rule={"lr": 4e-3, "warmup_steps": 30, "decay_fraction": 0.5, "unit_norm": False},
        learner={"dead_after": 20 * 256, "b_dec_start": "zeros"},
        sweep={swept: values},
    )
    (program,), states, infos = run(config, steps)
    return truth(config), states[program.key].variables["params"], infos[-1][program.key]


def crosscoder():
    return trained("crosscoder", "views", "sparsity", (0.3, 0.02), 600, (("activation", "relu"),))


def clt():
    fields = (("threshold_start", 0.1), ("bandwidth", 0.5), ("aux_k", 0))
    return trained("clt", "layers", "sparsity", (0.06, 0.3), 800, fields)


def test_a_crosscoder_finds_shared_and_exclusive_features_and_a_weak_penalty_does_not():
    planted, params, _ = crosscoder()
    right, weak = params["W_dec_FD"]
    assert recovery(planted, right, 0.9) >= 0.95
    assert recovery(planted, weak, 0.9) < 0.3
    latent = np.asarray(nearest(planted, right)[1])
    share = sources.shares(right, 2)[latent]
    assert sources.owners(share).tolist() == [-1, 0, 1] * 16
    np.testing.assert_allclose(share[1::3], np.tile([1, 0], (16, 1)), atol=0.05)
    np.testing.assert_allclose(share[2::3], np.tile([0, 1], (16, 1)), atol=0.05)
    np.testing.assert_allclose(share[::3].mean(0), 0.5, atol=0.05)


def test_a_crosscoders_shared_features_have_in_each_source_the_direction_planted_there():
    planted, params, _ = crosscoder()
    right = params["W_dec_FD"][0]
    latent = np.asarray(nearest(planted[::3], right)[1])
    found, wanted = (np.asarray(sources.split(W, 2)) for W in (right[latent], planted[::3]))
    cosine = (found * wanted).sum(-1)
    cosine /= np.linalg.norm(found, axis=-1) * np.linalg.norm(wanted, axis=-1)
    assert cosine.min() > 0.9


def test_a_cross_layer_transcoder_recovers_the_connection_that_skips_a_layer():
    planted, params, info = clt()
    early, late = planted[::2], planted[1::2, 16:]
    right, strong = (jax.tree.map(lambda leaf, n=n: leaf[n], params) for n in (0, 1))
    skips = lambda p: recovery(early[:, 16:], p["W_dec_0_FD"][:, 16:], 0.9)
    assert recovery(early, right["W_dec_0_FD"], 0.9) >= 0.95
    assert skips(right) >= 0.95
    assert recovery(late, right["W_dec_1_FD"], 0.9) >= 0.9
    np.testing.assert_allclose(info["l0"][0], 3, rtol=0.25)
    assert skips(strong) < 0.6


@pytest.mark.parametrize("layer", [0, 1])
def test_a_cross_layer_transcoder_reads_a_feature_in_the_layer_where_it_is(layer):
    """Encoder and decoder rows of a latent belong to the same feature: it fires where that is on."""
    planted, params, _ = clt()
    wanted = planted[layer::2] if layer == 0 else planted[1::2, 16:]
    latent = np.asarray(nearest(wanted, params[f"W_dec_{layer}_FD"][0])[1])
    assert len(set(latent.tolist())) >= 23
