"""Feature splitting where it is known which atom is whose child."""

import numpy as np
import pytest

from dictlearn import analyses, dictionaries
from dictlearn.analyses import Subject
from dictlearn.analyses.splitting import Side, family
from dictlearn.runs.trained import Trained

WIDTH, PARENTS, N = 24, 8, 4096


def relu(name, atoms_FD, bias) -> Trained:
    module = dictionaries.make("relu", d_in=WIDTH, n_latents=len(atoms_FD), sparsity=0.1)
    params = {"W_enc_FD": atoms_FD, "W_dec_FD": atoms_FD}
    params |= {"b_enc_F": np.full(len(atoms_FD), bias, "f"), "b_dec_D": np.zeros(WIDTH, "f")}
    return Trained(module, {"params": params}, name=name)


def planted():
    """(atoms of the narrower, atoms of the wider, rows). Half of 8 parents have two children each, one for
    either sign of a second dimension; four are kept; four wider atoms are new."""
    eye = np.eye(WIDTH, dtype="f")
    children = [eye[i] + sign * 0.5 * eye[8 + i] for i in range(4) for sign in (1, -1)]
    wide = np.stack([*children, *eye[4:8], *eye[16:20]])
    wide /= np.linalg.norm(wide, axis=1, keepdims=True)
    random = np.random.default_rng(0)
    kind, sign = random.integers(12, size=N), random.choice([-1, 1], size=N)
    x_ND = (
        np.where(kind < 8, 0, 1)[:, None] * eye[8 + kind]
        + np.where(kind < 8, 1, 0)[:, None] * eye[kind]
    )
    x_ND += (kind < 4)[:, None] * 0.5 * sign[:, None] * eye[8 + kind % 8]
    return eye[:8], wide.astype("f"), x_ND.astype("f")


def subject(**sides) -> Subject:
    *_, x_ND = planted()
    given = [relu(name, atoms, -0.9) for name, atoms in sides.items()]
    one = Subject("hand", given=given)
    metrics = {
        each.name: {"label": "m", "hparams": {"n_latents": each.module.n_latents, "seed": seed}}
        for seed, each in enumerate(given)
    }
    one.__dict__.update(metrics=metrics, sample=lambda n: x_ND[:n])
    return one


def pair(narrow, wide, **settings) -> dict:
    found = analyses.run("splitting", [subject(narrow=narrow, wide=wide)], **settings)
    (row,) = (row for row in found.values["pairs"] if row["from"] < row["to"])
    return row


def test_planted_children_are_found_with_the_tokens_that_they_divide():
    narrow, wide, _ = planted()
    row = pair(narrow, wide)
    assert (row["split"], row["kept"], row["lost"], row["new"]) == (0.5, 0.5, 0.0, 0.25)
    assert row["within"] == row["covered"] == 1
    assert row["overlap"] == 0
    assert row["within_by_chance"] < 0.3
    cosine = 1 / np.sqrt(1.25)
    assert row["mmcs_up"] == pytest.approx(0.5 + 0.5 * cosine, abs=1e-6)
    assert row["mmcs_down"] == pytest.approx((8 * cosine + 4) / 16, abs=1e-6)


def test_a_cosine_that_is_too_strict_finds_no_child():
    row = pair(*planted()[:2], tau=0.95)
    assert (row["split"], row["lost"], row["new"]) == (0.0, 0.5, 0.75)


def test_a_lax_cosine_gives_random_atoms_parents_and_a_strict_one_does_not():
    random = np.random.default_rng(0)
    sides = [
        Side(random.normal(size=(n, WIDTH)).astype("f"), random.random((512, n)) < 0.1)
        for n in (16, 64)
    ]
    lax, strict = (family(*sides, tau) for tau in (0.05, 0.7))
    assert lax["new"] < 0.05
    assert strict["new"] > 0.9
    assert lax["mmcs_down"] == pytest.approx(lax["mmcs_down_by_chance"], rel=0.1)
    assert lax["within"] == pytest.approx(lax["within_by_chance"], abs=0.03)


def test_children_that_fire_on_the_same_tokens_overlap():
    eye = np.eye(4, dtype="f")
    fires_B = np.arange(8) < 4
    twins = Side(eye[[0, 0]], np.stack([fires_B, fires_B], 1))
    found = family(Side(eye[:1], fires_B[:, None]), twins, 0.7)
    assert (found["overlap"], found["covered"], found["split"]) == (1, 1, 1)
    halves = Side(eye[[0, 0]], np.stack([np.arange(8) < 1, np.arange(8) == 2], 1))
    found = family(Side(eye[:1], fires_B[:, None]), halves, 0.7)
    assert (found["overlap"], found["covered"]) == (0, 0.5)


def test_two_seeds_of_one_width_are_compared_both_ways():
    narrow = planted()[0]
    (row,) = analyses.run("splitting", [subject(a=narrow, b=narrow[::-1].copy())]).values["pairs"]
    assert row["from"] == row["to"] == PARENTS
    assert (row["kept"], row["new"], row["within"]) == (1, 0, 1)
    assert row["ranges"]["kept"] == [1, 1]


@pytest.mark.parametrize("tau", [0.0, 1.5])
def test_a_cosine_out_of_bounds_is_refused(tau):
    with pytest.raises(ValueError, match="tau="):
        pair(*planted()[:2], tau=tau)
