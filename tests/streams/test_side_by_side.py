"""Several taps, or stores, in one stream: side by side, each scaled by itself, or one for each token."""

import numpy as np
import pytest

from dictlearn import streams
from dictlearn.normalise import Norm, estimate, forward
from dictlearn.runs.fold import fold_normalisation
from dictlearn.streams import _store_write
from dictlearn.streams.one_of_taps import source_of
from dictlearn.streams.synthetic import plant
from dictlearn.types import Batch
from tests.streams.language import SIZES
from tests.streams.numbered import WIDTHS, numbered, write_store

TAPS = ("resid.0", "mlp_out.1", "resid.2")
SHARED = {"batch_size": 32, "seed": 0, "normalise": "unit_mean_sq"}


@pytest.fixture(scope="module")
def recipe(text):
    return {"taps": TAPS, "text": text, "dtype": "float32", **SIZES}


@pytest.fixture(scope="module")
def stored(lm, recipe, tmp_path_factory):
    from dictlearn.harvest import harvest

    path = tmp_path_factory.mktemp("side") / "store"
    harvest(lm, path, TAPS, **{key: value for key, value in recipe.items() if key != "taps"})
    return path


@pytest.fixture(params=["store", "from_lm"])
def make(request, stored, lm, recipe):
    own = {"store": {"path": stored, "block_rows": 4}, "from_lm": {"lm": lm, "recipe": recipe}}
    return lambda **more: streams.make(request.param, **SHARED, **own[request.param], **more)


def test_taps_stand_side_by_side_in_order_each_scaled_by_itself(make):
    both = make(tap=["resid.2", "resid.0"], target="mlp_out.*")
    alone = [make(tap=tap) for tap in ("resid.2", "resid.0", "mlp_out.1")]
    assert (both.d_in, both.d_out) == (24, 12)
    assert both.norm.scale_in.tolist() == [one.norm.scale_in for one in alone[:2]]
    assert both.norm.scale_out == alone[2].norm.scale_out
    batch, parts = both.batch(3), [one.batch(3).x_BD for one in alone]
    np.testing.assert_allclose(batch.x_BD, np.hstack(parts[:2]), rtol=1e-6)
    np.testing.assert_allclose(batch.y_BD, parts[2], rtol=1e-6)


def test_a_pattern_of_several_taps_is_an_autoencoder_of_them(make):
    stream = make(tap="resid.{2,0}")
    batch = stream.batch(0)
    assert batch.y_BD is batch.x_BD
    raw, undo = forward(stream.norm, batch.x_BD)[0], forward(stream.norm, batch.x_BD)[1]
    np.testing.assert_allclose(undo(raw), batch.x_BD, rtol=1e-5)


def test_several_taps_take_scalar_normalisations_only(stored):
    with pytest.raises(ValueError, match=r"token_unit.*\b2\b"):
        streams.make(
            "store",
            path=stored,
            tap="resid.*",
            block_rows=8,
            **{**SHARED, "normalise": "token_unit"},
        )


def test_taps_of_two_widths_do_not_stand_side_by_side(store_path):
    with pytest.raises(ValueError, match=r"resid\.0.*\b5\b.*mlp_out\.0.*\b3\b"):
        streams.make("store", path=store_path, tap=["resid.0", "mlp_out.0"], block_rows=8, **SHARED)


def test_stores_of_two_models_stand_side_by_side_token_by_token(tmp_path):
    one, other = write_store(tmp_path / "a"), write_store(tmp_path / "b")
    stream = streams.make(
        "stores_side_by_side", paths=(one, other), tap="resid.0", block_rows=8, **SHARED
    )
    batch = stream.batch(2)
    assert stream.d_in == 10
    np.testing.assert_array_equal(batch.x_BD[:, :5], batch.x_BD[:, 5:])
    assert len(stream.norm.scale_in) == 2


