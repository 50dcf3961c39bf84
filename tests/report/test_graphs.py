"""The page of attribution graphs in a real browser: 500 nodes, edges, the slider, pins, supernodes, keys."""

import dataclasses
import json
import re

import numpy as np
import pytest

from dictlearn.circuits.graph import Graph, Logit
from dictlearn.circuits.influence import prune
from dictlearn.report import graphs
from tests.report.test_browser import CHROMIUM, open_page

WORDS = ("<s>", "The", " capital", " of", " Fr</script>ance", "\n")
N, LAYERS, THRESHOLDS = 800, 6, (1.0, 0.99)
LABEL = "</script> & the <b>cat</b>"
PROBE = """<script>
const view = views[0], seen = (node) => node.element.getAttribute("visibility") === "visible";
const shown = () => view.nodes.filter(seen), all = (kinds) => shown().filter((one) => kinds.includes(one.kind));
const pressed = (name) => new KeyboardEvent("keydown", { key: name, bubbles: true });
const key = (name) => document.activeElement.dispatchEvent(pressed(name));
const click = (node) => node.element.dispatchEvent(new MouseEvent("click", { bubbles: true }));
const over = (node, kind) => node.element.dispatchEvent(new PointerEvent(kind, { pointerType: "mouse" }));
const edges = () => view.edges.children.length, boxes = () => view.pinned.querySelectorAll(".box").length;
const told = {};
PROBED
document.title = JSON.stringify(told);
</script>"""


def planted(seed: int = 0) -> Graph:
    """A random graph whose edges go up the layers and to later tokens."""
    rng, length, n_logits = np.random.default_rng(seed), len(WORDS), 3
    place_N2 = np.stack([rng.integers(0, LAYERS, N), rng.integers(1, length, N)], 1)
    place_N2 = place_N2[np.lexsort(place_N2.T[::-1])]
    total = N + LAYERS * length + length + n_logits
    row_M = np.concatenate(
        [place_N2[:, 0], np.repeat(np.arange(LAYERS), length), np.full(length, -1)]
    )
    row_M = np.concatenate([row_M, np.full(n_logits, LAYERS)])
    at_M = np.concatenate([place_N2[:, 1], np.tile(np.arange(length), LAYERS + 1)])
    at_M = np.concatenate([at_M, np.full(n_logits, length - 1)])
    some_MM = rng.random((total, total)) < 0.2
    some_MM &= (row_M[:, None] > row_M) & (at_M[:, None] >= at_M)
    some_MM[N:-n_logits] = False
    return Graph(
        **{"prompt": "".join(WORDS), "words": WORDS, "tokens_T": np.arange(length)},
        **{"n_layers": LAYERS, "values_N": 0.1 + rng.random(N).astype(np.float32)},
        latents_N3=np.concatenate([place_N2, rng.permutation(N)[:, None]], 1),
        logits=tuple(Logit(i, f"t{i}", 0.3) for i in range(n_logits)),
        edges_MM=(rng.normal(size=(total, total)) * some_MM).astype(np.float32),
        **{"n_active": N, "model": "<i>toy</i>", "dictionaries": ("one",)},
    )


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """The page of two graphs, of the same latents, one with a supernode to begin with."""
    one = planted()
    window = {"cells": ["a", " cat"], "fires": {1: 2.0}, "peak": 1, "val": 2.0}
    kept = prune(one, *THRESHOLDS)
    about = {
        min(graphs.latents([kept])): {
            "label": LABEL,
            "score": 0.5,
            "windows": [window],
            "largest": 2.0,
        }
    }
    path = tmp_path_factory.mktemp("graphs") / "page.html"
    other = kept._replace(graph=dataclasses.replace(one, prompt="other"))
    both = {"one": kept, "two": other}
    return graphs.write(both, path, about, supernodes={"two": {"begin": [0, 1]}})


def data_of(page):
    text = page.read_text("utf-8")
    return json.loads(re.search(r'id="data">(.*?)</script>', text, re.DOTALL)[1])


