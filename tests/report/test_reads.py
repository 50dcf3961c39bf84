"""The input side of feature pages: the tokens of a transcoder, and the heads and source tokens of attention."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dictlearn import dense, dictionaries, events
from dictlearn import lm as language
from dictlearn.analyses import _logits
from dictlearn.normalise import Norm
from dictlearn.report import features
from dictlearn.report.features import latent
from dictlearn.report.features.panels import Panels
from dictlearn.report.features.reads import Inputs
from dictlearn.runs.atoms import atoms
from dictlearn.runs.trained import Site, Trained
from tests.lm import toy
from tests.report.test_browser import CHROMIUM, open_page

F, SCALE, LAYER = 16, 0.5, 1


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    home = tmp_path_factory.mktemp("home")
    toy.model_and_text(home)
    return home


@pytest.fixture(scope="module")
def lm(home):
    return language.load("toy", str(home / "toy.gguf"))


def trained(tap, target, d_in, d_out=None):
    """A ReLU dictionary with random leaves that reads `tap` and writes `target`, and scales its input."""
    module = dictionaries.make("relu", d_in=d_in, n_latents=F, sparsity=0.1, d_out=d_out)
    variables = module.init(jax.random.key(1), jnp.zeros((1, d_in)), jnp.zeros(F, bool))
    draw = lambda leaf: jax.random.normal(jax.random.key(leaf.size), leaf.shape)
    site = Site({}, (tap,), (target,), {})
    norm = Norm("unit_mean_sq", scale_in=SCALE, scale_out=SCALE)
    return Trained(module, jax.tree.map(draw, variables), norm, (site,), "<b>mine</b>")


def seen(lm, home, one):
    """The pages' data, with what the model must run for."""
    rows = events.of_text(lm, one.sites[0].tap, text=home / "text.jsonl", sequence_length=12)
    found = events.gather(events.job(one, rows))
    return Panels(one, lm, found, {}, lambda done, total: None)


@pytest.fixture(scope="module")
def attention(lm, home):
    return seen(lm, home, trained(f"attn_z.{LAYER}", f"attn_z.{LAYER}", 24))


@pytest.fixture(scope="module")
def transcoder(lm, home):
    return seen(lm, home, trained(f"mlp_in.{LAYER}", f"mlp_out.{LAYER}", 12, 12))


def test_a_transcoder_reads_the_tokens_whose_normed_embeddings_its_encoder_aligns_with(
    transcoder, lm
):
    embed_VD = np.asarray(lm.params["embed_VD"], np.float64)
    size_V1 = np.sqrt((embed_VD**2).mean(1, keepdims=True) + lm.spec.norm_eps)
    normed_VD = embed_VD / size_V1 * np.asarray(lm.params[f"block_{LAYER}"]["mlp_norm_D"])
    W_enc_FD = np.asarray(transcoder.dictionary.variables["params"]["W_enc_FD"])
    score_FV = SCALE * W_enc_FD @ normed_VD.T
    for i in range(F):
        reads, order = transcoder.feature(i).reads, np.sort(score_FV[i])
        np.testing.assert_allclose([val for _, val in reads.raised], order[:-11:-1], atol=1e-4)
        np.testing.assert_allclose([val for _, val in reads.lowered], order[:10], atol=1e-4)
        best = transcoder.lm.tokenizer.decode([int(score_FV[i].argmax())])
        assert reads.raised[0][0] == best or "byte" in reads.raised[0][0]
        assert not reads.shares
        assert not reads.sources


def test_a_dictionary_that_writes_what_it_reads_shows_no_input_side(lm):
    one = trained("mlp_in.1", "mlp_in.1", 12)
    assert (
        Inputs(one, lm, atoms(one)).of(0)
        == Inputs(one, lm, atoms(one)).of(1)
        == ((), (), (), (), 0)
    )


def test_source_tokens_and_biases_add_up_to_the_largest_activation(attention, lm):
    one, found = attention.dictionary, attention.found
    params = one.variables["params"]
    bias_F = params["b_enc_F"] - params["W_enc_FD"] @ params["b_dec_D"]
    fired = np.flatnonzero(found.count_F).tolist()
    assert len(fired) > F / 2
    for i in fired:
        place_E, val_E = found.of(i)
        sequence, t = divmod(int(place_E[val_E.argmax()]), found.length)
        reads = attention.feature(i).reads
        assert reads.total + bias_F[i] == pytest.approx(val_E.max(), abs=1e-3)
        values = [abs(source.val) for source in reads.sources]
        assert values == sorted(values, reverse=True)
        for source in reads.sources:
            assert source.token == found.tokens_ST[sequence, t - source.before]
        if t < len(reads.sources):
            assert sum(source.val for source in reads.sources) == pytest.approx(
                reads.total, abs=1e-4
            )


