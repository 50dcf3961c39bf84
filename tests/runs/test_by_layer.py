"""A set of transcoders is as many dictionaries as it has layers, each the part of the set for its layer."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dictlearn import dense, dictionaries, interop
from dictlearn.normalise import Norm
from dictlearn.runs.by_layer import by_layer
from dictlearn.runs.trained import Site, Trained

L, D, E, F = 3, 6, 4, 24
TAPS = [tuple(f"{place}.{layer}" for layer in range(L)) for place in ("mlp_in", "mlp_out")]
KINDS = {"batch_topk": {"k": 4}, "jumprelu": {"threshold_start": 0.2}, "relu": {"sparsity": 0.1}}


def made(activation="batch_topk", d_out=L * E, skip=False) -> tuple[Trained, np.ndarray]:
    """(a set with random parameters that has seen a batch, other raw activations)."""
    fields = {"d_in": L * D, "d_out": d_out, "n_latents": F, "sources": L, "skip": skip}
    module = dictionaries.make("transcoders", activation=activation, **fields, **KINDS[activation])
    x_BD, dead_F = jax.random.normal(jax.random.key(1), (40, L * D)), jnp.zeros(F, bool)
    first = module.init(jax.random.key(0), x_BD, dead_F)
    noise = lambda leaf: leaf + 0.1 * jax.random.normal(jax.random.key(2), leaf.shape)
    params = jax.tree.map(noise, first["params"])
    _, stats = module.apply({**first, "params": params}, x_BD, dead_F, mutable=["stats"])
    norm = Norm("unit_mean_sq", (1.0, 2.0, 0.5), (1.0, 3.0, 0.2))
    if d_out is None:
        norm = Norm("unit_mean_sq", norm.scale_in, norm.scale_in)
    site = Site({"name": "toy"}, *TAPS, {})
    return Trained(module, {**stats, "params": params}, norm, (site,), "all"), np.asarray(
        jax.random.normal(jax.random.key(3), (40, L * D))
    )


@pytest.mark.parametrize("skip", [False, True])
@pytest.mark.parametrize("activation", KINDS)
def test_each_layer_alone_has_the_codes_and_reconstructions_of_the_set(activation, skip):
    trained, x_BD = made(activation, skip=skip)
    codes = np.asarray(dense(trained.encode(x_BD), F)).reshape(40, -1, L)
    y = np.asarray(trained.reconstruct(x_BD)).reshape(40, L, E)
    assert 0.05 < (codes != 0).mean() < 0.6
    for layer, one in enumerate(by_layer(trained)):
        x_l = x_BD.reshape(40, L, D)[:, layer]
        np.testing.assert_allclose(dense(one.encode(x_l), F // L), codes[..., layer], atol=1e-5)
        for each in (one, one.folded()):
            np.testing.assert_allclose(each.reconstruct(x_l), y[:, layer], atol=1e-4)
        assert np.abs(np.asarray(one.reconstruct(x_l)) - y[:, layer - 1]).max() > 0.1
        assert (one.name, one.sites[0].tap) == (f"all.{layer}", (f"mlp_in.{layer}",))


def test_a_layer_has_no_gradient_from_another():
    trained, x_BD = made(skip=True)
    error = lambda params: jnp.square(
        trained.module.apply(
            {**trained.variables, "params": params}, x_BD, jnp.zeros(F, bool), mutable=["stats"]
        )[0].y_BD[:, E : 2 * E]
    ).sum()
    moved = jax.grad(error)(trained.variables["params"])
    for leaf in ("W_dec_{}_FD", "W_skip_{}_DD"):
        sizes = [float(jnp.abs(moved[leaf.format(m)]).max()) for m in range(L)]
        assert [size > 0 for size in sizes] == [False, True, False]
    assert np.abs(moved["W_enc_FD"]).sum(1).reshape(-1, L).max(0).astype(bool).tolist() == [
        *(False, True, False)
    ]


def test_a_set_of_autoencoders_is_one_of_transcoders_that_subtract_nothing():
    trained, x_BD = made(d_out=None)
    y = np.asarray(trained.reconstruct(x_BD)).reshape(40, L, D)
    for layer, one in enumerate(by_layer(trained)):
        found = one.reconstruct(x_BD.reshape(40, L, D)[:, layer])
        np.testing.assert_allclose(found, y[:, layer], atol=1e-4)


def test_what_is_no_set_stays_as_it_is_and_a_scale_of_each_token_is_refused():
    plain = Trained(dictionaries.make("topk", d_in=4, n_latents=8, k=2), {})
    assert by_layer(plain) == [plain]
    trained, _ = made()
    with pytest.raises(ValueError, match=r"token_unit of 'all'.*unit_mean_sq"):
        by_layer(dataclasses.replace(trained, norm=Norm("token_unit")))


def test_a_set_is_written_whole_or_as_a_set_of_circuit_tracer(tmp_path):
    trained, x_BD = made("jumprelu", d_out=L * D)
    y = np.asarray(trained.reconstruct(x_BD)).reshape(40, L, D)
    interop.save(trained, tmp_path / "whole.safetensors", "safetensors")
    interop.save(trained, tmp_path / "set", "circuit_tracer")
    whole = interop.load(tmp_path / "whole.safetensors")
    np.testing.assert_allclose(whole.reconstruct(x_BD), y.reshape(40, -1), atol=1e-6)
    layers = interop.load_all(tmp_path / "set")
    assert list(layers) == [f"layer_{layer}" for layer in range(L)]
    for layer, one in enumerate(layers.values()):
        assert one.sites[0][1:3] == ((f"mlp_in.{layer}",), (f"mlp_out.{layer}",))
        found = one.reconstruct(x_BD.reshape(40, L, D)[:, layer])
        np.testing.assert_allclose(found, y[:, layer], atol=1e-4)
