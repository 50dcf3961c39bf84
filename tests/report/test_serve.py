"""`dictlearn serve`: the latents of a typed text are those of the model, and nothing else can be had."""

import html
import http.client
import json
import re
import shutil
import subprocess
import threading
from urllib.parse import quote

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dictlearn
from dictlearn import cli, events
from dictlearn.report.features.prompt import MOST_TOKENS, Prompter
from dictlearn.report.features.server import server
from dictlearn.runs.atoms import atoms
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
    with server(site, "<b>mine</b>", prompter.answers) as listening:
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


def test_effects_are_the_losses_that_the_model_has_without_a_latent(port, prompter, run):
    lm, trained = prompter._lm, dictlearn.restore(run)[0]
    tokens = lm.tokenizer.encode(TEXT, add_special_tokens=False).ids
    cells, last = prompter(TEXT)["cells"], f"resid.{lm.spec.n_layers - 1}"
    given, atoms_FD = jnp.array([[lm.separator, *tokens]]), atoms(trained)
    assert len(cells) == len(tokens) > 3

    def loss(t, change):
        edits = {last: lambda x, *_: x.at[0, t + 1].add(-change)}
        logits_V = lm.forward(lm.params, given, edits=edits)[0][0, t + 1]
        return -jax.nn.log_softmax(logits_V)[tokens[t + 1]]

    for t in (0, 2):
        status, body = get(port, f"/effects.json?text={quote(TEXT)}&at={t}")
        found = json.loads(body)["effects"]
        values = {one["latent"]: one["value"] for one in cells[t]["latents"]}
        assert status == 200
        assert {int(latent) for latent in found} == values.keys() != set()
        for latent, value in values.items():
            wanted = loss(t, value * atoms_FD[latent]) - loss(t, 0)
            assert found[str(latent)] == pytest.approx(float(wanted), abs=1e-3)
    assert prompter.effects(TEXT, len(tokens) - 1) == {"effects": {}}


@pytest.mark.parametrize("at", ["", "-1", "x", "7000"])
def test_a_cell_that_the_text_does_not_have_is_answered_in_words(port, at):
    status, body = get(port, f"/effects.json?text={quote(TEXT)}&at={at}")
    assert status == 400
    assert "of the text, from 0" in json.loads(body)["error"]


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


USED = """<script>
const told = () => [...body.rows].map((row) => [...row.cells].map((cell) => cell.textContent));
const until = async (met) => { while (!met()) await new Promise((done) => setTimeout(done, 20)); };
(async () => {
  await until(() => cells.length);
  by.value = "effect";
  tokens.children[0].click();
  await until(() => cells[0].effects && said.textContent === "");
  const before = told();
  body.rows[0].querySelector("button").click();
  await until(() => body.querySelector(".detail"));
  const detail = body.querySelector(".detail");
  const windows = detail.querySelectorAll("li").length;
  const drawn = detail.querySelectorAll("svg").length;
  document.title = JSON.stringify({ before, windows, drawn });
})();
</script></body>"""


@pytest.mark.skipif(CHROMIUM is None, reason="no `chromium` on the PATH")
def test_a_token_orders_its_latents_by_effect_and_a_latent_unfolds(run, prompter, tmp_path):
    (site,) = (run / "features").iterdir()
    shutil.copytree(site, tmp_path / "site")
    with server(tmp_path / "site", "mine", prompter.answers) as listening:
        threading.Thread(target=listening.serve_forever, daemon=True).start()
        port = listening.server_address[1]
        page = get(port, "/prompt")[1].replace("</body>", USED)
        (tmp_path / "site" / "used.html").write_text(page, "utf-8")
        address = f"http://127.0.0.1:{port}/used.html?text={quote(TEXT)}"
        command = [CHROMIUM, *FLAGS, f"--user-data-dir={tmp_path}", "--virtual-time-budget=30000"]
        done = subprocess.run(
            [*command, "--dump-dom", address], capture_output=True, text=True, timeout=120
        )
        listening.shutdown()
    assert "CONSOLE" not in done.stderr
    said = json.loads(html.unescape(done.stdout.split("<title>")[1].split("</title>")[0]))
    effects = [abs(float(row[4].replace("\N{MINUS SIGN}", "-"))) for row in said["before"]]
    assert len(effects) > 1
    assert effects == sorted(effects, reverse=True)
    assert effects[0] > 0
    assert 0 < said["windows"] <= 10
    assert said["drawn"] == 2


def test_without_pages_the_verb_says_what_writes_them(run, tmp_path, capsys):
    path = tmp_path / "run"
    shutil.copytree(run, path)
    shutil.rmtree(path / "features")
    assert cli.main(["serve", f"--workdir={path}", "--port=0"]) == 1
    assert "run `dictlearn features` first" in capsys.readouterr().err
