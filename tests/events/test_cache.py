"""A cache holds the dense codes, to the bit, however it was written; a damaged one is refused."""

import tracemalloc

import numpy as np
import pytest

import dictlearn
from dictlearn import events, files
from dictlearn import lm as language
from dictlearn.events import _merge, writer
from dictlearn.events._parts import Found
from dictlearn.events.writer import Job
from dictlearn.streams import store
from tests.events.conftest import PARTS, S, T
from tests.report.conftest import TAP, model, spoken  # noqa: F401


def dense(found):
    codes_FU = np.zeros((found.n_latents, found.tokens_ST.size), np.float32)
    for latent in range(found.n_latents):
        place_E, val_E = found.of(latent)
        assert (np.diff(place_E.astype(np.int64)) > 0).all()
        codes_FU[latent, place_E] = val_E
    return codes_FU.T


def contents(path):
    return {file.name: file.read_bytes() for file in path.iterdir()}


@pytest.fixture(scope="module")
def whole(job_of, tmp_path_factory):
    path = tmp_path_factory.mktemp("whole") / "cache"
    events.write(job_of(), path)
    return path


def test_a_cache_is_the_dense_codes(whole, dense_UF, job_of):
    for found in (events.read(whole), events.gather(job_of())):
        np.testing.assert_array_equal(dense(found), dense_UF)
        np.testing.assert_array_equal(found.largest_F, dense_UF.max(0))
        np.testing.assert_array_equal(found.count_F, (dense_UF > 0).sum(0))
        assert found.density_F[9] == 1
        assert found.n_tokens == S * (T - 1)
        assert not (found.place_E % T == 0).any()


@pytest.mark.parametrize("memory", [0, 3000, 1 << 20])
def test_the_bytes_do_not_depend_on_the_memory(memory, whole, job_of, tmp_path):
    events.write(job_of(), tmp_path / "cache", memory=memory)
    assert contents(tmp_path / "cache") == contents(whole)


class Killed(BaseException):
    """What no handler of errors catches, as a kill."""


@pytest.mark.parametrize("at", [0, 1, PARTS - 1, "merge", "manifest"])
def test_a_killed_writer_continues_to_the_same_bytes(at, whole, job_of, tmp_path, monkeypatch):
    read, path = [], tmp_path / "cache"

    def stop(part):
        read.append(part)
        if part == at:
            raise Killed

    def kill(*_):
        raise Killed

    with monkeypatch.context() as patch:
        if at == "merge":
            patch.setattr(_merge, "save", kill)
        if at == "manifest":
            patch.setattr(writer.shutil, "rmtree", kill)
        with pytest.raises(Killed):
            events.write(job_of(before=stop), path)
    before = len(read)
    events.write(job_of(before=read.append), path)
    assert contents(path) == contents(whole)
    # The part before is whole only when the next one begins.
    assert read[before:] == list(range(max(at - 1, 0), PARTS) if isinstance(at, int) else [])


def test_a_torn_part_is_written_again(whole, job_of, tmp_path):
    def stop(part):
        if part == 4:
            raise Killed

    with pytest.raises(Killed):
        events.write(job_of(before=stop), tmp_path / "cache")
    part = tmp_path / "cache" / "parts" / "00001.part"
    part.write_bytes(part.read_bytes()[:-4])
    read = []
    events.write(job_of(before=read.append), tmp_path / "cache")
    assert read == [1, 3, 4]
    assert contents(tmp_path / "cache") == contents(whole)


@pytest.mark.parametrize("name", ["start", "place", "value", "largest", "tokens", "mask"])
def test_a_damaged_file_is_refused_by_name(name, whole, job_of, tmp_path):
    path = tmp_path / "cache"
    events.write(job_of(), path)
    file = path / f"{name}.npy"
    bits = bytearray(file.read_bytes())
    bits[-3] ^= 1
    file.write_bytes(bits)
    with pytest.raises(ValueError, match=f"{name}.npy does not match"):
        events.read(path)
    file.write_bytes(bits[:-1])
    with pytest.raises(ValueError, match=f"{name}.npy has"):
        events.read(path, verify=False)
    events.write(job_of(), path)
    assert contents(path) == contents(whole)


