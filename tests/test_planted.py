"""Planted latents are recovered, and wrong settings are seen to fail (P1 small: d 32, N 64, s 3)."""

import numpy as np

from tests.helpers import planted_config, recovery, run, truth

STEPS = 2500


def trained(name, **changes):
    """(config, decoder rows [members, F, D], last info) after a whole run."""
    config = planted_config(
        name,
        steps=STEPS,
        batch_size=512,
        rule={"lr": 2e-3, "warmup_steps": 100, "decay_fraction": 0.5},
        learner={"dead_after": 20 * 512, "b_dec_start": "zeros"},
        **changes,
    )
    programs, states, infos = run(config, STEPS)
    key = programs[0].key
    return config, states[key].variables["params"]["W_dec_FD"], infos[-1][key]


def test_topk_recovers_every_atom_and_a_wrong_k_does_not():
    config, rows, info = trained(
        "topk", dictionary={"n_latents": 128, "aux_k": 0, "k": 3}, sweep={"k": (3, 24)}
    )
    right, wrong = (recovery(truth(config), each, 0.95) for each in rows)
    assert right >= 0.97
    assert wrong < 0.5
    np.testing.assert_allclose(info["l0"][0], 3, atol=0.2)


def test_batch_topk_recovers_with_auxk():
    config, rows, _ = trained(
        "batch_topk", dictionary={"n_latents": 128, "aux_k": 16, "k": 3.0}, sweep={"seed": (0, 1)}
    )
    for each in rows:
        assert recovery(truth(config), each, 0.9) >= 0.75


def test_auxk_beats_no_auxk_where_there_are_no_spare_latents():
    found = {}
    for aux_k in (0, 16):
        config, rows, info = trained(
            "topk", dictionary={"n_latents": 64, "aux_k": aux_k}, sweep={"seed": (0, 1, 2)}
        )
        recovered = [recovery(truth(config), each, 0.95) for each in rows]
        found[aux_k] = np.mean(recovered), np.mean(info["dead_fraction"])
    assert found[16][0] > found[0][0] + 0.03
    assert found[16][1] < found[0][1]
