"""circuit-tracer's features say what the dictionary does on the text, under the keys that its viewer reads."""

import gzip
import json
import shutil
import struct
import zlib

import numpy as np
import pytest

from dictlearn import cli
from dictlearn.analyses import _feature_text
from tests.analyses.test_neuronpedia import TAP, F, T, home, truth  # noqa: F401

KEYS = {
    "transcoder_id": str,
    "index": int,
    "examples_quantiles": list,
    "top_logits": list,
    "bottom_logits": list,
    "act_min": float,
    "act_max": float,
    "quantile_values": list,
    "histogram": list,
    "activation_frequency": float,
}
EXAMPLE = {"tokens": list, "tokens_acts_list": list, "train_token_ind": int}
EXAMPLE |= {"is_repeated_datapoint": bool}


def words(home):  # noqa: F811
    given = [f"--dictionary={home / 'one.npz'}", f"--model={home / 'toy.gguf'}", f"--tap={TAP}"]
    return [*given, f"--text={home / 'text.jsonl'}", f"--length={T}", f"--workdir={home / 'out'}"]


@pytest.fixture(scope="module")
def read(home):  # noqa: F811
    """The features, read as the viewer reads them: ranges of bytes, by the index."""
    assert cli.main(["latents", *words(home), "--to=circuit_tracer"]) == 0
    folder = home / "out" / "circuit_tracer" / TAP
    index = json.loads(gzip.decompress((folder / "index.json.gz").read_bytes()))
    assert index.keys() == {"0"}
    whole, found = (folder / index["0"]["filename"]).read_bytes(), []
    for start, stop in zip(index["0"]["offsets"], index["0"]["offsets"][1:], strict=False):
        (length,) = struct.unpack("<I", whole[start : start + 4])
        assert start + 4 + length == stop
        found.append(json.loads(zlib.decompress(whole[start + 4 : stop])))
    assert index["0"]["offsets"][-1] == len(whole)
    return found


def typed(told, keys):
    assert {key: type(value) for key, value in told.items()} == keys


def test_every_latent_has_the_keys_and_kinds_of_the_viewer(read):
    assert [feature["index"] for feature in read] == list(range(F))
    for feature in read:
        typed(feature, KEYS)
        for quantile in feature["examples_quantiles"]:
            typed(quantile, {"quantile_name": str, "examples": list})
            for example in quantile["examples"]:
                typed(example, EXAMPLE)
                assert {type(one) for one in example["tokens"]} == {str}
                assert {type(one) for one in example["tokens_acts_list"]} == {float}


def test_a_feature_is_what_the_latent_does(read, truth):  # noqa: F811
    _, _, whole, codes_STF = truth
    silent = 0
    for i, feature in enumerate(read):
        codes_ST = codes_STF[:, :, i]
        fired = codes_ST[codes_ST != 0]
        frequency = len(fired) / whole.mask_ST.sum()
        assert feature["activation_frequency"] == pytest.approx(frequency)
        if not len(fired):
            silent += 1
            assert feature["examples_quantiles"] == feature["histogram"] == []
            continue
        ends = (feature["act_min"], feature["act_max"])
        assert ends == pytest.approx((fired.min(), fired.max()), rel=1e-3)
        assert sum(feature["histogram"]) == len(fired)
        np.testing.assert_allclose(
            feature["quantile_values"], np.percentile(fired, range(1, 101)), rtol=1e-3
        )
        assert len(feature["top_logits"]) == len(feature["bottom_logits"]) == 10
    assert 0 < silent < F


def test_examples_peak_at_their_token_and_repeats_are_marked(read, truth):  # noqa: F811
    codes_STF = truth[3]
    marked = 0
    for i, feature in enumerate(read):
        codes_ST, seen = codes_STF[:, :, i], set()
        for n, quantile in enumerate(feature["examples_quantiles"]):
            for example in quantile["examples"]:
                values, t = example["tokens_acts_list"], example["train_token_ind"]
                assert len(values) == len(example["tokens"]) == T
                assert np.isclose(codes_ST, values, rtol=1e-3, atol=1e-5).all(1).any()
                known = (tuple(values), t)
                if example["is_repeated_datapoint"]:
                    assert n > 0
                    assert known in seen
                    marked += 1
                seen.add(known)
        if feature["examples_quantiles"]:
            first = feature["examples_quantiles"][0]["examples"]
            peaks = [one["tokens_acts_list"][one["train_token_ind"]] for one in first]
            wanted = np.sort(codes_ST[codes_ST != 0])[::-1][: _feature_text.TOP]
            np.testing.assert_allclose(peaks, wanted, rtol=1e-3, atol=1e-5)
    assert marked


def test_it_is_one_file_a_layer(home, read, tmp_path, capsys):  # noqa: F811
    before = shutil.copytree(home / "out" / "circuit_tracer", tmp_path / "before")
    assert cli.main(["latents", *words(home), "--to=circuit_tracer", "--splits=2"]) == 1
    assert "one file a layer" in capsys.readouterr().err
    assert cli.main(["latents", *words(home), "--to=circuit_tracer"]) == 0
    for file in (path for path in before.rglob("*") if path.is_file()):
        again = home / "out" / "circuit_tracer" / file.relative_to(before)
        assert again.read_bytes() == file.read_bytes()
