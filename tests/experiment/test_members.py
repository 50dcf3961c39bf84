"""A config is resolved once: the arguments that swept keys name, and the hyperparameters in records."""

import pytest

from dictlearn import experiment
from tests.helpers import planted_config

REDRAW = {"name": "redraw", "every": 5, "seed": 3}


def members(**changes):
    return experiment.members(planted_config(**changes))


@pytest.mark.parametrize("sweep", [{"lr": (1, 2)}, {"rule.lr": (1, 2)}, {"rule": {"lr": (1, 2)}}])
def test_a_swept_key_may_be_qualified_or_alone(sweep):
    found = members(sweep=sweep)
    assert [m.hparams["rule"]["lr"] for m in found] == [1, 2]
    assert [m.rule.swept for m in found] == [{"lr": 1}, {"lr": 2}]
    assert [m.name for m in found] == ["topk_n64_0", "topk_n64_1"]
    (program,) = experiment.programs(planted_config(sweep=sweep), 32, None)
    assert program.hparams["rule"]["lr"].tolist() == [1, 2]


def test_a_key_of_several_subtrees_is_refused_with_the_keys_that_would_do():
    both = {"name": "matryoshka", "revive": {"name": "resample"}}
    with pytest.raises(ValueError, match=r"power.*dictionary\.power, revive\.power"):
        members(sweep={"power": (1.0, 2.0)}, **both)
    found = members(sweep={"revive.power": (1.0, 2.0)}, **both)
    assert [m.hparams["revive"]["power"] for m in found] == [1.0, 2.0]
    with pytest.raises(ValueError, match=r"nonsense.*seed, steps, dictionary\.n_latents.*rule\.lr"):
        members(sweep={"nonsense": (1, 2)})


def test_seed_alone_is_the_runs_and_a_variants_own_is_named_by_its_subtree():
    found = members(name="masked", sweep={"seed": (0, 1), "dictionary.seed": (5, 6)})
    seeds = [(m.hparams["seed"], m.hparams["dictionary"]["seed"]) for m in found]
    assert seeds == [(0, 5), (0, 6), (1, 5), (1, 6)]


def test_what_is_swept_decides_which_members_share_a_program():
    sweep = {"k": (2, 3), "n_latents": (32, 64), "warmup_steps": (1, 2)}
    found = experiment.programs(planted_config(sweep=sweep), 32, None)
    assert [len(p.members) for p in found] == [2] * 4
    assert all(p.hparams["dictionary"]["k"].tolist() == [2, 3] for p in found)
    assert all(
        p.module_of(n).activation.k == m.hparams["dictionary"]["k"]
        for p in found
        for n, m in enumerate(p.members)
    )


def test_a_record_keeps_every_subtree_apart():
    (one,) = members(revive=REDRAW, seed=7)
    assert one.hparams["revive"] == REDRAW
    assert one.hparams["seed"] == 7
    assert one.hparams["rule"]["name"] == "adam"
    assert one.label == "topk"


def test_members_carry_their_labels():
    kinds = {"a": {"sweep": {"k": (2, 3)}}, "b_n1": {"dictionary": {"k": 4}}}
    found = members(members=kinds)
    assert [(m.label, m.name) for m in found] == [
        ("a", "a_n64_0"),
        ("a", "a_n64_1"),
        ("b_n1", "b_n1_n64_0"),
    ]