def test_the_page_holds_what_pruning_keeps_and_needs_nothing_from_outside(page):
    text, (one, two) = page.read_text("utf-8"), data_of(page)["graphs"]
    graph, pruned = planted(), prune(planted(), *THRESHOLDS)
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)|src=|url\(|@import", text)
    assert len(one["nodes"]) >= 500
    assert len(one["links"][0]) == pruned.edges_MM.sum()
    ends, starts, weights = one["links"]
    names = {f"{layer}_{i}_{t}": at for at, (layer, t, i) in enumerate(graph.latents_N3)}
    at = [names.get(node[0]) for node in one["nodes"]]
    both = [i for i in range(len(ends)) if None not in (at[ends[i]], at[starts[i]])]
    wanted = [graph.edges_MM[at[ends[i]], at[starts[i]]] for i in both]
    np.testing.assert_allclose([weights[i] for i in both], wanted, rtol=1e-3)
    assert [two["nodes"][i][0] for i in two["groups"]["begin"]] == [
        node[0] for node in one["nodes"][:2]
    ]
    shown = graphs.latents([pruned])
    assert shown == {(n[2], n[4]) for n in one["nodes"] if n[1] == "latent"}
    assert len(data_of(page)["shared"]) == len(shown)
    with pytest.raises(ValueError, match="No graphs"):
        graphs.write({}, page)


def probed(page, script, *flags):
    """What a script in the page puts into `told`."""
    path = page.with_name("probed.html")
    text = page.read_text("utf-8").replace("</body>", PROBE.replace("PROBED", script) + "</body>")
    path.write_text(text, "utf-8")
    dom, console = open_page(path, "--dump-dom", *flags)
    assert not console
    found = re.search(r"<title>(\{.*?)</title>", dom, re.DOTALL)
    return json.loads(found[1].replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&"))


needs_a_browser = pytest.mark.skipif(CHROMIUM is None, reason="no `chromium` on the PATH")


@needs_a_browser
def test_pointer_slider_pins_supernodes_and_keys(page):
    told = probed(
        page,
        """
        const latents = view.nodes.filter((node) => node.kind === "latent");
        const node = latents.find((one) => one.into.length > 1 && one.out.length > 1);
        told.before = [shown().length, view.nodes.length, edges(), boxes()];
        over(node, "pointerenter");
        told.hover = [edges(), node.into.length + node.out.length, document.querySelectorAll(".same").length];
        over(node, "pointerleave");
        told.left = edges();
        slider.value = 0.5;
        slider.dispatchEvent(new Event("input"));
        told.half = all(["latent", "error"]).map((one) => one.before);
        told.fixed = all(["token", "logit"]).length;
        slider.value = 1;
        slider.dispatchEvent(new Event("input"));
        const a = view.nodes.find((one) => one.kind === "logit");
        const c = a.into[0].node, d = a.into[1].node;
        [c, d].forEach(click);
        key("g");
        click(a);
        told.boxes = [boxes(), view.groups.map((group) => group.nodes.length), view.pins.size];
        const into = between(boxesOf(view)).filter((edge) => edge.target.alone);
        told.sum = [into.map((edge) => edge.weight), a.into[0].weight + a.into[1].weight];
        a.element.focus();
        told.focus = document.activeElement === a.element;
        key("ArrowDown");
        told.down = view.chosen.row < a.row;
        key("ArrowUp");
        told.up = view.chosen.row;
        key("Enter");
        told.pinned = view.pins.has(view.chosen);
        told.address = location.hash.length > 2;
        key("Escape");
        told.once = [view.chosen, view.pins.size];
        key("Escape");
        told.twice = [view.pins.size, boxes(), views[1].pins.size];
        latents.find((one) => one.about.label).element.focus();
        const detail = (name) => [...view.detail.querySelectorAll(name)];
        told.detail = [detail("h3")[0].textContent, detail("mark").length];
        told.rows = document.querySelectorAll("#rows tr").length;
        """,
    )
    seen, n_nodes, *nothing = told["before"]
    assert (seen, nothing) == (n_nodes, [0, 0])
    assert n_nodes >= 500
    n_edges, n_links, same = told["hover"]
    assert n_edges == n_links > 1
    assert same == 2, "the same latent in both graphs"
    assert told["left"] == 0
    one = data_of(page)["graphs"][0]
    wanted = [n[7] for n in one["nodes"] if n[1] in ("latent", "error") and n[7] < 0.5]
    assert sorted(told["half"]) == sorted(wanted)
    assert 10 < len(wanted) < n_nodes / 2
    assert told["fixed"] == len(WORDS) + 3
    assert told["boxes"] == [2, [2], 3]
    (weight,), direct = told["sum"]
    assert weight == pytest.approx(direct)
    assert told["focus"]
    assert told["down"]
    assert told["up"] == LAYERS + 1
    assert told["address"]
    assert told["once"][0] is None
    assert told["once"][1] >= 2
    assert told["twice"] == [0, 0, 2]
    assert told["detail"] == [LABEL, 1]
    assert told["rows"] == len(data_of(page)["shared"])


@needs_a_browser
def test_the_chart_fits_a_phone_and_both_colour_schemes(page):
    script = """
    told.page = document.documentElement.scrollWidth <= innerWidth;
    told.room = [view.chart.clientWidth, Math.max(...view.nodes.map((node) => node.x))];
    told.paper = getComputedStyle(document.body).backgroundColor;
    """
    for scheme, paper in ((1, "rgb(255, 255, 255)"), (0, "rgb(24, 27, 31)")):
        told = probed(
            page, script, "--window-size=500,900", f"--blink-settings=preferredColorScheme={scheme}"
        )
        assert told["page"]
        assert told["room"][1] < told["room"][0]
        assert told["paper"] == paper
