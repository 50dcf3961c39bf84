"""Planted latents tell the ways of sharing out k apart, and wrong settings are seen to fail.

Sizes and figures of docs: P1 small (d 32, N 64, s 3), P2 the same by Zipf's law, P3 trees of features.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dictlearn.normalise import Norm
from dictlearn.ops.firing import l0
from dictlearn.runs.to_jumprelu import to_jumprelu, trained_to_jumprelu
from dictlearn.runs.trained import Trained
from dictlearn.streams.synthetic import draw, plant
from tests.helpers import planted_config, recovery, run, truth

HELD_OUT = 2**48


@functools.cache
def trained(name, kind, steps, sweep=(), **dictionary):
    """(config, [(module, variables) of every member in the order of the sweep], mean of the last infos)."""
    config = planted_config(
        name,
        steps=steps,
        batch_size=256,
        stream={"kind": kind},
        rule={"lr": 3e-3, "warmup_steps": 30, "decay_fraction": 0.5},
        learner={"dead_after": 20 * 256, "b_dec_start": "zeros"},
        dictionary=dictionary,
        sweep={key: list(values) for key, values in sweep},
    )
    programs, states, infos = run(config, steps)
    found, tails = [], []
    for p in programs:
        for n in range(len(p.members)):
            one = jax.tree.map(lambda leaf, n=n: jnp.asarray(leaf[n]), states[p.key].variables)
            found.append((p.module_of(n), one))
            tails.append(
                {key: np.mean([i[p.key][key][n] for i in infos[-50:]]) for key in infos[0][p.key]}
            )
    return config, found, tails


def held_out(kind, tokens=16_384):
    return draw(plant(kind, seed=0), tokens, HELD_OUT)[0]


def fvu(y_BD, x_BD):
    return float(np.sum((y_BD - x_BD) ** 2) / np.sum((x_BD - x_BD.mean(0)) ** 2))


@functools.partial(jax.jit, static_argnums=0)
def _read(module, variables, x_BD):
    codes = module.apply(variables, x_BD, method="encode")
    return module.apply(variables, codes, method="decode"), l0(codes)


@functools.partial(jax.jit, static_argnums=0)
def _batch_form(module, variables, x_BD):
    alive = jnp.zeros(module.n_latents, bool)
    out, _ = module.apply(variables, x_BD, alive, mutable=["stats"])
    return out.y_BD, l0(out.codes)


def read(module, variables, x_BD, form=_read):
    """(FVU, active latents of each token) of the inference form, or of the training form."""
    y_BD, active_B = form(module, variables, x_BD)
    return fvu(np.asarray(y_BD), x_BD), np.asarray(active_B)


P2 = {"n_latents": 64, "k": 3, "aux_k": 0}
CHOOSING = {"choose_after": 300}


def test_on_zipf_data_the_choices_rank_as_in_the_paper_and_uniform_quotas_fail():
    tail = {
        "token": trained("topk", "p2", 1200, **P2)[2][0],
        "mutual": trained("mutual_choice", "p2", 1200, **P2)[2][0],
        "zipf": trained("feature_choice", "p2", 1200, **P2, **CHOOSING)[2][0],
        "uniform": trained("feature_choice", "p2", 1200, **P2, **CHOOSING, law="uniform")[2][0],
    }
    left = {name: 1 - each["explained_variance"] for name, each in tail.items()}
    assert left["zipf"] <= 1.1 * left["mutual"] < left["token"] < left["uniform"], left
    assert tail["zipf"]["dead_fraction"] == 0 < tail["mutual"]["dead_fraction"]


def test_feature_choice_recovers_more_than_mutual_choice():
    config, ((_, mutual),), _ = trained("mutual_choice", "p2", 1200, **P2)
    _, ((_, chosen),), _ = trained("feature_choice", "p2", 1200, **P2, **CHOOSING)
    share = [
        recovery(truth(config), np.asarray(v["params"]["W_dec_FD"]), 0.9) for v in (chosen, mutual)
    ]
    assert share[0] >= 0.75
    assert share[1] < 0.7


@pytest.mark.parametrize("name", ["mutual_choice", "feature_choice"])
def test_thresholds_do_at_inference_what_the_batch_does_in_training(name):
    more, near = (CHOOSING, 0.06) if name == "feature_choice" else ({}, 0.03)
    _, ((module, variables),), _ = trained(name, "p2", 1200, **P2, **more)
    x_BD = held_out("p2", 512 * 32)
    batches = [read(module, variables, x, _batch_form) for x in np.split(x_BD, 64)]
    error, active_B = read(module, variables, x_BD)
    np.testing.assert_allclose(active_B.mean(), 3, rtol=near)
    np.testing.assert_allclose(error, np.mean([each for each, _ in batches]), rtol=near)


def test_tokens_differ_in_how_many_latents_they_get_where_they_may():
    x_BD = held_out("p2")
    spread = {}
    for name in ("topk", "mutual_choice"):
        _, ((module, variables),), _ = trained(name, "p2", 1200, **P2)
        spread[name] = read(module, variables, x_BD, _batch_form)[1].std()
    assert spread["mutual_choice"] > 0.5
    assert spread["topk"] < 0.1


def test_aux_zipf_leaves_fewer_latents_dead():
    _, _, (without,) = trained("mutual_choice", "p2", 1200, **P2)
    _, _, (lifted,) = trained("mutual_choice", "p2", 1200, **{**P2, "aux_k": 16})
    assert lifted["dead_fraction"] < 0.7 * without["dead_fraction"]


def test_nested_prefixes_keep_parents_where_vanilla_relu_absorbs_them():
    """P3. A parent's latent is the one most active on tokens where the parent is on without a child."""
    planted = plant("p3", seed=0)
    x_BD, on_BN = draw(planted, 4096, HELD_OUT)

    def kept(prefixes):
        sizes = {"n_latents": 12, "activation": "relu", "sparsity": 0.1}
        sweep = (("seed", (0, 1, 2, 3)),)
        _, found, _ = trained("matryoshka", "p3", 2000, sweep, **sizes, prefixes=prefixes)
        shares = []
        for module, variables in found:
            f_BF = np.asarray(module.apply(variables, x_BD, method="encode").val)
            for parent in range(3):
                child_B = on_BN[:, 3 + 3 * parent : 6 + 3 * parent].any(1)
                alone_B = (on_BN[:, parent] > 0) & ~child_B
                latent = f_BF[alone_B].sum(0).argmax()
                shares.append(np.mean(f_BF[child_B, latent] > 1e-2))
        return shares, found[0]

    nested, (module, variables) = kept((3, 6, 12))
    vanilla, _ = kept((12,))
    assert np.mean(nested) >= 0.85, nested
    assert np.median(nested) >= 0.95, nested
    assert np.mean(vanilla) <= 0.25, vanilla
    assert max(vanilla) <= 0.4, vanilla
    whole = module.apply(variables, x_BD, method="encode")
    cut = [module.apply(variables, x_BD, prefix=m, method="encode") for m in (3, 6, 12)]
    errors = [fvu(module.apply(variables, each, method="decode"), x_BD) for each in (*cut, whole)]
    assert errors[0] > errors[1] > errors[2] == errors[3]


