"""What is recommended trains every kind to its sparsity, starts well, and says where it has nothing to say."""

import numpy as np
import pytest

from dictlearn import dictionaries, experiment, recommended
from tests.helpers import planted_config, recovery, run, truth

NOTHING = ("fista", "lista", "psd")
"""Kinds whose L0 follows from a penalty of their inner problem, which nothing searches."""
SETTINGS = {"d_in": 32, "n_latents": 128, "tokens": 600 * 256, "batch_size": 256, "l0": 3}


def trained(kind, **changes):
    """(recovery at 0.9, the first info, the last info) on P1 small, at what is recommended; means of three
    seeds."""
    planted = planted_config("topk")["stream"]
    found = recommended(kind, **SETTINGS)
    config = {**found, "seed": 0, "stream": {**planted, **found["stream"]}}
    config["sweep"] = {"seed": (0, 1, 2)}
    for subtree, values in changes.items():
        config[subtree] = {**config[subtree], **values}
    (program,), states, infos = run(config, found["steps"])
    rows = states[program.key].variables["params"]["W_dec_FD"]
    recovered = np.mean([recovery(truth(config), atoms, 0.9) for atoms in rows])
    means = lambda info: {name: np.mean(value) for name, value in info[program.key].items()}
    return recovered, means(infos[0]), means(infos[-1])


@pytest.mark.parametrize("kind", ["batch_topk", "jumprelu", "gated"])
def test_planted_atoms_are_recovered_at_the_l0_that_was_asked(kind):
    recovered, first, last = trained(kind)
    assert recovered >= 0.9
    assert last["l0"] == pytest.approx(3, rel=0.1)
    assert first["explained_variance"] > -0.5


def test_the_densities_of_gba_bound_its_l0_if_its_biases_are_on_the_scale_of_the_inputs():
    recovered, _, last = trained("gba")
    assert recovered >= 0.9
    assert 2 < last["l0"] <= 3
    (_, _, unscaled) = trained("gba", revive={"lowest": -1.0})
    assert unscaled["l0"] > 6


@pytest.mark.parametrize("kind", [n for n in dictionaries.names() if n not in NOTHING])
def test_every_kind_has_a_program(kind):
    config = {**recommended(kind, **SETTINGS), "seed": 0}
    (program,) = experiment.programs(config, 32, None)
    assert program.n_latents == 128


@pytest.mark.parametrize("kind", NOTHING)
def test_where_nothing_finds_an_l0_the_field_is_named(kind):
    with pytest.raises(ValueError, match=r"dictionary\.sparsity"):
        recommended(kind, **SETTINGS)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [("l0", 129, "n_latents=128"), ("tokens", 255, "batch_size=256"), ("d_in", 0, "at least 1")],
)
def test_a_number_out_of_its_bounds_is_refused(name, value, said):
    with pytest.raises(ValueError, match=said):
        recommended("topk", **{**SETTINGS, name: value})


def test_a_latent_is_dead_after_a_share_of_the_run_within_bounds():
    after = lambda tokens: recommended("topk", **{**SETTINGS, "tokens": tokens})["learner"]
    found = [after(tokens)["dead_after"] for tokens in (100_000, 10**8, 10**10)]
    np.testing.assert_array_equal(found, [10_000, 10**6, 10**7])


def test_the_rate_is_the_lower_of_what_steps_and_batch_allow():
    def rate(tokens, batch):
        found = recommended("topk", **{**SETTINGS, "tokens": tokens, "batch_size": batch})
        return found["rule"]["lr"]

    assert rate(1600 * 256, 256) == pytest.approx(1e-3)
    assert rate(6400 * 256, 256) == rate(6400 * 4096, 4096) == pytest.approx(5e-4)
    assert rate(100 * 256, 256) == pytest.approx(16 / 12_000)
    assert rate(100 * 1024, 1024) == pytest.approx(32 / 12_000)


def test_b2_remembers_a_share_of_the_steps_within_bounds():
    b2 = lambda steps: recommended("topk", **{**SETTINGS, "tokens": steps * 256})["rule"]["b2"]
    assert [b2(steps) for steps in (100, 1600, 4000, 10**6)] == [0.99, 0.99, 0.996, 0.999]


def test_a_batch_is_a_power_of_two_that_leaves_some_1600_steps_within_bounds():
    sizes = {key: value for key, value in SETTINGS.items() if key != "batch_size"}
    found = lambda tokens: recommended("topk", **{**sizes, "tokens": tokens})
    sized = [found(n)["batch_size"] for n in (100, 10_000, 409_600, 2**20, 4 * 10**7)]
    assert sized == [100, 128, 256, 512, 4096]
    assert found(409_600) == recommended("topk", **{**sizes, "tokens": 409_600, "batch_size": 256})
