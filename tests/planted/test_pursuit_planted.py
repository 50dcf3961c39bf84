"""Variants with codes by search or computed atoms find what is planted, and wrong settings do not."""

import jax
import jax.numpy as jnp
import numpy as np
from scipy.optimize import linear_sum_assignment

from dictlearn import experiment
from dictlearn.ops.shrinkage import fista, ista
from dictlearn.streams import synthetic
from dictlearn.streams._place import place
from dictlearn.types import Batch
from tests.helpers import mesh_of, planted_config, recovery, run, truth


def setting(name, steps, batch_size=128, lr=4e-3, **changes):
    """The config of a run that starts b_dec at zero and decays over its second half."""
    return planted_config(
        name,
        steps=steps,
        batch_size=batch_size,
        rule={"lr": lr, "warmup_steps": 30, "decay_fraction": 0.5},
        learner={"dead_after": 20 * batch_size, "b_dec_start": "zeros"},
        **changes,
    )


def trained(config):
    """(program, variables [members, ...], infos) after a whole run."""
    (program,), states, infos = run(config, config["steps"])
    return program, states[program.key].variables, [info[program.key] for info in infos]


def cosines(rows_a, rows_b):
    unit = lambda rows: rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return unit(rows_a) @ unit(rows_b).T


def stability(rows_a, rows_b):
    """Mean cosine of the best pairing of two dictionaries."""
    alike = cosines(rows_a, rows_b)
    return alike[linear_sum_assignment(-alike)].mean()


def finite(config, x_SD, plant=None):
    """(module, variables of each member, last info) after training on the rows `x_SD` alone, in random
    batches. plant: atoms that the first latents start at."""
    mesh, random = mesh_of(1, 1, 1), np.random.default_rng(0)
    with jax.set_mesh(mesh):
        (program,) = experiment.programs(config, x_SD.shape[1], None)
        state = experiment.init(program, Batch(x_SD, x_SD), mesh)
        if plant is not None:
            params = state.variables["params"]
            params["W_dec_FD"] = params["W_dec_FD"].at[:, : len(plant)].set(plant)
        update = experiment.update(program, state, mesh)
        for _ in range(config["steps"]):
            x_BD = x_SD[random.choice(len(x_SD), config["batch_size"], replace=False)]
            state, info = update(state, program.hparams, place(Batch(x_BD, x_BD), mesh))
    members = [
        jax.tree.map(lambda leaf, n=n: leaf[n], state.variables)
        for n in range(len(program.members))
    ]
    return program.module({}), members, jax.device_get(info)


def test_mp_recovers_every_atom_and_too_many_steps_do_not():
    fields = {"n_latents": 128, "k": 4}
    config = setting("mp", 300, 256, dictionary=fields, sweep={"k": (4, 12)})
    program, variables, infos = trained(config)
    right, wrong = (recovery(truth(config), W, 0.95) for W in variables["params"]["W_dec_FD"])
    assert right >= 0.97
    assert wrong < 0.8
    assert infos[-1]["dead_fraction"][0] == 0
    mine = jax.tree.map(lambda leaf: jnp.asarray(leaf[0]), variables)
    x = synthetic.draw(synthetic.plant("p1", seed=0), 512, 9999)[0]

    @jax.jit
    def fvu(k):
        module = program.module({"dictionary": {"k": k}})
        y = module.apply(mine, module.apply(mine, x, method="encode"), method="decode")
        return jnp.sum((x - y) ** 2) / jnp.sum((x - x.mean(0)) ** 2)

    found = [float(fvu(k)) for k in range(1, 9)]
    assert np.all(np.diff(found) < 0), "more steps at inference must leave less over"
    assert found[3] < 0.12


def test_icfl_recovers_every_atom_and_too_many_rounds_do_not():
    fields = {"n_latents": 128, "k": 4, "width": 2}
    config = setting("icfl", 300, 256, dictionary=fields, sweep={"k": (4, 12)})
    _, variables, infos = trained(config)
    right, wrong = (recovery(truth(config), W, 0.95) for W in variables["params"]["W_dec_FD"])
    assert right >= 0.95
    assert wrong < 0.9
    assert infos[-1]["dead_fraction"][0] == 0