def test_multi_topk_reconstructs_well_at_more_latents_than_it_was_trained_with():
    sizes = {"n_latents": 128, "k": 3, "aux_k": 0}
    _, found, _ = trained("topk", "p1", 800, (("multi", (0.0, 1 / 8)),), **sizes)
    x_BD = held_out("p1")
    left = [
        [
            read(module.clone(activation=module.activation.clone(k=k)), variables, x_BD)[0]
            for k in (3, 6, 12)
        ]
        for module, variables in found
    ]
    plain, multi = left
    assert max(multi[1:]) < 0.7 * multi[0], left
    assert plain[2] > 1.5 * plain[0], left
    assert multi[0] < 1.3 * plain[0], left


@pytest.mark.parametrize("name", ["topk", "batch_topk"])
def test_as_jumprelu_it_has_the_same_l0_and_reconstructs_no_worse(name):
    sizes = {"n_latents": 128, "k": 3}
    if name == "topk":
        _, found, _ = trained(name, "p1", 800, (("multi", (0.0, 1 / 8)),), **sizes, aux_k=0)
    else:
        _, found, _ = trained(name, "p1", 500, **sizes, aux_k=16)
    module, variables = found[0]
    x_BD = held_out("p1", 32_768)
    fit, test = x_BD[:16_384].reshape(8, 2048, -1), x_BD[16_384:]
    jump, converted = to_jumprelu(module, variables, fit)
    error, active_B = read(jump, converted, test)
    assert type(jump.activation).__name__ == "JumpReLU"
    np.testing.assert_allclose(active_B.mean(), 3, rtol=0.02)
    assert error < 1.02 * read(module, variables, test, _batch_form)[0]

    params, c_F = variables["params"], jnp.exp(jax.random.normal(jax.random.key(0), (128,)))
    rescaled = {
        "W_enc_FD": params["W_enc_FD"] / c_F[:, None],
        "b_enc_F": params["b_enc_F"] / c_F,
        "W_dec_FD": params["W_dec_FD"] * c_F[:, None],
        "b_dec_D": params["b_dec_D"],
    }
    weighted = module.clone(activation=module.activation.clone(norm_weighted=True))
    jump, again = to_jumprelu(weighted, {**variables, "params": rescaled}, fit)
    np.testing.assert_allclose(read(jump, again, test)[0], error, rtol=1e-3)


