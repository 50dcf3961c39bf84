"""What the analysis `steer` says is what the model predicts with the latent pushed by hand."""

import jax
import numpy as np
import pytest

from dictlearn import analyses, steering
from dictlearn.analyses import Subject
from dictlearn.analyses._asking import Latents
from dictlearn.analyses._passages import readable
from dictlearn.lm import prompts
from dictlearn.steering import Intervention

KL = 0.05


@pytest.fixture(scope="module")
def seen(spoken):
    return Latents.of(Subject.of(spoken), "")


@pytest.fixture(scope="module")
def found(spoken):
    return analyses.run("steer", [spoken], n=1, kl=KL, n_prompts=2).values


def test_the_probabilities_are_those_of_a_push_by_hand(found, seen):
    ((latent, row),) = found["latents"].items()
    assert abs(row["kl"] - KL) <= 0.1 * KL
    lm, tokens_ST = seen.subject.lm, np.asarray(seen.found.tokens_ST)
    place_E, val_E = seen.found.of(int(latent))
    strongest = int(tokens_ST.flat[place_E[np.argmax(val_E)]])
    word = lambda token: readable(lm.tokenizer, int(token))
    assert word(strongest) in row["peaks"]
    peaks = [token for token in set(tokens_ST.flat) if word(token) in row["peaks"]]
    read = prompts(lm, tokens_ST[:2, :12])
    push = Intervention("add", latents=(int(latent),), value=row["strength"])
    for edits, name in (
        ({}, "plain"),
        (steering.edits_of(lm, seen.dictionary, push, read).prompt, "pushed"),
    ):
        logits, _ = lm.forward(lm.params, read.tokens_BP, edits, steering.whole(read))
        wanted = np.asarray(jax.nn.softmax(logits))[:, 1:12][..., peaks].sum(-1).mean()
        assert row[name] == pytest.approx(wanted, rel=1e-3), name


def test_the_control_is_another_direction_at_the_same_kl(found):
    (row,) = found["latents"].values()
    assert row["random"] not in (row["plain"], row["pushed"])
    more = row["pushed"] > max(row["plain"], row["random"])
    assert found["raised"] == int(more)


def test_a_kl_out_of_reach_is_no_strength_and_what_cannot_be_is_refused(spoken):
    found = analyses.run("steer", [spoken], latents=3, kl=1e3, n_prompts=1).values
    assert (
        found["latents"]["3"] | {"strength": None, "kl": None, "pushed": None}
        == found["latents"]["3"]
    )
    assert found["raised"] == 0
    for wrong, told in (
        ({"latents": 10**6}, r"must be in 0\.\."),
        ({"kl": 0}, "kl=0 must be positive"),
    ):
        with pytest.raises(ValueError, match=told):
            analyses.run("steer", [spoken], **wrong)
