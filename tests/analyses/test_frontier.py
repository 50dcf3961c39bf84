"""Kinds of dictionaries side by side: matched L0 is interpolated, never extrapolated."""

import json
import math

import pytest

from dictlearn import analyses, cli
from dictlearn.analyses.frontier import between


def record(label, n, l0, ev):
    hparams = {"dictionary": {"n_latents": n}}
    return {
        "label": label,
        "hparams": hparams,
        "l0": l0,
        "explained_variance": ev,
        "dead_fraction": 0.0,
    }


METRICS = {
    "topk_n64_0": record("topk", 64, 8.0, 0.6),
    "topk_n64_1": record("topk", 64, 32.0, 0.8),
    "gated_n64_0": record("gated", 64, 4.0, 0.5),
    "gated_n64_1": record("gated", 64, 32.0, 0.9),
    "far_n64_0": record("far", 64, 100.0, 0.99),
}


@pytest.fixture
def run(tmp_path):
    """A workdir with the metrics above."""
    (tmp_path / "metrics.json").write_text(json.dumps(METRICS))
    return tmp_path


def test_the_table_is_at_one_l0_and_leaves_out_what_does_not_reach_it(run):
    found = analyses.run("frontier", [run], l0=16.0)
    rows = found.values["rows"]
    at = {row["member"]: row["at_l0"]["explained_variance"] for row in rows}
    assert at["topk"] == pytest.approx(0.7)
    assert at["gated"] == pytest.approx(0.5 + 0.4 * 2 / 3)
    assert at["far"] is None
    assert [row["member"] for row in rows] == ["gated", "topk", "far"]
    cells = {row[0]: row[2] for row in found.tables[0].rows}
    assert cells == at
    assert found.tables[0].rows[2][-1] == "100.0 .. 100.0"


def test_without_an_l0_the_middle_of_what_most_curves_span_is_taken(run):
    assert analyses.run("frontier", [run]).values["l0"] == pytest.approx(math.sqrt(8 * 32))


def test_a_reference_says_which_l0_it_needs_for_what_another_kind_has(run):
    rows = analyses.run("frontier", [run], reference="topk").tables[1].rows
    needed = {name: l0 for name, _, _, l0 in rows}
    assert needed["topk_n64_0"] == pytest.approx(8)
    assert needed["gated_n64_0"] is None
    assert needed["gated_n64_1"] is None
    with pytest.raises(ValueError, match=r"'psd'.*gated"):
        analyses.run("frontier", [run], reference="psd")


def test_several_runs_are_one_frontier_and_any_metric_may_be_asked_for(run, tmp_path_factory):
    other = tmp_path_factory.mktemp("other")
    (other / "metrics.json").write_text((run / "metrics.json").read_text())
    found = analyses.run("frontier", [run, other], metrics=("dead_fraction",))
    assert len(found.values["rows"]) == 6
    assert {row["at_l0"]["dead_fraction"] for row in found.values["rows"]} <= {0.0, None}
    with pytest.raises(ValueError, match="psnr"):
        analyses.run("frontier", [run], metrics=("psnr",))


def test_a_curve_has_a_value_between_two_points_of_it_and_none_outside():
    curve = [(0.8, math.log(8)), (0.9, math.log(32))]
    assert math.exp(between(curve, 0.85)) == pytest.approx(16)
    assert between(curve, 0.95) is None


