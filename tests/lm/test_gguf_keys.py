"""Metadata of a GGUF file is followed as llama.cpp follows it, refused by name, or reported."""

import jax
import numpy as np
import pytest

from dictlearn.lm import gguf, gguf_models, load, read_spec

from . import gguf_files, toy

F4, U4 = np.float32, np.uint32
SHAPES = {"token_embd.weight": (259, 12)}


def plain(metadata):
    """As `gguf.read` gives it."""
    listed = lambda value: value.tolist() if isinstance(value, np.ndarray | np.generic) else value
    return {key: listed(value) for key, value in metadata.items()}


def spec_of(metadata, tensors=None):
    """The spec of toy metadata, of no tensors but the embedding and those given."""
    arrays = {name: np.ones(shape, F4) for name, shape in SHAPES.items()} | (tensors or {})
    kind = lambda a: gguf.Tensor(gguf.KINDS[0], a.shape, a.astype(F4).reshape(-1).view(np.uint8))
    held = {name: kind(array) for name, array in arrays.items()}
    return gguf_models.spec_from_gguf(plain(toy.metadata(toy.SPEC) | metadata), held)


def gemma(name, **keys):
    metadata = {
        key.replace("llama.", f"{name}."): value for key, value in toy.metadata(toy.SPEC).items()
    }
    said = {f"{name}.{key}": value for key, value in keys.items()}
    embedding = gguf.Tensor(gguf.KINDS[0], SHAPES["token_embd.weight"], np.zeros(0, np.uint8))
    everything = metadata | {"general.architecture": name} | said
    return gguf_models.spec_from_gguf(plain(everything), {"token_embd.weight": embedding})


@pytest.mark.parametrize(
    ("keys", "divisors"),
    [
        ({}, ()),
        ({"scaling.type": "none"}, ()),
        ({"scaling.type": "none", "scaling.factor": F4(4)}, ()),
        ({"scaling.type": "linear"}, ()),
        ({"scaling.type": "linear", "scaling.factor": F4(4)}, (4, 4, 4)),
        ({"scaling.factor": F4(4)}, (4, 4, 4)),
        ({"scale_linear": F4(4)}, (4, 4, 4)),
        ({"scale_linear": F4(2), "scaling.factor": F4(4)}, (4, 4, 4)),
        ({"scaling.factor": F4(0), "scale_linear": F4(2)}, (2, 2, 2)),
        ({"scaling.factor": F4(4), "scaling.attn_factor": F4(1)}, (4, 4, 4)),
        ({"scaling.original_context_length": U4(64)}, ()),
    ],
)
def test_a_rotary_scale_is_read_under_all_its_names(keys, divisors):
    spec = spec_of({f"llama.rope.{key}": value for key, value in keys.items()})
    assert spec.rope_divisors == divisors


def test_a_table_of_rotary_frequencies_and_a_scale_multiply():
    table = {"rope_freqs.weight": np.array([1, 2, 8])}
    assert spec_of({}, table).rope_divisors == (1, 2, 8)
    assert spec_of({"llama.rope.scaling.factor": F4(4)}, table).rope_divisors == (4, 8, 32)


REFUSED = {
    **{"rope.scaling.type": "longrope", "rope.scaling.attn_factor": F4(1.2)},
    **{"rope.scaling.factor": F4(-1), "rope.scale_linear": F4("nan")},
    **{"rope.scaling.alpha": F4(2), "rope.dimension_sections": np.array([1, 2], U4)},
    **{"rope.freq_base_swa": F4(100), "rope.scaling.yarn_ext_factor": F4(0.5)},
    **{"attention.sliding_window": U4(64), "attention.logit_softcapping": F4(30)},
    **{"attn_logit_softcapping": F4(50), "final_logit_softcapping": F4(30)},
    **{"attention.scale": F4("inf"), "attention.clamp_kqv": F4(8), "attention.causal": np.bool_(0)},
    **{"attention.max_alibi_bias": F4(8), "attention.value_length": U4(4)},
    **{"attention.key_length_mla": U4(4), "attention.layer_norm_epsilon": F4(1e-5)},
    **{"expert_count": U4(8), "expert_used_count": U4(2), "ssm.state_size": U4(16)},
    **{"logit_scale": F4(0.5), "residual_scale": F4(0.2), "embedding_scale": F4(12)},
    **{"use_parallel_residual": np.bool_(1)},
}


@pytest.mark.parametrize("key", REFUSED)
def test_what_changes_the_function_and_is_not_done_is_refused_by_its_name(key):
    with pytest.raises(ValueError, match=rf"{key}"):
        spec_of({f"llama.{key}": REFUSED[key]})


