"""Batch t of every stream is a function of (seed, t), for any number of readers."""

import grain
import numpy as np
import pytest

from dictlearn import streams
from dictlearn.normalise import Norm

NAMES = ["from_lm", "npy", "one_of_taps", "store", "stores_side_by_side", "synthetic"]


def same(a, b):
    return a.x_BD.tobytes() == b.x_BD.tobytes() and a.y_BD.tobytes() == b.y_BD.tobytes()


def take(stream, n, start=0):
    iterator = streams.read(stream, start)
    batches = [next(iterator) for _ in range(n)]
    iterator.close()
    return batches


def test_batches_are_float32_of_the_stated_widths(make_any):
    stream = make_any()
    batch = stream.batches[0]
    assert batch.x_BD.dtype == batch.y_BD.dtype == np.float32
    assert batch.x_BD.shape == (32, stream.d_in)
    assert batch.y_BD.shape == (32, stream.d_out)
    assert batch.y_BD is batch.x_BD
    assert stream.norm == Norm()


def test_reading_ahead_changes_nothing(make_any):
    stream = make_any()
    read = take(stream, 50)
    assert all(same(batch, stream.batches[step]) for step, batch in enumerate(read))


def test_whitened_batches_are_centred_and_uncorrelated(make_any):
    stream = make_any(normalise="whiten")
    x_BD = np.concatenate([stream.batch(t).x_BD for t in range(30)])
    assert np.abs(x_BD.mean(0)).max() < 0.2
    assert np.abs(np.cov(x_BD.T) - np.eye(stream.d_in)).max() < 0.35


def test_two_streams_of_one_seed_are_the_same(make_any):
    assert all(same(a, b) for a, b in zip(take(make_any(), 5), take(make_any(), 5), strict=True))


def test_another_seed_gives_other_batches(make_any):
    assert not same(make_any(seed=0).batches[0], make_any(seed=1).batches[0])


def test_batches_differ_from_step_to_step(make_any):
    batches = take(make_any(), 40)
    assert len({batch.x_BD.tobytes() for batch in batches}) == 40


@pytest.mark.parametrize("start", [0, 1, 31, 32, 33, 1000, 10**6])
def test_resuming_at_a_step_gives_the_same_bytes(make_any, start):
    stream = make_any()
    resumed = take(make_any(), 4, start)
    assert all(same(batch, stream.batches[start + i]) for i, batch in enumerate(resumed))


def test_the_state_is_the_step(make_any):
    iterator = streams.read(make_any(), start=7)
    assert iterator.get_state() == {"next_index": 7}
    next(iterator)
    assert iterator.get_state() == {"next_index": 8}
    iterator.set_state({"next_index": 3})
    assert same(next(iterator), make_any().batches[3])
    iterator.close()


@pytest.mark.parametrize("count", [2, 4])
@pytest.mark.parametrize("step", [0, 32, 100])
def test_processes_share_the_rows_of_the_whole_batch(make_any, count, step):
    whole = make_any(process=(0, 1)).batches[step].x_BD
    parts = [make_any(process=(i, count)).batches[step].x_BD for i in range(count)]
    assert all(len(part) == 32 // count for part in parts)
    assert sorted(map(bytes, np.concatenate(parts))) == sorted(map(bytes, whole))


def test_the_process_is_that_of_jax_unless_given(make_any, monkeypatch):
    expected = make_any(process=(1, 2)).batches[0]
    monkeypatch.setattr("jax.process_index", lambda: 1)
    monkeypatch.setattr("jax.process_count", lambda: 2)
    assert same(make_any().batches[0], expected)


def test_processes_that_cannot_share_a_batch_evenly_are_refused(make_any):
    with pytest.raises(ValueError, match=r"batch_size=32\b"):
        make_any(process=(0, 3))


@pytest.mark.parametrize("block_rows", [1, 7, 16])
def test_an_epoch_visits_every_whole_block_exactly_once(block_rows):
    n_rows, batch = 500, 2 * block_rows
    order = streams.blocks(n_rows, block_rows, batch, seed=0, process=(0, 1))
    n_blocks = n_rows // block_rows
    stream = np.concatenate([order[step] for step in range(n_blocks + 1)])
    first, second = stream[:n_blocks], stream[n_blocks : 2 * n_blocks]
    assert sorted(first) == sorted(second) == list(range(n_blocks))
    assert list(first) != list(second)
    assert list(first) != sorted(first)


@pytest.mark.parametrize("n_blocks", [1, 2])
def test_batches_of_any_number_of_blocks_are_read_over_many_epochs(n_blocks):
    order = streams.blocks(12, 4, 4 * n_blocks, seed=0, process=(0, 1))
    read = [len(block_K) for block_K, _ in zip(order.to_iter_dataset(), range(50), strict=False)]
    assert read == [n_blocks] * 50


def test_the_shuffle_is_global():
    order = streams.blocks(10_000, 1, 100, seed=0, process=(0, 1))
    seen = np.stack([order[step] for step in range(100)])
    # 100 of 10,000 at random: mean 5000 with standard error 288, and spread 2887 in every batch.
    assert np.abs(seen.mean(1) - 5000).max() < 5 * 288
    assert seen.std(1).min() > 2300
    lag = np.corrcoef(seen.ravel()[:-1], seen.ravel()[1:])[0, 1]
    assert abs(lag) < 0.05


@pytest.mark.parametrize(("batch_size", "block_rows"), [(32, 5), (32, 64), (0, 1), (32, 0)])
def test_a_batch_must_be_whole_blocks(batch_size, block_rows):
    with pytest.raises(ValueError, match="block_rows"):
        streams.blocks(1000, block_rows, batch_size, seed=0, process=(0, 1))


def test_a_batch_larger_than_the_data_is_refused():
    with pytest.raises(ValueError, match=r"batch_size=32\b.*\b24\b"):
        streams.blocks(31, 8, 32, seed=0, process=(0, 1))


def test_the_streams_there_are():
    assert streams.names() == NAMES


@pytest.mark.parametrize("name", ["stroe", "harvest", "_store_write", "not a name", "../npy"])
def test_an_unknown_stream_lists_the_streams(name):
    with pytest.raises(ValueError, match=", ".join(NAMES)):
        streams.make(name, batch_size=1, seed=0)


def test_an_unknown_argument_is_named_with_the_right_ones():
    with pytest.raises(TypeError, match=r"'sparsety'.*'sparsity'"):
        streams.make("synthetic", batch_size=1, seed=0, sparsety=3)


def test_a_negative_step_is_refused():
    stream = streams.Stream(1, 1, grain.MapDataset.range(3), Norm())
    with pytest.raises(ValueError, match="start=-1"):
        streams.read(stream, -1)
