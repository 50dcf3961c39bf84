"""Edits change what is data and nothing else, and gradients reach what they are given."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dictlearn.lm import decoder, edits
from dictlearn.lm.spec import Spec, random_params

B, T, D = 2, 5, 6
X_BTD = jax.random.normal(jax.random.key(0), (B, T, D))
OTHER_BTD = jax.random.normal(jax.random.key(1), (B, T, D))
V_D = jax.random.normal(jax.random.key(2), (D,))
MASK_BT = jnp.array([[False, True, True, False, True], [True, False, False, True, True]])

ALL = {
    "replace": edits.replace(OTHER_BTD),
    "add": edits.add(V_D),
    "zero": edits.zero(),
    "mean": edits.mean(V_D),
    "patch": edits.patch(OTHER_BTD),
    "clamp": edits.clamp(V_D, 3.0),
    "clamp_unit": edits.clamp(2, 3.0),
    "several": edits.several(edits.add(V_D), edits.clamp(V_D, 3.0)),
}


def expected(name):
    unit_D = V_D / np.sqrt((V_D**2).sum())
    clamped = lambda x: x + (3.0 - x @ unit_D)[..., None] * unit_D
    return {
        "replace": OTHER_BTD,
        "add": X_BTD + V_D,
        "zero": jnp.zeros_like(X_BTD),
        "mean": jnp.broadcast_to(V_D, X_BTD.shape),
        "patch": OTHER_BTD,
        "clamp": clamped(X_BTD),
        "clamp_unit": X_BTD.at[..., 2].set(3.0),
        "several": clamped(X_BTD + V_D),
    }[name]


@pytest.mark.parametrize("name", ALL)
def test_an_edit_is_its_equation_on_data_and_leaves_the_rest_to_the_bit(name):
    edited = ALL[name](X_BTD, MASK_BT, {})
    np.testing.assert_allclose(edited[MASK_BT], expected(name)[MASK_BT], rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(edited[~MASK_BT], X_BTD[~MASK_BT])
    assert (edited[MASK_BT] != X_BTD[MASK_BT]).any(axis=-1).all()


@pytest.mark.parametrize("name", ALL)
def test_an_edit_keeps_the_dtype_and_what_is_not_data_may_be_anything(name):
    sick_BTD = jnp.where(MASK_BT[..., None], X_BTD, jnp.nan).astype(jnp.bfloat16)
    edited = ALL[name](sick_BTD, MASK_BT, {})
    assert edited.dtype == jnp.bfloat16
    bits = lambda x: np.asarray(x).view(np.uint16)
    np.testing.assert_array_equal(bits(edited)[~MASK_BT], bits(sick_BTD)[~MASK_BT])
    np.testing.assert_allclose(
        edited[MASK_BT].astype(jnp.float32), expected(name)[MASK_BT], atol=0.05, rtol=0.02
    )


def test_a_patch_holds_at_the_chosen_positions_alone():
    everywhere_BT = jnp.ones((B, T), bool)
    edited = edits.patch(OTHER_BTD, positions=[1, -1])(X_BTD, everywhere_BT, {})
    for position in range(T):
        source = OTHER_BTD if position in (1, 4) else X_BTD
        np.testing.assert_array_equal(edited[:, position], source[:, position])


def test_a_clamped_coordinate_has_the_value_and_the_rest_of_the_vector_stays():
    values_BT = jnp.arange(B * T, dtype=jnp.float32).reshape(B, T)
    edited = edits.clamp(10 * V_D, values_BT)(X_BTD, jnp.ones((B, T), bool), {})
    unit_D = V_D / jnp.linalg.norm(V_D)
    np.testing.assert_allclose(edited @ unit_D, values_BT, atol=1e-5)
    across = lambda x: x - (x @ unit_D)[..., None] * unit_D
    np.testing.assert_allclose(across(edited), across(X_BTD), atol=1e-5)


def test_several_apply_in_the_order_given():
    zero_last = edits.several(edits.add(V_D), edits.zero())(X_BTD, MASK_BT, {})
    zero_first = edits.several(edits.zero(), edits.add(V_D))(X_BTD, MASK_BT, {})
    np.testing.assert_array_equal(zero_last, edits.zero()(X_BTD, MASK_BT, {}))
    np.testing.assert_array_equal(zero_first, edits.mean(V_D)(X_BTD, MASK_BT, {}))
    np.testing.assert_array_equal(edits.several()(X_BTD, MASK_BT, {}), X_BTD)


GIVEN = {
    "replace": lambda v: edits.replace(v),
    "add": lambda v: edits.add(v),
    "mean": lambda v: edits.mean(v),
    "patch": lambda v: edits.patch(jnp.broadcast_to(v, (B, T, D)), positions=[1, 3]),
    "direction": lambda v: edits.clamp(v, 3.0),
    "value": lambda v: edits.clamp(V_D + 1, v[0]),
    "unit_value": lambda v: edits.clamp(2, v[0]),
    "several": lambda v: edits.several(edits.add(v), edits.clamp(v + 1, 2.0)),
}


@pytest.mark.parametrize("name", GIVEN)
def test_gradients_through_an_edit_and_to_what_it_is_given_are_the_differences(name):
    def loss(v_D, x_BTD):
        return (jnp.sin(GIVEN[name](v_D)(x_BTD, MASK_BT, {})) * OTHER_BTD).sum()

    with jax.enable_x64(True):
        v_D, x_BTD = (jnp.asarray(np.asarray(a), jnp.float64) for a in (V_D, X_BTD))
        step = 1e-5 * jax.random.normal(jax.random.key(5), (D,), jnp.float64)
        steps = (step, jnp.zeros_like(x_BTD)), (jnp.zeros_like(v_D), step + 0 * x_BTD)
        grads = jax.grad(loss, (0, 1))(v_D, x_BTD)
        for moved, grad in zip(steps, grads, strict=True):
            up = loss(v_D + moved[0], x_BTD + moved[1])
            down = loss(v_D - moved[0], x_BTD - moved[1])
            slope = sum(jnp.vdot(g, m) for g, m in zip(grads, moved, strict=True))
            np.testing.assert_allclose(slope, (up - down) / 2, rtol=1e-5, atol=1e-13)
            assert jnp.abs(grad).max() > 0


@pytest.fixture(scope="module")
def model():
    """(run, parameters) of a decoder of two layers of width D; `run` takes edits and a mask."""
    spec = Spec(n_layers=2, d_model=D, n_heads=2, n_kv_heads=1, head_dim=4, d_mlp=9, vocab=11)
    params = random_params(spec, jax.random.key(3))
    tokens_BT = jax.random.randint(jax.random.key(4), (B, T), 0, 11)
    return lambda put, mask_BT=MASK_BT: decoder.forward(spec, params, tokens_BT, put, mask_BT)


def test_edits_at_several_taps_of_one_pass_each_act_on_data_alone(model):
    put = {
        "embed": edits.add(V_D),
        "mlp_act.0": edits.clamp(7, 0.25),
        "attn_z.1": edits.zero(),
        "resid.1": edits.mean(V_D),
    }
    _, before = model(None)
    _, after = model(put)
    moved_BTD = after["embed"] - before["embed"]
    np.testing.assert_allclose(moved_BTD[MASK_BT], jnp.tile(V_D, (6, 1)), atol=1e-6)
    assert (after["mlp_act.0"][MASK_BT][:, 7] == 0.25).all()
    assert (after["attn_z.1"][MASK_BT] == 0).all()
    np.testing.assert_array_equal(after["resid.1"][MASK_BT], jnp.tile(V_D, (6, 1)))
    np.testing.assert_array_equal(after["embed"][~MASK_BT], before["embed"][~MASK_BT])
    for name in ("mlp_act.0", "attn_z.1", "resid.1"):
        unmasked = {tap: edit for tap, edit in put.items() if tap != name}
        without = model(unmasked)[1][name]
        np.testing.assert_array_equal(after[name][~MASK_BT], without[~MASK_BT], err_msg=name)


def test_a_patch_from_another_run_at_the_last_layer_gives_that_runs_logits(model):
    everywhere_BT = jnp.ones((B, T), bool)
    wanted, source = model({"embed": edits.add(V_D)}, everywhere_BT)
    plain, _ = model(None, everywhere_BT)
    put = {"resid.1": edits.patch(source["resid.1"], positions=[-1])}
    patched, _ = model(put, everywhere_BT)
    np.testing.assert_array_equal(patched[:, -1], wanted[:, -1])
    np.testing.assert_array_equal(patched[:, :-1], plain[:, :-1])


def test_gradients_reach_the_values_of_edits_at_several_taps(model):
    def loss(values):
        put = {"embed": edits.add(values[0]), "mlp_out.0": edits.clamp(V_D, values[1])}
        return jnp.sin(model(put)[0]).sum()

    run = jax.jit(jax.value_and_grad(loss))
    _, grads = run((jnp.zeros(D), 0.5))
    step = 1e-2
    rise = run((step * V_D, 0.5 + step))[0] - run((-step * V_D, 0.5 - step))[0]
    np.testing.assert_allclose(rise / (2 * step), grads[0] @ V_D + grads[1], rtol=1e-2)
    assert jnp.abs(grads[0]).max() > 1e-3
    assert jnp.abs(grads[1]) > 1e-3


def test_what_does_not_fit_the_tap_is_refused():
    for edit, problem in (
        (edits.replace(OTHER_BTD[:, :3]), r"\(2, 3, 6\)"),
        (edits.add(OTHER_BTD[None]), r"\(1, 2, 5, 6\)"),
        (edits.mean(V_D[:1]), r"\(1,\).*\b6\b"),
        (edits.patch(OTHER_BTD[:1]), r"\(1, 5, 6\).*\(2, 5, 6\)"),
        (edits.patch(OTHER_BTD, [5]), r"\b5\b.*\b5\b"),
        (edits.clamp(6, 0.0), r"\b6\b.*\b6\b"),
        (edits.clamp(V_D[:3], 0.0), r"\(3,\).*\b6\b"),
        (edits.clamp(V_D, jnp.zeros(4)), r"\(4,\).*\(2, 5\)"),
    ):
        with pytest.raises(ValueError, match=problem):
            edit(X_BTD, MASK_BT, {})
