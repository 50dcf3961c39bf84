"""Options of a learner: starts, the mean of the weights, accumulation, mixed precision."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dictlearn import dictionaries, learners, objectives, rules
from dictlearn.rules.adam import adam
from dictlearn.types import Batch


def learner(objective="squared_error", name="topk", unit_norm=True, **options):
    built = {
        "dictionary": dictionaries.make(name, d_in=16, n_latents=64, k=4),
        "objective": objectives.make(objective),
        "rule": rules.make("adam", lr=1e-2, steps=100, warmup_steps=1, unit_norm=unit_norm),
    }
    return learners.make("gradient", built=built, **options)


def data(key=0, n=32):
    x = jax.random.normal(jax.random.key(key), (n, 16)) + 1
    return Batch(x, x)


def after(train, n=5):
    wide = lambda leaf: leaf.astype(data().x_BD.dtype) if leaf.dtype == jnp.float32 else leaf
    state = jax.tree.map(wide, train.init(jax.random.key(0), data()))
    seen = [state]
    update = jax.jit(train.update)
    for t in range(n):
        state, info = update(state, data(t))
        seen.append(state)
    return seen, info


def close(found, wanted, tolerance):
    each = lambda a, b: np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)
    jax.tree.map(each, found, wanted)


def test_accumulated_parts_are_the_whole_batch():
    with jax.enable_x64(True):
        whole, whole_info = after(learner())
        parts, parts_info = after(learner(accumulate=4))
        close(parts[-1].variables["params"], whole[-1].variables["params"], 1e-8)
        np.testing.assert_array_equal(parts[-1].inner.silent_F, whole[-1].inner.silent_F)
        close(parts_info, whole_info, 1e-8)


def test_a_batch_that_does_not_divide_is_refused():
    train = learner(accumulate=5)
    with pytest.raises(ValueError, match=r"accumulate=5\b.*batch_size=32\b"):
        train.update(train.init(jax.random.key(0), data()), data())


def test_the_running_mean_is_corrected_for_its_start_and_does_not_touch_training():
    plain, _ = after(learner())
    train = learner(ema_decay=0.8)
    seen, _ = after(train)
    close(seen[-1].variables, plain[-1].variables, 0)
    weights = np.array([0.8 ** (5 - t) for t in range(1, 6)])
    for leaf in ("W_enc_FD", "b_enc_F", "b_dec_D"):
        each = np.stack([np.asarray(s.variables["params"][leaf]) for s in seen[1:]])
        wanted = np.tensordot(weights / weights.sum(), each, 1)
        np.testing.assert_allclose(train.variables(seen[-1])["params"][leaf], wanted, atol=1e-6)
    close(train.variables(seen[0]), seen[0].variables, 0)


def test_bfloat16_computes_in_half_and_keeps_the_state_in_float32():
    full, full_info = after(learner(), 20)
    half, half_info = after(learner(compute_dtype="bfloat16"), 20)
    for leaf in jax.tree.leaves(half[-1]):
        assert leaf.dtype in (jnp.float32, jnp.int32)
    close(half_info["loss"], full_info["loss"], 0.05)
    text = jax.jit(learner(compute_dtype="bfloat16").update).lower(full[0], data()).as_text()
    assert "tensor<32x16xbf16>" in text
    difference = np.abs(
        half[-1].variables["params"]["W_enc_FD"] - full[-1].variables["params"]["W_enc_FD"]
    )
    assert difference.max() > 0


@pytest.mark.parametrize("start", ["tied", "kaiming_uniform", "data_rows"])
def test_atoms_start_as_they_are_named(start):
    state = learner(atoms_start=start, atom_norm=0.5).init(jax.random.key(0), data())
    W_enc, W_dec = (np.asarray(state.variables["params"][n]) for n in ("W_enc_FD", "W_dec_FD"))
    np.testing.assert_allclose(np.linalg.norm(W_dec, axis=1), 0.5, atol=1e-5)
    cosine = np.sum(W_enc * W_dec, 1) / np.linalg.norm(W_enc, axis=1) / 0.5
    if start == "kaiming_uniform":
        assert np.abs(cosine).max() < 0.95
    else:
        np.testing.assert_allclose(cosine, 1, atol=1e-3)
    x = np.asarray(data().x_BD - data().x_BD.mean(0))
    x = x / np.linalg.norm(x, axis=1, keepdims=True)
    nearest = (W_dec / 0.5 @ x.T).max(1)
    assert (nearest.min() > 0.99) == (start == "data_rows")


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"atoms_start": "xavier"}, "atoms_start='xavier'.*tied, kaiming_uniform"),
        ({"b_dec_start": "median"}, "b_dec_start='median'.*zeros, mean"),
        ({"ema_decay": 1.0}, "decay=1.0.*0 and 1"),
        ({"accumulate": 0}, "accumulate=0.*1"),
        ({"compute_dtype": "float16"}, "compute_dtype='float16'.*float32 or bfloat16"),
    ],
)
def test_what_is_not_there_is_refused_by_name(wrong, says):
    with pytest.raises(ValueError, match=says):
        learner(**wrong)


def test_the_law_of_rates_makes_a_width_four_times_as_wide_half_as_fast():
    moved = {}
    for n in (64, 256):
        rule = adam(
            1e-3, steps=10, warmup_steps=1, lr_law="sqrt_latents", n_latents=n, unit_norm=False
        )
        weights = {"b_enc_F": jnp.zeros(3)}
        updates, _ = rule.update({"b_enc_F": jnp.ones(3)}, rule.init(weights), weights)
        moved[n] = float(updates["b_enc_F"][0])
    assert moved[64] / moved[256] == pytest.approx(2, rel=1e-5)
    assert moved[256] == pytest.approx(-1e-3 * (2**14 / 256) ** 0.5, rel=1e-4)
