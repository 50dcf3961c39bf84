"""Dictionaries in the place of a running model's MLPs, all at once."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tokenizers import Tokenizer, models

from dictlearn import dictionaries
from dictlearn.circuits.replacement import passes, place, pooled, replaced
from dictlearn.lm import LM, decoder, edits
from dictlearn.lm.spec import Spec, random_params
from dictlearn.normalise import Norm
from dictlearn.runs.trained import Site, Trained

SPEC = Spec(
    **{"n_layers": 3, "d_model": 12, "n_heads": 2, "n_kv_heads": 2, "head_dim": 6, "d_mlp": 20},
    **{"vocab": 40, "activation": "gelu", "gated": False},
)
GAIN = 1e5
"""gelu(s z) / s is within 0.17 / s of ReLU(z)."""


@pytest.fixture(scope="module")
def lm():
    """A model whose MLPs are ReLU to within 1e-5."""
    params = random_params(SPEC, jax.random.key(0))
    for layer in range(SPEC.n_layers):
        block = params[f"block_{layer}"]
        block["W_up_DM"] = block["W_up_DM"] * GAIN
        block["W_down_MD"] = block["W_down_MD"] / GAIN * 4
    forward = functools.partial(decoder.forward, SPEC)
    return LM("relu", SPEC, params, Tokenizer(models.BPE()), 0, {}, forward)


def perfect(lm, layer, with_skip=False) -> Trained:
    """The MLP of a layer as a transcoder that reads and writes scaled activations. With a skip, the first half
    of the neurons is linear and computed by the skip."""
    block, norm = lm.params[f"block_{layer}"], Norm("unit_mean_sq", 0.5, 3.0)
    up_FD, down_FD = block["W_up_DM"].T / GAIN, block["W_down_MD"] * GAIN
    params = {"W_enc_FD": up_FD, "W_dec_FD": down_FD * (norm.scale_out / norm.scale_in)}
    params |= {"b_enc_F": jnp.zeros(20), "b_dec_D": jnp.zeros(12)}
    if with_skip:
        # ReLU(z) = z + ReLU(-z)
        linear_DD = params["W_dec_FD"][:10].T @ params["W_enc_FD"][:10]
        flipped_FD = params["W_enc_FD"].at[:10].multiply(-1.0)
        params |= {"W_skip_DD": linear_DD, "W_enc_FD": flipped_FD}
    module = dictionaries.make(
        "relu", d_in=12, d_out=12, n_latents=20, sparsity=0.0, skip=with_skip
    )
    site = Site({}, (f"mlp_in.{layer}",), (f"mlp_out.{layer}",), {})
    return Trained(module, {"params": params}, norm, (site,), f"layer{layer}")


@pytest.fixture(scope="module")
def tokens():
    return np.asarray(jax.random.randint(jax.random.key(1), (8, 7), 0, 40))


@pytest.mark.parametrize("with_skip", [False, True])
def test_perfect_transcoders_of_all_mlps_leave_the_logits_as_they_were(lm, tokens, with_skip):
    pieces = [perfect(lm, layer, with_skip) for layer in range(3)]
    mask = np.arange(7) > np.zeros((8, 1))
    variables = [one.variables for one in pieces]
    run = jax.jit(
        lambda variables: lm.forward(
            lm.params, tokens, edits=replaced(pieces, variables), mask_BT=mask
        )[0]
    )
    original = jax.jit(lm.forward)(lm.params, tokens)[0]
    np.testing.assert_allclose(run(variables), original, atol=1e-4)
    spoilt = [variables[0], jax.tree.map(lambda leaf: 0.5 * leaf, variables[1]), variables[2]]
    assert np.abs(run(spoilt) - original).max() > 0.1


def test_the_scores_of_perfect_replacements_are_perfect_and_worse_ones_are_worse(lm, tokens):
    pieces, mask = [perfect(lm, layer) for layer in range(3)], np.ones((8, 7), bool)
    each = passes(lm, pieces, tokens, mask)
    found = pooled(each)
    assert found["ce_tokens"] == sum(pooled([one])["ce_tokens"] for one in each) == 8 * 6
    assert len(each) == 2
    assert found["kl"] == pytest.approx(0, abs=1e-6)
    assert found["ce_score"] == pytest.approx(1, abs=1e-3)
    half = jax.tree.map(lambda leaf: 0.5 * leaf, pieces[1].variables)
    spoilt = dataclasses.replace(pieces[1], variables=half)
    worse = pooled(passes(lm, [pieces[0], spoilt, pieces[2]], tokens, mask))
    assert worse["kl"] > found["kl"] + 1e-3
    with pytest.raises(ValueError, match=r"mlp_out.0"):
        passes(lm, [pieces[0], pieces[0]], tokens, mask)
    with pytest.raises(ValueError, match=r"\b0\b.* 8 "):
        passes(lm, [], tokens, mask)


def test_a_dictionary_of_no_site_or_of_several_taps_has_no_place(lm):
    known = perfect(lm, 0)
    assert place(known) == ("mlp_in.0", "mlp_out.0")
    wide = known.sites[0]._replace(tap=("mlp_in.0", "mlp_in.1"))
    for sites in ((), (wide,), known.sites * 2):
        with pytest.raises(ValueError, match="'layer0'"):
            place(dataclasses.replace(known, sites=sites))


def test_a_function_through_two_taps_reads_what_stands_there_and_spares_masked_tokens(lm, tokens):
    mask = np.arange(7) > np.zeros((8, 1))
    change = {"mlp_out.1": edits.through("mlp_in.1", lambda x: 2 * x)}
    _, taps = lm.forward(lm.params, tokens, edits=change, mask_BT=mask)
    _, own = lm.forward(lm.params, tokens)
    np.testing.assert_allclose(taps["mlp_out.1"][:, 1:], 2 * taps["mlp_in.1"][:, 1:], rtol=1e-6)
    np.testing.assert_array_equal(taps["mlp_out.1"][:, 0], own["mlp_out.1"][:, 0])
    backwards = {"mlp_in.1": edits.through("mlp_out.1", lambda x: x)}
    with pytest.raises(ValueError, match=r"'mlp_in.1'.*'mlp_out.1'.*resid_mid.1"):
        lm.forward(lm.params, tokens, edits=backwards)
