"""Rows straight from the language model are a store's rows, and batch t is a function of (seed, t)."""

import gc
import threading
from dataclasses import replace

import jax
import numpy as np
import pytest

from dictlearn import sharding, streams
from dictlearn.harvest import harvest
from dictlearn.streams._ahead import Ahead
from dictlearn.streams._source import Recipe, Source
from tests.helpers import mesh_of
from tests.streams.language import SIZES, TAPS


@pytest.fixture(scope="module")
def recipe(text):
    return {"taps": TAPS, "text": text, "dtype": "float32", **SIZES}


@pytest.fixture(scope="module")
def make(lm, recipe):
    def make(lm=lm, **arguments):
        given = {"tap": TAPS[0], "batch_size": 32, "seed": 0, "pool_rows": 100, **arguments}
        return streams.make("from_lm", lm=lm, recipe=recipe, **given)

    return make


@pytest.fixture(scope="module")
def stream(make):
    return make()


def rounded(rows):
    return sorted(map(bytes, np.round(rows, 4) + 0.0))


def test_an_epoch_has_the_rows_of_a_store_inputs_and_targets(make, lm, recipe, tmp_path):
    settings = {key: value for key, value in recipe.items() if key != "taps"}
    harvest(lm, tmp_path / "s", TAPS, **settings)
    pair = {"tap": TAPS[0], "target": TAPS[1], "batch_size": 40, "seed": 0}
    stored = streams.make("store", path=tmp_path / "s", block_rows=1, **pair)
    live = make(**pair)
    assert live.n_rows == stored.n_rows
    assert (live.d_in, live.d_out) == (stored.d_in, stored.d_out)
    epochs = []
    for stream in (stored, live):
        batches = [stream.batch(t) for t in range(stream.n_rows // 40 + 1)]
        epochs.append(np.concatenate([np.hstack(batch[:2]) for batch in batches])[: stream.n_rows])
    assert rounded(epochs[0]) == rounded(epochs[1])


def test_epochs_hold_the_same_rows_in_another_order(stream):
    size, n = 32, stream.n_rows
    rows = np.concatenate([stream.batch(t).x_BD for t in range(2 * n // size + 1)])
    first, second = rows[:n], rows[n : 2 * n]
    assert rounded(first) == rounded(second)
    assert (first != second).any(axis=1).mean() > 0.9


@pytest.mark.parametrize("step", [0, 3, 29, 30, 31, 1000, 10**9])
def test_a_batch_is_the_same_bytes_whatever_was_asked_before(make, stream, step):
    fresh = make()
    assert fresh.batch(step).x_BD.tobytes() == stream.batch(step).x_BD.tobytes()


def test_threads_that_read_ahead_get_the_same_batches(make, stream):
    iterator = streams.read(make(), 17)
    for t in range(17, 60):
        assert next(iterator).x_BD.tobytes() == stream.batch(t).x_BD.tobytes()
    iterator.close()


def test_each_pool_is_computed_once_when_read_in_order(lm, recipe):
    calls = []

    def counted(params, tokens_BT):
        logits, taps = lm.forward(params, tokens_BT)
        jax.debug.callback(lambda t: calls.append(1), tokens_BT)
        return logits, taps

    counting = replace(lm, forward=counted)
    arguments = {"tap": TAPS[0], "batch_size": 32, "seed": 0, "pool_rows": 100}
    stream = streams.make("from_lm", lm=counting, recipe={**recipe, "lm_batch": 1}, **arguments)
    n_batches = stream.n_rows // 32
    for t in range(n_batches):
        stream.batch(t)
    jax.effects_barrier()
    sequences = stream.n_rows / 15
    assert sequences - 10 <= len(calls) <= sequences * 1.1 + 20


def test_a_batch_mixes_sequences_from_the_whole_text(make, lm, recipe):
    stream, source = make(pool_rows=300), Source(lm, Recipe.of(**recipe))
    _, taps = lm.forward(lm.params, source.train.tokens_ST)
    rows_ND = np.asarray(taps[TAPS[0]])[source.train.mask_ST]
    sequence_N = np.nonzero(source.train.mask_ST)[0]
    x_BD = stream.batch(1).x_BD
    nearest_B = np.argmin(((x_BD[:, None] - rows_ND) ** 2).sum(-1), axis=1)
    found_B = sequence_N[nearest_B]
    assert len(set(found_B.tolist())) > 12
    assert found_B.max() - found_B.min() > len(source.train.tokens_ST) / 2


def test_seeds_differ(make, stream):
    assert make(seed=1).batch(0).x_BD.tobytes() != stream.batch(0).x_BD.tobytes()


def test_processes_share_the_rows_of_the_whole_batch(make):
    one, parts = make(lanes=4, process=(0, 1)), [make(lanes=4, process=(i, 2)) for i in range(2)]
    for step in (0, 7, 50):
        shares = [part.batch(step).x_BD for part in parts]
        assert rounded(np.concatenate(shares)) == rounded(one.batch(step).x_BD)
        assert [len(share) for share in shares] == [16, 16]


def test_the_norm_is_that_of_the_first_pool_and_the_same_in_all_processes(make):
    scaled = make(normalise="unit_mean_sq", pool_rows=10**6)
    epoch = np.concatenate([scaled.batch(t).x_BD for t in range(scaled.n_rows // 32)])
    assert (epoch**2).sum(axis=1).mean() == pytest.approx(1, rel=0.05)
    whitened = make(normalise="whiten", pool_rows=10**6)
    white = np.concatenate([whitened.batch(t).x_BD for t in range(20)])
    assert np.abs(np.cov(white.T) - np.eye(12)).max() < 0.5
    lanes = [make(normalise="unit_mean_sq", lanes=2, process=(i, 2)).norm for i in range(2)]
    assert lanes[0] == lanes[1]


def test_held_out_rows_are_those_of_the_held_out_documents_in_order(make, lm, recipe):
    stream = make(batch_size=32, normalise="unit_mean_sq")
    source = Source(lm, Recipe.of(**recipe))
    tokens, mask = source.held_out
    _, taps = lm.forward(lm.params, tokens)
    expected = np.asarray(taps[TAPS[0]])[mask]
    found = np.concatenate([stream.held_out[i].x_BD for i in range(len(stream.held_out))])
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert 0 < len(stream.held_out[len(stream.held_out) - 1].x_BD) <= 32


def test_rows_are_rounded_as_a_store_would_have_them(lm, recipe):
    settings = {"tap": TAPS[0], "batch_size": 32, "seed": 0}
    live = streams.make("from_lm", lm=lm, recipe={**recipe, "dtype": "bfloat16"}, **settings)
    x = live.batch(0).x_BD
    assert x.dtype == np.float32
    np.testing.assert_array_equal(x, np.asarray(jax.numpy.bfloat16(x), np.float32))


def test_a_model_on_a_mesh_of_several_devices_gives_the_same_rows(make, lm):
    mesh = mesh_of(1, 2, 1)
    params = jax.device_put(lm.params, sharding.shardings(lm.params, mesh))
    placed = replace(lm, params=params)
    with jax.set_mesh(sharding.mesh()):
        np.testing.assert_allclose(make(placed).batch(2).x_BD, make().batch(2).x_BD, atol=1e-5)


def test_a_stream_that_is_gone_leaves_no_thread(make):
    gc.collect()
    before = threading.active_count()
    make().batch(0)
    gc.collect()
    for thread in threading.enumerate():
        if thread.name.startswith("Thread-") and thread.daemon:
            thread.join(timeout=1)
    assert threading.active_count() <= before


def test_an_error_ahead_reaches_the_reader():
    def work():
        yield
        raise ValueError("no such thing")

    ahead = Ahead()
    with pytest.raises(ValueError, match="no such thing"):
        ahead.submit(work).result()


@pytest.mark.parametrize(
    ("changed", "match"),
    [
        ({"tap": None}, "several taps; choose stream.tap"),
        ({"tap": "resid.1"}, "has no tap 'resid.1'"),
        ({"lanes": 3}, "batch_size=32 must be a positive multiple of lanes=3"),
        ({"process": (0, 2)}, "lanes one of the 2 process"),
        ({"batch_size": 10**6}, "batch_size=1000000 exceeds"),
        (
            {"normalise": "token_unit", "target": TAPS[1]},
            "token_unit .*none, mean_norm_sqrt_d, unit_mean_sq",
        ),
    ],
)
def test_what_cannot_be_is_refused(make, changed, match):
    with pytest.raises(ValueError, match=match):
        make(**changed)


def test_a_mistyped_key_of_the_recipe_is_answered_with_what_there_is(lm, recipe):
    with pytest.raises(TypeError, match=r"'txt'.*taps, text"):
        streams.make("from_lm", lm=lm, recipe={**recipe, "txt": 1}, batch_size=1, seed=0)
