"""What every meter in the folder promises: it is a fold, whatever the batches, the padding and the devices."""

import copy
import itertools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from dictlearn import dictionaries, meters
from dictlearn.lm.splice import RUNS
from dictlearn.meters import Logits, Reading, Subject
from dictlearn.types import Codes
from tests.helpers import mesh_of

B, D, F, T, V = 32, 6, 10, 5, 7
OF_THE_BATCH = {"explained_variance_legacy"}
"""Values that are defined by each batch's own mean, and say so."""


def random(shape, seed=0):
    return np.random.default_rng([seed, *shape]).normal(size=shape).astype(np.float32)


def meter(name):
    module = dictionaries.make("relu", d_in=D, n_latents=F, sparsity=0.1)
    return meters.make(name, Subject(module, random((F, D)), random((F, D))[:4]))


def readings(name, seed=0):
    """The readings of one batch, of each run of a model where the meter reads runs; masks included."""
    mask = np.random.default_rng(seed).random(B) < 0.8
    if meters.needs(name) == "model":
        mask_ST = np.repeat(mask[:, None], T, axis=1)
        tokens = np.random.default_rng(seed).integers(0, V, (B, T)).astype(np.int32)
        runs = {run: random((B, T, V), n) for n, run in enumerate(RUNS)}
        return {run: Logits(a, runs["original"], tokens, mask_ST) for run, a in runs.items()}
    codes = np.maximum(random((B, F), 1), 0)
    return {"": Reading(random((B, D)), random((B, D), 2), Codes(codes), mask)}


def folded(name, parts):
    """The values of a meter over batches, each {run: reading}."""
    one = meter(name)
    totals, measure = one.init(), jax.jit(one.measure)
    for part in parts:
        sums = jax.device_get({run: measure(reading) for run, reading in part.items()})
        totals = one.update(totals, sums if meters.needs(name) == "model" else sums[""])
    return one.result(totals)


def cut(batch, where):
    return jax.tree.map(lambda a: jnp.asarray(a[where]), batch)


def same(found, wanted):
    assert found.keys() == wanted.keys()
    for key in wanted.keys() - OF_THE_BATCH:
        flat = jax.tree.leaves(wanted[key])
        np.testing.assert_allclose(
            jax.tree.leaves(found[key]), flat, rtol=1e-4, atol=1e-5, err_msg=key
        )


@pytest.mark.parametrize("name", meters.names())
def test_any_split_into_batches_gives_the_same(name):
    batch = readings(name)
    whole = folded(name, [cut(batch, slice(None))])
    for edges in ((0, 8, 32), (0, 1, 13, 32)):
        pieces = [cut(batch, slice(a, b)) for a, b in itertools.pairwise(edges)]
        same(folded(name, pieces), whole)


@pytest.mark.parametrize("name", meters.names())
def test_padding_counts_for_nothing_however_wild(name):
    batch = readings(name)
    mask_of = lambda reading: reading.mask_ST if isinstance(reading, Logits) else reading.mask_B
    masked = np.asarray(mask_of(next(iter(batch.values())))).reshape(B, -1)[:, 0]

    def wild(a):
        keep = masked.reshape(-1, *[1] * (a.ndim - 1))
        return np.where(keep, a, 1e3 * a).astype(a.dtype) if a.dtype == np.float32 else a

    spoilt = jax.tree.map(wild, batch)
    same(folded(name, [cut(spoilt, slice(None))]), folded(name, [cut(batch, slice(None))]))


@pytest.mark.parametrize("name", meters.names())
def test_eight_devices_give_what_one_gives(name):
    batch, mesh = readings(name), mesh_of(1, 8, 1)
    put = lambda a: jax.device_put(a, NamedSharding(mesh, PartitionSpec("data")))
    same(folded(name, [jax.tree.map(put, batch)]), folded(name, [cut(batch, slice(None))]))


@pytest.mark.parametrize("name", meters.names())
def test_updating_leaves_the_totals_it_was_given_as_they_were(name):
    one, batch = meter(name), readings(name)
    sums = {run: jax.device_get(one.measure(cut(r, slice(None)))) for run, r in batch.items()}
    sums = sums if meters.needs(name) == "model" else sums[""]
    totals = one.update(one.init(), sums)
    before = copy.deepcopy(totals)
    one.update(totals, sums)
    jax.tree.map(np.testing.assert_array_equal, totals, before)


@pytest.mark.parametrize("name", meters.names())
def test_its_columns_and_note_are_of_its_values_and_json_has_them_all(name):
    values = folded(name, [cut(readings(name), slice(None))])
    assert json.loads(json.dumps(values)) == values
    columns = [column for column in meters.columns() if column.metric in values]
    assert columns
    for column in columns:
        assert format(values[column.metric], column.form)
        assert column.better in (-1, 0, 1)
    assert len(meters.notes(values)) <= 1


@pytest.mark.parametrize("name", meters.names())
def test_an_unknown_setting_is_refused_by_name(name):
    with pytest.raises(ValueError, match=f"{name}.*'wrong'"):
        meters.check({name: {"wrong": 1}})


def test_an_unknown_meter_lists_those_there_are():
    with pytest.raises(ValueError, match=f"'nothing'.*{', '.join(meters.names())}"):
        meters.make(
            "nothing", Subject(dictionaries.make("relu", d_in=2, n_latents=2, sparsity=0.1))
        )
