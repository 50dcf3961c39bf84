"""Conformance of every meter: it is a fold, for any batches, padding and devices."""

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
ABOUT_THE_MEAN = {"explained_variance", "fvu", "mse", "l2_loss", "fve_varratio", "r2_per_dim", "l0"}
"""Values that a constant added to activations and reconstructions does not change."""


def random(shape, seed=0):
    return np.random.default_rng([seed, *shape]).normal(size=shape).astype(np.float32)


def meter(name, scale=1.0):
    module = dictionaries.make("relu", d_in=D, n_latents=F, sparsity=0.1)
    atoms = np.float32(scale) * random((F, D))
    return meters.make(name, Subject(module, atoms, atoms[:4]))


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


def mask_of(batch):
    reading = next(iter(batch.values()))
    mask = reading.mask_ST if isinstance(reading, Logits) else reading.mask_B
    return np.asarray(mask).reshape(B, -1)[:, 0]


def folded(name, parts, scale=1.0):
    """The values of a meter over batches, each {run: reading}."""
    one = meter(name, scale)
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
    masked = mask_of(batch)

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


SCALES = (1e-16, 1e-8, 1e8, 1e15)


def rescaled(batch, scale):
    """The readings of a dictionary that scales as its activations do; a model's predictions stay."""

    def of(reading):
        if isinstance(reading, Logits):
            return reading
        y, yhat = (np.float32(scale) * a for a in (reading.y_BD, reading.yhat_BD))
        return reading._replace(y_BD=y, yhat_BD=yhat, codes=Codes(scale * reading.codes.val))

    return {run: of(reading) for run, reading in batch.items()}


def of_first(batch, change):
    """The readings with `change` of their activations and reconstructions, for meters that read those."""
    reading = next(iter(batch.values()))
    if isinstance(reading, Logits):
        pytest.skip("reads a model's predictions")
    y, yhat = change(reading.y_BD.copy(), reading.yhat_BD.copy())
    return {"": reading._replace(y_BD=y, yhat_BD=yhat)}


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("name", meters.names())
def test_a_value_is_the_same_at_any_scale_or_scales_with_it(name, scale):
    """Shares do not change, whatever rows of zeros there are; lengths change with the scale, and squares
    with its square."""

    def blank(y, yhat):
        y[1], yhat[2] = 0, 0
        return y, yhat

    batch = readings(name)
    batch = batch if meters.needs(name) == "model" else of_first(batch, blank)
    parts = [cut(batch, part) for part in (slice(0, 13), slice(13, 32))]
    wanted = folded(name, parts)
    found = folded(name, [rescaled(part, scale) for part in parts], scale)
    for key in wanted:
        mine, its = (np.array(jax.tree.leaves(values[key])) for values in (found, wanted))
        powers = [np.allclose(mine, its * scale**p, rtol=1e-4, atol=0) for p in (0, 1, 2)]
        assert any(powers), (key, found[key], wanted[key])


@pytest.mark.parametrize("scale", [1e-8, 1e8])
@pytest.mark.parametrize("name", meters.names())
def test_a_row_of_any_size_or_of_zeros_leaves_every_value_finite(name, scale):
    for row in (0.0, 1e-10, 1e10):

        def change(y, yhat, row=row):
            y[0], yhat[0] = row * y[0], row * yhat[0]
            y[1], yhat[2] = 0, 0
            return y, yhat

        batch = of_first(readings(name), change)
        values = folded(name, [rescaled(cut(batch, slice(None)), scale)])
        assert np.isfinite(jax.tree.leaves(values)).all(), (row, values)


@pytest.mark.parametrize("bad", [-np.inf, np.nan])
@pytest.mark.parametrize("name", meters.names())
def test_activations_that_are_not_finite_are_counted_or_not_read(name, bad):
    def change(y, yhat):
        y[np.flatnonzero(readings(name)[""].mask_B)[:3], 2] = bad
        return y, yhat

    wanted = folded(name, [cut(readings(name), slice(None))])
    batch = cut(of_first(readings(name), change), slice(None))
    refusal = ""
    try:
        same(folded(name, [batch]), wanted)
    except ValueError as error:
        refusal = str(error)
    assert refusal == "" or refusal.startswith("3 tokens ")


@pytest.mark.parametrize("constant", [0.0, 0.1, -12345.678])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", meters.names())
def test_what_equal_activations_leave_undefined_is_nan(name, constant, dtype):
    """Neither 0, 1 nor infinity, and in no partition; what has a value does not change by it."""

    def change(y, yhat):
        return (np.full_like(a, constant).astype(jnp.dtype(dtype)) for a in (y, yhat + y))

    batch = of_first(readings(name), change)
    for edges in ((0, 32), (0, 1, 13, 32)):
        values = folded(name, [cut(batch, slice(a, b)) for a, b in itertools.pairwise(edges)])
        for key, value in values.items():
            leaves = np.array(jax.tree.leaves(value))
            assert not np.isinf(leaves).any(), key
            if "variance" in key or key in ("fvu", "fve_varratio", "r2_per_dim"):
                assert np.isnan(leaves).all(), key


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("name", meters.names())
def test_narrow_activations_are_measured_as_wide_ones(name, dtype):
    low = lambda a: a.astype(jnp.dtype(dtype)) if a.dtype == np.float32 else a
    narrow = jax.tree.map(low, readings(name))
    wide = jax.tree.map(lambda a: a.astype(np.float32) if a.dtype == dtype else a, narrow)
    same(*(folded(name, [cut(batch, slice(None))]) for batch in (narrow, wide)))


@pytest.mark.parametrize("mean", [1e4, -1e5])
@pytest.mark.parametrize("name", meters.names())
def test_a_large_mean_costs_no_digits(name, mean):
    """Rows in units of 1/32, which float32 holds beside the mean."""

    def about(mean):
        rounded = lambda a: np.float32(np.round(a * 32) / 32 + mean)
        return of_first(readings(name), lambda y, yhat: (rounded(y), rounded(yhat)))

    near = folded(name, [cut(about(0), slice(None))])
    for edges in ((0, 32), (0, 1, 13, 32)):
        far = folded(name, [cut(about(mean), slice(a, b)) for a, b in itertools.pairwise(edges)])
        for key in ABOUT_THE_MEAN & near.keys():
            np.testing.assert_allclose(far[key], near[key], rtol=1e-5, err_msg=key)


@pytest.mark.parametrize("name", meters.names())
def test_batches_without_tokens_change_nothing(name):
    whole = cut(readings(name), slice(None))
    empty = cut(readings(name), slice(0, 0))
    masked = cut(readings(name), np.flatnonzero(~mask_of(readings(name)))[:1])
    same(folded(name, [empty, masked, whole, masked, empty]), folded(name, [whole]))


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
