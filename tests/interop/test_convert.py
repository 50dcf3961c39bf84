"""`dictlearn convert SRC DST --to=NAME`: every format that holds a dictionary makes every other of it."""

import dataclasses

import numpy as np
import pytest

from dictlearn import cli, interop
from dictlearn.normalise import Norm
from tests.interop.test_conformance import FORMATS, D, file, same, trained, written


@pytest.mark.parametrize("format", FORMATS)
def test_a_dictionary_goes_into_our_own_format_and_back(format, tmp_path, capsys):
    one = written(format, tmp_path / "a")
    (source,) = (tmp_path / "a").iterdir()
    whole, again = tmp_path / "one.safetensors", file(tmp_path, format).with_name("again")
    assert cli.main(["convert", str(source), str(whole), "--to=safetensors"]) == 0
    assert capsys.readouterr().out == f"{whole}\n"
    again = again.with_suffix(interop.format_of(format).SUFFIX)
    assert cli.main(["convert", str(whole), str(again), f"--to={format}"]) == 0
    same(one, interop.load(again), exact=interop.format_of(format).LEAVES is None)


def test_a_normalisation_is_folded_where_the_format_holds_none(tmp_path):
    one = trained("relu", norm=Norm("unit_mean_sq", 0.5, 0.5))
    interop.save(one, tmp_path / "one.npz", "npz")
    interop.convert(tmp_path / "one.npz", tmp_path / "theirs", "saelens")
    interop.convert(tmp_path / "one.npz", tmp_path / "ours.safetensors", "safetensors")
    found = interop.load(tmp_path / "theirs")
    assert found.norm == Norm()
    assert interop.load(tmp_path / "ours.safetensors").norm == one.norm
    x = np.random.default_rng(0).normal(size=(9, D)).astype("f")
    np.testing.assert_allclose(found.reconstruct(x), one.reconstruct(x), rtol=1e-5)
    assert dataclasses.replace(found, variables={}, norm=one.norm) == dataclasses.replace(
        one, variables={}
    )


def test_what_cannot_be_converted_is_told_in_a_line(tmp_path, capsys):
    interop.save(trained("psd"), tmp_path / "one.npz", "npz")
    for words, message in (
        (["one.npz", "b", "--to=saelens"], "params/gain_F"),
        (["one.npz", "b", "--to=pickle"], "'pickle'"),
        (["none", "b", "--to=npz"], "none does not exist"),
    ):
        paths = [str(tmp_path / word) for word in words[:2]]
        assert cli.main(["convert", *paths, words[2]]) == 1
        assert message in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["one.npz"]


def test_all_dictionaries_of_a_folder_go_into_another(tmp_path):
    ones = [trained("relu", norm=Norm("unit_mean_sq", 0.5, 0.5)), trained("topk")]
    interop.save_all(ones, tmp_path / "ours", "npz")
    interop.convert(tmp_path / "ours", tmp_path / "theirs", "saelens")
    found = interop.load_all(tmp_path / "theirs")
    assert list(found) == ["relu_0", "topk_0"]
    assert found["relu_0"].norm == Norm()
    same(ones[1], found["topk_0"])
    with pytest.raises(ValueError, match="topk_0"):
        interop.save_all([ones[1], ones[1]], tmp_path / "twice", "npz")
