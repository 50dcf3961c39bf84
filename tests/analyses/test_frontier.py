"""Kinds of dictionaries side by side: matched L0 is interpolated, never extrapolated."""

import io
import json
import math

import pytest
from rich.console import Console

from dictlearn import cli
from dictlearn.analyses.frontier import frontier, show


def record(n, l0, ev):
    hparams = {"n_latents": n}
    return {"hparams": hparams, "l0": l0, "explained_variance": ev, "dead_fraction": 0.0}


METRICS = {
    "topk_n64_0": record(64, 8.0, 0.6),
    "topk_n64_1": record(64, 32.0, 0.8),
    "gated_n64_0": record(64, 4.0, 0.5),
    "gated_n64_1": record(64, 32.0, 0.9),
    "far_n64_0": record(64, 100.0, 0.99),
}


def test_the_table_is_at_one_l0_and_leaves_out_what_does_not_reach_it(tmp_path):
    found = frontier(METRICS, tmp_path, l0=16.0)
    at = {row["member"]: row["at_l0"]["explained_variance"] for row in found["rows"]}
    assert at["topk"] == pytest.approx(0.7)
    assert at["gated"] == pytest.approx(0.5 + 0.4 * 2 / 3)
    assert at["far"] is None
    assert [row["member"] for row in found["rows"]] == ["gated", "topk", "far"]
    assert json.loads((tmp_path / "compare.json").read_text()) == found
    assert (tmp_path / "compare.png").read_bytes()[:4] == b"\x89PNG"
    text = io.StringIO()
    show(found, Console(file=text, width=120))
    assert "0.7000" in text.getvalue()
    assert "100.0 .. 100.0" in text.getvalue()


def test_without_an_l0_the_middle_of_what_most_curves_span_is_taken(tmp_path):
    assert frontier(METRICS, tmp_path)["l0"] == pytest.approx(math.sqrt(8 * 32))


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
        "meters": {"n_tokens": 512},
        "members": {
            "topk": {"dictionary": {"name": "topk"}, "sweep": {"k": (2, 4)}},
            "slow": {"dictionary": {"name": "topk"}, "rule": {"lr": 1e-5}, "sweep": {"k": (2, 4)}},
            "relu": {"dictionary": {"name": "relu"}, "sweep": {"l1": (0.1, 1.0)}},
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
    assert cli.main(["compare", f"--workdir={tmp_path / 'run'}", "--l0=3"]) == 0
    assert "at L0 3" in capsys.readouterr().out
    assert (tmp_path / "run" / "compare.png").exists()
    assert cli.main(["train", *run, "--config.members.relu.rate=1"]) == 1
    assert "config.members.relu has no 'rate'" in capsys.readouterr().err
