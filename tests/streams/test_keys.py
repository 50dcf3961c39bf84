"""Batches say where their tokens came from when they are asked, and carry nothing else when not."""

import numpy as np

from dictlearn import streams
from dictlearn.streams._place import place
from tests.helpers import mesh_of
from tests.streams.language import SIZES, TAPS
from tests.streams.numbered import numbered, write_store


def test_no_stream_gives_keys_unasked(make_any):
    batch = make_any().batch(0)
    assert batch.sequence_B is None
    assert batch.position_B is None
    assert place(batch, mesh_of(1, 1, 1)).sequence_B is None


def test_keys_name_the_row_in_order_over_processes_and_change_nothing_else(make_any):
    whole, plain = make_any(keys=True).batch(3), make_any().batch(3)
    np.testing.assert_array_equal(whole.x_BD, plain.x_BD)
    assert whole.y_BD is whole.x_BD
    assert whole.sequence_B.dtype == whole.position_B.dtype == np.int32
    parts = [make_any(keys=True, process=(i, 2)).batch(3) for i in (0, 1)]
    found = {key(part, row): part.x_BD[row] for part in parts for row in range(16)}
    assert len(found) == 32
    for row in range(32):
        np.testing.assert_array_equal(found[key(whole, row)], whole.x_BD[row])


def key(batch, row):
    return int(batch.sequence_B[row]), int(batch.position_B[row])


def test_a_stores_keys_are_those_of_its_rows(tmp_path):
    path = write_store(tmp_path / "s", shards=7)
    given = {"tap": "resid.0", "target": "mlp_out.0", "block_rows": 8, "normalise": "unit_mean_sq"}
    batch = streams.make("store", path=path, batch_size=64, seed=1, keys=True, **given).batch(5)
    raw = streams.make("store", path=path, batch_size=64, seed=1, tap="resid.0", block_rows=8)
    row = 10 * batch.sequence_B + batch.position_B
    np.testing.assert_array_equal(raw.batch(5).x_BD, numbered(5)[row])


def test_placed_batches_keep_their_keys_and_y_stays_x(make_any):
    batch = make_any(keys=True).batch(0)
    placed = place(batch, mesh_of(1, 2, 1))
    assert placed.y_BD is placed.x_BD
    np.testing.assert_array_equal(placed.position_B, batch.position_B)


def test_from_lm_gives_the_keys_that_a_store_of_the_same_recipe_has(lm, text):
    recipe = {"taps": TAPS[0], "text": text, "dtype": "float32", **SIZES}
    stream = streams.make("from_lm", lm=lm, recipe=recipe, batch_size=32, seed=0, keys=True)
    found = [stream.batch(t) for t in range(stream.n_rows // 32)]
    pairs = {key(batch, row) for batch in found for row in range(32)}
    assert len(pairs) == 32 * len(found), "an epoch names a token twice"
    assert min(position for _, position in pairs) > 0, "the first position is masked"
