"""The report is JSON, says what it does not know, and is drawn."""

import csv
import json
from xml.etree import ElementTree

import numpy as np
import pytest

from dictlearn.runs import drawn
from dictlearn.scaling import laws
from dictlearn.scaling.draw import draw
from dictlearn.scaling.fit import bootstrap, fit
from dictlearn.scaling.law import log_loss
from dictlearn.scaling.summary import curves, identified, irreducible, summarise

JOINT = laws.make("joint")
TRUTH = list(JOINT.example.values())


def planted(widths, ks, seeds, noise, truth=TRUTH, seed=0):
    generator = np.random.default_rng(seed)
    cells = [(int(n), int(k), i) for n in widths for k in ks for i in range(seeds)]
    n, k, _ = np.array(cells).T
    log_losses = log_loss(JOINT, truth, {"n": n, "k": k}) + noise * generator.normal(size=n.size)
    return [
        {"n_latents": n, "k": k, "seed": i, "loss": float(np.exp(y))}
        for (n, k, i), y in zip(cells, log_losses, strict=True)
    ]


SMALL = planted((512, 1024, 2048, 4096), (8, 16, 32), seeds=2, noise=0.002)
WIDE = (2 ** np.arange(11, 20, 2), 2 ** np.arange(2, 8))


@pytest.fixture(scope="module")
def report():
    return summarise(JOINT, SMALL, n_bootstrap=20)


def test_the_report_survives_json(report):
    assert json.loads(json.dumps(report, allow_nan=False)) == report


def test_a_dozen_cells_are_each_held_out_once_and_their_place_in_the_grid_is_told(report):
    rows = report["held_out"]
    assert len({(row["n_latents"], row["k"]) for row in rows}) == len(rows) == 12
    inside = {(row["n_latents"], row["k"]) for row in rows if row["interior"]}
    assert inside == {(1024, 16), (2048, 16)}
    assert report["held_out_interior_worst"] <= report["held_out_worst"] < 0.02
    for row in rows:
        assert row["relative_error"] == pytest.approx(row["predicted"] / row["loss"] - 1)


def test_a_cell_s_loss_is_the_mean_over_its_seeds(report):
    row = report["held_out"][0]
    cell = [run for run in SMALL if run["n_latents"] == 512 and run["k"] == 8]
    assert (row["n_latents"], row["k"]) == (512, 8)
    assert row["loss"] == pytest.approx(np.mean([run["loss"] for run in cell]))


def test_every_nested_law_is_scored_and_the_power_law_is_the_worst(report):
    scores = report["competitors"]
    assert list(scores) == [law.name for law in (JOINT, *JOINT.nested)]
    assert max(scores, key=scores.__getitem__) == "power"


def what_is_identified(runs):
    inputs = {"n": [run["n_latents"] for run in runs], "k": [run["k"] for run in runs]}
    losses = [run["loss"] for run in runs]
    fitted = fit(JOINT, inputs, losses)
    draws = bootstrap(fitted, inputs, losses, 100, seed=0)
    return identified(JOINT, irreducible(JOINT, fitted.theta_P, draws, inputs), draws)


@pytest.mark.parametrize("seed", range(2))
def test_thirty_cells_identify_the_irreducible_error_at_a_fifth_of_a_per_cent_only(seed):
    quiet, noisy = (planted(*WIDE, 1, noise, seed=seed) for noise in (0.002, 0.01))
    of_quiet, of_noisy = what_is_identified(quiet), what_is_identified(noisy)
    assert of_quiet["irreducible"]
    assert of_quiet["gamma"]
    assert of_noisy["gamma"]
    assert not any(of_noisy[name] for name in ("irreducible", *JOINT.floor))


def test_a_dozen_cells_do_not_identify_it_at_a_fifth_of_a_per_cent(report):
    assert report["identified"]["irreducible"] is False


def test_an_irreducible_error_that_is_not_there_is_not_identified():
    absent = planted(*WIDE, 1, 0.002, truth=[*TRUTH[:4], -40.0, 0.0])
    assert what_is_identified(absent)["irreducible"] is False


def test_an_interaction_that_is_not_there_is_seldom_identified():
    """A 5-95 % interval leaves out a true zero once in ten draws, a bootstrapped one in six."""
    truth = [0.3, -0.1, -0.15, 0.0, *TRUTH[4:]]
    grids = [planted(*WIDE, 1, 0.01, truth=truth, seed=seed) for seed in range(5)]
    assert sum(what_is_identified(grid)["gamma"] for grid in grids) <= 2


def test_the_largest_width_is_not_predicted_from_fewer_cells_than_parameters():
    grid = planted(WIDE[0][:3], WIDE[1][:3], seeds=1, noise=0.0003)
    told = summarise(JOINT, grid[:3] + grid[4:], n_bootstrap=20)
    assert len(told["held_out"]) == 8
    assert told["largest_out"] is None


def test_the_largest_width_is_predicted_from_enough(report):
    out = report["largest_out"]
    assert [(row["n_latents"], row["k"]) for row in out["cells"]] == [
        (4096, k) for k in (8, 16, 32)
    ]
    assert out["worst"] == max(abs(row["relative_error"]) for row in out["cells"]) < 0.02


def test_curves_pass_through_the_law_and_lie_in_their_bands(report):
    theta = [report["parameters"][name]["value"] for name in JOINT.parameters]
    lines = curves(JOINT, theta, np.stack([theta, theta]), {"n": [512, 4096], "k": [8, 32]})
    assert [line["k"][0] for line in lines["against_n"]] == [8, 32]
    assert [line["n_latents"][0] for line in lines["against_k"]] == [512, 4096]
    for line in lines["against_n"] + lines["against_k"]:
        expected = np.exp(log_loss(JOINT, theta, {"n": line["n_latents"], "k": line["k"]}))
        for name in ("loss", "low", "high"):
            np.testing.assert_allclose(line[name], expected, rtol=1e-12)


def test_the_figure_is_written_with_the_losses_and_the_curves_behind_it(report, tmp_path):
    drawing, numbers = drawn.write(draw(SMALL, report), tmp_path / "scaling.svg")
    first = drawing.read_bytes()
    drawn.write(draw(SMALL, report), drawing)
    assert drawing.read_bytes() == first
    assert ElementTree.parse(drawing).getroot().get("width") == "792pt"
    rows = list(csv.DictReader(numbers.read_text().splitlines()))
    of = lambda word: [row for row in rows if row["series"].startswith(word)]
    losses = sorted(float(row["y"]) for row in of("measured"))
    np.testing.assert_allclose(losses, sorted(2 * [run["loss"] for run in SMALL]), rtol=1e-9)
    lines = [line for lines in report["curves"].values() for line in lines]
    assert len(of("fitted")) == sum(len(line["loss"]) for line in lines)
    assert len(of("cell left out")) == len(report["held_out"])


def test_too_few_cells_are_refused_with_their_number():
    with pytest.raises(ValueError, match=r"\b6\b.*\b7\b"):
        summarise(JOINT, SMALL[:12])


def test_a_run_given_twice_is_refused():
    with pytest.raises(ValueError, match=r"\(512, 8, 0\)"):
        summarise(JOINT, [*SMALL, SMALL[0]])


def test_too_few_bootstrap_samples_are_refused():
    with pytest.raises(ValueError, match="n_bootstrap=3"):
        summarise(JOINT, SMALL, n_bootstrap=3)
