"""A toy model and dictionaries at its taps."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dictlearn import dictionaries, normalise
from dictlearn.runs.trained import Site, Trained
from tests.lm.toy import SPEC, toy_lm

D, F = SPEC.d_model, 24


def trained(name="topk", tap="resid.1", target="resid.1", norm=None, **settings):
    """A random dictionary whose rows and biases are far from zero, at taps of the toy."""
    settings = {"d_in": D, "n_latents": F, **settings}
    module = dictionaries.make(name, **settings)
    x_BD = jax.random.normal(jax.random.key(0), (8, settings["d_in"]))
    variables = module.init(jax.random.key(1), x_BD, jnp.zeros(module.n_latents, bool))
    keys = iter(jax.random.split(jax.random.key(2), 64))
    shift = lambda leaf: leaf + 0.1 * jax.random.normal(next(keys), leaf.shape)
    variables = {**variables, "params": jax.tree.map(shift, variables["params"])}
    site = Site({"name": "toy"}, (tap,), (target,), {})
    return Trained(module, variables, norm or normalise.Norm(), (site,), name=name)


def orthonormal(tap="resid.1"):
    """A dictionary of D latents whose codes are the positive coordinates in an orthonormal basis."""
    made = trained("relu", tap, tap, n_latents=D, sparsity=0.1)
    basis_DD = np.linalg.qr(np.random.default_rng(0).normal(size=(D, D)))[0].astype(np.float32)
    zero = jax.tree.map(jnp.zeros_like, made.variables["params"])
    params = {**zero, "W_enc_FD": jnp.asarray(basis_DD), "W_dec_FD": jnp.asarray(basis_DD)}
    return Trained(made.module, {**made.variables, "params": params}, sites=made.sites)


@pytest.fixture(scope="session")
def lm():
    return toy_lm()
