"""How the variants that share out k do it: schedules, norms, prefixes, tokens and latents that choose."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dictlearn import dictionaries
from dictlearn.dictionaries import _topk
from dictlearn.ops.firing import dense, l0
from tests.helpers import mesh_of, planted_config, run

B, D, F = 24, 8, 32
ALIVE = jnp.zeros(F, bool)


def made(name, shift=0.0, **fields):
    """(module, variables with b_enc = shift and atoms of unlike norms, inputs)."""
    module = dictionaries.make(name, d_in=D, n_latents=F, **fields)
    x_BD = jax.random.normal(jax.random.key(1), (B, D))
    variables = module.init(jax.random.key(0), x_BD, ALIVE)
    norm_F = jnp.linspace(0.2, 3.0, F)[jax.random.permutation(jax.random.key(2), F)]
    params = variables["params"]
    params = {
        **params,
        "W_dec_FD": params["W_dec_FD"] * norm_F[:, None],
        "b_enc_F": jnp.full(F, shift),
    }
    return module, {**variables, "params": params}, x_BD


def passed(module, variables, x_BD, n=1):
    """(outs of `n` passes that write stats, variables after)."""
    step = jax.jit(lambda v, x: module.apply(v, x, ALIVE, mutable=["stats"]))
    outs = []
    for _ in range(n):
        out, stats = step(variables, x_BD)
        outs.append(out)
        variables = {**variables, **stats}
    return outs, variables


def test_multi_topk_adds_the_reconstruction_from_four_k_and_reaches_the_encoder():
    module, variables, x_BD = made("topk", k=3, multi=1 / 8)
    (out,), _ = passed(module, variables, x_BD)
    ((weight, y_BD),) = out.others
    wide = dictionaries.make("topk", d_in=D, n_latents=F, k=12)
    (wanted,), _ = passed(wide, variables, x_BD)
    assert weight == 1 / 8
    assert out.codes.val.shape == (B, 3)
    np.testing.assert_allclose(y_BD, wanted.y_BD, atol=1e-6)

    def loss(W_enc_FD):
        params = {**variables["params"], "W_enc_FD": W_enc_FD}
        return jnp.sum(module.apply({"params": params}, x_BD[:1], ALIVE).others[0][1] ** 2)

    moved_F = jnp.abs(jax.grad(loss)(variables["params"]["W_enc_FD"])).max(1) > 0
    assert moved_F.sum() == l0(wanted.codes)[0] > 3


@pytest.mark.parametrize("anneal", ["linear", "exponential"])
@pytest.mark.parametrize("name", ["topk", "batch_topk"])
def test_k_falls_from_its_start_to_k_and_stays(name, anneal):
    fields = {"anneal_steps": 4, "k_start": 20, "anneal": anneal}
    module, variables, x_BD = made(name, shift=20.0, k=3, **fields)
    outs, _ = passed(module, variables, x_BD, 7)
    k = [float(l0(out.codes).mean()) for out in outs]
    assert (k[0], k[4:]) == (20, [3, 3, 3])
    assert k == sorted(k, reverse=True)
    half = 11.5 if anneal == "linear" else 3 + 17 * (1 - 1 / (1 + np.exp(-2.5)))
    assert k[2] == pytest.approx(np.ceil(half) if name == "topk" else half, abs=0.03)
    decoded = module.apply(variables, outs[2].codes, method="decode")
    np.testing.assert_allclose(outs[2].y_BD, decoded, atol=1e-5)


def test_loops_are_as_long_as_the_largest_traced_k():
    assert _topk.n_used(3, 8) is None
    found = jax.vmap(lambda k: _topk.n_used(k, 8))
    np.testing.assert_array_equal(found(jnp.array([1.0, 2.5])), [3, 3])
    np.testing.assert_array_equal(found(jnp.array([1, 9])), [8, 8])


def test_annealing_starts_from_the_width_of_the_input():
    module, variables, x_BD = made("topk", shift=20.0, k=3, anneal_steps=2)
    (out, *_), _ = passed(module, variables, x_BD, 1)
    assert (l0(out.codes) == D).all()


def test_annealing_leaves_no_trace_in_the_threshold():
    fields = {"anneal_steps": 3, "k_start": 20}
    module, variables, x_BD = made("batch_topk", k=3, **fields)
    _, after = passed(module, variables, x_BD, 5)
    plain, fresh, _ = made("batch_topk", k=3)
    _, never = passed(plain, fresh, x_BD, 1)
    theta = lambda module, v: module.apply(v, method="threshold")
    np.testing.assert_allclose(theta(module, after), theta(plain, never), rtol=1e-6)


@pytest.mark.parametrize("name", ["topk", "batch_topk"])
def test_weighted_by_norms_selection_does_not_see_how_a_latent_is_scaled(name):
    def found(norm_weighted, scaled):
        module, variables, x_BD = made(name, k=3, norm_weighted=norm_weighted)
        params, c_F = variables["params"], jnp.exp(jax.random.normal(jax.random.key(3), (F,)))
        if scaled:
            params = {
                **params,
                "W_dec_FD": params["W_dec_FD"] * c_F[:, None],
                "W_enc_FD": params["W_enc_FD"] / c_F[:, None],
                "b_enc_F": params["b_enc_F"] / c_F,
            }
        (out,), after = passed(module, {**variables, "params": params}, x_BD)
        codes = module.apply(after, x_BD, method="encode")
        on = [np.asarray(dense(each, F) > 0) for each in (out.codes, codes)]
        return *on, out.y_BD, module.apply(after, codes, method="decode")

    for one, other in zip(found(True, False), found(True, True), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)
    assert (found(False, False)[0] != found(False, True)[0]).any()


def test_a_threshold_on_weighted_scores_is_not_folded_where_input_and_target_differ_in_scale():
    foldable = lambda **fields: (
        dictionaries.make("batch_topk", d_in=D, n_latents=F, k=3, **fields).foldable
    )
    assert foldable(norm_weighted=True)
    assert foldable(d_out=4)
    assert not foldable(norm_weighted=True, d_out=4)


def test_a_matryoshka_of_one_prefix_is_batch_topk_to_the_bit():
    def found(name, **fields):
        module, variables, x_BD = made(name, k=3, aux_k=4, **fields)
        dead_F = jnp.arange(F) < 8

        def loss(params):
            variables_now = {**variables, "params": params}
            out, stats = module.apply(variables_now, x_BD, dead_F, mutable=["stats"])
            return jnp.sum(out.y_BD**2) + jnp.sum(out.residual_SD**2), (out, stats)

        return jax.jit(jax.value_and_grad(loss, has_aux=True))(variables["params"])

    one, other = found("matryoshka", prefixes=(1.0,)), found("batch_topk")
    jax.tree.map(np.testing.assert_array_equal, one, other)


@pytest.mark.parametrize("activation", ["batch_topk", "topk", "relu", "jumprelu", "gated"])
def test_every_prefix_reconstructs_from_its_own_latents_alone(activation):
    known = dictionaries.fields("matryoshka", activation)
    sizes = {k: v for k, v in {"k": 5, "sparsity": 0.1}.items() if k in known}
    fields = {**sizes, "activation": activation, "prefixes": (4, 0.5, 1.0), "weights": (0.3, 2.0)}
    module, variables, x_BD = made("matryoshka", **fields)
    (out,), after = passed(module, variables, x_BD)
    params, f_BF = variables["params"], dense(out.codes, F)
    assert [float(weight) for weight, _ in out.others[:2]] == [pytest.approx(0.3), 2.0]
    for m, y_BD in zip((4, 16, F), [*(y for _, y in out.others[:2]), out.y_BD], strict=True):
        wanted = f_BF[:, :m] @ params["W_dec_FD"][:m] + params["b_dec_D"]
        np.testing.assert_allclose(y_BD, wanted, atol=1e-5)
    whole = dense(module.apply(after, x_BD, method="encode"), F)
    cut = dense(module.apply(after, x_BD, prefix=16, method="encode"), F)
    np.testing.assert_array_equal(cut[:, :16], whole[:, :16])
    assert (whole[:, 16:] > 0).any()
    assert not (cut[:, 16:] > 0).any()


def test_prefixes_are_drawn_by_a_pareto_law_and_a_step_repeats_its_own():
    prefixes = (1, 2, 4, 8, 16, F)
    module, variables, x_BD = made("matryoshka", k=3, prefixes=prefixes, draw=1)
    module_two, variables_two, _ = made("matryoshka", k=3, prefixes=prefixes, draw=2)

    def weights(module, variables, step):
        stats = {**variables["stats"], "step": step}
        out, after = module.apply({**variables, "stats": stats}, x_BD, ALIVE, mutable=["stats"])
        return jnp.stack([weight for weight, _ in out.others]), after["stats"]["step"]

    steps = jnp.arange(2000)
    on, after = jax.jit(jax.vmap(lambda t: weights(module, variables, t)))(steps)
    np.testing.assert_array_equal(after, steps + 1)
    np.testing.assert_array_equal(on.sum(1), 1)
    share = -np.diff(np.array(prefixes, float) ** -0.5)
    np.testing.assert_allclose(on.mean(0), share / share.sum(), atol=0.04)
    two, _ = jax.jit(jax.vmap(lambda t: weights(module_two, variables_two, t)))(steps[:20])
    np.testing.assert_array_equal(two.sum(1), 2)
    np.testing.assert_array_equal(weights(module, variables, 7)[0], on[7])


def test_mutual_choice_keeps_what_batch_topk_keeps():
    (mutual,), _ = passed(*made("mutual_choice", k=2.5))
    (batch,), _ = passed(*made("batch_topk", k=2.5))
    assert int(l0(mutual.codes).sum()) == round(2.5 * B)
    np.testing.assert_array_equal(mutual.codes.val, batch.codes.val)


@pytest.mark.parametrize("law", ["zipf", "uniform"])
def test_feature_choice_meets_the_quota_of_every_latent_with_equality(law):
    module, variables, x_BD = made("feature_choice", shift=9.0, k=4, law=law, choose_after=0)
    density_F = 1 / jnp.arange(1, F + 1)
    seen = {"density_F": density_F, "density_weight": jnp.ones(())}
    variables = {**variables, "stats": {**variables["stats"], **seen}}
    (out,), after = passed(module, variables, x_BD)
    m_F, pre_BF = np.asarray((out.codes.val > 0).sum(0)), np.asarray(out.pre_BF)
    assert m_F.sum() == 4 * B
    assert m_F.min() >= 1
    if law == "uniform":
        np.testing.assert_array_equal(m_F, 3)
    else:
        order = np.argsort(-pre_BF.sum(0))
        assert (np.diff(m_F[order]) <= 1).all()
        assert m_F.max() > 15
    for f, m in enumerate(m_F):
        kept = np.sort(pre_BF[:, f])[-m]
        np.testing.assert_array_equal(out.codes.val[:, f] > 0, pre_BF[:, f] >= kept)
        theta_F = module.apply(after, method="threshold")
        np.testing.assert_allclose(theta_F[f], kept, rtol=1e-5)


def test_both_choices_are_the_optimum_of_their_budgets():
    """Against every mask of 3 tokens by 3 latents: the most affinity that a budget allows."""
    tokens, n = 3, 3
    module = dictionaries.make("mutual_choice", d_in=D, n_latents=n, k=4 / 3)
    chooser = dictionaries.make(
        "feature_choice", d_in=D, n_latents=n, k=1, law="uniform", choose_after=0
    )
    x_BD = jax.random.normal(jax.random.key(5), (tokens, D))
    masks = np.array(list(itertools.product([0, 1], repeat=tokens * n))).reshape(-1, tokens, n)
    for each, allowed in (
        (module, masks.sum((1, 2)) <= 4),
        (chooser, (masks.sum(1) <= 1).all(1)),
    ):
        variables = each.init(jax.random.key(0), x_BD, jnp.zeros(n, bool))
        params = {**variables["params"], "b_enc_F": jnp.full(n, 5.0)}
        out, _ = each.apply(
            {**variables, "params": params}, x_BD, jnp.zeros(n, bool), mutable="stats"
        )
        affinity_BF = np.maximum(np.asarray(out.pre_BF), 0)
        best = (masks[allowed] * affinity_BF).sum((1, 2)).max()
        np.testing.assert_allclose(out.codes.val.sum(), best, rtol=1e-6)


def test_feature_choice_over_eight_devices_equals_one():
    config = planted_config("feature_choice", dictionary={"choose_after": 1, "aux_k": 0})
    _, whole, infos = run(config, 3)
    _, split, split_infos = run(config, 3, mesh_of(1, 4, 2))
    close = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)
    jax.tree.map(close, (split, split_infos), (whole, infos))


def test_abs_topk_keeps_both_signs():
    module, variables, x_BD = made("abs_topk", k=4)
    (out,), _ = passed(module, variables, x_BD)
    z_BF = np.asarray(out.pre_BF)
    kth = np.sort(np.abs(z_BF), 1)[:, -4:-3]
    np.testing.assert_allclose(
        dense(out.codes, F), np.where(np.abs(z_BF) >= kth, z_BF, 0), atol=1e-6
    )
    assert (out.codes.val < 0).any()
    assert (out.codes.val > 0).any()


@pytest.mark.parametrize("k", [4, 5])
def test_group_max_fires_the_largest_of_each_group(k):
    module, variables, x_BD = made("group_max", shift=9.0, k=k)
    (out,), _ = passed(module, variables, x_BD)
    size = -(-F // k)
    f_BF, z_BF = np.asarray(dense(out.codes, F)), np.asarray(out.pre_BF)
    for start in range(0, F, size):
        group = z_BF[:, start : start + size]
        wanted = np.where(group == group.max(1, keepdims=True), group, 0)
        np.testing.assert_allclose(f_BF[:, start : start + size], wanted, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "fields", "message"),
    [
        ("topk", {"k": 3, "multi": 0.1, "multi_factor": 1}, "multi_factor=1.*2"),
        ("topk", {"k": 3, "anneal": "cosine"}, "anneal='cosine'.*linear or exponential"),
        ("batch_topk", {"k": 3, "k_start": 99}, "k_start=99.*1"),
        ("batch_topk", {"k": 0}, "k=0.*n_latents=32"),
        ("matryoshka", {"k": 3, "prefixes": (8, 4, F)}, r"\(8, 4, 32\).*32"),
        ("matryoshka", {"k": 3, "prefixes": (8, 16)}, r"\(8, 16\).*32"),
        ("matryoshka", {"k": 3, "weights": (1.0,)}, r"\(1\.0,\).*4"),
        ("matryoshka", {"k": 3, "draw": 5}, "draw=5.*4"),
        ("matryoshka", {"k": 3, "activation": "relu"}, "'k'.*sparsity"),
        ("matryoshka", {"k": 3, "activation": "top"}, "'top'.*batch_topk.*relu"),
        ("csr", {"k": 3, "activation": "relu"}, "'relu'.*topk"),
        ("feature_choice", {"k": 3, "law": "pareto"}, "'pareto'.*zipf or uniform"),
        ("group_max", {"k": 20}, "k=20.*n=32"),
        ("abs_topk", {"k": 40}, "k=40.*1 and n_latents=32"),
    ],
)
def test_what_cannot_be_is_refused_with_its_bound(name, fields, message):
    with pytest.raises(ValueError, match=message):
        made(name, **fields)
