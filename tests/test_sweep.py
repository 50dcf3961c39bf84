"""A sweep is its members, run side by side."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dictlearn import dictionaries, learners, objectives, rules
from dictlearn.experiment.cells import cells
from dictlearn.sweep import sweep
from dictlearn.types import Batch
from tests.helpers import planted_config, run


def test_a_sweep_of_twelve_equals_twelve_separate_runs_with_one_compilation():
    ks, rates, seeds = (2, 3, 5), (1e-3, 3e-3), (0, 1)
    with jax.enable_x64(True):
        config = planted_config(sweep={"k": ks, "lr": rates, "seed": seeds})
        (sweep,), first, _ = run(config, 0, dtype=np.float64)
        _, last, infos = run(config, 2, dtype=np.float64)  # run() asserts one compilation
        for n, (k, lr, seed) in enumerate(itertools.product(ks, rates, seeds)):
            own = {"dictionary": {"k": k, "k_max": 5}, "rule": {"lr": lr}, "stream": {"seed": 0}}
            alone = planted_config(seed=seed, **own)
            member = jax.tree.map(lambda leaf, n=n: np.array(leaf[n : n + 1]), first[sweep.key])
            (program,), found, info = run(alone, 2, dtype=np.float64, start={sweep.key: member})
            if n < len(seeds):
                _, start, _ = run(alone, 0, dtype=np.float64)
                close(start[program.key].variables, member.variables, 1e-6)
            wanted = jax.tree.map(lambda leaf, n=n: leaf[n : n + 1], last[sweep.key])
            close(found[program.key].variables, wanted.variables, 2e-9)
            loss = infos[-1][sweep.key]["loss"][n]
            assert info[-1][program.key]["loss"][0] == pytest.approx(loss, rel=1e-9)


def test_temporaries_on_one_cpu_device_are_one_members_however_many_there_are():
    """A slice of the state that XLA may compute twice makes it copy the moments of all members."""
    built = {
        "dictionary": dictionaries.make("topk", d_in=16, n_latents=1024, k=4),
        "objective": objectives.make("fvu"),
        "rule": rules.make("adam", lr=1e-3, steps=10),
    }
    train = learners.make("gradient", built=built, b_dec_start="zeros")
    beside = lambda state, hparams, batch: jax.vmap(train.update, in_axes=(0, None))(state, batch)
    x_BD = jnp.zeros((64, 16))
    one = sum(leaf.nbytes for leaf in jax.tree.leaves(state_of(train, Batch(x_BD, x_BD), 1)))

    def temporaries(update, n_members):
        batch = Batch(x_BD, x_BD)
        state = state_of(train, batch, n_members)
        step = jax.jit(update, donate_argnums=0).lower(state, {}, batch)
        return step.compile().memory_analysis().temp_size_in_bytes

    in_turn = sweep(lambda hparams: train).update
    assert temporaries(in_turn, 9) < temporaries(in_turn, 2) + one
    assert temporaries(beside, 9) > temporaries(in_turn, 2) + one


def state_of(learner, batch, n_members):
    """What a sweep's state would be, all zeros."""
    state = jax.eval_shape(learner.init, jax.random.key(0), batch)
    return jax.tree.map(lambda leaf: jnp.zeros((n_members, *leaf.shape), leaf.dtype), state)


def close(found, wanted, tolerance):
    each = lambda a, b: np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)
    jax.tree.map(each, found, wanted)


def test_cells_are_crossed_with_the_last_name_fastest():
    found = cells({"n": (1, 2), "k": (3, 4)})
    assert found == [{"n": 1, "k": 3}, {"n": 1, "k": 4}, {"n": 2, "k": 3}, {"n": 2, "k": 4}]


def test_an_empty_list_or_a_bare_value_is_refused():
    for values in ((), 3):
        with pytest.raises(ValueError, match=r"sweep\.k="):
            cells({"k": values})