def test_icfl_has_no_twins_after_a_redraw():
    twins = {}
    stream = {"kind": "p4", "d_in": 32, "n_features": 16, "sparsity": 1, "noise": 0.01}
    for revive in ({}, {"name": "redraw", "every": 20}):
        config = setting("icfl", 40, dictionary={"k": 4, "width": 2}, stream=stream, revive=revive)
        config["learner"]["atoms_start"] = "data_rows"
        (W,) = trained(config)[1]["params"]["W_dec_FD"]
        twins[bool(revive)] = int((np.triu(cosines(W, W), 1) > 0.9).sum())
    assert twins[True] == 0
    assert twins[False] > 10


def test_fista_recovers_every_atom_and_a_weak_penalty_does_not():
    fields = {"n_latents": 128, "sparsity": 0.3, "iterations": 15}
    config = setting("fista", 250, dictionary=fields, sweep={"sparsity": (0.3, 0.02)})
    _, variables, _ = trained(config)
    right, wrong = (recovery(truth(config), W, 0.95) for W in variables["params"]["W_dec_FD"])
    assert right >= 0.95
    assert wrong < 0.75


def test_lista_recovers_and_predicts_codes_better_than_ista_of_as_many_steps():
    fields = {"n_latents": 128, "sparsity": 0.3, "iterations": 15, "layers": 2}
    config = setting("lista", 250, dictionary=fields, sweep={"sparsity": (0.3, 0.02)})
    _, variables, infos = trained(config)
    right, wrong = (recovery(truth(config), W, 0.95) for W in variables["params"]["W_dec_FD"])
    assert right >= 0.95
    assert wrong < 0.75
    x = jnp.asarray(synthetic.draw(synthetic.plant("p1", seed=0), 256, 9999)[0])
    W = jnp.asarray(variables["params"]["W_dec_FD"][0])
    best, plain = fista(x, W, 0.3, 100, positive=True), ista(x, W, 0.3, 2, positive=True)
    assert infos[-1]["penalty"][0] < 0.3 * jnp.sum((best - plain) ** 2, -1).mean()


def test_psd_predicts_its_codes_and_recovers_and_a_weak_penalty_does_not():
    fields = {"n_latents": 128, "sparsity": 0.6, "iterations": 15}
    config = setting("psd", 250, dictionary=fields, sweep={"sparsity": (0.6, 0.05)})
    _, variables, infos = trained(config)
    best = [cosines(truth(config), W).max(1).mean() for W in variables["params"]["W_dec_FD"]]
    assert best[0] >= 0.95
    assert best[1] < 0.8
    assert infos[-1]["penalty"][0] < 0.2 * infos[0]["penalty"][0]


def test_archetypal_dictionaries_of_two_seeds_agree_more_than_free_ones_and_explain_as_much():
    """After 1500 steps, four seeds: stability 0.896 free, 0.976 archetypal, 0.928 with atoms in the hull
    itself; explained variance 0.824, 0.844, 0.814; atoms found 0.89, 0.98, 0.93."""
    sizes, points = {"aux_k": 16, "n_latents": 64}, {"n_points": 512, "delta": 1.0}
    seeds, runs = {"seed": (0, 1)}, {}
    for kind, name, fields, sweep in (
        ("free", "topk", {}, seeds),
        ("archetypal", "archetypal", points, seeds),
        ("hull", "archetypal", {**points, "unit_atoms": False}, {"delta": (1.0, 0.0)}),
    ):
        config = setting(name, 1000, 256, 3e-3, dictionary={**sizes, **fields}, sweep=sweep)
        program, variables, infos = trained(config)
        atoms = [
            each["params"]["W_dec_FD"]
            if name == "topk"
            else np.asarray(program.module({}).apply(each, method="atoms"))
            for each in (jax.tree.map(lambda leaf, n=n: leaf[n], variables) for n in (0, 1))
        ]
        explains = np.mean([info["explained_variance"] for info in infos[-50:]], 0)
        found = [recovery(truth(config), each, 0.9) for each in atoms]
        runs[kind] = stability(*atoms), explains, found
    (free, free_explains, free_found), (agree, explains, found), (_, hull, bare) = runs.values()
    assert agree > free + 0.02, runs
    assert explains.mean() > free_explains.mean() - 0.002, runs
    assert np.mean(found) >= np.mean(free_found) - 0.02, runs
    assert hull[0] < free_explains.mean() - 0.005, runs
    assert bare[1] < min(found) - 0.2, "the hull alone does not hold the planted atoms"


