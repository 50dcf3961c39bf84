"""A pursuit as the encoder of trained atoms: less error at the same L0 than the trained encoder, for any
variant."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dictlearn import cli, dictionaries, normalise
from dictlearn.ops.firing import dense, l0
from dictlearn.runs.fold import fold_decoder_norm
from dictlearn.runs.pursuit_encoder import with_pursuit_encoder
from dictlearn.runs.trained import Trained

B, D, F, K = 48, 16, 40, 4


def trained(name: str = "topk", **fields) -> Trained:
    """An untrained dictionary of a kind, its atoms of lengths 0.5 to 2 and its bias not zero."""
    module = dictionaries.make(name, d_in=D, n_latents=F, **fields)
    x_BD, none_F = jnp.zeros((2, D)), jnp.zeros(F, bool)
    variables = jax.jit(module.init)(jax.random.key(0), x_BD, none_F)
    params = dict(variables["params"])
    params["W_dec_FD"] = params["W_dec_FD"] * jnp.linspace(0.5, 2, F)[:, None]
    params["b_dec_D"] = params["b_dec_D"] + 0.3
    variables = {**variables, "params": params}
    norm = normalise.Norm("unit_mean_sq", 0.5, 0.5)
    return Trained(module, variables, norm, name=name, metrics={"l0": 1.0})


@pytest.fixture(scope="module")
def x():
    return jax.random.normal(jax.random.key(1), (B, D))


def error(dictionary: Trained, codes, x) -> float:
    params = dictionary.variables["params"]
    y = (np.asarray(dense(codes, F)) @ params["W_dec_FD"] + params["b_dec_D"]) / 0.5
    return float(np.sum((x - y) ** 2))


@pytest.mark.parametrize(
    ("name", "fields", "method"),
    [
        ("topk", {"k": K}, "matching"),
        ("topk", {"k": K}, "orthogonal"),
        ("relu", {"sparsity": 0.1}, "gradient"),
    ],
)
def test_a_pursuit_explains_more_with_as_many_latents_of_each_token(name, fields, method, x):
    own = trained(name, **fields)
    codes = own.encode(x)
    own_l0 = np.asarray(l0(codes))
    other = with_pursuit_encoder(own, method, int(own_l0.max()))
    found = other.encode(x)
    assert bool((np.asarray(l0(found)) <= own_l0).all())
    assert len(set(own_l0)) == 1 or len(set(np.asarray(l0(found)))) > 1
    assert float(dense(found, F).min()) >= 0
    assert error(other, found, x) < 0.8 * error(own, codes, x)
    assert other.metrics == {}


def test_without_the_trained_encoders_l0_every_token_has_k_of_either_sign(x):
    other = with_pursuit_encoder(
        trained("topk", k=K), "orthogonal", 6, own_l0=False, nonnegative=False
    )
    codes = other.encode(x)
    np.testing.assert_array_equal(l0(codes), 6)
    assert float(dense(codes, F).min()) < 0


def test_the_lengths_of_atoms_do_not_matter_and_a_scalar_folds_before(x):
    own = trained("topk", k=K)
    unit = dataclasses.replace(own, variables=fold_decoder_norm(own.variables))
    same = [
        with_pursuit_encoder(one, "matching", K, own_l0=False).reconstruct(x)
        for one in (own, unit, own.folded())
    ]
    np.testing.assert_allclose(same[1], same[0], atol=1e-5)
    np.testing.assert_allclose(same[2], same[0], atol=1e-5)
    with pytest.raises(ValueError, match="Pursued"):
        with_pursuit_encoder(own, "matching", K).folded()


def test_what_cannot_be_pursued_is_refused():
    module = dictionaries.make("topk", d_in=D, n_latents=F, k=K)
    x_BD = jnp.zeros((2, D))
    for inner, method, k, message in (
        (module, "greedy", K, "method='greedy'.*matching, gradient, orthogonal"),
        (module, "matching", 0, "k=0.*1 and n_latents=40"),
        (module.clone(d_out=D), "matching", K, f"d_out={D}"),
    ):
        with pytest.raises(ValueError, match=message):
            with_pursuit_encoder(Trained(inner, {}), method, k).module.init(
                jax.random.key(0), x_BD, method="encode"
            )


def test_a_run_is_measured_under_pursuits_too_and_compared(tmp_path, capsys):
    file = tmp_path / "two.py"
    file.write_text(
        """
from ml_collections import ConfigDict
def get_config(arg=""):
    return ConfigDict({
        "seed": 0, "steps": 1, "batch_size": 128,
        "stream": {"name": "synthetic", "kind": "p1"},
        "dictionary": {"name": "topk", "n_latents": 64, "k": 4},
        "rule": {"name": "adam", "lr": 1e-3, "warmup_steps": 1},
        "evaluate": {"n_tokens": 512, "pursuits": ("matching",), "pursuit_k": 4},
    })
"""
    )
    workdir = tmp_path / "run"
    run = [f"--config={file}", f"--workdir={workdir}"]
    assert cli.main(["train", *run]) == 0
    own, other = (
        json.loads((workdir / name).read_text()) for name in ("metrics.json", "pursuits.json")
    )
    (record,), (beside,) = own.values(), other.values()
    assert (list(own), list(other)) == (["topk_n64_0"], ["topk+matching_n64_0"])
    assert beside["hparams"] == {**record["hparams"], "encoder": {"name": "matching", "k": 4}}
    assert beside["l0"] <= record["l0"]
    assert beside["fvu"] < record["fvu"]
    assert cli.main(["analyse", "frontier", f"--workdir={workdir}"]) == 0
    assert "topk+matching" in capsys.readouterr().out