def test_a_finished_cache_is_left_alone_and_others_are_refused(whole, job_of, dense_UF, tmp_path):
    before, read = contents(whole), []
    events.write(job_of(before=read.append), whole)
    assert (contents(whole), read) == (before, [])
    with pytest.raises(ValueError, match="codes was"):
        events.write(job_of(2 * dense_UF), whole)
    (tmp_path / "note").write_text("mine")
    with pytest.raises(ValueError, match="not an event cache"):
        events.write(job_of(), tmp_path)
    with pytest.raises(FileNotFoundError, match="no finished event cache"):
        events.read(tmp_path)


def test_memory_is_bounded_by_the_budget(tmp_path):
    """A million events of 12 bytes, with two megabytes for them."""
    n_latents, tokens_ST = 100, np.zeros((2000, 64), np.int32)

    def found(chosen):
        for part in chosen:
            for row in range(part * 200, part * 200 + 200, 4):
                place_E = np.repeat(np.arange(row * 64, row * 64 + 256), 8)
                yield (
                    part,
                    Found(np.tile(np.arange(8, dtype="i4"), 256), place_E, np.ones(2048, "f4")),
                )

    work = Job({}, n_latents, 10, tokens_ST, tokens_ST == 0, found)
    peaks = []
    for memory in (2 << 20, 1 << 30):
        tracemalloc.start()
        events.write(work, tmp_path / str(memory), memory=memory)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[0] < (2 << 20) + 40 * n_latents * 10 + (1 << 20)
    assert peaks[1] > 2 * peaks[0]
    same = [files.sha256(tmp_path / str(m) / "value.npy") for m in (2 << 20, 1 << 30)]
    assert same[0] == same[1]


def test_of_a_store_it_is_what_the_dictionary_gives_on_its_rows(spoken, tmp_path):  # noqa: F811
    trained, path = dictlearn.restore(spoken)[0], spoken.parent / "store"
    rows = events.of_store(path, TAP)
    events.write(events.job(trained, rows), tmp_path / "cache")
    found = events.read(tmp_path / "cache")
    codes_UF = np.zeros((rows.tokens_ST.size, trained.module.n_latents), np.float32)
    for name in store.open_manifest(path)["shards"]:
        tensors = store.map_tensors(path, name)
        x_BD = np.zeros((4096, tensors[TAP].shape[1]), np.float32)
        x_BD[: len(tensors[TAP])] = tensors[TAP]
        place_R = tensors["sequence_R"] * found.length + tensors["position_R"]
        codes_BF = np.asarray(dictlearn.dense(trained.encode(x_BD), trained.module.n_latents))
        codes_UF[place_R] = codes_BF[: len(place_R)]
    np.testing.assert_array_equal(dense(found), codes_UF)
    assert len(found.val_E) > 1000
    few = events.gather(events.job(trained, events.of_store(path, TAP, n_tokens=500)))
    n = few.tokens_ST.size
    assert few.n_tokens <= 500 < found.n_tokens
    np.testing.assert_array_equal(dense(few), codes_UF[:n])


def test_of_a_text_it_is_that_of_a_store_of_the_text(spoken, model, monkeypatch):  # noqa: F811
    monkeypatch.setattr("dictlearn.events.rows.PART_TOKENS", 500)
    trained, lm = dictlearn.restore(spoken)[0], language.load(**model)
    text = {"text": spoken.parent / "text.jsonl", "sequence_length": 24}
    rows = events.of_text(lm, (TAP,), held_out=0.2, **text)
    found = events.gather(events.job(trained, rows))
    stored = events.gather(events.job(trained, events.of_store(spoken.parent / "store", TAP)))
    assert rows.n_parts > 2
    np.testing.assert_array_equal(found.tokens_ST, stored.tokens_ST)
    np.testing.assert_array_equal(found.place_E, stored.place_E)
    np.testing.assert_allclose(found.val_E, stored.val_E, rtol=1e-4)
