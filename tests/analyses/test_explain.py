"""Explanations and scores of a run's latents: from a server to the pages, each request paid once."""

import json
import shutil

import numpy as np
import pytest

from dictlearn import analyses, cli, events
from dictlearn.analyses import Subject
from dictlearn.analyses._asking import Latents
from dictlearn.analyses._events import rows
from dictlearn.explanations import Sampling
from dictlearn.explanations.codes import codes_of
from tests.explanations.fake import Fake, texts
from tests.explanations.server import Server

SAMPLING = {"length": 12, "n_train": 10, "n_test": 10, "n_silent": 10, "fewest": 30}


def say(message):
    return (
        str([1] * len(texts(message))) if "Texts:" in message else "[EXPLANATION]: the <b>cat</b>"
    )


@pytest.fixture(scope="module")
def run(spoken, tmp_path_factory):
    path = tmp_path_factory.mktemp("explain") / "run"
    shutil.copytree(spoken, path)
    return path


def lines(run):
    (file,) = (run / "explanations").glob("*.jsonl")
    return {one["latent"]: one for one in map(json.loads, file.read_text("utf-8").splitlines())}


def test_a_server_explains_and_scores_and_the_pages_show_it(run, capsys, caplog):
    busy = lambda n, tries: (429, {"Retry-After": "0.01"}) if tries == 1 else "ok"
    sampling = [f"--explain.sampling.{key}={value}" for key, value in SAMPLING.items()]
    with Server(Fake(say), busy) as server:
        ask = lambda name: [f"--{name}.ask.url={server.url}", f"--{name}.ask.model=judge"]
        words = ["explain", f"--workdir={run}", *ask("explain"), "--explain.n=3", *sampling]
        assert cli.main(["analyse", *words]) == 0, capsys.readouterr()
        assert cli.main(["analyse", "score", f"--workdir={run}", *ask("score")]) == 0
        posts = server.posts.total()
        assert cli.main(["analyse", "score", f"--workdir={run}", *ask("score")]) == 0
    assert set(server.worked.values()) == {1}
    assert server.posts.total() == posts == 2 * len(server.worked)
    assert "explain: 3 requests to judge, 0 kept" in caplog.text
    found = lines(run)
    assert len(found) == 3
    for one in found.values():
        assert one["text"] == "the <b>cat</b>"
        assert one["score"] == one["scores"]["detection"] == one["scores"]["fuzzing"] == 0.5
        assert (one["by"], one["judge"], one["sampling"]["n_train"]) == ("judge", "judge", 10)
    assert cli.main(["features", f"--workdir={run}"]) == 0
    (site,) = (run / "features").iterdir()
    page = (site / "latents" / f"{next(iter(found))}.html").read_text("utf-8")
    assert 'class="explanation">the &lt;b&gt;cat&lt;/b&gt; <span class="note">score 0.50' in page


def test_a_text_that_stays_keeps_its_score_and_another_does_not(run):
    first = lines(run)
    ask = {"client": Fake(say)}
    chosen = sorted(first)
    analyses.run("explain", [run], latents=chosen[:2], ask=ask, sampling=SAMPLING)
    assert [lines(run)[i]["score"] for i in chosen] == [0.5] * 3
    ask = {"client": Fake(lambda message: "[EXPLANATION]: a dog", "other")}
    found = analyses.run("explain", [run], latents=chosen[0], ask=ask, sampling=SAMPLING)
    assert found.values["explanations"] == {str(chosen[0]): "a dog"}
    assert [lines(run)[i]["score"] for i in chosen] == [None, 0.5, 0.5]
    silent = {"client": Fake(lambda message: "no idea", "silent")}
    found = analyses.run("explain", [run], latents=chosen, ask=silent, sampling=SAMPLING)
    assert found.values["failed"] == chosen
    assert lines(run)[chosen[0]]["text"] == "a dog"


def test_the_protocol_of_saebench_is_one_setting(run):
    say = lambda message: "1, 2" if "The texts:" in message else "This latent activates on cats."
    ask, sampling = {"client": Fake(say, "saebench")}, {"protocol": "autointerp"}
    found = analyses.run("explain", [run], n=2, ask=ask, sampling=sampling).values
    assert list(found["explanations"].values()) == ["cats"] * 2
    chosen = list(map(int, found["explanations"]))
    scored = analyses.run("score", [run], latents=chosen, ask=ask).values
    assert list(scored["scorers"]) == ["autointerp"]
    assert all(one["autointerp"]["n"] == 14 for one in scored["scores"].values())


