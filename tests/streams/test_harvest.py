"""A harvest stores what the model computed, token by token, and can be stopped and continued."""

from dataclasses import replace
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from dictlearn import streams
from dictlearn.harvest import harvest
from dictlearn.streams import store
from dictlearn.streams._source import shuffled
from tests.streams.language import SIZES, TAPS


@pytest.fixture(scope="module")
def harvested(lm, text, tmp_path_factory):
    path = tmp_path_factory.mktemp("harvest") / "store"
    harvest(lm, path, TAPS, text=text, dtype="float32", **SIZES)
    return path


def shards(path):
    return [store.map_tensors(path, name) for name in store.open_manifest(path)["shards"]]


def contents(path):
    return {file.name: file.read_bytes() for file in Path(path).iterdir()}


def test_every_unmasked_token_is_stored_once_with_what_the_model_computed(lm, harvested):
    tokens_ST, mask_ST = store.tokens(harvested, "train")
    _, taps = lm.forward(lm.params, jnp.asarray(tokens_ST))
    seen = np.zeros(mask_ST.shape, int)
    for shard in shards(harvested):
        where = shard["sequence_R"], shard["position_R"]
        np.add.at(seen, where, 1)
        for tap in TAPS:
            np.testing.assert_allclose(shard[tap], np.asarray(taps[tap])[where], atol=1e-5)
    np.testing.assert_array_equal(seen, mask_ST)
    assert not mask_ST[:, 0].any()


def test_shards_are_shuffled_and_as_large_as_asked(harvested):
    parts = shards(harvested)
    assert len(parts) > 2
    for shard in parts[:-1]:
        assert abs(len(shard["sequence_R"]) - 300) < 16
        assert (np.diff(shard["sequence_R"]) < 0).mean() > 0.3


def test_every_shard_and_seed_has_an_order_of_its_own():
    pieces = [{"sequence_R": np.arange(50)}, {"sequence_R": np.arange(50, 100)}]
    orders = [shuffled(pieces, seed, (shard,))["sequence_R"] for seed, shard in np.ndindex(3, 3)]
    assert all(sorted(order) == list(range(100)) for order in orders)
    assert len({bytes(order) for order in orders}) == 9


def test_a_harvest_reads_back_as_a_stream(harvested):
    stream = streams.make(
        "store",
        path=harvested,
        tap=TAPS[0],
        target=TAPS[1],
        normalise="mean_norm_sqrt_d",
        block_rows=16,
        batch_size=32,
        seed=0,
    )
    epoch = [stream.batches[step] for step in range(stream.n_rows // 32)]
    norms = np.linalg.norm(np.concatenate([batch.y_BD for batch in epoch]), axis=1)
    assert norms.mean() == pytest.approx(12**0.5, rel=0.05)


def test_held_out_documents_give_no_rows(harvested):
    train, _ = store.tokens(harvested, "train")
    held_out, mask = store.tokens(harvested, "held_out")
    assert len(held_out) > 5
    assert mask[:, 1:].mean() > 0.8
    windows = {bytes(s) for s in np.lib.stride_tricks.sliding_window_view(train.ravel(), 6)}
    ours = [bytes(s) for s in np.lib.stride_tricks.sliding_window_view(held_out.ravel(), 6)]
    assert not windows & set(ours)


def test_nothing_held_out_is_allowed(lm, text, tmp_path):
    harvest(lm, tmp_path / "s", TAPS, text=text, **{**SIZES, "held_out": 0.0})
    assert store.tokens(tmp_path / "s", "held_out")[0].shape == (0, 16)


def test_n_tokens_is_met_to_within_a_sequence(lm, text, tmp_path):
    harvest(lm, tmp_path / "s", TAPS, text=text, n_tokens=500, **SIZES)
    manifest = store.open_manifest(tmp_path / "s")
    assert 500 <= manifest["statistics"]["resid.0"]["tokens"] < 516
    assert shards(tmp_path / "s")[0]["resid.0"].dtype == store.DTYPES["BF16"]


def test_a_harvest_stopped_anywhere_is_continued_to_the_same_bytes(lm, text, harvested, tmp_path):
    for stop in (1, 200, 400, 800):
        path = tmp_path / str(stop)

        def interrupt(done, total, stop=stop):
            if done >= stop:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            harvest(lm, path, TAPS, text=text, dtype="float32", progress=interrupt, **SIZES)
        assert not (path / "manifest.json").exists()
        harvest(lm, path, TAPS, text=text, dtype="float32", **SIZES)
        assert contents(path) == contents(harvested)


def test_a_complete_harvest_runs_the_model_no_more(lm, text, harvested):
    calls = []
    harvest(
        lm,
        harvested,
        TAPS,
        text=text,
        dtype="float32",
        progress=lambda *counts: calls.append(counts),
        **SIZES,
    )
    assert not calls


def test_progress_counts_up_to_all_rows(lm, text, tmp_path):
    calls = []
    harvest(lm, tmp_path / "s", TAPS, text=text, progress=lambda *c: calls.append(c), **SIZES)
    done = [count for count, _ in calls]
    assert done == sorted(set(done))
    assert calls[-1] == (calls[0][1], calls[0][1])


def test_another_recipe_names_what_differs(lm, text, harvested):
    before = contents(harvested)
    with pytest.raises(ValueError, match=r"dtype.*float32.*bfloat16"):
        harvest(lm, harvested, TAPS, text=text, dtype="bfloat16", **SIZES)
    assert contents(harvested) == before


def test_a_value_that_is_not_finite_names_tap_and_sequence(lm, text, tmp_path):
    def poisoned(params, tokens_BT):
        logits, taps = lm.forward(params, tokens_BT)
        sick_BT1 = (tokens_BT == 70)[..., None]
        return logits, {**taps, "mlp_out.1": jnp.where(sick_BT1, jnp.nan, taps["mlp_out.1"])}

    sick = replace(lm, forward=poisoned)
    with pytest.raises(ValueError, match=r"mlp_out\.1.*\b\d+, position \d+"):
        harvest(sick, tmp_path / "s", TAPS, text=text, **SIZES)
    assert not (tmp_path / "s" / "manifest.json").exists()


def test_a_value_too_large_for_the_stored_dtype_is_refused(lm, text, tmp_path):
    def large(params, tokens_BT):
        logits, taps = lm.forward(params, tokens_BT)
        return logits, {**taps, "resid.0": 1e6 * taps["resid.0"]}

    huge = replace(lm, forward=large)
    with pytest.raises(ValueError, match=r"resid\.0.*float16"):
        harvest(huge, tmp_path / "s", TAPS, text=text, dtype="float16", **SIZES)


@pytest.mark.parametrize(
    ("changed", "match"),
    [
        ({"taps": ("resid.7",)}, r"Unknown tap 'resid\.7'"),
        ({"taps": ()}, "at least one tap"),
        ({"taps": "resid.{0,7}"}, r"Unknown tap 'resid\.7'"),
        ({"dtype": "int8"}, "bfloat16, float16, float32"),
        ({"n_tokens": 10**9}, "ask for fewer or give more text"),
        ({"n_tokens": 0}, "must be positive"),
        ({"shard_rows": 8}, "shard_rows=8 is below sequence_length=16"),
        ({"lm_batch": 0}, "lm_batch=0"),
    ],
)
def test_impossible_requests_are_refused_before_anything_is_written(
    lm, text, tmp_path, changed, match
):
    arguments = {"taps": TAPS, "text": text, **SIZES, **changed}
    with pytest.raises(ValueError, match=match):
        harvest(lm, tmp_path / "s", **arguments)
    assert not (tmp_path / "s").exists()