def test_members_of_several_kinds_train_on_the_same_batches_and_compare(tmp_path, capsys):
    file = tmp_path / "three.py"
    file.write_text(
        """
from ml_collections import ConfigDict
def get_config(arg=""):
    return ConfigDict({
        "seed": 0, "steps": 20, "batch_size": 128,
        "stream": {"name": "synthetic", "kind": "p1"},
        "dictionary": {"n_latents": 64},
        "rule": {"name": "adam", "lr": 1e-3, "warmup_steps": 1},
        "learner": {"b_dec_start": "mean"},
        "evaluate": {"n_tokens": 512},
        "members": {
            "topk": {"dictionary": {"name": "topk"}, "sweep": {"k": (2, 4)}},
            "slow": {"dictionary": {"name": "topk"}, "rule": {"lr": 1e-5}, "sweep": {"k": (2, 4)}},
            "relu": {"dictionary": {"name": "relu"}, "sweep": {"sparsity": (0.1, 1.0)}},
        },
    })
"""
    )
    run = [f"--config={file}", f"--workdir={tmp_path / 'run'}"]
    assert cli.main(["train", *run]) == 0
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert set(metrics) == {f"{kind}_n64_{i}" for kind in ("topk", "slow", "relu") for i in (0, 1)}
    fast, slow = (metrics[f"{kind}_n64_1"]["explained_variance"] for kind in ("topk", "slow"))
    assert fast > slow + 0.01
    assert cli.main(["analyse", "frontier", run[1], "--frontier.l0=3"]) == 0
    assert "at L0 3" in capsys.readouterr().out
    kept = json.loads((tmp_path / "run" / "analyses" / "frontier.json").read_text())
    assert kept["settings"] == {"l0": 3}
    assert "<svg" in (tmp_path / "run" / "analyses" / "frontier.svg").read_text()
    assert cli.main(["train", *run, "--config.members.relu.rate=1"]) == 1
    assert "config.members.relu has no 'rate'" in capsys.readouterr().err


def test_of_a_tuned_hyperparameter_each_kind_has_its_best_value(tmp_path):
    """The rate that is best at the L0 of the comparison, not the one with the best single dictionary."""
    tried = {
        ("topk", 1e-3): [(8.0, 0.6), (32.0, 0.8)],
        ("topk", 1e-2): [(8.0, 0.3), (32.0, 0.9)],
        ("relu", 1e-3): [(8.0, 0.2), (32.0, 0.3)],
        ("relu", 1e-2): [(8.0, 0.4), (32.0, 0.5)],
    }
    found = {}
    for (label, lr), points in tried.items():
        for i, (l0, ev) in enumerate(points):
            one = record(label, 64, l0, ev)
            one["hparams"] = {**one["hparams"], "rule": {"lr": lr}}
            found[f"{label}_{lr}_{i}"] = one
    (tmp_path / "metrics.json").write_text(json.dumps(found))
    result = analyses.run("frontier", [tmp_path], l0=16.0, tuned="lr")
    best, every = result.tables
    assert [(row[0], row[2]) for row in best.rows] == [("topk", 1e-3), ("relu", 1e-2)]
    assert [row["at_l0"]["explained_variance"] for row in result.values["rows"]] == [
        pytest.approx(0.7),
        pytest.approx(0.45),
    ]
    assert len(every.rows) == 4
    with pytest.raises(ValueError, match=r"'momentum'.*rule\.lr"):
        analyses.run("frontier", [tmp_path], tuned="momentum")


def test_seeds_are_curves_of_their_own_with_a_mean_and_an_interval(run):
    metrics = dict(METRICS)
    for seed, shift in ((1, 0.02), (2, 0.04)):
        for key in ("topk_n64_0", "topk_n64_1"):
            one = METRICS[key]
            hparams = {**one["hparams"], "seed": seed}
            better = one["explained_variance"] + shift
            metrics[f"{key}_{seed}"] = {**one, "hparams": hparams, "explained_variance": better}
    (run / "metrics.json").write_text(json.dumps(metrics))
    found = analyses.run("frontier", [run], l0=16.0)
    (topk,) = (row for row in found.values["rows"] if row["member"] == "topk")
    assert topk["at_l0"]["explained_variance"] == pytest.approx(0.72)
    # t of two degrees of freedom, 4.303, times 0.02 / sqrt(3)
    assert topk["half_width"]["explained_variance"] == pytest.approx(0.04968, rel=1e-3)
    assert [point["explained_variance"] for point in topk["points"]] == pytest.approx([0.62, 0.82])
    told = {row[0]: row[2] for row in found.tables[0].rows}
    assert told["topk"] == "0.72 ± 0.05"
    assert told["gated"] == pytest.approx(0.5 + 0.4 * 2 / 3)
