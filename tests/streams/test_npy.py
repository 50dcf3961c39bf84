"""A .npy array as a stream: its rows, all of them, and one clear line for whatever is wrong."""

import pickle

import numpy as np
import pytest

from dictlearn import streams
from dictlearn.normalise import estimate
from dictlearn.types import Batch


def rows(n=200, width=6, seed=0):
    return np.random.default_rng(seed).standard_normal((n, width)).astype(np.float32)


@pytest.fixture
def save(tmp_path):
    def write(array, name="x.npy"):
        np.save(tmp_path / name, array)
        return tmp_path / name

    return write


def open_npy(path, target_path=None, batch_size=20, held_out=0.0, **arguments):
    arguments |= {"target_path": target_path, "held_out": held_out}
    return streams.make("npy", path=path, batch_size=batch_size, seed=0, **arguments)


def fails(error, match, *args, **kwargs):
    with pytest.raises(error, match=match) as caught:
        open_npy(*args, **kwargs)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.uint8])
def test_an_epoch_is_the_array(save, dtype):
    array = (10 * np.abs(rows())).astype(dtype)
    stream = open_npy(save(array))
    epoch = np.concatenate([stream.batches[step].x_BD for step in range(10)])
    assert epoch.dtype == np.float32
    assert sorted(map(bytes, epoch)) == sorted(map(bytes, array.astype(np.float32)))
    assert stream.n_rows == 200


def test_a_pair_keeps_its_rows_together(save):
    x = rows()
    y = x[:, :2] * 3
    stream = open_npy(save(x), save(y, "y.npy"))
    batch = stream.batches[4]
    assert (stream.d_in, stream.d_out) == (6, 2)
    np.testing.assert_array_equal(batch.y_BD, batch.x_BD[:, :2] * 3)


def test_blocks_of_rows_stay_together_and_the_tail_is_dropped(save):
    array = np.arange(200.0)[:, None]
    stream = open_npy(save(array), batch_size=14, block_rows=7)
    assert stream.n_rows == 196
    block = stream.batches[3].x_BD[:7, 0]
    assert block[0] % 7 == 0
    np.testing.assert_array_equal(block, block[0] + np.arange(7))


def test_the_norm_is_that_of_the_whole_array(save, monkeypatch):
    monkeypatch.setattr("dictlearn.streams.npy._CHUNK_VALUES", 60)
    x, y = rows(), 5 + rows(width=3)
    stream = open_npy(save(x), save(y, "y.npy"), normalise="mean_norm_sqrt_d")
    expected = estimate("mean_norm_sqrt_d", [Batch(x, y)])
    assert stream.norm.scale_in == pytest.approx(expected.scale_in, rel=1e-6)
    assert stream.norm.scale_out == pytest.approx(expected.scale_out, rel=1e-6)
    raw = open_npy(save(x), save(y, "y.npy")).batches[0]
    batch = stream.batches[0]
    np.testing.assert_allclose(batch.y_BD, raw.y_BD * stream.norm.scale_out, rtol=1e-6)


def test_a_missing_file(tmp_path):
    fails(FileNotFoundError, "no array at .*nothing.npy", tmp_path / "nothing.npy")


@pytest.mark.parametrize("shape", [(200,), (20, 10, 6), (0, 6), (200, 0)])
def test_not_a_matrix(save, shape):
    fails(ValueError, r"x\.npy has shape .*rows, width", save(np.zeros(shape)))


@pytest.mark.parametrize("array", [np.array([["a"] * 3] * 200), np.zeros((200, 3), complex)])
def test_not_real_numbers(save, array):
    fails(ValueError, r"x\.npy holds .*not real numbers", save(array))


def test_pickled_objects_are_never_loaded(tmp_path):
    np.save(tmp_path / "o.npy", np.array([[None] * 3] * 200, object), allow_pickle=True)
    fails(ValueError, r"o\.npy cannot be mapped", tmp_path / "o.npy")
    (tmp_path / "p.npy").write_bytes(pickle.dumps(rows()))
    fails(ValueError, r"p\.npy cannot be mapped", tmp_path / "p.npy")


def test_a_truncated_file(save):
    path = save(rows())
    path.write_bytes(path.read_bytes()[:-100])
    fails(ValueError, r"x\.npy cannot be mapped", path)


def test_the_wrong_width(save):
    assert open_npy(save(rows()), d_in=6).d_in == 6
    fails(ValueError, r"x\.npy is 6 wide, and d_in=7", save(rows()), d_in=7)


def test_targets_of_another_length(save):
    paths = save(rows()), save(rows(199), "y.npy")
    fails(ValueError, r"x\.npy has 200 rows and .*y\.npy has 199", *paths)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_value_that_is_not_finite_is_located(save, value, monkeypatch):
    monkeypatch.setattr("dictlearn.streams.npy._CHUNK_VALUES", 60)
    array = rows()
    array[137, 4] = value
    fails(ValueError, rf"x\.npy holds {value} at row 137, column 4", save(array))
    fails(ValueError, r"y\.npy holds", save(rows()), save(array, "y.npy"))


def test_a_value_too_large_for_float32_is_located(save):
    array = rows().astype(np.float64)
    array[3, 1] = 1e300
    fails(ValueError, r"1e\+300 at row 3, column 1", save(array))


def test_fewer_rows_than_a_batch(save):
    fails(ValueError, "batch_size=201 exceeds the 200 rows", save(rows()), batch_size=201)


def test_per_token_kinds_refuse_a_pair(save):
    paths = save(rows()), save(rows(), "y.npy")
    fails(ValueError, "transcoder", *paths, normalise="token_unit")


def test_the_held_out_tail_is_never_trained_on(save):
    array = rows()
    stream = open_npy(save(array), held_out=0.25)
    epoch = np.concatenate([stream.batches[t].x_BD for t in range(stream.n_rows // 20)])
    rest = np.concatenate([batch.x_BD for batch in stream.held_out])
    np.testing.assert_array_equal(rest, array[-50:])
    assert not (epoch[:, None] == rest[None]).all(-1).any()
    assert len(open_npy(save(array), held_out=0.0).held_out) == 0
