"""`dictlearn steer` prints the continuations that the library gives, and refuses what it cannot do at once."""

import json

import pytest

from dictlearn import cli, restore, steering
from dictlearn import lm as language
from dictlearn.steering import Intervention
from tests.report.conftest import model, spoken

__all__ = ["model", "spoken"]


def said(capsys, run, *words):
    status = cli.main(["steer", f"--workdir={run}", "--prompt=the thé", *words])
    return status, capsys.readouterr()


def test_it_prints_what_the_library_gives(spoken, model, capsys):
    run = spoken
    status, printed = said(
        capsys, run, "--latent=3", "--add=0,20", "--n_tokens=5", "--json", "--positions=prompt"
    )
    assert status == 0, printed.err
    found = json.loads(printed.out)
    lm, (dictionary,) = language.load(**model), restore(run)
    prompt = [lm.separator, *lm.tokenizer.encode("the thé", add_special_tokens=False).ids]
    one = Intervention("add", (3,), positions="prompt")
    assert [Intervention.of(told) for told in found["interventions"]] == [one]
    assert [row["strength"] for row in found["steered"]] == [0.0, 20.0]
    assert found["steered"][0]["text"] == found["base"]
    assert found["steered"][0]["kl"] == 0.0
    given = language.prompts(lm, [prompt])
    (effect,) = steering.effects(lm, dictionary, one, given, [20.0])
    assert found["steered"][1]["kl"] == pytest.approx(effect.kl, rel=1e-4)
    continued = steering.steer(
        lm, dictionary, one, given, n_tokens=5, strength=20.0, stop=[lm.separator]
    )
    assert found["steered"][1]["text"] == lm.tokenizer.decode(continued.texts()[0])


def test_a_push_to_a_kl_and_any_edit_are_printed_as_a_table(spoken, capsys):
    status, printed = said(capsys, spoken, "--latent=3", "--kl=0.01", "--n_tokens=3")
    assert status == 0, printed.err
    assert "0.0" in printed.out
    edit = '[{"op": "set", "latents": [1, 2], "value": 0.5, "positions": "generated"}]'
    status, printed = said(capsys, spoken, f"--edit={edit}", "--n_tokens=3")
    assert status == 0, printed.err
    assert "base" in printed.out


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["--latent=3"], "--kl"),
        (["--value=3"], "--latent"),
        (["--latent=3", "--value=1", "--scale=2"], "'value', 'scale'"),
        (["--latent=x", "--value=1"], "--latent='x'"),
        (["--latent=3", "--value=x"], "--value='x'"),
        (["--latent=64", "--value=1"], "64 latents"),
        (["--latent=3", "--kl=1e9"], "No strength"),
        (['--edit={"op": "push"}'], "'push'"),
        (["--edit=push"], "--edit"),
        (["--latent=3", "--value=1", "--n_tokens=0"], "n_tokens=0"),
    ],
)
def test_what_cannot_be_steered_is_one_line(words, problem, spoken, capsys):
    status, printed = said(capsys, spoken, *words)
    assert status == 1
    assert problem in printed.err
    assert printed.err.count("\n") == 1
