"""The forward pass equals its definition; taps read it and edits write it."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from dictlearn.lm import decoder
from dictlearn.lm.spec import Spec, random_params
from dictlearn.lm.taps import tap_names

from .toy import SPEC, toy

run = jax.jit(decoder.forward, static_argnums=0)
TOKENS_BT = np.random.default_rng(0).integers(0, SPEC.vocab, (2, 7)).astype(np.int32)


def by_definition(spec, params, tokens_T):
    """Logits of one sequence in float64: one token, one head, one pair of dimensions at a time."""
    wide = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)
    half, width = spec.head_dim // 2, spec.head_dim

    def norm(gain, x):
        return gain * x / np.sqrt((x**2).mean() + spec.norm_eps)

    def rotate(head, position):
        turned = np.empty(width)
        for i in range(half):
            turn = np.exp(1j * position * spec.rope_base ** (-2 * i / width))
            pair = (head[i] + 1j * head[i + half]) * turn
            turned[i], turned[i + half] = pair.real, pair.imag
        return turned

    def attend(block, rows):
        qs, ks, vs = ([x @ block[name] for x in rows] for name in ("W_q_DH", "W_k_DG", "W_v_DG"))
        z = np.zeros((len(rows), spec.n_heads * width))
        for t in range(len(rows)):
            for head in range(spec.n_heads):
                group = head // (spec.n_heads // spec.n_kv_heads)
                mine, shared = (slice(h * width, (h + 1) * width) for h in (head, group))
                q = rotate(qs[t][mine], t)
                keys = [rotate(ks[s][shared], s) for s in range(t + 1)]
                weights = np.exp([q @ key / np.sqrt(width) for key in keys])
                values = [vs[s][shared] for s in range(t + 1)]
                z[t, mine] = weights @ np.array(values) / weights.sum()
        return z @ block["W_o_HD"]

    x = wide["embed_VD"][tokens_T]
    for layer in range(spec.n_layers):
        block = wide[f"block_{layer}"]
        x = x + attend(block, [norm(block["attn_norm_D"], row) for row in x])
        for t in range(len(x)):
            row = norm(block["mlp_norm_D"], x[t])
            gate = row @ block["W_gate_DM"]
            act = gate / (1 + np.exp(-gate)) * (row @ block["W_up_DM"])
            x[t] = x[t] + act @ block["W_down_MD"]
    unembed = wide["embed_VD"].T if spec.tied else wide["unembed_DV"]
    return np.array([norm(wide["norm_D"], row) @ unembed for row in x])


@pytest.mark.parametrize(
    "spec",
    [
        SPEC,
        Spec(2, 16, 4, 4, 4, 8, 30, rope_base=100.0, norm_eps=0.1, tied=False),
        Spec(1, 6, 3, 1, 2, 4, 30),
    ],
)
def test_the_forward_pass_equals_its_definition(spec):
    spec, params = toy(spec=spec)
    tokens_BT = TOKENS_BT % spec.vocab
    logits_BTV, _ = run(spec, params, tokens_BT)
    expected = [by_definition(spec, params, tokens_T) for tokens_T in tokens_BT]
    np.testing.assert_allclose(logits_BTV, expected, atol=2e-5)


def test_later_tokens_do_not_change_earlier_logits():
    spec, params = toy()
    changed_BT = TOKENS_BT.copy()
    changed_BT[:, 4:] = (changed_BT[:, 4:] + 1) % spec.vocab
    before, _ = run(spec, params, TOKENS_BT)
    after, _ = run(spec, params, changed_BT)
    np.testing.assert_array_equal(before[:, :4], after[:, :4])
    assert np.abs(before - after)[:, 4:].min(axis=(0, 2)).max() > 0


def test_taps_are_the_parts_of_the_forward_pass():
    spec, params = toy()
    logits_BTV, taps = decoder.forward(spec, params, TOKENS_BT)
    assert list(taps) == tap_names(spec)
    np.testing.assert_array_equal(taps["embed"], params["embed_VD"][TOKENS_BT])
    for layer in range(spec.n_layers):
        before = taps[f"resid.{layer - 1}"] if layer else taps["embed"]
        block = params[f"block_{layer}"]
        middle = before + taps[f"attn_out.{layer}"]
        np.testing.assert_array_equal(taps[f"resid_mid.{layer}"], middle)
        np.testing.assert_array_equal(taps[f"resid.{layer}"], middle + taps[f"mlp_out.{layer}"])
        z, act = taps[f"attn_z.{layer}"], taps[f"mlp_act.{layer}"]
        np.testing.assert_array_equal(z @ block["W_o_HD"], taps[f"attn_out.{layer}"])
        np.testing.assert_array_equal(act @ block["W_down_MD"], taps[f"mlp_out.{layer}"])
        rms = jnp.sqrt(jnp.mean(taps[f"mlp_in.{layer}"] ** 2, axis=-1))
        np.testing.assert_allclose(rms, 1, atol=1e-2)
    np.testing.assert_allclose(taps["final"] @ params["embed_VD"].T, logits_BTV, atol=1e-6)


def test_an_identity_edit_at_any_tap_leaves_the_logits_bit_identical():
    spec, params = toy()
    plain, _ = decoder.forward(spec, params, TOKENS_BT)
    for name in tap_names(spec):
        edited, _ = decoder.forward(spec, params, TOKENS_BT, {name: lambda x, *_: x})
        np.testing.assert_array_equal(edited, plain)


def test_a_zero_edit_at_any_tap_changes_the_logits_and_what_is_read():
    spec, params = toy()
    plain, _ = decoder.forward(spec, params, TOKENS_BT)
    for name in tap_names(spec):
        edited, taps = decoder.forward(spec, params, TOKENS_BT, {name: lambda x, *_: 0 * x})
        assert np.abs(edited - plain).max() > 1e-3, name
        assert not taps[name].any()


def test_edits_are_handed_the_mask_which_is_all_true_unless_given():
    spec, params = toy()
    mask_BT = np.arange(7)[None] % 2 == TOKENS_BT % 2
    seen = []

    def edit(x_BTD, given_BT, _):
        seen.append(np.asarray(given_BT))
        return jnp.where(given_BT[..., None], 0, x_BTD)

    _, taps = decoder.forward(spec, params, TOKENS_BT, {"resid.1": edit}, mask_BT)
    decoder.forward(spec, params, TOKENS_BT, {"resid.1": edit})
    np.testing.assert_array_equal(seen[0], mask_BT)
    assert seen[1].all()
    np.testing.assert_array_equal(np.any(taps["resid.1"], axis=-1), ~mask_BT)


def test_the_gradient_through_an_edit_equals_finite_differences():
    spec, params = toy()
    names = ("embed", "attn_z.0", "resid_mid.1", "mlp_act.1", "resid.2")
    with jax.enable_x64(True):
        wide = jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf, np.float64)), params)

        @jax.jit
        def loss(shifts):
            edits = {name: lambda x, *_, y=y: x + y for name, y in shifts.items()}
            logits_BTV, _ = decoder.forward(spec, wide, TOKENS_BT, edits)
            return -jax.nn.log_softmax(logits_BTV)[..., 3].mean()

        widths = {"attn_z.0": 24, "mlp_act.1": 20}
        zero = {name: jnp.zeros(widths.get(name, 12), jnp.float64) for name in names}
        gradients, step = jax.jit(jax.grad(loss))(zero), 1e-5
        for name in names:
            direction = jax.random.normal(jax.random.key(0), zero[name].shape, jnp.float64)
            ahead, behind = (loss(zero | {name: s * direction}) for s in (step, -step))
            slope = (ahead - behind) / (2 * step)
            assert abs(slope) > 1e-4
            np.testing.assert_allclose(gradients[name] @ direction, slope, rtol=1e-6)


LAYER_NORM = Spec(2, 12, 4, 4, 3, 20, 40, norm="layer", gated=False, positions=8)


@pytest.mark.parametrize("spec", [SPEC, LAYER_NORM])
def test_frozen_norms_pass_the_gradient_of_a_division_by_a_constant(spec):
    _, params = toy(spec=spec)
    last, c_BTV = f"resid.{spec.n_layers - 1}", jax.random.normal(jax.random.key(1), (spec.vocab,))

    @jax.jit
    def gradient(freeze_norms_of_BTD):
        def loss(shift_BTD):
            edits = {last: lambda x, *_: x + shift_BTD}
            logits, taps = decoder.forward(
                spec, params, TOKENS_BT % spec.vocab, edits, freeze=("norms",)
            )
            return (logits * c_BTV).sum(), taps[last]

        return jax.grad(loss, has_aux=True)(freeze_norms_of_BTD)

    found_BTD, x_BTD = gradient(jnp.zeros((2, 7, 12)))
    unembedded_D = params["embed_VD"].T @ c_BTV * params["norm_D"]
    if spec.norm == "layer":
        x_BTD = x_BTD - x_BTD.mean(-1, keepdims=True)
        unembedded_D = unembedded_D - unembedded_D.mean()
    size_BT1 = jnp.sqrt((x_BTD**2).mean(-1, keepdims=True) + spec.norm_eps)
    np.testing.assert_allclose(found_BTD, unembedded_D / size_BT1, rtol=1e-4, atol=1e-5)


def test_without_its_mlps_a_frozen_model_and_no_other_is_linear_in_its_embedding():
    spec, params = toy()
    silent = {f"mlp_out.{layer}": lambda x, *_: 0 * x for layer in range(spec.n_layers)}

    @functools.partial(jax.jit, static_argnums=0)
    def along(freeze, x_BTD):
        """The logits, and their slope as the embedding grows in its own direction."""
        edits = lambda x_BTD: silent | {"embed": lambda *_: x_BTD}
        logits = lambda x_BTD: decoder.forward(
            spec, params, TOKENS_BT, edits(x_BTD), freeze=freeze
        )[0]
        return jax.jvp(logits, (x_BTD,), (x_BTD,))

    x_BTD = 3 * params["embed_VD"][TOKENS_BT]
    free, _ = along((), x_BTD)
    both, slope_of_both = along(("norms", "attention"), x_BTD)
    np.testing.assert_array_equal(both, free)
    np.testing.assert_allclose(slope_of_both, both, atol=1e-4)
    for freeze in ((), ("norms",), ("attention",)):
        same, slope = along(freeze, x_BTD)
        np.testing.assert_array_equal(same, free)
        assert np.abs(slope - both).max() > 1e-2


def test_a_frozen_pattern_passes_gradients_to_values_alone():
    spec, params = toy(spec=Spec(1, 12, 2, 2, 6, 20, 40))

    def z(x_BTD):
        edits = {"attn_in.0": lambda *_: x_BTD}
        _, taps = decoder.forward(spec, params, TOKENS_BT % 40, edits, freeze=("attention",))
        return taps["attn_z.0"].reshape(2, 7, 2, 6)[0]

    x_BTD = jax.random.normal(jax.random.key(2), (2, 7, 12))
    slope = jax.jit(jax.jacobian(z))(x_BTD)[:, :, :, 0]  # [t, head, width, s, D]
    value = params["block_0"]["W_v_DG"].reshape(12, 2, 6)
    pattern = (
        jnp.einsum("thwsd,dhw->ths", slope, value) / jnp.einsum("dhw,dhw->h", value, value)[:, None]
    )
    np.testing.assert_allclose(slope, jnp.einsum("ths,dhw->thwsd", pattern, value), atol=1e-5)
    np.testing.assert_allclose(pattern.sum(-1), 1, atol=1e-5)
    np.testing.assert_allclose(jnp.einsum("thwsd,sd->thw", slope, x_BTD[0]), z(x_BTD), atol=1e-5)


def test_more_tokens_than_learned_positions_are_refused():
    _, params = toy(spec=LAYER_NORM)
    with pytest.raises(ValueError, match=r"\b9\b.*\b8\b"):
        decoder.forward(LAYER_NORM, params, np.zeros((1, 9), np.int32))


def test_a_window_hides_what_lies_further_back_from_the_layers_that_slide():
    spec = Spec(2, 12, 4, 2, 6, 20, 40, window=2, sliding_layers=(0,))
    _, params = toy(spec=spec)
    changed_BT = TOKENS_BT % 40
    changed_BT[:, 2] = (changed_BT[:, 2] + 1) % 40
    taps = [run(spec, params, tokens_BT)[1] for tokens_BT in (TOKENS_BT % 40, changed_BT)]
    moved = [
        np.abs(taps[0][name] - taps[1][name]).max(axis=(0, 2)) > 0
        for name in ("resid.0", "resid.1")
    ]
    assert moved[0].tolist() == [False, False, True, True, False, False, False]
    assert moved[1].tolist() == [False, False, True, True, True, True, True]


def test_a_tap_costs_only_the_layers_before_it():
    spec = Spec(30, 16, 2, 1, 8, 32, 64)
    params = jax.eval_shape(lambda: random_params(spec, jax.random.key(0)))

    def flops(name):
        read = jax.jit(lambda params: decoder.forward(spec, params, TOKENS_BT % 64)[1][name])
        return read.lower(params).compile().cost_analysis()["flops"]

    assert abs(flops("resid.8") / flops("resid.29") - 9 / 30) < 0.03


def test_eighty_layers_compile():
    spec = Spec(80, 4, 2, 1, 2, 4, 8)
    params = jax.eval_shape(lambda: random_params(spec, jax.random.key(0)))
    logits = jax.jit(lambda params: decoder.forward(spec, params, TOKENS_BT % 8)[0])
    assert logits.lower(params).compile().cost_analysis()["flops"] > 0


def test_parameters_below_float32_still_give_float32_logits():
    spec, params = toy()
    low = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), params)
    logits_BTV, taps = run(spec, low, TOKENS_BT)
    assert logits_BTV.dtype == jnp.float32
    assert {tap.dtype for tap in taps.values()} == {jnp.dtype(jnp.bfloat16)}
    np.testing.assert_allclose(logits_BTV, run(spec, params, TOKENS_BT)[0], atol=0.1)


@pytest.mark.skipif(jax.device_count() < 8, reason="needs 8 devices")
def test_placed_by_the_letters_of_its_leaves_it_computes_the_same():
    spec, params = toy(spec=Spec(2, 16, 8, 4, 4, 32, 64))
    mesh = jax.make_mesh((2, 4), ("data", "model"), axis_types=(AxisType.Auto,) * 2)

    def place(path, leaf):
        letters = path[-1].key.rsplit("_", 1)[1]
        axes = PartitionSpec(*("model" if letter in "HGMV" else None for letter in letters))
        return jax.device_put(leaf, NamedSharding(mesh, axes))

    placed = jax.tree_util.tree_map_with_path(place, params)
    tokens = jax.device_put(TOKENS_BT % 64, NamedSharding(mesh, PartitionSpec("data")))
    whole, _ = run(spec, params, TOKENS_BT % 64)
    sharded, _ = run(spec, placed, tokens)
    np.testing.assert_allclose(sharded, whole, atol=1e-5)


def test_random_parameters_have_the_shapes_that_their_names_say():
    _, params = toy(spec=Spec(2, 16, 4, 2, 6, 20, 30, tied=False))
    sizes = {"D": 16, "H": 24, "G": 12, "M": 20, "V": 30}
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        assert leaf.shape == tuple(sizes[letter] for letter in path[-1].key.rsplit("_", 1)[1])
    leaves = [leaf for leaf in jax.tree.leaves(params) if leaf.ndim == 2]
    assert len({float(leaf[0, 0]) for leaf in leaves}) == len(leaves)


def test_an_edit_that_changes_the_shape_is_refused():
    spec, params = toy()
    with pytest.raises(ValueError, match=r"'resid\.1'.*\(2, 7, 12\).*\(2, 7\)"):
        decoder.forward(spec, params, TOKENS_BT, {"resid.1": lambda x, *_: x[..., 0]})


def test_impossible_heads_are_refused():
    with pytest.raises(ValueError, match=r"n_heads=4.*n_kv_heads=3"):
        Spec(1, 8, 4, 3, 2, 8, 8)
    with pytest.raises(ValueError, match="head_dim=3"):
        Spec(1, 8, 4, 2, 3, 8, 8)
    with pytest.raises(ValueError, match="rope_width=10"):
        Spec(1, 8, 4, 2, 8, 8, 8, rope_width=10)
    with pytest.raises(ValueError, match=r"rope_divisors\)=2.*\b4\b"):
        Spec(1, 8, 4, 2, 8, 8, 8, rope_divisors=(1.0, 2.0))
    with pytest.raises(ValueError, match=r"norm 'batch'.*\('rms', 'layer'\)"):
        Spec(1, 8, 4, 2, 8, 8, 8, norm="batch")
    with pytest.raises(ValueError, match=r"sliding_layers=\(1,\).*0\.\.0"):
        Spec(1, 8, 4, 2, 8, 8, 8, window=2, sliding_layers=(1,))
    with pytest.raises(ValueError, match=r"window=None.*\(0,\)"):
        Spec(1, 8, 4, 2, 8, 8, 8, sliding_layers=(0,))
