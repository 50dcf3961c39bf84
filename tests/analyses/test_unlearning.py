"""A latent of a subject alone unlearns it and nothing else, a rotation of it does not, and the rules have their
values."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from dictlearn import analyses, dictionaries, tasks
from dictlearn import lm as language
from dictlearn.analyses import Subject, _documents, _exam, _rmu, _unlearning
from dictlearn.analyses._unlearning import Trial, best, choose, clamped
from dictlearn.lm import LM
from dictlearn.runs.trained import Site, Trained
from dictlearn.tasks._words import CLASSES
from tests.lm.toy import SPEC

TAP, WIDTH = "resid.0", 12
HOW = _exam.How(_exam.PROMPT, 24, 0, 0)


def words():
    """Every word of the texts, the questions and the prompt."""
    found = tasks.make("planted").text + tasks.make("planted_questions").text
    split = pre_tokenizers.Whitespace().pre_tokenize_str
    told = " ".join((*found, _exam.PROMPT, "an A B C D .", *CLASSES))
    return sorted({word for word, _ in split(told)} | {w for own in CLASSES.values() for w in own})


def forward(letters, dot, params, tokens_BT, edits=None, mask_BT=None):
    """A model of one layer: a word has a direction for its class, the name of a class one for what is asked. A
    letter is as likely as the option behind it is of the class that is asked."""
    taps = {TAP: params["embed_VD"][tokens_BT] @ params["block_0"]["W_down_MD"]}
    x_BTD = taps[TAP]
    for edit in (edits or {}).values():
        x_BTD = edit(x_BTD, mask_BT, taps)
    asked_BC = x_BTD[..., 5:10].max(1)
    back_BT = lambda n: jnp.pad(tokens_BT, ((0, 0), (n, 0)))[:, : tokens_BT.shape[1]]
    at_BTL = (back_BT(2)[..., None] == jnp.array(letters)) & (back_BT(1) == dot)[..., None]
    right_BT = jnp.einsum("btc,bc->bt", x_BTD[..., :5], asked_BC)
    right_BL = jnp.einsum("btl,bt->bl", at_BTL.astype(jnp.float32), right_BT)
    logits_BTV = x_BTD @ params["unembed_DV"]
    return logits_BTV.at[..., jnp.array(letters)].add(right_BL[:, None]), taps


@functools.cache
def planted_lm(unknown: str = "") -> LM:
    """The model. unknown: a class that it has not learned."""
    vocab = {word: i for i, word in enumerate(("<s>", *words()))}
    tokenizer = Tokenizer(models.WordLevel(vocab, unk_token="<s>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    embed_VD = np.zeros((len(vocab), WIDTH), np.float32)
    for c, (name, own) in enumerate(CLASSES.items()):
        embed_VD[vocab[name], 5 + c] = 1
        embed_VD[[vocab[word] for word in own], c] = name != unknown
    embed_VD[vocab["road"], 10] = 1
    unembed_DV = 0.1 * np.random.default_rng(0).normal(size=(WIDTH, len(vocab))).astype(np.float32)
    params = {"embed_VD": jnp.array(embed_VD), "unembed_DV": jnp.array(unembed_DV)}
    params["block_0"] = {"W_down_MD": jnp.eye(WIDTH)}
    spec = dataclasses.replace(SPEC, vocab=len(vocab), d_model=WIDTH)
    own = functools.partial(forward, tuple(vocab[one] for one in "ABCD"), vocab["."])
    return LM("planted", spec, params, tokenizer, 0, {}, own)


def mirrored(name, axes_DD):
    """ReLU with a latent for each sign of each axis."""
    both_FD = jnp.asarray(np.concatenate([axes_DD, -axes_DD]), jnp.float32)
    module = dictionaries.make("relu", d_in=WIDTH, n_latents=len(both_FD), sparsity=0.1)
    params = module.init(jax.random.key(0), method="declare")["params"]
    own = {key: jnp.zeros_like(leaf) for key, leaf in params.items()}
    own |= {"W_enc_FD": both_FD, "W_dec_FD": both_FD}
    return Trained(module, {"params": own}, sites=(Site({}, (TAP,), (TAP,), {}),), name=name)


PLANTED = mirrored("planted", np.eye(WIDTH))
ROTATED = mirrored("rotated", np.linalg.qr(np.random.default_rng(0).normal(size=(WIDTH, WIDTH)))[0])


def test_latents_are_chosen_by_their_shares():
    """T-I1."""
    retain_F, forget_F = np.array([0, 0.0005, 0.02, 0.0009]), np.array([0.1, 0.3, 0.9, 0])
    assert choose(forget_F, retain_F, 0.001, 2).tolist() == [1, 0]
    assert choose(forget_F, retain_F, 0.001, 1).tolist() == [1]
    assert choose(forget_F, retain_F, 0.0005, 2).tolist() == [0]


def test_a_clamp_adds_what_the_latents_lack_and_nothing_where_they_are_silent():
    """T-I2."""
    lm = planted_lm()
    given = language.prompts(lm, [[0, 3, 4, 5], [0, 5, 4]])
    edit = clamped(lm, ROTATED, (3, 7), 25.0, given)[TAP]
    x_BTD = jax.random.normal(jax.random.key(0), (*given.tokens_BP.shape, WIDTH))
    mask_BT = _unlearning.steering.whole(given)
    after_BTD = edit(x_BTD, mask_BT, {TAP: x_BTD})
    atoms_FD = ROTATED.variables["params"]["W_dec_FD"]
    f_BTF = jnp.maximum(x_BTD @ atoms_FD.T, 0)[..., np.array([3, 7])]
    moved_BTF = jnp.where(f_BTF > 0, -25.0 - f_BTF, 0) * mask_BT[..., None]
    moved_BTF = moved_BTF.at[:, 0].set(0)
    wanted_BTD = moved_BTF @ atoms_FD[np.array([3, 7])]
    np.testing.assert_allclose(after_BTD - x_BTD, wanted_BTD, atol=1e-4)
    assert jnp.abs(wanted_BTD).max() > 10
    # A latent that fires nowhere changes no bit.
    silent_BTD = -jnp.abs(x_BTD[..., :1]) * atoms_FD[3]
    edit = clamped(lm, ROTATED, (3,), 25.0, given)[TAP]
    assert (edit(silent_BTD, mask_BT, {TAP: silent_BTD}) == silent_BTD).all()


def test_the_score_is_the_most_forgotten_of_what_retains_enough():
    """T-I3."""
    trial = lambda forget, retained: Trial(0.01, 10, 25.0, (1,), forget, retained, 0.1)
    found = best([trial(0.3, 0.995), trial(0.1, 0.97)])
    assert found["unlearning_score"] == pytest.approx(0.7)
    assert found["retained_accuracy"] == 0.995
    assert best([trial(0.3, 0.98)])["unlearning_score"] == 0
    assert np.isnan(best([trial(np.nan, 1.0)])["unlearning_score"])


def test_a_question_is_known_if_every_order_of_its_options_is_answered():
    task = tasks.make("planted_questions", n=2)
    every = _exam.exam(planted_lm(), task, HOW)
    assert every.known().counts == dict.fromkeys(sorted(CLASSES), 2)
    without = _exam.exam(planted_lm("metal"), task, HOW)
    assert without.known().counts == dict.fromkeys(sorted({*CLASSES} - {"metal"}), 2)
    # Without the class all letters are as likely, and A is taken: right in a quarter of the orders.
    assert without.accuracy(_exam.unedited) == pytest.approx(0.8 + 0.2 / 4)
    assert without.known().accuracy(_exam.unedited) == 1
    few = _exam.exam(planted_lm("metal"), task, HOW._replace(permutations=4, n_questions=3))
    assert len(few.answer_Q) == 12


def test_a_latent_of_the_subject_is_the_ceiling_and_a_rotation_the_floor(monkeypatch):
    monkeypatch.setattr(_documents, "site", lambda *given: (planted_lm(), (TAP,)))
    subject = Subject("toy", given=[PLANTED, ROTATED])
    quick = {
        "ns": (1,),
        "clamps": (25,),
        "thresholds": (0.01,),
        "n_questions": 4,
        "permutations": 4,
    }
    quick["rmu"] = {"coefficients": (1.0,), "lr": 0.05, "steps": 40}
    values = analyses.run("unlearning", [subject], **quick).values
    rows = {(row["kind"], *row["dictionaries"]): row for row in values["settings"]}
    planted, rotated = rows["sae", "planted"], rows["sae", "rotated"]
    assert planted["unlearning_score"] == 1
    assert (planted["forget_accuracy"], planted["retained_accuracy"]) == (0, 1)
    assert planted["loss_added"] == 0
    assert (rotated["unlearning_score"], rotated["forget_accuracy"]) == (0, 1)
    assert rows["random", "planted"]["unlearning_score"] < 0.5
    assert rows["rmu",]["unlearning_score"] == 1
    assert len(values["rmu"]) == 1
    (trial,) = values["dictionaries"]["planted"]["eval_result_details"]
    assert trial["latents"] == [0]
    assert values["documents"]["forget"] == {"fruit": 4}


def test_what_a_clamp_costs_is_the_loss_that_it_adds():
    lm = planted_lm()
    texts = [[0, *lm.tokenizer.encode(text).ids] for text in tasks.make("planted", n=2).text]
    given = language.prompts(lm, texts)
    edit = functools.partial(clamped, lm, PLANTED, (0,), 25.0)
    before, after = (_unlearning.loss(lm, given, one) for one in (_exam.unedited, edit))
    assert after > before
    tokens_BP, logits = given.tokens_BP, lm.forward(lm.params, given.tokens_BP)[0]
    log_BPV = jax.nn.log_softmax(logits)[:, :-1]
    own_BP = -jnp.take_along_axis(log_BPV, tokens_BP[:, 1:, None], 2)[..., 0]
    mask_BP = np.arange(1, tokens_BP.shape[1]) < given.length_B[:, None]
    assert before == pytest.approx(float(own_BP[mask_BP].mean()), rel=1e-5)


def test_a_model_that_is_misdirected_forgets_a_text_and_keeps_another():
    lm, how = planted_lm(), _rmu.How(alpha=100.0, lr=0.05, steps=60)

    def of(*classes):
        texts = tasks.make("planted", classes=classes).text[:40]
        return language.prompts(lm, [[0, *lm.tokenizer.encode(text).ids] for text in texts])

    after = _rmu.misdirected(lm, TAP, of("fruit"), of("metal", "animal"), how, 2.0, 0)
    moved_MD = after.params["block_0"]["W_down_MD"] - jnp.eye(WIDTH)
    assert jnp.linalg.norm(moved_MD[0]) > 0.9
    assert jnp.linalg.norm(moved_MD[1]) < 0.2
    with pytest.raises(ValueError, match="rmu has no 'magic'"):
        _rmu.How.of({"magic": 1})
    with pytest.raises(ValueError, match="positive"):
        _rmu.How.of({"steps": 0})


@pytest.mark.parametrize("bad", [{"ns": ()}, {"clamps": (-1,)}, {"thresholds": (2.0,)}])
def test_settings_out_of_bounds_are_refused_before_the_model_runs(bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        analyses.run("unlearning", [Subject("nothing")], **bad)


def test_prompts_that_ask_nothing_and_tasks_without_options_are_refused():
    lm, task = planted_lm(), tasks.make("planted_questions", n=1)
    with pytest.raises(ValueError, match="choices"):
        _exam.exam(lm, task, HOW._replace(prompt="{question}"))
    with pytest.raises(ValueError, match="permutations=25"):
        _exam.exam(lm, task, HOW._replace(permutations=25))
    with pytest.raises(ValueError, match="no attribute 'A'"):
        _exam.exam(lm, tasks.make("planted", n=1), HOW)
