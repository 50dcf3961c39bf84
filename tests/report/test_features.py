"""The feature pages say what brute force over the whole text finds, and need no network."""

import html
import json
import re
import shutil
from types import SimpleNamespace

import numpy as np
import pytest

import dictlearn
from dictlearn import cli, events
from dictlearn.analyses import _logits
from dictlearn.report.features import SCRIPTS, index, panels
from dictlearn.runs.atoms import atoms
from dictlearn.streams import store
from tests.report.conftest import TAP
from tests.report.test_browser import CHROMIUM, open_page

EXPLAINED = {"latent": 3, "text": "</script> & the <b>cat</b>", "score": 0.75}


@pytest.fixture(scope="module")
def run(spoken, tmp_path_factory):
    """The run with the feature pages of its dictionary, made by the command."""
    path = tmp_path_factory.mktemp("pages") / "run"
    shutil.copytree(spoken, path)
    (path / "explanations").mkdir()
    name = dictlearn.restore(path)[0].name
    (path / "explanations" / f"{name}.jsonl").write_text(json.dumps(EXPLAINED) + "\n")
    assert cli.main(["features", f"--workdir={path}", "--effects"]) == 0
    return path


@pytest.fixture(scope="module")
def site(run):
    (path,) = (run / "features").iterdir()
    return path


@pytest.fixture(scope="module")
def truth(spoken):
    """(tokens_ST, activations [S * T, F]) of the whole store."""
    trained, path = dictlearn.restore(spoken)[0], spoken.parent / "store"
    tokens_ST, _ = store.tokens(path, "train")
    val_UF = np.zeros((tokens_ST.size, trained.module.n_latents), np.float32)
    for name in store.open_manifest(path)["shards"]:
        rows = store.map_tensors(path, name)
        at = rows["sequence_R"] * tokens_ST.shape[1] + rows["position_R"]
        codes = trained.encode(np.asarray(rows[TAP], np.float32))
        val_UF[at] = np.asarray(dictlearn.dense(codes, val_UF.shape[1]))
    return tokens_ST, val_UF


def rows_of(site):
    page = (site / "index.html").read_text("utf-8")
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    return json.loads(found[1])


def test_every_latent_has_a_page_that_needs_nothing_from_outside(site, truth):
    n_latents = truth[1].shape[1]
    pages = {path.name for path in (site / "latents").iterdir()}
    assert pages == {f"{i}.html" for i in range(n_latents)}
    for path in site.rglob("*"):
        if path.is_file():
            text = path.read_text("utf-8")
            assert not re.search(r"https?:|src=\"//|url\(|@import", text), path
    assert {path.name for path in site.glob("*.js")} == set(SCRIPTS)


def test_the_index_says_how_often_and_how_strongly_each_latent_fires(site, truth, run):
    tokens_ST, val_UF = truth
    (cache,) = (run / "events").iterdir()
    found, data = events.read(cache), rows_of(site)
    values = data["values"]
    assert data["n"] == val_UF.shape[1] == len(values["density"])
    np.testing.assert_allclose(values["density"], (val_UF > 0).sum(0) / found.n_tokens, rtol=1e-3)
    np.testing.assert_allclose(values["largest"], val_UF.max(0), rtol=1e-3)
    assert values["explanation"][3] == EXPLAINED["text"]
    assert [score for score in values["score"] if score is not None] == [0.75]
    assert found.tokens_ST.shape == tokens_ST.shape


def text_of(page):
    return html.unescape(re.sub(r"<[^>]*>", "", page))


