"""The page is one well-formed file with the values of the run's files."""

import json
import re
import shutil
from html.parser import HTMLParser

import pytest

from dictlearn import report
from dictlearn.report.law import symbols
from dictlearn.report.markup import decimals, shown
from dictlearn.report.records import Record, label, settings, varying
from dictlearn.runs.workdir import read_json

VOID = {"meta", "link", "img", "br"}
BLOCKS = {"p", "dl", "div", "table", "ul", "ol", "h2", "h3", "section", "article", "figure", "pre"}


class Page(HTMLParser):
    """Reads a page: its tags with attributes, its words, and its tables as lists of rows."""

    def __init__(self, text: str):
        super().__init__()
        self.tags, self.words, self.rows, self.open = [], [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        assert not (tag in BLOCKS and "p" in self.open), f"{tag} inside a paragraph"
        self.tags.append((tag, dict(attrs)))
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag, f"</{tag}> closes another"

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("script", "style"):
            self.words.append(data)
            if "tr" in self.open:
                self.rows[-1][-1] += data

    def having(self, tag):
        return [attrs for name, attrs in self.tags if name == tag]

    def text(self):
        return "".join(self.words)


@pytest.fixture
def write(tmp_path, config_of):
    """(workdir, more files) -> the text of its page, written in a copy of the workdir."""

    def go(workdir, *more, drop=()):
        path = tmp_path / "run"
        shutil.copytree(workdir, path, ignore=shutil.ignore_patterns(*drop), dirs_exist_ok=True)
        for file in more:
            shutil.copy(file, path)
        assert report.write(config_of(path), path) == path / "report.html"
        return (path / "report.html").read_text("utf-8")

    return go


@pytest.fixture
def pages(planted, spoken, law, write, tmp_path):
    """The page of the sweep with a law, and that of the toy."""
    first = write(planted, law / "scaling.json", law / "scaling.svg", law / "scaling.csv")
    shutil.rmtree(tmp_path / "run")
    return [first, write(spoken)]


def test_a_page_is_well_formed(pages):
    for text in pages:
        page = Page(text)
        assert page.open == []
        assert [attrs["lang"] for attrs in page.having("html")] == ["en"]
        ids = [attrs["id"] for _, attrs in page.tags if "id" in attrs]
        assert len(ids) == len(set(ids))
        targets = {attrs["href"] for attrs in page.having("a")}
        assert targets == {f"#{name}" for name in ids}


def test_a_page_asks_for_no_other_file(pages):
    for text in pages:
        for tag, attrs in Page(text).tags:
            for name in ("src", "href", "xlink:href", "srcset", "data", "action", "poster"):
                assert attrs.get(name, "#").startswith(("#", "data:")), (tag, attrs)
        assert not re.search(r"@import|url\(|fetch\(|XMLHttpRequest|import\(", text)
        assert len(text) < 3e6


def test_the_table_holds_every_dictionary_with_its_metrics(planted, write):
    rows = {row[0]: row for row in Page(write(planted)).rows}
    heads = rows["name"]
    for name, record in read_json(planted / "metrics.json", "eval").items():
        row = dict(zip(heads, rows[name], strict=True))
        assert row["EV"] == f"{record['explained_variance']:.4f}".replace("-", "−")
        assert row["L0"] == f"{record['l0']:.1f}"
        assert row["latents"] == str(record["hparams"]["dictionary"]["n_latents"])
        assert row["k"] == str(record["hparams"]["dictionary"]["k"])
        assert row["seed"] == str(record["hparams"]["seed"])
        assert float(row["dead"][:-2]) == pytest.approx(100 * record["dead_fraction"], abs=0.051)


def test_the_best_value_of_a_column_is_marked_and_no_other(planted, write):
    metrics = read_json(planted / "metrics.json", "eval")
    best = {f"{max(r['explained_variance'] for r in metrics.values())!r}"}
    best |= {f"{min(r['fvu'] for r in metrics.values())!r}"}
    marked = {
        attrs["data-value"]
        for attrs in Page(write(planted)).having("td")
        if "best" in attrs.get("class", "")
    }
    assert best <= marked
    middling = sorted(r["explained_variance"] for r in metrics.values())[:-1]
    assert not marked & {f"{value!r}" for value in middling}


def test_seeds_are_summed_up_by_their_mean_and_half_range(planted, write):
    metrics = read_json(planted / "metrics.json", "eval")
    values = [
        record["explained_variance"]
        for record in metrics.values()
        if (record["hparams"]["dictionary"]["n_latents"], record["hparams"]["dictionary"]["k"])
        == (64, 3)
    ]
    assert len(values) == 2
    row = next(row for row in Page(write(planted)).rows if row[0] == "64 latents, k = 3")
    mean, half = sum(values) / 2, abs(values[0] - values[1]) / 2
    assert row[1] == f"{mean:.4f} ± {half:.4f}".replace("-", "−")


def test_the_summary_names_the_best_dictionary(planted, write):
    metrics = read_json(planted / "metrics.json", "eval")
    best = max(metrics, key=lambda name: metrics[name]["explained_variance"])
    text = Page(write(planted)).text()
    assert f"The best of them, {best} (" in text
    assert "8 topk dictionaries were trained on 2,560 tokens of the p1 synthetic stream" in text
    assert "measured on 1,024 tokens held out" in text


def test_a_run_without_a_language_model_shows_nothing_of_one(planted, write):
    page = Page(write(planted))
    assert "CE score" not in page.text()
    assert not [attrs for attrs in page.having("section") if attrs["id"] == "latents"]


def test_a_run_with_a_language_model_shows_its_loss_and_latents(spoken, write):
    page = Page(write(spoken))
    metrics = next(iter(read_json(spoken / "metrics.json", "eval").values()))
    assert f"predicts text at {metrics['ce_spliced']:.2f} nats a token" in page.text()
    assert len(page.having("article")) >= 6
    assert "One topk dictionary was trained" in page.text()
    assert "Spread over" not in page.text()


def test_text_of_documents_and_names_is_escaped(spoken, write):
    text = write(spoken)
    page = Page(text)
    assert "<i>toy</i>" in page.text()
    assert len(page.having("script")) == 1
    assert "</script>" in page.text()
    assert "<b>the</b>" in page.text()
    assert text.count("</script>") == 1


def test_shades_grow_with_the_activation_and_the_peak_is_marked(spoken, write):
    text = write(spoken)
    cards = text.split('<article class="latent">')[1:]
    for card in cards:
        marks = re.findall(r'<mark style="--a:([\d.]+)" title="([\d.]+)">', card)
        values = re.findall(r'<span class="value">([\d.]+)</span>', card)
        assert [title for _, title in marks] == values
        assert float(marks[0][0]) == 1.0
        shades = re.findall(r'style="--a:([\d.]+)" title="([\d.]+)"', card)
        largest = float(values[0])
        for shade, value in shades:
            assert float(shade) == pytest.approx(float(value) / largest, abs=0.02)


def test_a_run_without_a_law_says_which_command_makes_one(planted, write):
    assert "dictlearn fit --workdir=" in Page(write(planted)).text()


def test_a_law_is_shown_with_its_intervals_errors_and_caveats(pages, law):
    found = read_json(law / "scaling.json", "fit")
    page = Page(pages[0])
    text = page.text().replace("−", "-").replace("\N{NARROW NO-BREAK SPACE}", "")
    rows = {row[0]: row for row in page.rows}
    for symbol, name in {"α": "alpha", "βn": "beta_n", "η": "eta"}.items():
        p = found["parameters"][name]
        assert [cell.replace("−", "-") for cell in rows[symbol][2:]] == [
            f"{p['value']:.3f}",
            f"{p['low']:.3f} … {p['high']:.3f}",
        ]
    assert f"{found['held_out_worst']:.2%} at worst" in text
    assert f"{found['held_out_median']:.2%} in the median" in text
    assert ("not identified" in text) == (not found["identified"]["irreducible"])
    as_well = min(found["competitors"], key=found["competitors"].get)
    assert (f"“{as_well}”" in text) == (as_well != "joint")
    assert page.having("img")[0]["src"].startswith("data:image/svg+xml;base64,")


def test_every_law_that_was_fitted_is_on_the_page(planted, law, write):
    files = [law / f"scaling_training.{end}" for end in ("json", "svg", "csv")]
    page = Page(write(planted, *files))
    found, text = read_json(files[0], "fit"), page.text()
    assert {"law-training"} <= {attrs.get("id") for attrs in page.having("section")}
    assert found["law"] in text
    assert "No scaling law" not in text
    rows = {row[0]: row for row in page.rows if row}
    for name, one in {**found["parameters"], **found["derived"]}.items():
        assert rows[name][1] == f"{one['value']:.4g}".replace("-", "−")
        assert ("not identified" in rows[name]) == (not found["identified"].get(name, True))
    assert files[2].read_text() in text


def test_a_law_of_another_version_is_refused_with_the_command_that_fits_it(
    planted, law, write, tmp_path
):
    found = read_json(law / "scaling.json", "fit")
    older = tmp_path / "scaling.json"
    older.write_text(json.dumps({key: found[key] for key in found if key != "largest_out"}))
    with pytest.raises(ValueError, match=r"has no largest_out; `dictlearn fit --workdir="):
        write(planted, older)


def test_the_law_is_written_with_greek_letters():
    assert symbols("L(n, k) = exp(alpha + beta_n ln n) + exp(zeta + eta ln k)") == (
        "<i>L</i>(<i>n</i>, <i>k</i>) = exp(α + β<sub>n</sub> ln <i>n</i>) + exp(ζ + η ln <i>k</i>)"
    )


def test_a_panel_stands_for_every_setting_and_holds_every_dictionary(planted, write):
    text = write(planted)
    assert text.count("<figcaption>32 latents, k = 2</figcaption>") == 1
    assert text.count("<polyline") == 2 * 8
    assert text.count(">dead</text>") == 4


def test_a_page_is_the_same_whenever_it_is_written(spoken, write):
    assert write(spoken) == write(spoken)


def test_a_metric_that_is_not_a_number_is_a_dash(planted, write, tmp_path):
    metrics = read_json(planted / "metrics.json", "eval")
    worst = min(metrics, key=lambda name: metrics[name]["explained_variance"])
    metrics[worst]["explained_variance"] = None
    (tmp_path / "metrics.json").write_text(json.dumps(metrics))
    row = next(
        row for row in Page(write(planted, tmp_path / "metrics.json")).rows if row[0] == worst
    )
    assert row[4] == "–"


def test_a_run_without_a_log_has_a_page(planted, write):
    assert "no curve to show" in write(planted, drop=("metrics.jsonl",))


def test_a_run_that_was_not_evaluated_names_the_command(planted, write):
    with pytest.raises(FileNotFoundError, match="dictlearn eval --workdir="):
        write(planted, drop=("metrics.json",))


@pytest.mark.parametrize(
    ("value", "form", "text"),
    [(-0.5, ".2f", "−0.50"), (None, ".1%", "–"), (0.25, ".0%", "25\N{NARROW NO-BREAK SPACE}%")],
)
def test_numbers_are_written_as_in_print(value, form, text):
    assert shown(value, form) == text


@pytest.mark.parametrize(("largest", "text"), [(0.2561, "0.256"), (31.07, "31.1"), (512.3, "512")])
def test_activations_have_three_digits(largest, text):
    assert f"{largest:{decimals(largest)}}" == text


def test_a_setting_names_its_member_and_only_what_varies_within_one():
    """Members have hyperparameters of their own, which say nothing about what was swept."""
    of = {"topk": {"k": 8, "aux_k": 4}, "gated": {"sparsity": 10.0, "penalty": "l1"}}
    made = [
        Record(f"{member}_{i}", member, {"n_latents": 2048, **own, "lr": lr, "seed": seed}, {})
        for member, own in of.items()
        for i, (lr, seed) in enumerate(((1 / 3000, 0), (1e-3, 0), (1e-3, 1)))
    ]
    assert varying(made) == ["lr", "seed"]
    found = {label(setting): [one.name for one in own] for setting, own in settings(made).items()}
    assert found == {
        "topk, lr = 0.0003333": ["topk_0"],
        "topk, lr = 0.001": ["topk_1", "topk_2"],
        "gated, lr = 0.0003333": ["gated_0"],
        "gated, lr = 0.001": ["gated_1", "gated_2"],
    }
    alone = settings(made[:3])
    assert [label(setting) for setting in alone] == ["lr = 0.0003333", "lr = 0.001"]
