"""Distances between layers, and the groups that they make."""

import numpy as np
import pytest

from dictlearn import analyses, streams
from dictlearn import lm as language
from dictlearn.analyses import Subject, layer_groups
from dictlearn.harvest import harvest
from tests.helpers import planted_config


def blocks(noise=0.3, tokens=400, widths=(2, 3, 1)):
    """Layers in blocks: the layers of a block share one activation, with a little noise each."""
    random = np.random.default_rng(0)
    parts = []
    for n in widths:
        base = random.standard_normal((tokens, 16))
        parts += [base + noise * random.standard_normal(base.shape) for _ in range(n)]
    return np.concatenate(parts, axis=1)


def distances(rows, n=6):
    return layer_groups.angular_distances(np.array_split(rows, 3), n)


def test_distances_are_symmetric_between_zero_and_one_and_whatever_the_batches():
    rows = blocks()
    found = distances(rows)
    np.testing.assert_array_equal(found, found.T)
    assert not found.diagonal().any()
    assert 0 < found[~np.eye(6, dtype=bool)].min() < found.max() < 1
    np.testing.assert_allclose(found, layer_groups.angular_distances([rows], 6), atol=1e-12)


def test_orthogonal_layers_are_half_apart_opposite_ones_apart_and_scaled_ones_not():
    x = np.eye(4)
    rows = np.concatenate([x, np.roll(x, 1, axis=1), -x, 7 * x], axis=1)
    found = distances(rows, 4)
    np.testing.assert_allclose(found[0], [0, 0.5, 1, 0], atol=1e-7)


def test_layers_in_blocks_are_found_and_too_few_groups_are_wide():
    found = distances(blocks())
    assert layer_groups.cluster(found, 3) == [[0, 1], [2, 3, 4], [5]]
    spread = [layer_groups.amad(found, layer_groups.cluster(found, n)) for n in range(1, 7)]
    assert spread == sorted(spread, reverse=True)
    assert spread[-1] == 0
    assert spread[1] > 2 * spread[2]


def test_the_fewest_groups_within_a_bound_are_taken():
    found = distances(blocks())
    bound = layer_groups.amad(found, layer_groups.cluster(found, 3))
    assert layer_groups.fewest_groups(found, bound) == [[0, 1], [2, 3, 4], [5]]
    assert len(layer_groups.fewest_groups(found, bound * 0.9)) == 4
    assert layer_groups.fewest_groups(found, 0.0) == [[n] for n in range(6)]
    assert layer_groups.fewest_groups(found, 1.0) == [[0, 1, 2, 3, 4, 5]]


def test_impossible_requests_name_the_bound():
    with pytest.raises(ValueError, match=r"n_groups=7 .* 6 "):
        layer_groups.cluster(distances(blocks()), 7)
    with pytest.raises(ValueError, match="angular distances"):
        layer_groups.angular_distances([], 6)
    with pytest.raises(ValueError, match="bound=-1"):
        layer_groups.fewest_groups(distances(blocks()), -1.0)


def test_layers_are_those_of_the_origin_whichever_stream_reads_them(model, tmp_path):
    """A config is enough: a store's taps side by side, one of them a row, and the model without a store."""
    text = tmp_path / "text.jsonl"
    text.write_text("\n".join(f'{{"text": "{n} thé café {n * n} x"}}' for n in range(100)))
    taps = ("resid.0", "resid.1", "resid.2")
    recipe = {"taps": taps, "text": str(text), "sequence_length": 16, "dtype": "float32"}
    harvest(language.load(**model), tmp_path / "store", seed=0, **recipe)
    store = {"path": str(tmp_path / "store")}
    found = {}
    for name, stream in {
        "store": {**store, "tap": taps},
        "one_of_taps": {**store, "taps": taps},
        "from_lm": {"tap": taps, "pool_rows": 128},
    }.items():
        assert name in streams.names()
        config = {**planted_config(batch_size=64), "model": model, "harvest": recipe}
        config["stream"] = {"name": name, **stream}
        subject = Subject(name, tmp_path, setup=config)
        found[name] = analyses.run("layer_groups", [subject], n_groups=2, n_tokens=512).values
        assert found[name]["taps"] == [*taps]
    assert found["store"] == found["one_of_taps"]
    far = np.array([found[name]["distances"] for name in ("store", "from_lm")])
    np.testing.assert_allclose(far[0], far[1], atol=0.05)
    assert found["store"]["groups"] == found["from_lm"]["groups"]