def test_a_page_shows_its_windows_by_size_and_its_explanation_as_text(site, truth):
    _, val_UF = truth
    for i in np.flatnonzero((val_UF > 0).sum(0) > 20)[:10].tolist():
        page = (site / "latents" / f"{i}.html").read_text("utf-8")
        sections = page.split("<section><h2>")[1:]
        assert len(sections) == 1 + panels.INTERVALS
        shown = [float(v) for v in re.findall(r'"value">([\d.]+)<', sections[0])]
        assert shown == sorted(shown, reverse=True)
        assert shown[0] == pytest.approx(val_UF[:, i].max(), rel=6e-3)
        n_windows = [section.count('"value"') for section in sections]
        assert n_windows[0] <= panels.TOP
        assert max(n_windows[1:]) <= panels.EACH
        assert all(section.count("<mark") == section.count('"value"') for section in sections)
        shares = [float(v) for v in re.findall(r"contains ([\d.]+)", page)]
        assert sum(shares) == pytest.approx(100, abs=1)
    explained = (site / "latents" / "3.html").read_text("utf-8")
    assert EXPLAINED["text"] in text_of(explained)
    assert "<b>cat" not in explained


def test_the_largest_windows_say_what_each_latent_does_to_the_loss(site, truth):
    often = np.flatnonzero((truth[1] > 0).sum(0) > 20)[:10].tolist()
    pages = [(site / "latents" / f"{i}.html").read_text("utf-8") for i in often]
    tops = [page.split("<section><h2>")[1].split("<li>")[1:] for page in pages]
    said = [re.search(r"loss [+−]\d\.\d{3} without it", one) for top in tops for one in top[:3]]
    assert sum(one is not None for one in said) > len(said) / 2
    assert any('class="hurts"' in page for page in pages)
    assert any('class="helps"' in page for page in pages)
    assert all(page.count("dimensions of what it reads") == 1 for page in pages)


def test_a_latent_that_never_fires_has_a_page_that_says_so(site, truth):
    silent = np.flatnonzero(~(truth[1] > 0).any(0))
    for i in silent.tolist():
        assert "never fired" in (site / "latents" / f"{i}.html").read_text("utf-8")
        assert rows_of(site)["values"]["peaks"][i] == ""


def test_an_explanation_without_a_latent_is_refused_by_its_line(run, capsys):
    (file,) = (run / "explanations").iterdir()
    before = file.read_text()
    file.write_text(before + '{"text": "no latent"}\n')
    assert cli.main(["features", f"--workdir={run}"]) == 1
    assert "line 2" in capsys.readouterr().err
    file.write_text(before)


def test_an_unknown_name_is_answered_with_those_there_are(run, capsys):
    assert cli.main(["features", f"--workdir={run}", "--name=nothing"]) == 1
    assert dictlearn.restore(run)[0].name in capsys.readouterr().err


def test_an_atom_that_is_a_row_of_an_orthonormal_unembedding_raises_its_token_by_one():
    unembed_DV, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(8, 8)))
    spec = SimpleNamespace(tied=False)
    params = {"unembed_DV": unembed_DV.astype("f4"), "norm_D": np.ones(8, "f4")}
    found = _logits.direct(SimpleNamespace(spec=spec, params=params), unembed_DV.T[[5, 2]], n=3)
    assert found.top_IK[:, 0].tolist() == [5, 2]
    np.testing.assert_allclose(found.top_weight_IK[:, 0], 1, atol=1e-6)
    np.testing.assert_allclose(found.bottom_weight_IK, 0, atol=1e-6)
    assert found.count_IN.sum(axis=1).tolist() == [8, 8]


USED = """<script>
const timed = (act) => { const t = performance.now(); act(); box.offsetHeight; return performance.now() - t; };
const said = { ready: performance.now(), rows: body.rows.length };
collect();
const type = (query) => { input.value = query; input.dispatchEvent(new Event("input")); };
said.search = ["a", "word 7", "zz", "4711", ""].map((query) => timed(() => type(query)));
type("4711");
said.first = Number(body.rows[1].cells[0].textContent);
type("word 77 ");
said.found = order.length;
type("");
heads.find((head) => head.dataset.key === "largest").click();
said.top = Number(body.rows[1].cells[2].textContent);
dispatchEvent(new KeyboardEvent("keydown", { key: "ArrowDown" }));
said.chosen = state.chosen;
box.scrollTop = 50000 * HEIGHT;
draw();
said.deep = Number(body.rows[20].cells[2].textContent);
document.title = JSON.stringify(said);
</script></body>"""