def test_a_dictionary_read_back_is_converted_on_raw_activations():
    sizes = {"n_latents": 128, "k": 3, "aux_k": 16}
    _, ((module, variables),), _ = trained("batch_topk", "p1", 500, **sizes)
    norm = Norm("mean_norm_sqrt_d", scale_in=2.0, scale_out=2.0)
    before = Trained(module, variables, norm, metrics={"explained_variance": 0.5})
    x_BD = held_out("p1")
    after = trained_to_jumprelu(before, x_BD.reshape(8, 2048, -1) / 2)
    _, wanted = to_jumprelu(module, variables, x_BD.reshape(8, 2048, -1))
    jax.tree.map(np.testing.assert_array_equal, after.variables, wanted)
    assert (after.norm, after.metrics) == (norm, {})
    np.testing.assert_allclose(l0(after.encode(x_BD / 2)).mean(), 3, rtol=0.02)
    with pytest.raises(ValueError, match="none"):
        trained_to_jumprelu(before, [])


def test_abs_topk_recovers_axes_of_either_sign_where_topk_needs_two_latents():
    planted = {"kind": "p4", "d_in": 32, "n_features": 48, "sparsity": 3, "noise": 0.01}
    found = {}
    for name, k in (("abs_topk", (3, 24)), ("topk", (3,))):
        config = planted_config(
            name,
            steps=700,
            batch_size=256,
            stream=planted,
            rule={"lr": 3e-3, "warmup_steps": 30, "decay_fraction": 0.5},
            learner={"dead_after": 20 * 256, "b_dec_start": "zeros"},
            dictionary={"n_latents": 64, "k": 3},
            sweep={"k": list(k)},
        )
        programs, states, infos = run(config, 700)
        key = programs[0].key
        rows = states[key].variables["params"]["W_dec_FD"]
        both = np.concatenate([rows, -rows], axis=1)
        found[name] = [recovery(truth(config), each, 0.95) for each in both]
        found[name + " fvu"] = 1 - infos[-1][key]["explained_variance"]
    assert found["abs_topk"][0] >= 0.9, found
    assert found["abs_topk"][1] < 0.5, found
    assert found["abs_topk fvu"][0] < 0.5 * found["topk fvu"][0], found


def test_group_max_recovers_with_a_group_for_each_few_features_and_not_with_too_many():
    share = {}
    for k in (8, 32):
        config, ((_, variables),), _ = trained("group_max", "p1", 800, n_latents=128, k=k, aux_k=0)
        share[k] = recovery(truth(config), np.asarray(variables["params"]["W_dec_FD"]), 0.9)
    assert share[8] >= 0.5, share
    assert share[32] < 0.1, share