def test_patterns_become_the_explanation_of_latents_that_have_none(run):
    before = lines(run)
    seen = Latents.of(Subject.of(run), "")
    other = next(i for i in seen.some(9, Sampling(**SAMPLING)) if i not in before)
    chosen = [next(iter(before)), other]
    found = analyses.run("n2g", [run], latents=chosen, n_texts=4, sampling=SAMPLING)
    after = lines(run)
    assert after[chosen[0]] == before[chosen[0]]
    said = found.values["latents"][str(other)]["patterns"]
    assert (other in after) == bool(said)
    assert not said or after[other]["by"] == "n2g"


def test_activations_on_any_text_are_those_of_the_event_cache(run):
    seen = Latents.of(Subject.of(run), "")
    latent = int(np.argmax(seen.found.count_F))
    codes = codes_of(seen.in_model, latent)
    tokens_ST, length = np.asarray(seen.found.tokens_ST), seen.found.length
    # The separator stands in front of a text, as it does where a document begins with a sequence.
    rows = np.flatnonzero(tokens_ST[:, 0] == seen.subject.lm.separator)[:40]
    assert len(rows)
    got = np.array(codes([tokens_ST[row, 1:].tolist() for row in rows]))
    val_U = np.zeros(tokens_ST.size, np.float32)
    place_E, val_E = seen.found.of(latent)
    val_U[place_E] = val_E
    wanted = val_U.reshape(-1, length)[rows, 1:]
    np.testing.assert_allclose(got, wanted, atol=1e-3)
    assert (wanted > 0).any()


@pytest.mark.parametrize(
    ("name", "settings", "told"),
    [
        ("explain", {"ask": {"adress": "x"}}, r"ask has no 'adress'.*url"),
        ("explain", {"sampling": {"size": 3}}, r"sampling has no 'size'.*n_train"),
        ("explain", {"latents": 10**6}, r"must be in 0\.\."),
        ("explain", {"ask": {"most_tokens": 5}}, "are more than most_tokens=5"),
        ("score", {"latents": 10**6}, "has no explanation of 1000000"),
        ("score", {"by": "guess"}, "unknown scorer 'guess'"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_asked(run, name, settings, told):
    client = Fake(say, "new")
    settings = {**settings, "ask": {"client": client, **settings.get("ask", {})}}
    settings.setdefault("sampling", {**SAMPLING}) if name == "explain" else None
    with pytest.raises(ValueError, match=told):
        analyses.run(name, [run], **settings)
    assert not client.asked


def test_windows_are_drawn_from_the_events_that_the_explanation_was_drawn_from(run, tmp_path):
    """A shorter text gives the same latents other windows, which the explanation may have been made from."""
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    client, latent = Fake(say, "new"), next(iter(lines(run)))
    analyses.run("explain", [copy], latents=latent, ask={"client": client}, sampling=SAMPLING)
    score = lambda: analyses.run("score", [copy], latents=latent, ask={"client": client})
    assert score().values["scores"]
    subject = Subject.of(copy)
    seen, (cache,) = Latents.of(subject, ""), (copy / "events").iterdir()
    shutil.rmtree(cache)
    events.write(events.job(seen.dictionary, rows(subject, seen.found.n_tokens // 2)), cache)
    asked = client.asked.total()
    with pytest.raises(ValueError, match="is from the events of another text"):
        score()
    analyses.run("explain", [copy], latents=latent, ask={"client": client}, sampling=SAMPLING)
    assert lines(copy)[latent]["score"] is None
    (file,) = (copy / "explanations").glob("*.jsonl")
    file.write_text(file.read_text("utf-8").replace('"dictionary": "', '"dictionary": "x'), "utf-8")
    with pytest.raises(ValueError, match="is from the events of another dictionary"):
        score()
    assert client.asked.total() == asked + 1


def test_the_cache_of_another_dictionary_is_refused(run):
    (path,) = (run / "events").iterdir()
    manifest = json.loads((path / events.cache.MANIFEST).read_text())
    manifest["recipe"]["dictionary"] = "another"
    (path / events.cache.MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(ValueError, match="another dictionary"):
        analyses.run("n2g", [run])
