"""The bias of the decoder reaches the encoder's input by way of the encoder's bias, with the same gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dictlearn import dictionaries
from dictlearn.dictionaries import _linear
from dictlearn.dictionaries._linear import Linear
from dictlearn.ops.sparse import coding

READ = Linear.read
FIELDS = {
    "topk": {"k": 3, "aux_k": 4},
    "matryoshka": {"k": 3.0, "aux_k": 4},
    "gated": {"sparsity": 0.1},
    "jumprelu": {"bandwidth": 0.1, "sparsity": 0.1},
}


def gradients(name, encoder, monkeypatch):
    """Of a loss over all that a variant in double precision returns, about a b_dec that is not zero."""
    monkeypatch.setattr(Linear, "read", encoder)
    module = dictionaries.make(name, d_in=8, n_latents=32, **FIELDS[name])
    x_BD, dead_F = jax.random.normal(jax.random.key(1), (16, 8)), jnp.arange(32) < 6
    variables = module.init(jax.random.key(0), x_BD, dead_F)
    doubles = jax.tree.map(lambda leaf: leaf.astype(float), variables["params"])
    params = {**doubles, "b_dec_D": jax.random.normal(jax.random.key(2), (8,))}
    rest = {key: value for key, value in variables.items() if key != "params"}

    def loss(params):
        out, _ = module.apply({"params": params, **rest}, x_BD, dead_F, mutable=list(rest))
        parts = [out.y_BD, out.residual_SD, out.penalty_B, *(y_BD for _, y_BD in out.others)]
        return sum(jnp.sum(jnp.cos(part)) for part in parts if part is not None)

    return jax.jit(jax.grad(loss))(params)


def plain(module, x_BD):
    return _linear.centre(module, x_BD), module.W_enc_FD, module.b_enc_F


def detached(module, x_BD):
    return jax.lax.stop_gradient(_linear.centre(module, x_BD)), module.W_enc_FD, module.b_enc_F


@pytest.mark.parametrize("name", FIELDS)
def test_every_gradient_is_that_of_the_input_with_b_dec_subtracted(name, monkeypatch):
    with jax.enable_x64(True):
        found = gradients(name, READ, monkeypatch)
        wanted = gradients(name, plain, monkeypatch)
        without = gradients(name, detached, monkeypatch)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9), found, wanted)
    assert np.abs(found["b_dec_D"] - without["b_dec_D"]).max() > 1e-3


def test_an_encoder_without_gradient_of_its_input_has_no_product_of_tokens_for_it():
    x_BD, W_FD, b_F = jnp.ones((16, 8)), jnp.ones((32, 8)), jnp.ones(32)

    def loss(shift_D):
        shifted_BD = x_BD - jax.lax.stop_gradient(shift_D)
        return jnp.sum(jnp.cos(shifted_BD @ W_FD.T + coding.shifted(b_F, W_FD, shift_D)))

    text = jax.jit(jax.grad(loss)).lower(jnp.ones(8)).as_text()
    assert "tensor<16x8xf32>, tensor<8x32xf32>" in text
    assert "tensor<16x32xf32>, tensor<32x8xf32>" not in text