def test_a_source_token_adds_what_is_lost_without_its_value(attention, lm):
    """The values of one token are zeroed while the patterns stay: the activation falls by its part."""
    i = int(attention.found.count_F.argmax())
    place_E, val_E = attention.found.of(i)
    sequence, t = divmod(int(place_E[val_E.argmax()]), attention.found.length)
    tokens_1T = attention.found.tokens_ST[sequence][None]
    in_BTD = lm.forward(lm.params, tokens_1T)[1][f"attn_in.{LAYER}"]
    pattern_BhTT, v_BThw = language.decoder.read_heads(lm.spec, lm.params, LAYER, in_BTD)
    source = attention.feature(i).reads.sources[0]
    s = t - source.before
    lost_hw = pattern_BhTT[0, :, t, s, None] * v_BThw[0, s]
    row_H = SCALE * attention.dictionary.variables["params"]["W_enc_FD"][i]
    by_head = (lost_hw * row_H.reshape(lost_hw.shape)).sum(1)
    assert source.val == pytest.approx(float(by_head.sum()), abs=1e-4)
    assert source.head == int(np.abs(by_head).argmax())


def test_heads_share_a_latent_and_its_logits_go_through_their_matrix(attention, lm):
    W_FH = np.asarray(attention.dictionary.variables["params"]["W_dec_FD"])
    size_Fh = np.linalg.norm(W_FH.reshape(F, lm.spec.n_heads, -1), axis=2)
    for i in range(F):
        np.testing.assert_allclose(
            attention.feature(i).reads.shares, size_Fh[i] / size_Fh[i].sum(), atol=1e-6
        )
    unit_FH = W_FH / np.linalg.norm(W_FH, axis=1, keepdims=True)
    written_FD = unit_FH @ np.asarray(lm.params[f"block_{LAYER}"]["W_o_HD"])
    wanted = _logits.direct(lm, written_FD, 10).top_weight_IK
    found = [[val for _, val in attention.feature(i).lens.top] for i in range(F)]
    np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_an_atom_of_the_heads_outputs_adds_to_the_stream_what_the_model_adds(lm):
    atom_H, z = jax.random.normal(jax.random.key(3), (24,)), f"attn_z.{LAYER}"
    tokens = jnp.array([[3, 1, 4]])
    before = lm.forward(lm.params, tokens)[1][f"resid_mid.{LAYER}"]
    edits = {z: lambda x, *_: x + atom_H}
    after = lm.forward(lm.params, tokens, edits=edits)[1][f"resid_mid.{LAYER}"]
    found = _logits.in_stream(lm, (z,), np.asarray(atom_H)[None])
    np.testing.assert_allclose((after - before)[0, 1], found[0], atol=1e-5)
    assert _logits.in_stream(lm, (z, z), np.zeros((1, 48))) is None
    assert _logits.in_stream(lm, ("mlp_in.0",), np.zeros((1, 12))) is None


def test_the_loss_of_attention_changes_by_what_its_latents_write(attention):
    assert any(
        window.effects
        for i in range(F)
        for group in attention.feature(i).groups[:1]
        for window in group.windows
    )


def test_the_pages_have_the_panels_of_their_kind(attention, transcoder):
    i = int(attention.found.count_F.argmax())
    page = latent.render(attention, attention.feature(i))
    for title in ("Heads", "Where its peak comes from", "Logits"):
        assert f"<h2>{title}</h2>" in page
    j = int(transcoder.found.count_F.argmax())
    other = latent.render(transcoder, transcoder.feature(j))
    assert "<h2>Tokens it reads</h2>" in other
    assert "<h2>Heads</h2>" not in other
    assert not re.search(r"https?:|<b>mine", page + other)


def test_codes_are_those_of_the_dictionary(transcoder, lm):
    """The raw rows are in units of the codes: what they give with the biases is what `encode` gives."""
    one = transcoder.dictionary
    x_BD = jax.random.normal(jax.random.key(4), (5, 12))
    params, rows_FD = one.variables["params"], transcoder._inputs._rows_FD
    wanted = dense(one.encode(x_BD), F)
    np.testing.assert_allclose(jax.nn.relu(x_BD @ rows_FD.T + params["b_enc_F"]), wanted, atol=1e-4)


@pytest.mark.skipif(CHROMIUM is None, reason="no `chromium` on the PATH")
@pytest.mark.parametrize("kind", ["attention", "transcoder"])
def test_they_open_without_complaint_and_fit_a_phone(kind, request, tmp_path):
    shown = request.getfixturevalue(kind)
    features.write(shown, tmp_path / "site")
    file = tmp_path / "site" / "latents" / f"{int(shown.found.count_F.argmax())}.html"
    wide = "<script>document.title = document.documentElement.scrollWidth</script></body>"
    file.write_text(file.read_text("utf-8").replace("</body>", wide), "utf-8")
    dom, console = open_page(file, "--dump-dom", "--window-size=500,900")
    assert not console
    assert int(dom.split("<title>")[1].split("</title>")[0]) <= 500
