"""Every form of an operation equals the dense computation, and a program takes the form of the platform that it
is lowered for."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from dictlearn.ops.sparse import backend, coding, forms
from dictlearn.ops.topk import exact
from dictlearn.ops.topk.exact import top_k
from tests.helpers import mesh_of

B, K, F, D = (
    11,
    9,
    37,
    300,
)  # neither whole blocks nor powers of two, and more than one block of each
FORMS = {
    "rows_sum": forms.SUM,
    "rows_dot": forms.DOT,
    "rows_add": forms.ADD,
    "top_k": exact.FORMS,
}


def entries(k=K, dtype=jnp.float32):
    """Arrays with repeated latents in a token, latents without entries and a tail of zero-valued entries."""
    keys = jax.random.split(jax.random.key(0), 4)
    idx = jax.random.randint(keys[0], (B, k), 0, F // 2).at[:, k // 2].set(3).at[0].set(3)
    val = jax.random.normal(keys[1], (B, k)).at[:, k - k // 3 :].set(0)
    W, g = jax.random.normal(keys[2], (F, D)), jax.random.normal(keys[3], (B, D))
    return (val.astype(dtype), idx.astype(jnp.int32), W.astype(dtype), g.astype(dtype))


def wanted(operation, val, idx, W, g, length):
    """The dense computation in float64, from codes `[B, F]`."""
    val, W, g = (np.asarray(a, np.float64) for a in (val, W, g))
    within = np.arange(val.shape[1]) < np.reshape(length, (-1, 1))
    codes = np.zeros((B, F))
    np.add.at(codes, (np.arange(B)[:, None], np.asarray(idx)), val * within)
    if operation == "rows_sum":
        return codes @ W
    if operation == "rows_add":
        return codes.T @ g
    return np.take_along_axis(g @ W.T, np.asarray(idx), 1) * within


def all_forms(arrays, length=None, names=None):
    """{(operation, form): what it gives}, of all forms or of those named, in one program."""
    taken = {
        "rows_sum": lambda form, val, idx, W, g: form(val, idx, W, length),
        "rows_dot": lambda form, val, idx, W, g: form(g, idx, W, length),
        "rows_add": lambda form, val, idx, W, g: form(val, idx, g, length, n_latents=F),
    }
    chosen = [(o, name) for o in taken for name in FORMS[o] if names is None or name in names]
    found = jax.jit(lambda *arrays: [taken[o](FORMS[o][name], *arrays) for o, name in chosen])
    return dict(zip(chosen, found(*arrays), strict=True))


@pytest.mark.parametrize(
    ("k", "length", "dtype"),
    [
        (K, 4, "float32"),
        (K, np.arange(B) % 6, "float32"),  # of each token
        (K, None, "bfloat16"),
        (1, None, "float32"),
    ],
)
def test_every_form_is_the_dense_computation(k, length, dtype):
    arrays = entries(k, dtype)
    for (operation, name), found in all_forms(arrays, length).items():
        expected = wanted(operation, *arrays, k if length is None else length)
        tolerance = {"float32": 1e-6, "bfloat16": 2e-2}[dtype] * np.abs(expected).max()
        assert found.dtype == dtype, (operation, name)
        found = np.asarray(found, np.float64)
        np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance, err_msg=name)


def test_entries_that_share_a_latent_are_told_from_one():
    val, idx, W, g = entries()
    last = jnp.zeros((F, D)).at[idx].set(val[:, :, None] * g[:, None])
    assert np.abs(last - wanted("rows_add", val, idx, W, g, K)).max() > 1


def test_the_blocks_of_a_gather_or_scatter_are_the_whole(monkeypatch):
    monkeypatch.setattr(forms, "BLOCK", 4 * K * D)  # blocks of 4 of the 11 tokens
    arrays = entries()
    for (operation, _), found in all_forms(arrays, names=("gathered", "scattered")).items():
        expected = wanted(operation, *arrays, K)
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize(
    ("f", "k", "dtype"), [(3000, 7, "bfloat16"), (100, 9, "float32"), (64, 64, "float32")]
)
def test_every_top_k_is_that_of_lax_with_ties_and_infinities(f, k, dtype):
    pre = jax.random.randint(jax.random.key(1), (5, f), -9, 10).astype(dtype)
    pre = pre.at[1].set(-jnp.inf).at[2].set(-0.5).at[3, 7].set(jnp.inf)
    many = jax.jit(lambda pre: {name: form(pre, None, k) for name, form in FORMS["top_k"].items()})
    for name, found in many(pre).items():
        for a, b in zip(found, lax.top_k(pre, k), strict=True):
            np.testing.assert_array_equal(a, b, err_msg=name)


def test_only_masked_latents_compete_in_every_top_k():
    pre, mask = jax.random.normal(jax.random.key(1), (5, 900)), jnp.arange(900) % 150 == 7
    many = jax.jit(lambda pre: {name: form(pre, mask, 8) for name, form in FORMS["top_k"].items()})
    for val, idx in many(pre).values():
        np.testing.assert_array_equal(val, lax.top_k(jnp.where(mask, pre, -jnp.inf), 8)[0])
        assert np.asarray(mask)[idx[:, :6]].all()


def take(monkeypatch, platform):
    """Makes this CPU take the forms of a platform."""
    for operation, named in backend.FORMS.items():
        monkeypatch.setitem(backend.FORMS, operation, {"cpu": named[platform]})


def sparse_loss(x, W_enc, b_enc, W_dec, k=5):
    val, idx = top_k(x @ W_enc.T + b_enc, k)
    val = jax.nn.relu(coding.select(val, idx, x, W_enc, b_enc))
    return jnp.sum(jnp.cos(coding.decode(val, idx, W_dec).astype(jnp.float32)))


def dense_loss(x, W_enc, b_enc, W_dec, k=5):
    pre = x @ W_enc.T + b_enc
    kept = pre >= lax.stop_gradient(jnp.sort(pre, -1)[:, -k, None])
    return jnp.sum(jnp.cos((jax.nn.relu(pre) * kept) @ W_dec))


def parameters(b=12, d=20, f=96):
    shapes = [(b, d), (f, d), (f,), (f, d)]
    keys = jax.random.split(jax.random.key(3), 4)
    return [0.3 * jax.random.normal(key, shape) for key, shape in zip(keys, shapes, strict=True)]


@pytest.mark.parametrize(
    ("platform", "sizes"),
    [("cuda", (1, 2, 4)), ("tpu", (1, 1, 1))],
)
def test_gradients_in_the_forms_of_any_platform_are_the_dense_forms(monkeypatch, platform, sizes):
    take(monkeypatch, platform)
    arrays = parameters()
    expected = jax.value_and_grad(dense_loss, argnums=(0, 1, 2, 3))(*arrays)
    with jax.set_mesh(mesh_of(*sizes)):
        found = jax.jit(jax.value_and_grad(sparse_loss, argnums=(0, 1, 2, 3)))(*arrays)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)


def test_the_forms_of_a_gpu_vmap_over_dictionaries_that_share_a_batch(monkeypatch):
    x, *weights = parameters()
    many = [jnp.stack([a, 2 * a]) for a in weights]
    gradient = lambda x, *weights: jax.grad(sparse_loss, argnums=(1, 2, 3))(x, *weights)
    expected = jax.jit(gradient)(x, *(2 * a for a in weights))
    take(monkeypatch, "cuda")
    found = jax.jit(jax.vmap(gradient, in_axes=(None, 0, 0, 0)))(x, *many)
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a[1], b, rtol=1e-4, atol=1e-4)


def lowered(platform, dtype="float32"):
    shapes = [jax.ShapeDtypeStruct(a.shape, dtype) for a in parameters(16, 128, 4096)]
    gradient = jax.jit(jax.grad(sparse_loss, argnums=(1, 2, 3)))
    return gradient.trace(*shapes).lower(lowering_platforms=(platform,)).as_text()


def test_a_program_takes_the_forms_of_the_platform_it_is_lowered_for():
    cpu, cuda, tpu, short = (
        lowered("cpu"),
        lowered("cuda"),
        lowered("tpu"),
        lowered("tpu", "bfloat16"),
    )
    loops = [text.count("stablehlo.while") for text in (cpu, cuda, tpu, short)]
    # All five entries go into one body: on cpu those that the decoder sums, on cuda all.
    assert loops == [3, 0, 0, 0]
    assert [text.count("chlo.top_k(") for text in (cpu, cuda, tpu)] == [2, 2, 1]
    matmuls = [text.count("stablehlo.dot_general") for text in (cpu, cuda, tpu, short)]
    assert matmuls == [1, 1, 1, 5]  # encoder; decode, its dot, two transposes


def test_every_entry_of_the_table_is_a_form():
    for operation, named in backend.FORMS.items():
        assert set(named.values()) <= set(FORMS[operation])
