"""What makes a latent of an attention output fire: exact over source tokens, and by head."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dictlearn import dictionaries
from dictlearn.circuits import heads
from dictlearn.lm import decoder
from dictlearn.types import Codes
from tests.lm.toy import toy_lm

LAYER = 1


@pytest.fixture(scope="module")
def seen():
    """A llama with four query heads over two key heads, its taps on two texts, and an autoencoder of z."""
    lm = toy_lm()
    tokens = jax.random.randint(jax.random.key(0), (2, 7), 0, lm.spec.vocab)
    taps = jax.jit(lambda p, t: lm.forward(p, t)[1])(lm.params, tokens)
    module = dictionaries.make("relu", d_in=24, n_latents=5, sparsity=0.1)
    variables = module.init(jax.random.key(1), jnp.zeros((1, 24)), jnp.zeros(5, bool))
    params = variables["params"] | {"b_enc_F": jnp.arange(5.0), "b_dec_D": jnp.linspace(-1, 1, 24)}
    return lm, taps, module, params


def test_source_tokens_and_a_bias_make_the_pre_activation(seen):
    lm, taps, module, params = seen
    z = taps[f"attn_z.{LAYER}"]
    pre = module.apply({"params": params}, z.reshape(14, 24), jnp.zeros(5, bool)).pre_BF
    row = params["W_enc_FD"][3]
    dfa = heads.by_source(lm, LAYER, taps[f"attn_in.{LAYER}"], row)
    assert dfa.shape == (2, 4, 7, 7)
    bias = params["b_enc_F"][3] - params["b_dec_D"] @ row
    np.testing.assert_allclose(dfa.sum((1, 3)) + bias, pre[:, 3].reshape(2, 7), atol=1e-5)
    by_head = (z.reshape(2, 7, 4, 6) * row.reshape(4, 6)).sum(-1)
    np.testing.assert_allclose(dfa.sum(3), by_head.transpose(0, 2, 1), atol=1e-5)


def test_no_token_is_moved_by_one_that_comes_after_it(seen):
    lm, taps, _, params = seen
    dfa = heads.by_source(lm, LAYER, taps[f"attn_in.{LAYER}"], params["W_enc_FD"][0])
    later = np.triu(np.ones((7, 7), bool), 1)
    assert not np.asarray(dfa)[..., later].any()
    assert np.asarray(dfa)[..., ~later].all()


def test_heads_share_a_latent_by_their_part_of_its_atom():
    W = np.zeros((3, 24), np.float32)
    W[0, 18:] = 2.0
    W[1, :6], W[1, 6:12] = 3.0, 1.0
    share = heads.head_shares(W, 4)
    np.testing.assert_allclose(share, [[0, 0, 0, 1], [0.75, 0.25, 0, 0], [0, 0, 0, 0]], atol=1e-6)
    assert heads.top_latents(share, 1).ravel().tolist() == [1, 1, 0, 0]


def test_a_residual_atom_moves_a_latent_through_the_values_as_its_weights_say(seen):
    """Add an atom to the normed input of one token: what moves is the pattern times `through`."""
    lm, taps, _, params = seen
    row, atoms = params["W_enc_FD"][2], jax.random.normal(jax.random.key(5), (3, 12))
    found = heads.through(lm, LAYER, atoms, row)
    block = lm.params[f"block_{LAYER}"]
    pattern, values = decoder.read_heads(lm.spec, lm.params, LAYER, taps[f"attn_in.{LAYER}"])
    moved = taps[f"attn_in.{LAYER}"].at[0, 2].add(atoms[1] * block["attn_norm_D"])
    _, after = decoder.read_heads(lm.spec, lm.params, LAYER, moved)
    difference = ((after - values)[0, 2] * row.reshape(4, 6)).sum(-1)
    np.testing.assert_allclose(found[1], difference, atol=1e-5)
    np.testing.assert_allclose(pattern.sum(-1), 1, atol=1e-5)


def test_any_sparse_code_of_z_is_decoded_by_its_heads_parts(seen):
    """A latent of one head alone writes to that head alone."""
    _, _, module, params = seen
    W = params["W_dec_FD"] * (jnp.arange(24) // 6 == 2)
    one = Codes(jnp.eye(5)[:1])
    written = module.apply({"params": {**params, "W_dec_FD": W}}, one, method="decode")
    written = (written - params["b_dec_D"]).reshape(4, 6)
    assert np.abs(written).sum(1).nonzero()[0].tolist() == [2]
