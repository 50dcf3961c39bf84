"""A set of transcoders that one config trains on one pass of a small model, and a CLT, replaced at once."""

import json

import numpy as np
import pytest
import scipy.linalg

from dictlearn import cli, dictionaries, interop, restore
from dictlearn import lm as language
from dictlearn.circuits.attribute import attribute
from dictlearn.circuits.influence import normalised
from dictlearn.circuits.replacement import passes, pooled
from dictlearn.cli.circuit import loaded
from dictlearn.runs.by_layer import by_layer
from dictlearn.runs.trained import Trained
from dictlearn.train import train
from tests.helpers import planted_config
from tests.lm import toy

WORDS = ["the", "cat", "sat", "on", "mats", "and", "dogs", "ran"]
SET = {"name": "transcoders", "n_latents": 96, "k": 12, "sources": 3, "skip": True, "aux_k": 0}
SIDES = {"tap": "mlp_in", "target": "mlp_out"}


def texts(n, seed=0):
    random = np.random.default_rng(seed)
    return [" ".join(random.choice(WORDS, size=12)) for _ in range(n)]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """(the folder, the arguments of a small model)."""
    folder = tmp_path_factory.mktemp("sets")
    lines = "\n".join(json.dumps({"text": text}) for text in texts(120))
    (folder / "text.jsonl").write_text(lines, "utf-8")
    path = toy.write_gguf(folder / "toy.gguf", *toy.toy())
    return folder, {"name": "toy", "path": str(path)}


@pytest.fixture(scope="module")
def run(model):
    """The workdir of a set of transcoders of all MLPs."""
    folder, own = model
    config = planted_config(
        steps=200,
        batch_size=64,
        stream={"name": "from_lm", "tap": "mlp_in.*", "target": "mlp_out.*", "pool_rows": 1024},
        dictionary=SET,
        rule={"lr": 3e-3, "unit_norm": False},
        learner={"b_dec_start": "mean"},
        evaluate={"n_tokens": 256, "n_sequences": 8},
    )
    config["stream"].pop("kind")
    config["stream"]["normalise"] = "unit_mean_sq"
    config["model"] = own
    taps = [f"{place}.{layer}" for place in ("mlp_in", "mlp_out") for layer in range(3)]
    config["harvest"] = {"taps": taps, "text": str(folder / "text.jsonl"), "held_out": 0.2}
    config["harvest"] |= {"sequence_length": 24, "dtype": "float32"}
    train(config, folder / "set")
    return folder / "set"


@pytest.fixture(scope="module")
def text(model):
    """Other sequences of the same words."""
    tokenizer, said = language.load(**model[1]).tokenizer, texts(8, seed=1)
    tokens_ST = np.array([tokenizer.encode(one).ids[:24] for one in said], np.int32)
    return tokens_ST, np.ones(tokens_ST.shape, bool)


def test_the_layers_of_a_run_explain_their_mlps(model, run, text):
    (whole,) = restore(run)
    lm = language.load(**model[1])
    _, taps = lm.forward(lm.params, text[0])
    for layer, one in enumerate(by_layer(whole)):
        assert one.sites[0][1:3] == ((f"mlp_in.{layer}",), (f"mlp_out.{layer}",))
        x, y = (
            np.asarray(taps[f"{place}.{layer}"]).reshape(8 * 24, -1)
            for place in ("mlp_in", "mlp_out")
        )
        error = np.square(y - np.asarray(one.reconstruct(x))).sum()
        other = np.square(y - np.asarray(by_layer(whole)[layer - 1].reconstruct(x))).sum()
        assert error < 0.5 * np.square(y - y.mean(0)).sum() < other


def test_an_exported_set_has_the_graphs_and_the_losses_of_the_run(
    model, run, text, tmp_path, capsys
):
    words = [f"--workdir={run}", "--format=circuit_tracer", f"--out={tmp_path}"]
    assert cli.main(["export", *words]) == 0, capsys.readouterr().err
    (name,) = json.loads((tmp_path / "index.json").read_text())
    theirs, ours = list(interop.load_all(tmp_path / name).values()), loaded(str(run))
    assert len(theirs) == len(ours) == 3
    lm = language.load(**model[1])
    graphs = [attribute(lm, own, "the cat", n_logits=2) for own in (ours, theirs)]
    np.testing.assert_array_equal(graphs[0].latents_N3, graphs[1].latents_N3)
    # The codes of an exported dictionary are in other units.
    shares = [normalised(one.edges_MM) for one in graphs]
    np.testing.assert_allclose(shares[0], shares[1], atol=1e-4)
    assert len({layer for layer, _, _ in graphs[0].latents_N3}) == 3
    found, again, two = (pooled(passes(lm, own, *text)) for own in (ours, theirs, ours[:2]))
    assert found["kl"] == pytest.approx(again["kl"], rel=1e-3)
    assert 0 < two["kl"] < found["kl"]


def as_clt(parts):
    """A cross-layer transcoder of latents that write their own layer, and one whose latents write all later."""
    params = [one.folded().variables["params"] for one in parts]
    woven = lambda key: np.stack([one[key] for one in params], axis=1)
    leaves = {"W_enc_FD": woven("W_enc_FD").reshape(96, 12), "b_enc_F": woven("b_enc_F").ravel()}
    leaves |= {"log_threshold_F": woven("log_threshold_F").ravel()}
    leaves |= {"b_dec_D": np.concatenate([one["b_dec_D"] for one in params])}
    leaves |= {"W_skip_DD": scipy.linalg.block_diag(*(one["W_skip_DD"] for one in params))}
    sizes = {"d_in": 36, "d_out": 36, "n_latents": 96, "sources": 3, "skip": True}
    site = (
        parts[0]
        .sites[0]
        ._replace(
            **{side: tuple(f"{side_of}.{m}" for m in range(3)) for side, side_of in SIDES.items()}
        )
    )
    for repeated in (False, True):
        decoders = {
            f"W_dec_{m}_FD": np.concatenate(
                [one["W_dec_FD"], *[one["W_dec_FD"] * repeated] * (2 - m)], axis=1
            )
            for m, one in enumerate(params)
        }
        module = dictionaries.make("clt", sparsity=0.0, **sizes)
        yield Trained(module, {"params": leaves | decoders}, sites=(site,), name="clt")


def test_a_cross_layer_transcoder_of_single_layers_is_replaced_as_they_are(model, run, text):
    lm, (whole,) = language.load(**model[1]), restore(run)
    alone, across = as_clt(by_layer(whole))
    wanted, found, other = (pooled(passes(lm, [one], *text)) for one in (whole, alone, across))
    assert found["kl"] == pytest.approx(wanted["kl"], rel=1e-3)
    assert other["kl"] > 1.1 * wanted["kl"]
