"""The forward pass equals its definition; taps read it and edits write it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from dictlearn.lm import llama

from .toy import SPEC, toy

run = jax.jit(llama.forward, static_argnums=0)
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
        llama.Spec(2, 16, 4, 4, 4, 8, 30, rope_base=100.0, norm_eps=0.1, tied=False),
        llama.Spec(1, 6, 3, 1, 2, 4, 30),
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
    logits_BTV, taps = llama.forward(spec, params, TOKENS_BT)
    assert list(taps) == llama.tap_names(spec)
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
    plain, _ = llama.forward(spec, params, TOKENS_BT)
    for name in llama.tap_names(spec):
        edited, _ = llama.forward(spec, params, TOKENS_BT, {name: lambda x, mask_BT: x})
        np.testing.assert_array_equal(edited, plain)


def test_a_zero_edit_at_any_tap_changes_the_logits_and_what_is_read():
    spec, params = toy()
    plain, _ = llama.forward(spec, params, TOKENS_BT)
    for name in llama.tap_names(spec):
        edited, taps = llama.forward(spec, params, TOKENS_BT, {name: lambda x, mask_BT: 0 * x})
        assert np.abs(edited - plain).max() > 1e-3, name
        assert not taps[name].any()


def test_edits_are_handed_the_mask_which_is_all_true_unless_given():
    spec, params = toy()
    mask_BT = np.arange(7)[None] % 2 == TOKENS_BT % 2
    seen = []

    def edit(x_BTD, given_BT):
        seen.append(np.asarray(given_BT))
        return jnp.where(given_BT[..., None], 0, x_BTD)

    _, taps = llama.forward(spec, params, TOKENS_BT, {"resid.1": edit}, mask_BT)
    llama.forward(spec, params, TOKENS_BT, {"resid.1": edit})
    np.testing.assert_array_equal(seen[0], mask_BT)
    assert seen[1].all()
    np.testing.assert_array_equal(np.any(taps["resid.1"], axis=-1), ~mask_BT)


@pytest.mark.parametrize("name", ["embed", "attn_z.0", "resid_mid.1", "mlp_act.1", "resid.2"])
def test_the_gradient_through_an_edit_equals_finite_differences(name):
    spec, params = toy()
    width = run(spec, params, TOKENS_BT)[1][name].shape[-1]

    @jax.jit
    def loss(shift):
        edits = {name: lambda x, mask_BT: x + shift}
        logits_BTV, _ = llama.forward(spec, params, TOKENS_BT, edits)
        return -jax.nn.log_softmax(logits_BTV)[..., 3].mean()

    gradient = jax.grad(loss)(jnp.zeros(width))
    direction = gradient / jnp.linalg.norm(gradient)
    step = 0.02
    difference = (loss(step * direction) - loss(-step * direction)) / (2 * step)
    np.testing.assert_allclose(difference, jnp.linalg.norm(gradient), rtol=1e-2)


def test_a_tap_costs_only_the_layers_before_it():
    spec, params = toy(spec=llama.Spec(10, 16, 2, 1, 8, 32, 64))

    def flops(name):
        read = jax.jit(lambda params: llama.forward(spec, params, TOKENS_BT % 64)[1][name])
        return read.lower(params).compile().cost_analysis()["flops"]

    assert abs(flops("resid.2") / flops("resid.9") - 3 / 10) < 0.01


def test_parameters_below_float32_still_give_float32_logits():
    spec, params = toy()
    low = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), params)
    logits_BTV, taps = run(spec, low, TOKENS_BT)
    assert logits_BTV.dtype == jnp.float32
    assert {tap.dtype for tap in taps.values()} == {jnp.dtype(jnp.bfloat16)}
    np.testing.assert_allclose(logits_BTV, run(spec, params, TOKENS_BT)[0], atol=0.1)


@pytest.mark.skipif(jax.device_count() < 8, reason="needs 8 devices")
def test_placed_by_the_letters_of_its_leaves_it_computes_the_same():
    spec, params = toy(spec=llama.Spec(2, 16, 8, 4, 4, 32, 64))
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
    _, params = toy(spec=llama.Spec(2, 16, 4, 2, 6, 20, 30, tied=False))
    sizes = {"D": 16, "H": 24, "G": 12, "M": 20, "V": 30}
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        assert leaf.shape == tuple(sizes[letter] for letter in path[-1].key.rsplit("_", 1)[1])
    leaves = [leaf for leaf in jax.tree.leaves(params) if leaf.ndim == 2]
    assert len({float(leaf[0, 0]) for leaf in leaves}) == len(leaves)


def test_an_unknown_tap_lists_the_known():
    spec = llama.Spec(30, 4, 1, 1, 4, 4, 8)
    known = r"Unknown tap 'resid\.30'; known: embed, attn_in\.0\.\.29, .* resid\.0\.\.29, final\."
    with pytest.raises(ValueError, match=known):
        llama.check_taps(spec, ["resid.29", "resid.30"])
    with pytest.raises(ValueError, match=known):
        llama.forward(spec, {}, TOKENS_BT, {"resid.30": lambda x, mask_BT: x})
    assert llama.check_taps(spec, llama.tap_names(spec)) is None


def test_an_edit_that_changes_the_shape_is_refused():
    spec, params = toy()
    with pytest.raises(ValueError, match=r"Edit at 'resid\.1': \(2, 7, 12\) became \(2, 7\)\."):
        llama.forward(spec, params, TOKENS_BT, {"resid.1": lambda x, mask_BT: x[..., 0]})


def test_impossible_heads_are_refused():
    with pytest.raises(ValueError, match=r"self\.n_heads=4 is not a multiple of self\.n_kv_heads"):
        llama.Spec(1, 8, 4, 3, 2, 8, 8)
    with pytest.raises(ValueError, match=r"self\.head_dim=3 is odd"):
        llama.Spec(1, 8, 4, 2, 3, 8, 8)
