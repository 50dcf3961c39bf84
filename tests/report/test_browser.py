"""The page opens in a real browser: it draws, its script runs, and nothing is complained about."""

import html
import shutil
import subprocess

import matplotlib.image
import pytest

from dictlearn import report

CHROMIUM = shutil.which("chromium")
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-component-update", "--disable-background-networking", "--disable-sync"),
    *("--hide-scrollbars", "--enable-logging=stderr"),
)
SORTED = """<script>
const heads = [...document.querySelectorAll("table.sortable thead th")];
const head = heads.find((each) => each.textContent === "EV");
const column = heads.indexOf(head);
head.querySelector("button").click();
const rows = [...document.querySelectorAll("table.sortable tbody tr")];
document.title = rows.map((row) => row.cells[column].dataset.value).join(" ");
</script>"""

COPIED = """<script>
let told = "";
Object.defineProperty(navigator, "clipboard", { value: { writeText: async (text) => { told = text; } } });
const button = document.querySelector("button.copy");
button.click();
setTimeout(() => { document.title = `${told.trim()} ${button.textContent}`; }, 100);
</script>"""
DARK = "--blink-settings=preferredColorScheme=0"

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no `chromium` on the PATH")


@pytest.fixture
def page(planted, law, config_of, tmp_path):
    path = tmp_path / "run"
    shutil.copytree(planted, path)
    for name in ("scaling.json", "scaling.svg", "scaling.csv"):
        shutil.copy(law / name, path)
    return report.write(config_of(path), path)


def open_page(page, *flags):
    """(what the browser prints, what its console said)."""
    command = [CHROMIUM, *FLAGS, f"--user-data-dir={page.parent / 'profile'}", *flags]
    done = subprocess.run([*command, page.as_uri()], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]


@pytest.mark.parametrize("width", [1200, 500])
def test_the_page_is_drawn_without_complaint(page, width):
    picture = page.parent / "page.png"
    _, console = open_page(page, f"--window-size={width},2400", f"--screenshot={picture}")
    pixels = matplotlib.image.imread(picture)
    assert not console
    assert pixels.shape[:2] == (2400, width)
    upper, lower = pixels[:1200].std(), pixels[1200:].std()
    assert min(upper, lower) > 0.05


def test_a_click_on_a_heading_sorts_the_table_by_number(page):
    page.write_text(page.read_text("utf-8").replace("</body>", f"{SORTED}</body>"), "utf-8")
    dom, console = open_page(page, "--dump-dom")
    assert not console
    title = dom.split("<title>")[1].split("</title>")[0]
    values = [float(value) for value in title.split()]
    assert len(values) == 8
    assert values == sorted(values, reverse=True)


def test_a_click_copies_the_numbers_of_a_figure(page):
    """Headless, a page has no clipboard of its own: what goes to it is told instead."""
    page.write_text(page.read_text("utf-8").replace("</body>", f"{COPIED}</body>"), "utf-8")
    dom, console = open_page(page, "--dump-dom", "--virtual-time-budget=1000")
    assert not console
    title = html.unescape(dom.split("<title>")[1].split("</title>")[0])
    assert title == (page.parent / "scaling.csv").read_text("utf-8").strip() + " Copied"


def test_the_page_is_dark_where_one_wants_it(page):
    picture = page.parent / "page.png"
    _, console = open_page(page, "--force-dark-mode", DARK, f"--screenshot={picture}")
    assert not console
    assert matplotlib.image.imread(picture)[..., :3].mean() < 0.3


def test_a_script_that_fails_would_be_noticed(page):
    page.write_text(page.read_text("utf-8").replace("</body>", "<script>none()</script></body>"))
    assert open_page(page, "--dump-dom")[1]
