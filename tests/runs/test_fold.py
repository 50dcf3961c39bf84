"""Folding keeps the function under every normalisation that weights can absorb (scales: test_conformance)."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dictlearn import dictionaries, normalise
from dictlearn.normalise import Norm
from dictlearn.runs.fold import fold_decoder_norm, fold_normalisation
from dictlearn.types import Batch
from tests.dictionaries.test_conformance import NAMES, built, foldable, raw_inputs, reconstruct
from tests.helpers import planted_config


@pytest.mark.parametrize("name", [name for name in NAMES if not foldable(name)])
def test_a_variant_that_cannot_be_folded_says_so(name):
    module = dictionaries.make(d_in=32, **planted_config(name)["dictionary"])
    with pytest.raises(ValueError, match=type(module).__name__):
        fold_normalisation(Norm("unit_mean_sq", 0.5, 0.5), module, {})


@pytest.mark.parametrize("kind", normalise.AFFINE_KINDS)
@pytest.mark.parametrize("name", ["topk", "batch_topk", "relu"])
def test_folding_an_affine_kind_keeps_the_function(name, kind):
    module, variables, _ = built(name)
    x = raw_inputs()
    norm = normalise.estimate(kind, [Batch(x, x)])
    x_n, undo = normalise.forward(norm, x)
    wanted = undo(reconstruct(module, variables, x_n))
    found = reconstruct(module, fold_normalisation(norm, module, variables), x)
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4 * np.abs(wanted).max())


@pytest.mark.parametrize("kind", normalise.AFFINE_KINDS)
@pytest.mark.parametrize("name", ["mp", "icfl", "gba", "itda"])
def test_an_affine_kind_is_not_folded_into_atoms_that_read_and_write(name, kind):
    module = dictionaries.make(d_in=32, **planted_config(name)["dictionary"])
    x = raw_inputs()
    variables = jax.eval_shape(module.init, jax.random.key(0), x, jnp.zeros(64, bool))
    norm = normalise.estimate(kind, [Batch(x, x)])
    with pytest.raises(ValueError, match=rf"{type(module).__name__}.*{kind}"):
        fold_normalisation(norm, module, variables)


def test_a_transcoder_folds_both_scales():
    module = dictionaries.make("relu", d_in=32, d_out=7, n_latents=64, sparsity=0.1)
    x = raw_inputs()
    variables = module.init(jax.random.key(0), x, jnp.zeros(64, bool))
    norm = Norm("unit_mean_sq", 0.02, 3.0)
    x_n, undo = normalise.forward(norm, x)
    wanted = undo(reconstruct(module, variables, x_n))
    found = reconstruct(module, fold_normalisation(norm, module, variables), x)
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5 * np.abs(wanted).max())


def test_a_fold_that_forgets_the_threshold_is_noticed():
    module, variables, x = built("batch_topk")
    norm = Norm("unit_mean_sq", 0.1, 0.1)
    folded = fold_normalisation(norm, module, variables)
    forgotten = {**folded, "stats": variables["stats"]}
    right, wrong = (reconstruct(module, each, 10 * x) for each in (folded, forgotten))
    assert np.abs(right - wrong).max() > 0.1


def test_atoms_of_unit_norm_are_the_same_relu():
    module, variables, x = built("relu")
    scale = jnp.linspace(0.2, 3, 64)[:, None]
    params = {**variables["params"], "W_dec_FD": scale * variables["params"]["W_dec_FD"]}
    variables = {**variables, "params": params}
    folded = fold_decoder_norm(variables)
    rows = np.linalg.norm(folded["params"]["W_dec_FD"], axis=1)
    np.testing.assert_allclose(rows, 1, atol=1e-5)
    found, wanted = (reconstruct(module, each, x) for each in (folded, variables))
    np.testing.assert_allclose(found, wanted, atol=1e-4)


@pytest.mark.parametrize("kind", normalise.TOKEN_KINDS)
def test_per_token_kinds_do_not_fold(kind):
    module, variables, _ = built("topk")
    with pytest.raises(ValueError, match=kind):
        fold_normalisation(Norm(kind), module, variables)