@pytest.mark.skipif(CHROMIUM is None, reason="no `chromium` on the PATH")
def test_the_index_of_a_hundred_thousand_latents_is_searched_at_once(site, tmp_path):
    n = 100_000
    lens = panels.Lens([("·x", 1.0)], [("y", 0.0)], [], 0.0, 1.0)
    one = lambda i: panels.Feature(
        *(i, 5, (i + 1) / n, i / 8, 1.0, [], [], [(f"word {i % 100} ", 3)], lens, {}, [], None)
    )
    rows = [index.row(one(i)) for i in range(n)]
    known = SimpleNamespace(n_tokens=10, length=2)
    whole = SimpleNamespace(
        found=known,
        dictionary=SimpleNamespace(name="big", sites=()),
        lm=SimpleNamespace(name="toy"),
    )
    for name in ("style.css", "index.js"):
        shutil.copy(site / name, tmp_path)
    page = tmp_path / "index.html"
    page.write_text(index.render(whole, rows).replace("</body>", USED), "utf-8")
    dom, console = open_page(page, "--dump-dom", "--window-size=1200,800")
    said = json.loads(html.unescape(dom.split("<title>")[1].split("</title>")[0]))
    assert not console
    assert said["rows"] < 100
    assert said["first"] == 4711
    assert said["found"] == n / 100
    assert said["top"] == n / 8
    assert said["chosen"] == 1
    assert abs(said["deep"] - n / 16) < 10
    # Bounds for a busy machine; docs/events.md has what was measured.
    assert said["ready"] < 5000
    assert max(said["search"]) < 500


@pytest.mark.skipif(CHROMIUM is None, reason="no `chromium` on the PATH")
@pytest.mark.parametrize("page", ["index.html", "latents/3.html"])
def test_the_pages_open_without_complaint_and_fit_a_phone(page, site, tmp_path):
    copy = tmp_path / "site"
    shutil.copytree(site, copy)
    file = copy / page
    wide = "<script>document.title = document.documentElement.scrollWidth</script></body>"
    file.write_text(file.read_text("utf-8").replace("</body>", wide), "utf-8")
    dom, console = open_page(file, "--dump-dom", "--window-size=500,900")
    assert not console
    assert int(dom.split("<title>")[1].split("</title>")[0]) <= 500


HOVERED = """<script>
const mark = document.querySelector(".text mark[title]");
mark.dispatchEvent(new MouseEvent("mouseover", { bubbles: true }));
document.title = JSON.stringify({ title: mark.title, pushed });
</script></body>"""


@pytest.mark.skipif(CHROMIUM is None, reason="no `chromium` on the PATH")
def test_a_token_under_the_mouse_says_what_the_latent_adds_to_logits_there(site, truth, tmp_path):
    copy, i = tmp_path / "site", int((truth[1] > 0).sum(0).argmax())
    shutil.copytree(site, copy)
    file = copy / "latents" / f"{i}.html"
    file.write_text(file.read_text("utf-8").replace("</body>", HOVERED), "utf-8")
    dom, console = open_page(file, "--dump-dom")
    assert not console
    said = json.loads(html.unescape(dom.split("<title>")[1].split("</title>")[0]))
    own, raised, lowered = said["title"].split("\n")
    value = float(own.split(";")[0])
    for line, side in zip((raised, lowered), said["pushed"], strict=True):
        assert len(side) == 5
        shown = [float(one.rsplit(" ", 1)[1].replace("−", "-")) for one in line.split(", ")]
        np.testing.assert_allclose(shown, [value * weight for _, weight in side], atol=0.006)


def test_what_is_added_at_an_activation_of_one_is_the_raw_atoms_logits(site, spoken, model):
    trained, lm = dictlearn.restore(spoken)[0], dictlearn.lm.load(**model)
    raised = np.sort(_logits.direct(lm, atoms(trained), 5).top_weight_IK)[:, ::-1]
    for i in range(len(raised)):
        page = (site / "latents" / f"{i}.html").read_text("utf-8")
        told = json.loads(html.unescape(re.search(r'data-pushed="([^"]*)"', page)[1]))
        np.testing.assert_allclose([w for _, w in told[0]], raised[i], rtol=2e-3, atol=1e-4)
