"""Pursuits explain ever more, each by its own rule, with the gradient of the loop as it is written."""

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest

from dictlearn.ops.pursuit import gram, matching
from dictlearn.ops.pursuit.gradient import gradient
from dictlearn.ops.pursuit.orthogonal import orthogonal
from tests.helpers import mesh_of

B, D, F = 16, 24, 96
PURSUITS = [matching.pursue, gradient, orthogonal]


def data(b=B, d=D, f=F):
    """Gaussian tokens and atoms of unit length."""
    rng = np.random.default_rng(0)
    x, W = rng.normal(size=(b, d)), rng.normal(size=(f, d))
    W /= np.linalg.norm(W, axis=1, keepdims=True)
    return x.astype(np.float32), W.astype(np.float32)


def planted(k, W):
    """(x, indices): 200 tokens of k atoms, with coefficients in [0.5, 1.5]."""
    rng = np.random.default_rng(k)
    idx = np.stack([rng.choice(len(W), k, replace=False) for _ in range(200)])
    val = rng.uniform(0.5, 1.5, size=idx.shape)
    return np.einsum("bk,bkd->bd", val, W[idx]).astype(np.float32), idx


def search(of, k_max, **options):
    """The pursuit as one program, without its scores."""
    return jax.jit(lambda x, W: of(x, W, k_max, **options)[:2])


def left(x, val, idx, W):
    return x - np.einsum("bk,bkd->bd", val, W[np.asarray(idx)])


def written(x, W, k, absolute=False):
    """Matching pursuit of one token, as it is written down."""
    val, idx, r = [], [], x
    for _ in range(k):
        score = W @ r
        j = jnp.argmax(jnp.abs(score) if absolute else score)
        val.append(W[j] @ r)
        idx.append(j)
        r = r - val[-1] * W[j]
    return jnp.stack(val), jnp.stack(idx)


@pytest.mark.parametrize("absolute", [False, True])
def test_matching_pursuit_is_the_loop_as_written_and_so_is_its_gradient(absolute):
    with jax.enable_x64(True):
        x, W = (jnp.asarray(np.asarray(a, np.float64)) for a in data())

        def ours(x, W):
            _, idx, _ = matching.pursue(x, W, 6, absolute=absolute)
            val = matching.follow(x, idx, W)
            return jnp.sum(jnp.cos(val)), (val, idx)

        def theirs(x, W):
            val, idx = jax.vmap(lambda x: written(x, W, 6, absolute))(x)
            return jnp.sum(jnp.cos(val)), (val, idx)

        grad = lambda each: jax.jit(jax.value_and_grad(each, argnums=(0, 1), has_aux=True))(x, W)
        close = lambda a, b: np.testing.assert_allclose(a, b, atol=1e-12)
        jax.tree.map(close, grad(ours), grad(theirs))


def test_residuals_shrink_and_are_orthogonal_to_the_last_atom():
    x, W = data()
    val, idx = (np.asarray(a) for a in search(matching.pursue, 6)(x, W))
    before = np.linalg.norm(x, axis=1)
    for k in range(1, 7):
        r = left(x, val[:, :k], idx[:, :k], W)
        np.testing.assert_allclose(np.sum(r * W[idx[:, k - 1]], 1), 0, atol=1e-5)
        after = np.linalg.norm(r, axis=1)
        assert bool((after < before).all())
        before = after


@pytest.mark.parametrize("of", PURSUITS)
def test_an_orthonormal_dictionary_is_solved_exactly_in_k_steps_and_then_left(of):
    W = np.linalg.qr(data(b=D)[0])[0]
    x = np.random.default_rng(4).uniform(0.5, 1.5, size=(B, 3))
    val, idx = search(of, 4, tol=1e-5)((x @ W[5:8]).astype(np.float32), W)
    np.testing.assert_array_equal(jnp.sort(idx[:, :3], 1), np.tile([5, 6, 7], (B, 1)))
    np.testing.assert_allclose(jnp.sort(val, 1)[:, 1:], jnp.sort(x, 1), atol=1e-5)
    np.testing.assert_array_equal(val[:, 3], 0)


def test_planted_supports_of_four_are_found_by_all_and_eight_better_by_those_that_refit():
    _, W = data(d=64, f=256)
    (sparse, sparse_idx), (denser, _) = planted(4, W), planted(8, W)
    x, errors = np.concatenate([sparse, denser]), []
    for of in PURSUITS:
        val, idx = (np.asarray(a) for a in search(of, 8)(x, W))
        near = zip(idx[:200, :4], sparse_idx, strict=True)
        assert np.mean([len(set(a) & set(b)) / 4 for a, b in near]) >= 0.95
        errors.append((left(x, val, idx, W) ** 2).reshape(2, -1).sum(1) / (x**2).sum() * 2)
    matching, by_gradient, least = np.asarray(errors)
    assert least[0] < 1e-6
    assert bool((by_gradient < 0.5 * matching).all())
    assert least[1] < 0.8 * by_gradient[1]


