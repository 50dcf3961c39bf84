"""Configurations are read in old spellings and new, and unknown keys are named."""

import json
import sys

import numpy as np
import pytest

from dictlearn.lm import hub, load, read_spec
from dictlearn.lm.families import spec_from_config
from dictlearn.lm.spec import Spec

LLAMA = {
    **{"model_type": "llama", "hidden_size": 24, "intermediate_size": 28, "vocab_size": 61},
    **{"num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2},
}
GEMMA3 = LLAMA | {"model_type": "gemma3_text", "num_hidden_layers": 7}
SCALING = {
    **{"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0},
    "original_max_position_embeddings": 64,
}
NEW = {"rope_theta": 500.0, "rope_type": "default"}


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ({"rope_theta": 500.0}, {"rope_parameters": NEW}),
        (
            {"rope_theta": 500.0, "rope_scaling": SCALING},
            {"rope_parameters": SCALING | {"rope_theta": 500.0}},
        ),
        (
            {"rope_scaling": {"type": "linear", "factor": 4.0}},
            {"rope_parameters": {"rope_type": "linear", "rope_theta": 1e4, "factor": 4}},
        ),
    ],
)
def test_rotary_settings_mean_the_same_in_either_spelling(old, new):
    assert spec_from_config(LLAMA | old) == spec_from_config(LLAMA | new)
    assert spec_from_config(LLAMA | old) != spec_from_config(LLAMA)


def test_gemma_3_means_the_same_in_either_spelling():
    old = {"rope_theta": 1e6, "rope_local_base_freq": 1e4, "sliding_window_pattern": 6}
    scaled = old | {"rope_scaling": {"rope_type": "linear", "factor": 8.0}}
    kinds = ["full_attention" if layer == 5 else "sliding_attention" for layer in range(7)]
    new = {
        "layer_types": kinds,
        "rope_parameters": {
            "full_attention": {"rope_type": "linear", "rope_theta": 1e6, "factor": 8.0},
            "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
        },
    }
    found = spec_from_config(GEMMA3 | scaled)
    assert found == spec_from_config(GEMMA3 | new)
    assert found.sliding_layers == (0, 1, 2, 3, 4, 6)
    assert (found.local_rope_base, found.rope_base, found.window) == (1e4, 1e6, 4096)
    assert spec_from_config(GEMMA3 | old) == spec_from_config(GEMMA3)


def test_the_published_sizes_of_known_models_are_read():
    pythia = {
        **{"model_type": "gpt_neox", "hidden_size": 512, "intermediate_size": 2048},
        **{"num_attention_heads": 8, "num_hidden_layers": 6, "vocab_size": 50304},
        **{"rotary_emb_base": 10000, "rotary_pct": 0.25, "use_parallel_residual": True},
        **{"layer_norm_eps": 1e-05, "hidden_act": "gelu", "tie_word_embeddings": False},
    }
    biases = {"bias_qkv": True, "bias_o": True, "bias_mlp": True}
    plain = {"norm": "layer", "gated": False, **biases}
    assert spec_from_config(pythia) == Spec(
        *(6, 512, 8, 8, 64, 2048, 50304),
        **{"tied": False, "activation": "gelu", "parallel": True, "rope_width": 16, **plain},
    )
    gpt2 = {
        **{"model_type": "gpt2", "n_embd": 768, "n_head": 12, "n_layer": 12, "n_positions": 1024},
        **{"vocab_size": 50257, "layer_norm_epsilon": 1e-05, "activation_function": "gelu_new"},
    }
    assert spec_from_config(gpt2) == Spec(
        *(12, 768, 12, 12, 64, 3072, 50257), positions=1024, activation="gelu_tanh", **plain
    )


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"model_type": "mixtral"}, r"'mixtral'.*gpt2, .*llama, .*mistral, "),
        ({"num_local_experts": 8}, r"num_local_experts.*\b8\b"),
        ({"alibi": True}, r"alibi.*True"),
        ({"quantization_config": {"bits": 4}}, r"quantization_config.*'bits': 4"),
        ({"rope_scaling": {"type": "yarn"}}, r"'yarn'.*'default', 'linear', 'llama3'"),
        ({"rope_scaling": {"type": "linear"}}, r"factor.*None.*float"),
        ({"hidden_act": "relu2"}, r"hidden_act.*'relu2'.*silu, .*gelu, "),
        ({"hidden_size": None}, r"hidden_size.*None.*int"),
        ({"num_hidden_layers": -1}, r"num_hidden_layers.*-1.*int"),
        ({"num_hidden_layers": True}, r"num_hidden_layers.*True.*int"),
        ({"rms_norm_eps": float("inf")}, r"rms_norm_eps.*inf.*float"),
        ({"tie_word_embeddings": "no"}, r"tie_word_embeddings.*'no'"),
        ({"num_key_value_heads": 3}, r"n_heads=4.*n_kv_heads=3"),
        (
            {"model_type": "gemma2", "layer_types": ["chunked_attention"] * 3},
            r"\['chunked_attention'\].*'full_attention', 'sliding_attention'",
        ),
    ],
)
def test_what_is_not_known_or_out_of_range_is_named(changed, message):
    with pytest.raises(ValueError, match=message):
        spec_from_config(LLAMA | changed)


def test_a_folder_without_its_files_names_the_one_that_is_missing(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"config\.json"):
        load("x", tmp_path)
    (tmp_path / "config.json").write_text("[]")
    with pytest.raises(ValueError, match=r"config\.json: .*list"):
        load("x", tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(LLAMA))
    (tmp_path / "pytorch_model.bin").write_bytes(b"a pickle")
    with pytest.raises(FileNotFoundError, match=r"model\.safetensors.*index"):
        load("x", tmp_path)
    (tmp_path / "model.safetensors").write_bytes(bytes(40))
    with pytest.raises(ValueError, match=r"model\.safetensors: "):
        load("x", tmp_path)


def test_names_on_the_hub_are_fetched_and_a_missing_package_says_so(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(hub, "fetch", lambda name, files: asked.append((name, *files)) or tmp_path)
    with pytest.raises(FileNotFoundError, match=r"config\.json"):
        load("EleutherAI/pythia-70m")
    with pytest.raises(FileNotFoundError, match=r"config\.json"):
        load("pythia", "EleutherAI/pythia-70m")
    with pytest.raises(FileNotFoundError, match=r"config\.json"):
        read_spec("EleutherAI/pythia-70m")
    whole, spec = ("*.json", "*.safetensors"), ("config.json",)
    assert asked == [("EleutherAI/pythia-70m", *files) for files in (whole, whole, spec)]
    with pytest.raises(FileNotFoundError, match=r"nowhere\.gguf"):
        load("x", tmp_path / "nowhere.gguf")
    monkeypatch.undo()
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ImportError, match="pip install huggingface_hub"):
        hub.fetch("EleutherAI/pythia-70m")


def test_an_unknown_dtype_lists_the_known():
    with pytest.raises(ValueError, match=r"dtype='int8'.*float32, bfloat16, float16"):
        load("smollm2", dtype="int8")


def test_llama_3_divides_slow_frequencies_and_keeps_fast_ones():
    spec = spec_from_config(LLAMA | {"head_dim": 64, "rope_theta": 5e5, "rope_scaling": SCALING})
    divisors = np.array(spec.rope_divisors)
    assert divisors.shape == (32,)
    assert np.all(np.diff(divisors) >= 0)
    assert (divisors[0], divisors[-1]) == (1.0, 8.0)
    assert np.any((divisors > 1) & (divisors < 8))
