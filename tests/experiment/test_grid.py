"""Grids: cells that vary together, lengths as cells, and what a config gains in cells."""

import pytest

from dictlearn import experiment
from dictlearn.experiment import grid, values
from dictlearn.experiment.cells import cells, listed
from tests.helpers import planted_config

CROSSED = {"n_latents": (32, 64), "k": (2, 3)}


def told(config) -> set:
    """(n_latents, k, steps, name) of every member."""
    return {
        (m.hparams["dictionary"]["n_latents"], m.hparams["dictionary"]["k"], m.steps, m.name)
        for m in experiment.members(config)
    }


def test_names_with_commas_between_them_vary_together():
    found = cells({"n, k": ((1, 2), (3, 4)), "seed": (0, 1)})
    assert found == [{"n": n, "k": k, "seed": s} for n, k in ((1, 2), (3, 4)) for s in (0, 1)]
    assert cells(listed(found)) == found
    assert cells(listed([{"k": 2}, {"k": 5}])) == [{"k": 2}, {"k": 5}]
    for wrong in ((1, 2), ((1, 2), (3,))):
        with pytest.raises(ValueError, match=r"sweep\.n, k has .*a list of 2"):
            cells({"n, k": wrong})
    with pytest.raises(ValueError, match=r"sweep\.dictionary\.k, seed and sweep\.k are the same"):
        experiment.members(
            planted_config(sweep={"k": (2,), "dictionary.k, seed": ((2, 0), (3, 1))})
        )


def test_each_length_is_a_program_and_its_schedule_ends_with_it():
    config = planted_config(steps=9, sweep={"k": (2, 3), "steps": (4, 9)})
    programs = experiment.programs(config, 32, None)
    assert [(p.steps, len(p.members)) for p in programs] == [(4, 2), (9, 2)]
    assert [p.members[0].rule.given["steps"] for p in programs] == [4, 9]
    assert [m.hparams["steps"] for m in experiment.members(config)] == [4, 9, 4, 9]
    for wrong in (0, 10, 2.5):
        with pytest.raises(ValueError, match=r"sweep\.steps=.*config\.steps=9"):
            experiment.members(planted_config(steps=9, sweep={"steps": (wrong,)}))


def test_what_a_config_gains_in_cells_is_a_config_of_its_own():
    small = planted_config(sweep=CROSSED)
    large = planted_config(sweep={"n_latents": (32, 64, 128), "k": (2, 3)})
    longer = {**large, "steps": 20, "sweep": {**large["sweep"], "steps": (10, 20)}}
    assert grid.within(small, large)
    assert grid.within(large, longer)
    assert not grid.within(large, small)
    assert grid.rest(large, [large]) is None
    assert grid.rest(large, []) == large
    wider = grid.rest(large, [small])
    assert told(wider) == {(128, 2, 10, "topk_n128_2"), (128, 3, 10, "topk_n128_3")}
    rest = grid.rest(longer, [small, wider])
    assert {(n, k, steps) for n, k, steps, _ in told(rest)} == {
        (n, k, 20) for n in (32, 64, 128) for k in (2, 3)
    }
    names = [m.name for own in (small, wider, rest) for m in experiment.members(own)]
    assert len({*names}) == len(names) == 12
    assert values.from_json(values.to_json(rest)) == values.settled(rest)
    experiment.check(rest)


def test_a_label_without_new_cells_is_left_out_and_what_only_it_read_too():
    kinds = {
        "a": {"sweep": {"k": (2, 3)}},
        "i": {
            "dictionary": {"name": "itda"},
            "learner": {"name": "itda"},
            "sweep": {"tolerance": (0.2,)},
        },
    }
    config = planted_config(members=kinds)
    config["dictionary"].pop("aux_k")
    more = {**config, "members": {**kinds, "i": {**kinds["i"], "sweep": {"tolerance": (0.2, 0.3)}}}}
    rest = grid.rest(more, [config])
    (one,) = experiment.members(rest)
    assert one.label == "i"
    assert one.hparams["learner"]["tolerance"] == 0.3
    assert "rule" not in rest


@pytest.mark.parametrize("change", [{"rule": {"lr": 2e-3}}, {"steps": 11}, {"seed": 1}])
def test_a_dictionary_with_another_setting_is_another_cell(change):
    small = planted_config(sweep=CROSSED)
    assert not grid.within(small, planted_config(**({"sweep": CROSSED} | change)))


def test_a_config_with_its_own_cells_is_the_same_in_every_byte():
    own = {
        "seed": 0,
        "steps": 9,
        "stream": {"name": "npy"},
        "dictionary": {"name": "topk"},
        "rule": {},
    }
    assert list(grid.like(own, dict(reversed(own.items())))) == list(own)
    assert grid.like(own, own | {"steps": 5}) == own | {"steps": 5}
    assert list(grid.like({**own, "sweep": {}}, own)) == list(own)