def test_a_block_is_the_least_squares_of_its_atoms():
    x, W = data()
    val, idx = search(matching.pursue, 6, width=3)(x, W)
    r = x
    for part in (slice(0, 3), slice(3, 6)):
        for b in range(B):
            best = np.argsort(-(W @ r[b]))[:3]
            np.testing.assert_array_equal(best, idx[b, part])
        fits = [np.linalg.lstsq(W[idx[b, part]].T, r[b], rcond=None)[0] for b in range(B)]
        np.testing.assert_allclose(val[:, part], fits, atol=2e-5)
        r = left(r, val[:, part], idx[:, part], W)
    with pytest.raises(ValueError, match=r"width=4.*k_max=6"):
        search(matching.pursue, 6, width=4)(x, W)


@pytest.mark.parametrize("of", PURSUITS)
def test_every_token_ends_at_its_own_k_and_at_the_tolerance(of):
    x, W = data()
    k = np.arange(B) % 7
    whole = np.asarray(search(of, 6)(x, W)[0])
    ends = jax.jit(lambda x, W, k, tol: of(x, W, 6, k=k, tol=tol)[:2])
    val, idx = ends(x, W, k, 0.0)
    np.testing.assert_array_equal((val != 0).sum(1), np.minimum(k, (whole != 0).sum(1)))
    np.testing.assert_allclose(val[k == 6], whole[k == 6], atol=1e-5)
    val, idx = (np.asarray(a) for a in ends(x, W, np.full(B, 6), 0.5))
    size, bar = np.linalg.norm(left(x, val, idx, W), axis=1), 0.5 * np.linalg.norm(x, axis=1)
    used = (val != 0).sum(1)
    assert len(set(used)) > 1
    assert bool((size <= bar)[used < 6].all())
    val, idx = ends(x, W, used - 1, 0.0)
    assert bool((np.linalg.norm(left(x, val, idx, W), axis=1) > bar).all())


@pytest.mark.parametrize(
    ("of", "options"),
    [
        (matching.pursue, {"absolute": True, "width": 2}),
        (gradient, {"nonnegative": True}),
        (orthogonal, {}),
    ],
)
def test_scores_that_are_updated_find_what_scores_computed_anew_find(monkeypatch, of, options):
    with jax.enable_x64(True):
        x, W = (jnp.asarray(np.asarray(a, np.float64)) for a in data(b=70, f=100))
        k, found = jnp.arange(70) % 7, {}
        monkeypatch.setattr(gram, "TOKENS", 32)
        monkeypatch.setattr(gram, "TILE", 32)
        options = {"k": k, "tol": 0.3, "mask_F": jnp.arange(100) % 5 > 0, **options}
        for pays in (False, True):
            monkeypatch.setattr(gram, "pays", lambda *sizes, pays=pays: pays)
            found[pays] = search(of, 6, **options)(x, W)
        np.testing.assert_allclose(found[True][0], found[False][0], atol=1e-12)
        np.testing.assert_array_equal(found[True][1], found[False][1])


def test_the_gram_matrix_is_made_on_cpu_where_it_is_the_cheaper_and_small():
    shapes = lambda b, d, f: (np.empty((b, d)), np.empty((f, d)))
    assert gram.pays(*shapes(1024, 768, 8192), 32, 32)
    assert not gram.pays(*shapes(64, 768, 8192), 32, 32)
    assert not gram.pays(*shapes(1024, 24, 8192), 32, 32)
    assert not gram.pays(*shapes(1024, 768, 8192), 32, 1024)
    assert not gram.pays(*shapes(65_536, 768, 16_384), 32, 32)
    x, W = shapes(1024, 768, 8192)
    for platform in ("cpu", "tpu", "cuda"):
        program = jax.export.export(search(matching.pursue, 32), platforms=[platform])(x, W)
        assert ("8192x8192" in program.mlir_module()) == (platform == "cpu")
    memory = search(matching.pursue, 32).lower(x, W).compile().memory_analysis()
    assert memory is not None
    assert memory.temp_size_in_bytes < 1.1 * 4 * 8192 * (8192 + 1024)


def test_merging_keeps_the_sum_in_the_first_entry():
    val = jnp.asarray([[1.0, 2.0, 4.0, 8.0]])
    np.testing.assert_array_equal(matching.merge(val, jnp.asarray([[3, 5, 3, 3]])), [[13, 2, 0, 0]])


def test_sharded_over_tokens_and_latents_equals_whole_with_ties_and_zeros():
    x, W = data()
    x[3], W[70], W[71], W[2] = 0, W[7], W[7], 0
    x[4] = 3 * W[7]

    @jax.jit
    def searches(x, W):
        mask_F = jnp.arange(F) % 7 > 0
        return (
            matching.pursue(x, W, 6, width=2, k=4, absolute=True, mask_F=mask_F)[:2],
            orthogonal(x, W, 4, k=jnp.arange(B) % 5)[:2],
            orthogonal(x, W, 4, nonnegative=True, tol=1e-6)[:2],
            gradient(x, W, 4, mask_F=mask_F)[:2],
        )

    wanted = searches(x, W)
    with jax.set_mesh(mesh_of(1, 2, 4)):
        found = searches(x, W)
    for (val, idx), (wanted_val, wanted_idx) in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(idx, wanted_idx)
        np.testing.assert_allclose(val, wanted_val, atol=1e-5)
        assert bool(np.isfinite(val).all())
        np.testing.assert_array_equal(val[3], 0)
