"""Keys, tensors and files in a model's folder are used, refused by name, or reported."""

import json
import struct

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save_file
from tokenizers import Tokenizer, models

from dictlearn.lm import load
from dictlearn.lm.families import spec_from_config

from .test_families import GEMMA3, LLAMA

CONFIG = {
    **{"model_type": "llama", "hidden_size": 8, "intermediate_size": 12, "vocab_size": 16},
    **{"num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 1},
    **{"tie_word_embeddings": True, "eos_token_id": 0},
}
RNG = np.random.default_rng(0)
SHAPES = {
    **{"model.embed_tokens.weight": (16, 8), "model.norm.weight": (8,)},
    **{f"model.layers.0.{n}.weight": (8,) for n in ("input_layernorm", "post_attention_layernorm")},
    **{"model.layers.0.self_attn.q_proj.weight": (8, 8)},
    **{"model.layers.0.self_attn.k_proj.weight": (4, 8)},
    **{"model.layers.0.self_attn.v_proj.weight": (4, 8)},
    **{"model.layers.0.self_attn.o_proj.weight": (8, 8)},
    **{
        "model.layers.0.mlp.gate_proj.weight": (12, 8),
        "model.layers.0.mlp.up_proj.weight": (12, 8),
    },
    **{"model.layers.0.mlp.down_proj.weight": (8, 12)},
}
TENSORS = {name: RNG.normal(size=shape).astype(np.float32) for name, shape in SHAPES.items()}
EMBED, UP, HEAD = "model.embed_tokens.weight", "model.layers.0.mlp.up_proj.weight", "lm_head.weight"
PARTS = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    Tokenizer(models.WordLevel({f"w{i}": i for i in range(16)})).save(
        str(tmp_path / "tokenizer.json")
    )
    return tmp_path


def whole(folder, **changed):
    save_file(TENSORS | changed, folder / "model.safetensors")
    return folder


def sharded(folder, first=None, second=None, index=None):
    """The embedding in one shard and the rest in another; `first`, `second`: tensors that are there too."""
    parts = {EMBED: TENSORS[EMBED]}, {n: TENSORS[n] for n in TENSORS if n != EMBED}
    listed = {n: file for file, part in zip(PARTS, parts, strict=True) for n in part}
    for file, part, more in zip(PARTS, parts, (first, second), strict=True):
        save_file(part | (more or {}), folder / file)
    weight_map = {"weight_map": listed | (index or {})}
    (folder / "model.safetensors.index.json").write_text(json.dumps(weight_map))
    return folder


def test_one_file_and_shards_are_the_same_model_and_nothing_is_told(folder, tmp_path, caplog):
    one = load("x", whole(folder))
    (folder / "model.safetensors").unlink()
    many = load("x", sharded(folder))
    np.testing.assert_array_equal(one.params["embed_VD"], many.params["embed_VD"])
    assert caplog.messages == []


def test_a_head_beside_a_tied_embedding_is_the_embedding_or_refused(folder):
    assert load("x", whole(folder, **{HEAD: TENSORS[EMBED].copy()})).spec.tied
    for head in (TENSORS[EMBED] + 1e-6, TENSORS[EMBED][:, ::-1].copy(), TENSORS[EMBED][:8].copy()):
        with pytest.raises(ValueError, match=r"lm_head\.weight.*tie_word_embeddings"):
            load("x", whole(folder, **{HEAD: head}))
    (folder / "config.json").write_text(json.dumps(CONFIG | {"tie_word_embeddings": False}))
    lm = load("x", whole(folder, **{HEAD: TENSORS[EMBED] + 1}))
    np.testing.assert_array_equal(lm.params["unembed_DV"], TENSORS[EMBED].T + 1)


@pytest.mark.parametrize(
    "name",
    [
        f"{UP}_scale_inv",
        UP.replace("weight", "weight_scale"),
        UP.replace("weight", "bias"),
        "model.layers.0.self_attn.q_norm.weight",
        "model.layers.1.mlp.up_proj.weight",
        "classifier.weight",
        "embed_tokens.weight",
    ],
)
def test_a_tensor_left_over_is_refused_by_its_name(folder, name):
    with pytest.raises(ValueError, match=name):
        load("x", whole(folder, **{name: np.ones(4, np.float32)}))


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int32, ml_dtypes.float8_e4m3fn])
def test_a_quantised_tensor_is_refused_by_its_name_and_kind(folder, dtype):
    with pytest.raises(ValueError, match=rf"{UP} is [IUF]\d.*F32"):
        load("x", whole(folder, **{UP: np.ones((12, 8)).astype(dtype)}))


@pytest.mark.parametrize("dtype", [np.float64, np.float16, ml_dtypes.bfloat16])
def test_other_floating_points_are_read(folder, dtype):
    lm = load("x", whole(folder, **{UP: TENSORS[UP].astype(dtype)}))
    np.testing.assert_allclose(lm.params["block_0"]["W_up_DM"], TENSORS[UP].T, atol=0.02)


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        ({"second": {HEAD: TENSORS[EMBED]}}, rf"{PARTS[1]}.*{HEAD}.*does not name"),
        ({"second": {EMBED: TENSORS[EMBED]}}, rf"{PARTS[1]}.*{EMBED}.*{PARTS[0]}"),
        ({"index": {HEAD: "model-00003-of-00003.safetensors"}}, r"model-00003-of-00003"),
        ({"index": {HEAD: PARTS[0]}}, HEAD),
    ],
)
def test_shards_and_an_index_that_disagree_are_refused_by_name(folder, broken, message):
    with pytest.raises(ValueError, match=message):
        load("x", sharded(folder, **broken))


