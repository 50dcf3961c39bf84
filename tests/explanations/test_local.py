"""The model of this process as a client: its replies are those of the model."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dictlearn.explanations import Request, clients
from dictlearn.explanations.client import CHAT, EMBED, TEXT
from dictlearn.lm import LM
from tests.lm import toy

SAID = Request(CHAT, (("system", "be brief"), ("user", "the cat")), max_tokens=5)


@pytest.fixture(scope="module")
def lm():
    return toy.spoken_lm()


@pytest.fixture(scope="module")
def client(lm):
    return clients.make("local", lm=lm)


def ids(lm, text):
    return lm.tokenizer.encode(text, add_special_tokens=False).ids


def log_probs(lm, tokens):
    return np.asarray(jax.nn.log_softmax(lm.forward(lm.params, jnp.array([tokens]))[0]))[0]


def test_the_probabilities_of_a_text_are_those_of_the_model(lm, client):
    found = client(Request(TEXT, texts=("the", " cat sat"))).tokens
    context, text = ids(lm, "the"), ids(lm, " cat sat")
    log_TV = log_probs(lm, [*context, *text])[len(context) - 1 : -1]
    wanted = log_TV[np.arange(len(text)), text]
    np.testing.assert_allclose([p for _, p, _ in found], wanted, atol=1e-4)
    assert "".join(token for token, _, _ in found) == " cat sat"


def test_a_conversation_is_continued_by_the_most_probable_tokens(lm, client):
    reply = client(SAID._replace(alternatives=3))
    told = ids(lm, "System: be brief\n\nUser: the cat\n\nAssistant:")
    assert reply.tokens_in == len(told)
    assert 1 <= reply.tokens_out == len(reply.tokens) <= 5
    assert client(SAID).text == reply.text
    for token, p, tops in reply.tokens:
        assert 1 <= len(tops) <= 3  # Tokens that are no text by themselves have one name.
        assert max(tops.values()) == pytest.approx(p, abs=1e-5)
        assert tops[token] == p


def test_vectors_are_unit_means_over_the_tokens(lm, client):
    texts = ("the cat", "", "sat sat sat")
    vectors = np.array(client(Request(EMBED, texts=texts)).vectors)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    taps = lm.forward(lm.params, jnp.array([ids(lm, "the cat")]))[1]
    mean_D = np.asarray(taps["final"])[0].mean(0)
    np.testing.assert_allclose(vectors[0], mean_D / np.linalg.norm(mean_D), atol=1e-4)


def test_the_name_says_which_weights(lm, client):
    other = clients.make("local", lm=LM(**{**vars(lm), "source": {"a": "sha256"}}))
    assert other.name.startswith("toy ")
    assert other.name != client.name
