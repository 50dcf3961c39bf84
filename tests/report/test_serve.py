"""`dictlearn serve`: the latents of a typed text are those of the model, and nothing else can be had."""

import http.client
import json
import re
import shutil
import subprocess
import threading
from urllib.parse import quote

import jax.numpy as jnp
import numpy as np
import pytest

import dictlearn
from dictlearn import cli, events
from dictlearn.report.features.prompt import MOST_TOKENS, Prompter
from dictlearn.report.features.server import server
from dictlearn.runs.workdir import read_json
from tests.report.conftest import TAP
from tests.report.test_browser import CHROMIUM, FLAGS

TEXT = "the cat"


@pytest.fixture(scope="module")
def run(spoken, tmp_path_factory):
    """A run with the feature pages of its dictionary."""
    path = tmp_path_factory.mktemp("served") / "run"
    shutil.copytree(spoken, path)
    assert cli.main(["features", f"--workdir={path}"]) == 0
    return path


@pytest.fixture(scope="module")
def prompter(run):
    (cache,) = (run / "events").iterdir()
    lm = dictlearn.lm.load(**read_json(run / "config.json", "train")["model"])
    return Prompter(lm, dictlearn.restore(run)[0], events.read(cache), {})


@pytest.fixture(scope="module")
def port(run, prompter):
    (site,) = (run / "features").iterdir()
    (site.parent.parent / "secret.txt").write_text("secret")
    with server(site, "<b>mine</b>", prompter) as listening:
        threading.Thread(target=listening.serve_forever, daemon=True).start()
        yield listening.server_address[1]
        listening.shutdown()


def get(port, path, **headers):
    """(status, body)."""
    asked = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    asked.request("GET", path, headers=headers)
    reply = asked.getresponse()
    return reply.status, reply.read().decode("utf-8")


def test_the_latents_of_a_text_are_those_of_the_model(port, prompter, run):
    status, body = get(port, f"/prompt.json?text={quote(TEXT)}")
    cells = json.loads(body)["cells"]
    assert status == 200
    assert "".join(cell["text"] for cell in cells) == TEXT
    lm, trained = prompter._lm, dictlearn.restore(run)[0]
    tokens = lm.tokenizer.encode(TEXT, add_special_tokens=False).ids
    x_1TD = lm.forward(lm.params, jnp.array([[lm.separator, *tokens]]))[1][TAP]
    wanted = np.asarray(dictlearn.dense(trained.encode(x_1TD[0]), trained.module.n_latents))[1:]
    np.testing.assert_allclose(prompter.codes(tokens), np.abs(wanted), atol=1e-4)
    for cell, val_F in zip(cells, wanted, strict=True):
        found = {one["latent"]: one["value"] for one in cell["latents"]}
        assert found.keys() == set(np.flatnonzero(val_F).tolist())
        values = list(found.values())
        assert values == sorted(values, reverse=True)


def test_the_share_is_that_of_the_events_that_are_no_larger(prompter):
    latent = int(prompter._found.count_F.argmax())
    _, val_E = prompter._found.of(latent)
    for value in (val_E.min() / 2, np.median(val_E), val_E.max()):
        line = prompter._line(latent, float(value))
        assert line["share"] == pytest.approx(np.mean(val_E <= value))


@pytest.mark.parametrize("text", ["", "a" * 30_000, "x " * MOST_TOKENS + "y"])
def test_a_text_out_of_bounds_is_answered_in_words(port, text):
    status, body = get(port, f"/prompt.json?text={quote(text)}")
    assert status == 400
    assert "the text has" in json.loads(body)["error"]


@pytest.mark.parametrize(
    "path", ["/../secret.txt", "/latents/..%2f..%2f..%2fsecret.txt", "//etc/passwd", "/latents/"]
)
def test_nothing_outside_the_pages_is_served(port, path):
    assert get(port, path)[0] == 404


def test_another_name_of_the_machine_is_refused(port):
    assert get(port, "/index.html")[0] == 200
    assert get(port, "/index.html", Host="evil.example:80")[0] == 403


@pytest.mark.skipif(CHROMIUM is None, reason="no `chromium` on the PATH")
def test_the_page_shows_the_latents_in_a_browser(port, tmp_path):
    address = f"http://127.0.0.1:{port}/prompt?text={quote(TEXT)}"
    command = [CHROMIUM, *FLAGS, f"--user-data-dir={tmp_path}", "--virtual-time-budget=20000"]
    done = subprocess.run(
        [*command, "--dump-dom", address], capture_output=True, text=True, timeout=120, check=True
    )
    assert "CONSOLE" not in done.stderr
    assert "&lt;b&gt;mine&lt;/b&gt;" in done.stdout
    assert 'href="latents/' in done.stdout
    assert "The whole text" in done.stdout
    peaks = re.findall(r'<td class="peaks">(.*?)</td>', done.stdout)
    assert any(peaks)


def test_without_pages_the_verb_says_what_writes_them(run, tmp_path, capsys):
    path = tmp_path / "run"
    shutil.copytree(run, path)
    shutil.rmtree(path / "features")
    assert cli.main(["serve", f"--workdir={path}", "--port=0"]) == 1
    assert "run `dictlearn features` first" in capsys.readouterr().err
