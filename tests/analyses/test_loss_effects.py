"""The effect of a latent on the loss, against running the head on the changed residual stream."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dictlearn import lm as language
from dictlearn.analyses._loss_effects import loss_effects
from tests.lm import toy


@pytest.fixture(scope="module")
def lm(tmp_path_factory):
    spec, params = toy.toy()
    path = tmp_path_factory.mktemp("model") / "toy.gguf"
    toy.write_gguf(path, spec, params)
    return language.load("toy", str(path))


def test_it_is_the_loss_of_the_changed_model_and_zero_where_the_latent_is_silent(lm):
    random = np.random.default_rng(0)
    tokens_ST = random.integers(0, 50, (20, 6)).astype(np.int32)
    atoms_FD = random.normal(size=(3, lm.spec.d_model)).astype(np.float32)
    latent_P, place_P = np.array([0, 1, 2, 0, 1]), np.array([3, 118, 40, 40, 5])
    val_P = np.array([1.5, 0.0, 0.7, 2.0, 1.0], np.float32)
    found = loss_effects(lm, tokens_ST, latent_P, place_P, val_P, atoms_FD)
    last = f"resid.{lm.spec.n_layers - 1}"
    for i, (latent, place, val) in enumerate(zip(latent_P, place_P, val_P, strict=True)):
        s, t = divmod(int(place), 6)
        if t == 5:
            assert np.isnan(found[i])
            continue
        removed = jnp.zeros((6, lm.spec.d_model)).at[t].set(val * atoms_FD[latent])
        losses = []
        for change in (0.0, removed):
            edits = {last: lambda x, *_, change=change: x - change}
            logits = lm.forward(lm.params, tokens_ST[s][None], edits=edits)[0][0, t]
            losses.append(-jax.nn.log_softmax(logits)[tokens_ST[s, t + 1]])
        assert found[i] == pytest.approx(float(losses[1] - losses[0]), abs=1e-4)
        assert (found[i] == 0) == (val == 0)


def test_it_is_the_published_formula_without_the_model(lm):
    """log softmax of norm(h) U and of norm(h - f w) U, by hand."""
    tokens_ST = np.array([[3, 1, 4, 1]], np.int32)
    atom_D = np.random.default_rng(1).normal(size=lm.spec.d_model)
    found = loss_effects(lm, tokens_ST, *map(np.array, ([0], [1], [0.8])), atom_D[None])
    params = {name: np.asarray(lm.params[name], np.float64) for name in ("norm_D", "embed_VD")}
    unembed_DV = params["embed_VD"].T if lm.spec.tied else np.asarray(lm.params["unembed_DV"])
    h_D = np.asarray(lm.forward(lm.params, tokens_ST)[1][f"resid.{lm.spec.n_layers - 1}"])[0, 1]

    def loss(h_D):
        size = np.sqrt((h_D**2).mean() + lm.spec.norm_eps)
        logits_V = (h_D / size * params["norm_D"]) @ unembed_DV
        return np.log(np.exp(logits_V).sum()) - logits_V[4]

    assert found[0] == pytest.approx(loss(h_D - 0.8 * atom_D) - loss(h_D), abs=1e-4)
