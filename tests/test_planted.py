"""Planted latents are recovered, and wrong settings are seen to fail (P1 small: d 32, N 64, s 3)."""

import numpy as np

from tests.helpers import planted_config, recovery, run, truth

STEPS, BATCH = 600, 256


def trained(name, lr=4e-3, learner=(), **changes):
    """(shares of atoms found at cosine 0.9 and at 0.95, of every member, and the last info) after a run."""
    config = planted_config(
        name,
        steps=STEPS,
        batch_size=BATCH,
        rule={"lr": lr, "warmup_steps": 30, "decay_fraction": 0.5},
        learner={"dead_after": 10 * BATCH, "b_dec_start": "zeros", **dict(learner)},
        **changes,
    )
    (program,), states, infos = run(config, STEPS)
    rows = states[program.key].variables["params"]["W_dec_FD"]
    found = [[recovery(truth(config), each, share) for each in rows] for share in (0.9, 0.95)]
    return *found, infos[-1][program.key]


def test_topk_recovers_every_atom_and_a_wrong_k_does_not():
    fields = {"n_latents": 128, "aux_k": 0, "k": 3}
    _, (right, wrong), info = trained("topk", dictionary=fields, sweep={"k": (3, 12)})
    assert right >= 0.97
    assert wrong < 0.5
    np.testing.assert_allclose(info["l0"][0], 3, atol=0.2)


def test_batch_topk_recovers_with_auxk_and_a_wrong_k_does_not():
    fields = {"n_latents": 128, "aux_k": 16, "k": 3.0}
    (right, wrong), _, _ = trained("batch_topk", dictionary=fields, sweep={"k": (3.0, 12.0)})
    assert right >= 0.75
    assert wrong < 0.4


def test_auxk_beats_no_auxk_where_latents_die():
    """Encoder and atoms drawn apart: two in five latents never win a token."""
    start, found = {"atoms_start": "kaiming_uniform"}, {}
    for aux_k in (0, 16):
        fields = {"n_latents": 64, "aux_k": aux_k}
        _, recovered, info = trained(
            "topk", 1e-2, start, dictionary=fields, sweep={"seed": (0, 1, 2)}
        )
        found[aux_k] = np.mean(recovered), np.mean(info["dead_fraction"])
    assert found[16][0] > found[0][0] + 0.2, found
    assert found[16][1] < 0.5 * found[0][1], found
