"""Where latents are computed sparsely, the gradients are those of the dense form, whatever the window is."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dictlearn import dictionaries
from dictlearn.ops import blocks
from dictlearn.ops.jumprelu import KERNELS, jump, step
from tests.helpers import mesh_of

B, D, F, L0 = 512, 16, 1024, 20.0
CROWDS = {"few": 0.008, "some": 0.02, "most": 0.2}
"""The share of the tokens on which a latent fires: no token, some, or most have 96 active latents."""


def built(name, density, **fields):
    """(module, variables with atoms that are not the encoder's, inputs of unequal norms)."""
    keys = jax.random.split(jax.random.key(0), 3)
    x = jax.random.normal(keys[0], (B, D)) * jax.random.uniform(keys[1], (B, 1), minval=0.5)
    fields = {"sparsity": 0.3, "penalty": "target_l0", "target_l0": L0, **fields}
    module = dictionaries.make(name, d_in=D, n_latents=F, density_start=density, **fields)
    variables = module.init(jax.random.key(1), x, jnp.zeros(F, bool))
    params = dict(variables["params"])
    params["W_dec_FD"] += 0.3 * jax.random.normal(keys[2], (F, D))
    gate = (x - params["b_dec_D"]) @ params["W_enc_FD"].T
    threshold = jnp.exp(params["log_threshold_F"]) if "log_threshold_F" in params else 0
    params["b_enc_F"] = threshold - jnp.quantile(gate, 1 - density, axis=0)
    return module, params, x


def parts(y, l0, x):
    return jnp.sum(jnp.sin(y) * x) + 0.3 * (l0.mean() / L0 - 1) ** 2


def ours(module):
    def loss(params, x):
        out = module.apply({"params": params}, x, jnp.zeros(F, bool), mutable=["stats"])[0]
        return jnp.sum(jnp.sin(out.y_BD) * x) + out.penalty_B.mean()

    return loss


def jumprelu(eps, kernel, window):
    def loss(p, x):
        z = (x - p["b_dec_D"]) @ p["W_enc_FD"].T + p["b_enc_F"]
        theta = jnp.exp(p["log_threshold_F"])
        f = jump(z, theta, eps, kernel, window)
        l0 = step(jax.lax.stop_gradient(z), theta, eps, kernel).sum(1)
        return parts(f @ p["W_dec_FD"] + p["b_dec_D"], l0, x)

    return loss


def gated(eps):
    def loss(p, x):
        u = (x - p["b_dec_D"]) @ p["W_enc_FD"].T
        b = p["b_enc_F"]
        gate = step(jax.lax.stop_gradient(u + b), jax.lax.stop_gradient(b) - b, eps)
        f = gate * jax.nn.relu(u * jnp.exp(p["r_mag_F"]) + p["b_mag_F"])
        return parts(f @ p["W_dec_FD"] + p["b_dec_D"], gate.sum(1), x)

    return loss


def agree(found, wanted):
    for leaf, value in wanted[1].items():
        size = float(jnp.abs(value).max())
        np.testing.assert_allclose(found[1][leaf], value, rtol=1e-4, atol=2e-5 * size, err_msg=leaf)
    np.testing.assert_allclose(found[0], wanted[0], rtol=1e-5)


@pytest.mark.parametrize("sizes", [(1, 1, 1), (1, 2, 4)])
@pytest.mark.parametrize("crowd", CROWDS)
@pytest.mark.parametrize("kernel", list(KERNELS))
def test_jumprelu(kernel, crowd, sizes):
    eps = 1.5
    fields = {"bandwidth": eps, "kernel": kernel, "threshold_start": 0.4}
    module, params, x = built("jumprelu", CROWDS[crowd], **fields)
    n_active = ((x @ params["W_enc_FD"].T + params["b_enc_F"]) > 0.4).sum(1)
    full = float((n_active >= 96).mean())
    assert {"few": full == 0, "some": 0 < full < 1 / 8, "most": full > 1 / 8}[crowd], full
    wanted = jax.jit(jax.value_and_grad(jumprelu(eps, kernel, window=False)))(params, x)
    with jax.set_mesh(mesh_of(*sizes)):
        found = jax.jit(jax.value_and_grad(ours(module)))(params, x)
    agree(found, wanted)
    assert np.abs(wanted[1]["log_threshold_F"]).min() > 0


def test_jumprelu_whose_pre_activations_have_a_gradient_in_the_window():
    fields = {"bandwidth": 0.1, "window_gradient": True, "threshold_start": 0.4}
    module, params, x = built("jumprelu", 0.008, **fields)
    wanted = jax.value_and_grad(jumprelu(0.1, "rectangle", window=True))(params, x)
    agree(jax.jit(jax.value_and_grad(ours(module)))(params, x), wanted)


@pytest.mark.parametrize("crowd", CROWDS)
def test_gated(crowd):
    module, params, x = built("gated", CROWDS[crowd], bandwidth=1.5)
    params = {**params, "b_mag_F": params["b_enc_F"] + 0.7}
    wanted = jax.jit(jax.value_and_grad(gated(1.5)))(params, x)
    agree(jax.jit(jax.value_and_grad(ours(module)))(params, x), wanted)


def test_a_window_that_is_cut_at_the_active_latents_has_another_gradient():
    """The wrong setting: without the entries below their threshold, thresholds learn half of it."""
    fields = {"bandwidth": 1.5, "threshold_start": 0.4}
    module, params, x = built("jumprelu", 0.008, **fields)
    found = jax.grad(ours(module))(params, x)["log_threshold_F"]

    def cut(p, x):
        z = (x - p["b_dec_D"]) @ p["W_enc_FD"].T + p["b_enc_F"]
        theta = jnp.exp(p["log_threshold_F"])
        f = jnp.where(z > theta, jump(z, theta, 1.5), 0)
        return jnp.sum(jnp.sin(f @ p["W_dec_FD"] + p["b_dec_D"]) * x)

    whole = lambda p, x: jumprelu(1.5, "rectangle", window=False)(p, x)
    penalty = jax.grad(whole)(params, x)["log_threshold_F"] - found
    assert np.abs(penalty).max() < 1e-3
    assert np.abs(jax.grad(cut)(params, x)["log_threshold_F"] - found).max() > 1


@pytest.mark.parametrize(
    "n_tokens", [0, 7, blocks.SIZE, 2 * blocks.SIZE, 2 * blocks.SIZE + 1, 32 * blocks.SIZE]
)
def test_sums_over_blocks_are_sums_over_tokens(n_tokens):
    x = jax.random.randint(jax.random.key(0), (n_tokens, 5), -9, 9)
    both = lambda x, tree: {"sum": (x * tree[0]).sum(0), "rows": jnp.int32(len(x))}
    found = jax.jit(lambda x: blocks.summed(both, x, (x,)))(x)
    np.testing.assert_array_equal(found["sum"], (x * x).sum(0))
    assert int(found["rows"]) == n_tokens
    np.testing.assert_array_equal(blocks.each(lambda x: x.max(1), x), x.max(1))