def test_stores_of_other_tokens_are_refused_by_name(tmp_path):
    one, other = write_store(tmp_path / "a"), write_store(tmp_path / "b", seed=1)
    with pytest.raises(ValueError, match=r"\bseed\b"):
        streams.make("stores_side_by_side", paths=(one, other), tap="resid.0", **SHARED)
    with pytest.raises(ValueError, match="two stores or more"):
        streams.make("stores_side_by_side", paths=(one,), tap="resid.0", **SHARED)


def test_a_group_gives_each_token_at_one_tap_drawn_uniformly(tmp_path):
    taps = {"resid.0": 5, "resid.1": 5, "resid.2": 5}
    path = tmp_path / "s"
    manifest = _store_write.begin(path, {"taps": taps})
    tokens = np.zeros((4, 10), np.int32)
    for split in ("train", "held_out"):
        _store_write.add_tokens(path, manifest, split, tokens, tokens == 0)
    rows = numbered(5)
    scaled = {tap: rows * 10**n for n, tap in enumerate(taps)}
    where = np.zeros(len(rows), np.int32)
    _store_write.add_shard(path, manifest, 0, {**scaled, "sequence_R": where, "position_R": where})
    _store_write.complete(path, manifest)
    shared = {"path": path, "batch_size": 1000, "seed": 3, "block_rows": 8}
    grouped = streams.make("one_of_taps", taps=list(taps), **shared)
    alone = [streams.make("store", tap=tap, **shared).batch(1).x_BD for tap in taps]
    drawn = source_of(3, 1, 0, 1000, 3)
    np.testing.assert_array_equal(grouped.batch(1).x_BD, np.stack(alone)[drawn, np.arange(1000)])
    count = np.bincount(np.concatenate([source_of(3, t, 0, 1000, 3) for t in range(20)]))
    assert ((count - 20_000 / 3) ** 2 / (20_000 / 3)).sum() < 13.8  # chi^2 of 2 at p = 0.001
    even = streams.make("one_of_taps", taps=list(taps), normalise="unit_mean_sq", **shared)
    assert np.mean((even.batch(0).x_BD ** 2).sum(1)) == pytest.approx(1, rel=0.2)
    assert even.norm == Norm()


def test_a_group_of_one_tap_is_that_tap(store_path):
    shared = {"path": store_path, **SHARED, "block_rows": 8}
    one = streams.make("one_of_taps", taps=["resid.0"], **shared)
    np.testing.assert_array_equal(
        one.batch(4).x_BD, streams.make("store", tap="resid.0", **shared).batch(4).x_BD
    )
    assert one.d_in == WIDTHS["resid.0"]


def test_scales_of_several_sources_are_not_folded():
    x = np.random.default_rng(0).normal(size=(500, 6)).astype(np.float32) * [1, 1, 5, 5, 9, 9]
    norm = estimate("unit_mean_sq", [Batch(x, x)], sources=(3, 3))
    parts = forward(norm, x)[0].reshape(500, 3, 2)
    np.testing.assert_allclose((parts**2).sum(-1).mean(0), 1, rtol=1e-5)
    with pytest.raises(ValueError, match="a scale for each source"):
        fold_normalisation(norm, None, {"params": {}})
    with pytest.raises(ValueError, match="positive"):
        Norm("unit_mean_sq", (1.0, -2.0))


def test_planted_views_share_a_third_and_layers_write_to_their_own_and_later():
    views, layers = plant("views", seed=0), plant("layers", seed=0)
    halves = lambda rows: (np.abs(rows.reshape(len(rows), 2, -1)).sum(-1) > 0).astype(int).tolist()
    assert halves(views.atoms_ND) == [[1, 1], [1, 0], [0, 1]] * 16
    assert halves(layers.atoms_ND) == [[1, 0], [0, 1]] * 24
    assert halves(layers.written_ND) == [[1, 1], [0, 1]] * 24
    batch = streams.make("synthetic", kind="layers", batch_size=256, seed=0).batch(0)
    codes = np.linalg.lstsq(layers.written_ND.T, batch.y_BD.T, rcond=None)[0]
    np.testing.assert_allclose(codes.T @ layers.written_ND, batch.y_BD, atol=1e-4)
    with pytest.raises(ValueError, match=r"d_in=31\b"):
        plant("views", seed=0, d_in=31)
