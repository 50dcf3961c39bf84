"""Every law of the room finds a planted curve, says what it does not know, and reads runs from disk."""

import json

import numpy as np
import pytest

from dictlearn.scaling import laws
from dictlearn.scaling.fit import bootstrap, fit
from dictlearn.scaling.inputs import INPUTS, rows
from dictlearn.scaling.law import log_loss
from dictlearn.scaling.summary import identified, irreducible, summarise
from tests.scaling.workdirs import TOKENS, workdir

RANGES = {"n": (2**11, 2**19), "k": (4, 128), "tokens": (1e6, 1e9), "compute": (1e-6, 1)}
SIZES = {1: (12,), 2: (5, 6)}
"""The points along each input of a law of so many inputs."""


@pytest.fixture(params=laws.names())
def law(request):
    return laws.make(request.param)


def grid(law):
    sizes = SIZES[len(law.inputs)]
    axes = [np.geomspace(*RANGES[name], size) for name, size in zip(law.inputs, sizes, strict=True)]
    points = [axis.ravel() for axis in np.meshgrid(*axes, indexing="ij")]
    return dict(zip(law.inputs, points, strict=True))


def truth(law):
    return np.array([law.example[name] for name in law.parameters])


def losses(law, noise=0.0, seed=0, of=None):
    log_loss_R = log_loss(law, truth(law) if of is None else of, grid(law))
    return np.exp(log_loss_R + noise * np.random.default_rng(seed).normal(size=log_loss_R.size))


def known(law, losses_R):
    """What the runs identify."""
    fitted = fit(law, grid(law), losses_R)
    draws_AP = bootstrap(fitted, grid(law), losses_R, 60, seed=0)
    floor = irreducible(law, fitted.theta_P, draws_AP, grid(law))
    return identified(law, floor, draws_AP)


def test_a_law_is_called_as_its_file_and_its_example_has_its_parameters(law):
    assert laws.make(law.name) is law
    assert law.example.keys() == set(law.parameters)
    assert {*law.inputs, *law.fixed} <= INPUTS.keys()
    assert not {*law.inputs} & {*law.fixed}
    assert {*law.floor} <= {*law.parameters}
    assert all(set(each.parameters) < set(law.parameters) for each in law.nested)


def test_planted_parameters_are_recovered(law):
    fitted = fit(law, grid(law), losses(law))
    np.testing.assert_allclose(fitted.theta_P, truth(law), atol=1e-3)


def test_intervals_cover_the_truth_at_one_per_cent_of_noise(law):
    """Nominally in 90 of 100 draws; bootstrapped intervals of so few runs are somewhat short."""
    covered = []
    for seed in range(8):
        losses_R = losses(law, 0.01, seed)
        fitted = fit(law, grid(law), losses_R)
        ends = np.percentile(bootstrap(fitted, grid(law), losses_R, 40, seed), (5, 95), axis=0)
        covered.append((ends[0] <= truth(law)) & (truth(law) <= ends[1]))
    assert np.mean(covered) > 0.7


def test_parameters_are_identified_where_the_noise_is_small(law):
    assert all(known(law, losses(law, 1e-5)).values())


def test_a_floor_that_is_not_there_is_not_identified(law):
    absent = np.where(np.isin(law.parameters, law.floor), -40.0, truth(law))
    found = known(law, losses(law, 0.002, of=absent))
    assert not any(found[name] for name in law.floor)


def test_too_few_runs_are_refused_by_the_name_of_the_law(law):
    few = runs(law)[: len(law.parameters)]
    with pytest.raises(ValueError, match=rf"{len(few)} cells.*{law.name}.*{len(few) + 1}"):
        summarise(law, few)


def runs(law, noise=0.002):
    columns = {INPUTS[name].key: values for name, values in grid(law).items()}
    cells = [
        dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)
    ]
    return [
        {**cell, "seed": 0, "loss": float(loss)}
        for cell, loss in zip(cells, losses(law, noise), strict=True)
    ]


def test_the_report_survives_json_and_predicts_what_it_was_not_fitted_to(law):
    key = INPUTS[law.inputs[-1]].key
    middle = np.median([run[key] for run in runs(law)])
    some = [run for run in runs(law) if run[key] < middle]
    found = summarise(law, some, n_bootstrap=20)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert found["name"] == law.name
    assert found["parameters"].keys() == set(law.parameters)
    assert list(found["competitors"]) == [each.name for each in (law, *law.nested)]
    assert found["held_out_median"] < 0.01
    assert found["largest_out"]["worst"] < 0.03


def test_a_dictionary_without_what_the_law_needs_is_named(law, tmp_path):
    lacking = workdir(tmp_path / "lacking", [(None, None, 0.5)], tokens=None)
    needed = "|".join(INPUTS[name].key for name in law.inputs)
    with pytest.raises(ValueError, match=rf"d0 of .*lacking has no ({needed}), .*law {law.name}"):
        rows(law, [lacking])
    without = workdir(tmp_path / "without", [(64, 4, None)])
    with pytest.raises(ValueError, match=r"d0 of .*without has no fvu.*dictlearn eval"):
        rows(law, [without])


def test_runs_that_differ_in_what_the_law_holds_fixed_are_told_how_to_choose(law, tmp_path):
    cells = [(n, k, 0.5) for n in (32, 64) for k in (2, 4)]
    lengths = (3000, 12_345_678)
    mixed = [workdir(tmp_path / str(tokens), cells, tokens) for tokens in lengths]
    chosen = {}
    for name in law.fixed:
        largest = {"n": 64, "k": 4, "tokens": lengths[-1]}[name]
        with pytest.raises(ValueError, match=rf"{law.name} .*--at={name}={largest}\b"):
            rows(law, mixed, chosen)
        chosen[name] = largest
    assert len(rows(law, mixed, chosen)) == 8 // 2 ** len(chosen)


def test_a_published_dictionary_has_no_log_and_is_fitted_where_no_length_is_read(tmp_path):
    without = workdir(tmp_path / "without", [(64, 4, 0.5)], tokens=None)
    trained = workdir(tmp_path / "trained", [(32, 4, 0.6)])
    found = rows(laws.make("latents"), [without, trained])
    assert [row["tokens"] for row in found] == [None, TOKENS]
    with pytest.raises(ValueError, match="has no tokens"):
        rows(laws.make("latents"), [without], {"tokens": TOKENS})


def test_the_best_width_and_length_are_powers_of_compute():
    """Of L = n^-.3 + T^-.4 the best n is a power of n T with exponent .4 / .7."""
    law = next(each for each in laws.make("training").nested if not each.floor)
    inputs = grid(law)
    losses_R = inputs["n"] ** -0.3 + inputs["tokens"] ** -0.4
    values = dict(zip(law.parameters, fit(law, inputs, losses_R).theta_P, strict=True))
    slopes = {name: of(values) for name, of in laws.make("training").derived.items()}
    expected = {"best_n_exponent": 0.4 / 0.7, "best_tokens_exponent": 0.3 / 0.7}
    assert slopes == pytest.approx(expected, abs=1e-3)