def test_a_codebook_of_one_code_finds_both_ends_of_every_atom_and_the_mean_of_many_does_not():
    stream = {"kind": "p4", "d_in": 32, "n_features": 16, "sparsity": 1, "noise": 0.05}
    fields = {"n_latents": 128, "k": 1, "score": "euclid"}
    config = setting(
        "codebook", 300, lr=5e-3, dictionary=fields, stream=stream, sweep={"k": (1, 8)}
    )
    _, variables, infos = trained(config)
    planted = np.concatenate([truth(config), -truth(config)])
    assert recovery(planted, variables["params"]["code_FD"][0], 0.95) == 1
    assert infos[-1]["explained_variance"][0] > 0.9
    assert infos[-1]["explained_variance"][1] < 0.88


def test_the_masked_objective_keeps_the_truth_where_the_standard_one_fits_noise():
    sizes = {"d_in": 32, "n_features": 64, "sparsity": 3}
    planted = synthetic.plant("p4", seed=0, **sizes)
    x_SD, _ = synthetic.draw(planted, 500, 0)
    config = setting(
        "masked",
        600,
        100,
        lr=1e-3,
        dictionary={"n_latents": 300, "k": 3},
        sweep={"observed": (0.9, 1.0)},
        stream={"kind": "p4", **sizes},
    )
    config["learner"]["atoms_start"] = "data_rows"
    _, members, _ = finite(config, x_SD, planted.atoms_ND)
    rows = [np.asarray(each["params"]["W_dec_FD"]) for each in members]
    right, wrong = (np.mean(1 - np.abs(cosines(planted.atoms_ND, W)).max(1)) for W in rows)
    assert right < 0.9 * wrong
    assert recovery(planted.atoms_ND, rows[0], 0.9) >= 0.95
    assert recovery(planted.atoms_ND, rows[1], 0.9) < 0.8


def test_csr_retrieves_classes_better_than_as_many_principal_components():
    random = np.random.default_rng(0)
    centre_CD = random.standard_normal((64, 32)) / np.sqrt(32)
    label_S = random.integers(0, 64, 3000)
    x_SD = centre_CD[label_S] + 0.12 * random.standard_normal((3000, 32))
    x_SD = x_SD.astype(np.float32)
    config = setting(
        "csr",
        300,
        dictionary={"n_latents": 128, "k": 8, "aux_k": 16},
        sweep={"gamma": (0.1, 0.0, 100.0)},
    )
    module, members, info = finite(config, x_SD[:2000])
    dense = lambda codes: np.asarray(
        jnp.zeros((3000, 128)).at[jnp.arange(3000)[:, None], codes.idx_BK].add(codes.val)
    )
    codes = [dense(module.apply(each, jnp.asarray(x_SD), method="encode")) for each in members]

    def accuracy(rows_SD):
        alike = cosines(rows_SD[2000:] + 1e-9, rows_SD[:2000] + 1e-9)
        return np.mean(label_S[alike.argmax(1)] == label_S[2000:])

    axes = np.linalg.svd(x_SD[:2000] - x_SD[:2000].mean(0), full_matrices=False)[2][:8]
    right, _, wrong = map(accuracy, codes)
    principal = accuracy((x_SD - x_SD[:2000].mean(0)) @ axes.T)
    assert right > principal + 0.05
    assert wrong < principal
    assert info["dead_fraction"][0] <= info["dead_fraction"][1]
