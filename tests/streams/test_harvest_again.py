"""A store is tied to its model and text: harvesting again from others is refused, or said."""

import json
import logging

import numpy as np
import pytest

from dictlearn.harvest import harvest
from dictlearn.streams.store import MANIFEST, PARTIAL
from tests.lm.toy import toy, write_gguf
from tests.streams.language import SIZES, load, write_lm, write_text


@pytest.fixture
def again(tmp_path):
    """Harvests what lies in the folder into `store`."""
    write_lm(tmp_path)
    write_text(tmp_path / "text.txt")

    def run(**more):
        lm = load(tmp_path / "toy.gguf")
        given = {"text": tmp_path / "text.txt", **SIZES, **more}
        harvest(lm, tmp_path / "store", "resid.0", **given)

    run()
    return run


def contents(folder):
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def other_weights(folder):
    write_gguf(folder / "toy.gguf", *toy(1))


def other_text(folder):
    text = (folder / "text.txt").read_text()
    (folder / "text.txt").write_text(text[::-1])


@pytest.mark.parametrize(
    ("change", "named"), [(other_weights, "model.sha256"), (other_text, "text.train")]
)
def test_a_store_of_other_data_is_refused_by_name_and_left_as_it_is(
    change, named, again, tmp_path, caplog
):
    before = contents(tmp_path / "store")
    change(tmp_path)
    with pytest.raises(ValueError, match=named):
        again()
    with caplog.at_level(logging.WARNING, "dictlearn"):
        again(allow_changed=True)
    assert [named in record.getMessage() for record in caplog.records] == [True]
    assert contents(tmp_path / "store") == before


def test_a_store_of_the_same_data_under_other_names_is_the_same(again, tmp_path):
    before = contents(tmp_path / "store")
    (tmp_path / "text.txt").rename(tmp_path / "moved.txt")
    again(text=tmp_path / "moved.txt")
    assert contents(tmp_path / "store") == before


def unfinished(store):
    """The store as a kill leaves it, without its last shard."""
    manifest = json.loads((store / MANIFEST).read_text())
    (store / manifest["shards"].popitem()[0]).unlink()
    (store / PARTIAL).write_text(json.dumps(manifest))
    (store / MANIFEST).unlink()


def test_an_unfinished_store_goes_on_with_other_weights_and_says_so(again, tmp_path, caplog):
    was = json.loads((tmp_path / "store" / MANIFEST).read_text())
    other_weights(tmp_path)
    unfinished(tmp_path / "store")
    with pytest.raises(ValueError, match=r"model\.sha256"):
        again()
    with caplog.at_level(logging.WARNING, "dictlearn"):
        again(allow_changed=True)
    assert ["model.sha256" in record.getMessage() for record in caplog.records] == [True]
    now = json.loads((tmp_path / "store" / MANIFEST).read_text())
    assert now["earlier_models"] == [was["recipe"]["model"]]
    assert now["recipe"]["model"] != was["recipe"]["model"]
    same = [now["shards"][name] == entry for name, entry in was["shards"].items()]
    assert same == [True] * (len(same) - 1) + [False]


def test_an_unfinished_store_goes_on_with_no_other_text(again, tmp_path):
    other_text(tmp_path)
    unfinished(tmp_path / "store")
    before = contents(tmp_path / "store")
    with pytest.raises(ValueError, match=r"text\.train"):
        again(allow_changed=True)
    assert contents(tmp_path / "store") == before


def test_another_mask_over_the_same_tokens_is_another_text(again, tmp_path, monkeypatch):
    from dictlearn.streams import _source

    monkeypatch.setattr(
        _source, "_first", lambda packed, n: packed._replace(mask_ST=np.ones_like(packed.mask_ST))
    )
    with pytest.raises(ValueError, match=r"text\.train"):
        again()