def test_a_missing_shard_is_refused_by_name(folder):
    sharded(folder)
    (folder / PARTS[1]).unlink()
    with pytest.raises(ValueError, match=PARTS[1]):
        load("x", folder)


def test_files_of_tensors_that_nothing_reads_are_told(folder, caplog):
    sharded(folder)
    save_file({"a": np.ones(2)}, folder / "model-00003-of-00003.safetensors")
    load("x", folder)
    (told,) = caplog.messages
    assert "model-00003-of-00003.safetensors" in told
    caplog.clear()
    load("x", whole(folder))
    assert all(file in caplog.text for file in (*PARTS, "model.safetensors.index.json"))


def test_rotary_frequencies_in_a_file_are_those_of_the_config_or_told(folder, caplog):
    name = "model.layers.0.self_attn.rotary_emb.inv_freq"
    right = np.array([1.0, 0.01])
    load("x", whole(folder, **{name: right.astype(np.float16)}))
    assert caplog.messages == []
    for wrong in (right / [1, 4], np.ones(3)):
        caplog.clear()
        load("x", whole(folder, **{name: wrong.astype(np.float32)}))
        assert name in caplog.text


def test_an_adapter_beside_the_model_is_refused(folder):
    (folder / "adapter_config.json").write_text("{}")
    with pytest.raises(ValueError, match=r"adapter_config\.json.*merge_and_unload"):
        load("x", whole(folder))


def test_a_name_that_stands_twice_is_refused(folder):
    whole(folder)
    text = (folder / "config.json").read_text()
    (folder / "config.json").write_text(text.replace("{", '{"hidden_size": 16, ', 1))
    with pytest.raises(ValueError, match=r"config\.json: 'hidden_size'"):
        load("x", folder)
    (folder / "config.json").write_text(text)
    entry = b'"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}'
    header = b"{" + entry + b"," + entry + b"}"
    raw = struct.pack("<Q", len(header)) + header + bytes(4)
    (folder / "model.safetensors").write_bytes(raw)
    with pytest.raises(ValueError, match=r"model\.safetensors: 'a'"):
        load("x", folder)


@pytest.mark.parametrize(
    ("changed", "key"),
    [
        ({"rope_scaling": {"factor": 4.0}}, r"rope_scaling\.factor.*4\.0"),
        ({"rope_parameters": {"rope_type": "default", "factor": 4.0}}, r"rope_parameters\.factor"),
        ({"rope_scaling": {"rope_type": "dynamic", "factor": 2.0}}, "'dynamic'"),
        ({"rope_scaling": {"type": "longrope", "short_factor": [1.0]}}, "'longrope'"),
        ({"rope_parameters": {"rope_type": "yarn", "factor": 2.0}}, "'yarn'"),
        ({"rope_scaling": "linear"}, r"rope_scaling.*'linear'"),
        (
            {
                "rope_scaling": {"type": "linear", "factor": 2.0},
                "rope_parameters": {"rope_type": "linear", "factor": 4.0},
            },
            "rope_scaling.*rope_parameters",
        ),
        ({"quantization": {"group_size": 64}}, "quantization"),
        ({"is_causal": False}, r"is_causal.*False"),
        ({"is_encoder_decoder": True}, "is_encoder_decoder"),
        ({"pruned_heads": {"0": [1]}}, "pruned_heads"),
        ({"rope_interleaved": True}, "rope_interleaved"),
        ({"model_type": "starcoder2", "mlp_type": "gated"}, "mlp_type"),
        ({"model_type": "qwen2", "layer_types": ["sliding_attention"] * 3}, "use_sliding_window"),
        (
            {"model_type": "gemma", "hidden_act": "silu", "hidden_activation": "gelu"},
            "hidden_act .*hidden_activation",
        ),
    ],
)
def test_keys_that_no_forward_pass_does_are_refused_by_name(changed, key):
    with pytest.raises(ValueError, match=key):
        spec_from_config(LLAMA | changed)


TOLD = {
    **{"sliding_window": 64, "layer_types": ["sliding_attention"] * 3, "use_qk_norm": True},
    **{
        "attn_logit_softcapping": 30.0,
        "final_logit_softcapping": 20.0,
        "attention_multiplier": 0.1,
    },
    **{"logits_scaling": 8.0, "residual_multiplier": 0.2, "embedding_multiplier": 12.0},
    **{"query_pre_attn_scalar": 9, "use_rope": False, "hidden_activation": "relu"},
    "scale_attn_weights": False,
}


@pytest.mark.parametrize("key", TOLD)
def test_a_key_of_another_family_is_told_by_its_name(caplog, key):
    assert spec_from_config(LLAMA | {key: TOLD[key]}) == spec_from_config(LLAMA)
    (told,) = caplog.messages
    assert f"{key}=" in told


def test_a_key_inside_another_is_told_by_both_names(caplog):
    rope = {"rope_type": "linear", "factor": 2.0, "attention_factor": 1.5, "rope_theta": 500.0}
    spec_from_config(LLAMA | {"rope_scaling": rope})
    (told,) = caplog.messages
    assert "rope_scaling.attention_factor=1.5" in told
    caplog.clear()
    parts = {
        "full_attention": {"rope_theta": 1e6, "mscale": 2.0},
        "sliding_attention": {"rope_theta": 1e4, "beta_fast": 32},
    }
    spec_from_config(GEMMA3 | {"rope_parameters": parts})
    (told,) = caplog.messages
    assert "rope_parameters.full_attention.mscale" in told
    assert "rope_parameters.sliding_attention.beta_fast" in told