@pytest.mark.parametrize(
    ("key", "value"),
    [("split.count", U4(3)), ("split.tensors.count", U4(9)), ("general.type", "adapter")],
)
def test_a_part_of_a_model_is_refused_by_its_name(key, value):
    with pytest.raises(ValueError, match=rf"{key} is .*{value}"):
        spec_of({key: value})


def test_what_leaves_the_function_as_it_is_is_let_be(caplog):
    idle = {
        **{"attention.causal": np.bool_(1), "attention.sliding_window": U4(0)},
        **{"attention.value_length": U4(6), "expert_count": U4(0), "logit_scale": F4(1)},
        **{"final_logit_softcapping": F4(0), "context_length": U4(8), "vocab_size": U4(259)},
    }
    whole = {"split.count": U4(1), "split.no": U4(0), "split.tensors.count": U4(1)}
    whole |= {"general.type": "model", "general.name": "toy", "quantize.imatrix.file": "x"}
    found = spec_of({f"llama.{key}": value for key, value in idle.items()} | whole)
    assert (found, caplog.messages) == (spec_of({}), [])


def test_a_key_that_nobody_knows_is_told_by_its_name(caplog):
    assert spec_of({"llama.new_thing": F4(3), "other.key": "x"}) == spec_of({})
    (told,) = caplog.messages
    assert "llama.new_thing" in told
    assert "other.key" in told


def test_scores_are_scaled_by_what_the_file_says():
    assert spec_of({"llama.attention.scale": F4(0.25)}).query_scale == 0.25
    assert spec_of({"llama.attention.scale": F4(0)}).query_scale is None


def test_gemma_has_the_caps_and_windows_that_llama_cpp_gives_it():
    usual = gemma("gemma2")
    assert (usual.attn_cap, usual.logit_cap, usual.window) == (50, 30, 4096)
    capped = gemma("gemma2", attn_logit_softcapping=F4(20), final_logit_softcapping=F4(10))
    assert (capped.attn_cap, capped.logit_cap) == (20, 10)
    said = {"attention.sliding_window": U4(5)}
    third = gemma("gemma3", **said)
    assert (third.attn_cap, third.logit_cap, third.sliding_layers) == (None, None, (0, 1, 2))
    assert gemma("gemma3", **said, final_logit_softcapping=F4(9)).logit_cap == 9
    pattern = "attention.sliding_window_pattern"
    assert gemma("gemma3", **said, **{pattern: U4(2)}).sliding_layers == (0, 2)
    assert gemma("gemma3", **said, **{pattern: [True, False, False]}).sliding_layers == (0,)
    for wrong in ([True], U4(0)):
        with pytest.raises(ValueError, match="sliding_window_pattern"):
            gemma("gemma3", **said, **{pattern: wrong})
    with pytest.raises(ValueError, match="attn_logit_softcapping"):
        gemma("gemma3", **said, attn_logit_softcapping=F4(9))


def test_a_scaled_file_computes_what_a_divided_spec_does(tmp_path):
    spec, params = toy.toy()
    scaled = {"llama.rope.scaling.factor": F4(4)}
    lm = load("x", toy.write_gguf(tmp_path / "a.gguf", spec, params, scaled))
    assert lm.spec == read_spec(path=tmp_path / "a.gguf")
    plain = load("x", toy.write_gguf(tmp_path / "b.gguf", spec, params))
    tokens_BT = np.arange(30)[None]
    scaled_BTV, plain_BTV = (jax.jit(one.forward)(one.params, tokens_BT)[0] for one in (lm, plain))
    assert abs(scaled_BTV - plain_BTV).max() > 0.01


@pytest.mark.parametrize(
    "name", ["rope_factors_long.weight", "blk.0.attn_q_norm.weight", "blk.1.attn_q.bias"]
)
def test_a_tensor_left_over_is_refused_by_its_name(tmp_path, name):
    spec, params = toy.toy()
    whole = toy.write_gguf(tmp_path / "a.gguf", spec, params)
    raw = lambda tensor: (gguf_files.F32, tensor.shape, tensor.raw.tobytes())
    tensors = {key: raw(tensor) for key, tensor in gguf.read(whole)[1].items()}
    path = tmp_path / "b.gguf"
    gguf_files.write(path, toy.metadata(spec), tensors | {name: (gguf_files.F32, (3,), bytes(12))})
    with pytest.raises(ValueError, match=name):
        load("x", path)


@pytest.mark.parametrize("number", [9, 15, 24, 26, 28])
def test_a_type_that_the_gguf_package_knows_and_cannot_read_is_named_with_its_tensor(
    tmp_path, number
):
    pytest.importorskip("gguf")
    path = gguf_files.write(tmp_path / "a.gguf", {}, {"blk.0.w": (number, (256,), bytes(4096))})
    with pytest.raises(ValueError, match=rf"'blk\.0\.w'.*\b{number}\b"):
        gguf.read(path)
