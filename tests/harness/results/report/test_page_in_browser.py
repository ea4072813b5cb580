"""The report in a real headless Chromium, opened from disk: layout, sorting, filtering, nothing from outside."""

from __future__ import annotations

import functools
import http.server
import itertools
import threading
from pathlib import Path
from typing import Any

import pytest

from builders import make_results
from condsim.harness.results.results import Results
from condsim.harness.run.record import Record, find_records

pytest.importorskip("selenium.webdriver", reason="the page tests need selenium (pip install selenium)")
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select

pytestmark = pytest.mark.slow
HOSTILE = "<script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">"


@pytest.fixture(scope="module")
def page(results_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "report.html"
    Results(results_folder).report(path, queries=25)
    return path


def open_page(browser: Any, path: Path, width: int = 1280, height: int = 900, scheme: str = "light") -> None:
    media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    browser.get(path.as_uri())
    browser.execute_script("localStorage.clear()")


def column(browser: Any, table: int, index: int) -> list[str]:
    script = """
        const table = document.querySelectorAll('table.sortable')[arguments[0]];
        return [...table.tBodies[0].rows].map((row) => row.cells[arguments[1]].dataset.value);
    """
    found: list[str] = browser.execute_script(script, table, index)
    return found


def background(browser: Any) -> str:
    return str(browser.execute_script("return getComputedStyle(document.body).backgroundColor"))


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 768, 390, 320])
def test_nothing_is_wider_than_the_window_and_everything_is_readable(
    browser: Any, page: Path, width: int, scheme: str
) -> None:
    open_page(browser, page, width, scheme=scheme)
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    # contrast of text against what is really behind it, WCAG AA for large text and above
    worst = browser.execute_script(
        """
        const parse = (text) => text.match(/[\\d.]+/g).map(Number);
        const luminance = ([r, g, b]) => {
          const [x, y, z] = [r, g, b].map((v) => (v /= 255) <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4);
          return .2126 * x + .7152 * y + .0722 * z;
        };
        const behind = (node) => {
          for (; node; node = node.parentElement) {
            const colour = getComputedStyle(node).backgroundColor;
            const parts = parse(colour);
            if (colour.startsWith('rgb') && (parts.length < 4 || parts[3] === 1)) return parts;
          }
          return [255, 255, 255];
        };
        let worst = [99, ''];
        const texts = 'p, h1, h2, h3, td .v, tbody th, nav a, select, button, figcaption';
        for (const node of document.querySelectorAll(texts)) {
          const [a, b] = [luminance(parse(getComputedStyle(node).color)), luminance(behind(node))];
          const ratio = (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
          if (ratio < worst[0]) worst = [ratio, node.outerHTML.slice(0, 80)];
        }
        return worst;
        """
    )
    assert worst[0] >= 4.5, worst


def test_dark_and_light_follow_the_system_until_chosen(browser: Any, page: Path) -> None:
    open_page(browser, page, scheme="light")
    light = background(browser)
    open_page(browser, page, scheme="dark")
    dark = background(browser)
    assert light != dark
    browser.refresh()
    button = browser.find_element(By.ID, "theme")
    seen = []
    for _ in range(3):
        button.click()
        seen.append((button.text, background(browser)))
    assert seen == [("Theme: light", light), ("Theme: dark", dark), ("Theme: auto", dark)]


def test_columns_sort_both_ways_by_number_and_by_keyboard(browser: Any, page: Path) -> None:
    open_page(browser, page)
    buttons = browser.find_elements(By.CSS_SELECTOR, "#leaderboard table.sortable thead button")
    buttons[1].click()
    values = [float(value) for value in column(browser, 0, 1)]
    assert values == sorted(values, reverse=True)
    assert len(set(values)) > 3
    buttons[1].click()
    assert [float(value) for value in column(browser, 0, 1)] == sorted(values)
    buttons[0].send_keys(Keys.ENTER)
    names = column(browser, 0, 0)
    assert names[:4] == ["clay rank=1", "clay rank=4", "clay rank=8", "clay rank=32"]
    heads = browser.find_elements(By.CSS_SELECTOR, "#leaderboard th[aria-sort]")
    assert [head.get_attribute("aria-sort") for head in heads] == ["ascending"]


def test_queries_filter_by_task_methods_verdict_and_condition(browser: Any, page: Path) -> None:
    open_page(browser, page)

    def choose(name: str, text: str) -> None:
        Select(browser.find_element(By.ID, f"q-{name}")).select_by_visible_text(text)

    def verdicts() -> list[tuple[bool, bool]]:
        script = """return [...document.querySelectorAll('.query')].map((card) =>
            [...card.querySelectorAll('.verdict')].map((verdict) => verdict.classList.contains('yes')))"""
        return [(a, b) for a, b in browser.execute_script(script)]

    choose("task", "toy/focus")
    choose("a", "clay rank=4")
    choose("b", "text_only")
    expected = {"A right, B wrong": (True, False), "B right, A wrong": (False, True), "both right": (True, True),
                "both wrong": (False, False)}  # fmt: skip
    shown = 0
    for choice, verdict in expected.items():
        choose("show", choice)
        assert set(verdicts()) <= {verdict}
        counted = browser.find_element(By.ID, "q-counts").text
        shown += int(counted.split()[0])
        if verdict == (True, False):
            assert verdicts()
            card = browser.find_element(By.CSS_SELECTOR, ".query")
            first = card.find_elements(By.CSS_SELECTOR, ".answer:first-child .picture")[0]
            assert "target" in (first.get_attribute("class") or "").split()
    assert shown == 25
    choose("show", "all")
    choose("condition", "color")
    conditions = [item.text for item in browser.find_elements(By.CSS_SELECTOR, ".query .condition")]
    assert conditions
    assert set(conditions) == {"color"}


def test_pages_turn_and_pictures_are_there(browser: Any, page: Path) -> None:
    open_page(browser, page)
    assert browser.find_element(By.ID, "q-page").text == "page 1 of 3"
    first = browser.find_element(By.CSS_SELECTOR, ".query h4").text
    assert not browser.find_element(By.ID, "q-previous").is_enabled()
    browser.find_element(By.ID, "q-next").send_keys(Keys.ENTER)
    assert browser.find_element(By.ID, "q-page").text == "page 2 of 3"
    assert browser.find_element(By.CSS_SELECTOR, ".query h4").text != first
    broken = browser.execute_async_script(
        """const done = arguments[0];
        const images = [...document.querySelectorAll('.query img')];
        Promise.allSettled(images.map((image) => image.decode())).then((all) =>
          done(images.length ? all.filter((one) => one.status === 'rejected').length : 'no image'));"""
    )
    assert broken == 0


def test_every_control_is_reached_by_tab_and_has_a_name(browser: Any, page: Path) -> None:
    open_page(browser, page)
    names = browser.execute_script(
        """return [...document.querySelectorAll('button, select, a, [tabindex]')]
        .filter((node) => node.tabIndex < 0 || !(node.textContent.trim() || node.ariaLabel)).map((n) => n.outerHTML)"""
    )
    assert names == []
    browser.find_element(By.TAG_NAME, "body").send_keys(Keys.TAB)
    assert "Skip" in browser.switch_to.active_element.text


SWEEP = """
    const figure = document.querySelector('#sweeps figure');
    const box = figure.querySelector('svg').getBoundingClientRect();
    const paint = (node, what) => getComputedStyle(node)[what];
    const curves = [...figure.querySelectorAll('path')].filter((path) => paint(path, 'fill') === 'none'
      && paint(path, 'strokeWidth') === '1.5px' && path.getAttribute('clip-path'));
    return {
      name: figure.querySelector('svg').getAttribute('aria-label'),
      size: [box.width, box.height],
      curves: curves.map((path) => ({
        colour: paint(path, 'stroke'),
        points: path.getAttribute('d').trim().split(/[ML\\s]+/).filter(Boolean).map(Number),
      })),
      texts: [...figure.querySelectorAll('svg text')].map((text) => text.textContent),
    };"""


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_a_sweeps_curves_are_drawn_where_their_numbers_are(
    browser: Any, page: Path, results_folder: Path, width: int, scheme: str
) -> None:
    browser.get_log("browser")
    open_page(browser, page, width, scheme=scheme)
    drawn = browser.execute_script(SWEEP)
    assert drawn["name"] == "toy: clay, tiny: find, focus against rank"
    assert {"rank", "recall@1, percent", "1", "4", "8", "32", "find", "focus"} <= set(drawn["texts"])
    assert 0 < drawn["size"][0] <= width
    first, second = drawn["curves"]
    assert first["colour"] != second["colour"]
    heights, values = [], []
    for task, curve in zip(("find", "focus"), drawn["curves"], strict=True):
        x, y = curve["points"][::2], curve["points"][1::2]
        metrics = {
            record.settings["rank"]: record.metrics["recall@1"] for record in sweep_records(results_folder, task)
        }
        assert x == sorted(x)
        assert len(x) == len(metrics)
        heights += y
        values += [metric.value for _, metric in sorted(metrics.items())]
    slopes = [(a - b) / (u - v) for (a, u), (b, v) in
              itertools.combinations(zip(heights, values, strict=True), 2) if abs(u - v) > 0.05]  # fmt: skip
    assert max(slopes) < 0  # higher is better, on one scale
    assert min(slopes) == pytest.approx(max(slopes), rel=0.05)
    assert browser.get_log("browser") == []


def test_the_colours_of_charts_follow_the_theme(browser: Any, page: Path) -> None:
    colours = []
    for scheme in ("light", "dark"):
        open_page(browser, page, scheme=scheme)
        colours.append([curve["colour"] for curve in browser.execute_script(SWEEP)["curves"]])
    assert set(colours[0]).isdisjoint(colours[1])


def test_a_sweeps_numbers_are_reached_by_keyboard(browser: Any, page: Path, results_folder: Path) -> None:
    open_page(browser, page, 320)
    summary = browser.find_element(By.CSS_SELECTOR, "#sweeps summary")
    table = browser.find_element(By.CSS_SELECTOR, "#sweeps details table")
    assert not table.is_displayed()
    summary.send_keys(Keys.ENTER)
    assert table.is_displayed()
    read = (
        "return [...document.querySelectorAll('#sweeps details tr')].map((r) => [...r.cells].map((c) => c.innerText))"
    )
    head, *rows = browser.execute_script(read)
    assert head == ["rank", "find", "focus"]
    metrics = {
        (record.settings["rank"], task): record.metrics["recall@1"]
        for task in ("find", "focus")
        for record in sweep_records(results_folder, task)
    }
    assert [row[0] for row in rows] == ["1", "4", "8", "32"]
    for rank, *cells in rows:
        for task, cell in zip(("find", "focus"), cells, strict=True):
            assert cell.startswith(f"{100 * metrics[int(rank), task].value:.1f}")
    assert browser.execute_script("return document.documentElement.scrollWidth") <= 320


def sweep_records(results: Path, task: str) -> list[Record]:
    found = (record for _, record in find_records(results) if isinstance(record, Record))
    return [record for record in found if record.task == task and record.method == "clay"]


def test_the_numbers_on_bars_are_readable(browser: Any, page: Path) -> None:
    for scheme in ("light", "dark"):
        open_page(browser, page, scheme=scheme)
        worst = browser.execute_script(
            """
            const canvas = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
            const luminance = (colour) => {
              canvas.fillStyle = colour;
              canvas.fillRect(0, 0, 1, 1);
              const [r, g, b] = [...canvas.getImageData(0, 0, 1, 1).data].map(
                (v) => (v /= 255) <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4);
              return .2126 * r + .7152 * g + .0722 * b;
            };
            return Math.min(...[...document.querySelectorAll('.stack span')].map((bar) => {
              const style = getComputedStyle(bar);
              const [a, b] = [luminance(style.color), luminance(style.backgroundColor)];
              return (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
            }));"""
        )
        assert worst >= 4.5, scheme


def test_print_shows_the_tables_and_no_controls(browser: Any, page: Path) -> None:
    open_page(browser, page, scheme="dark")
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    hidden = "return arguments[0].map((one) => getComputedStyle(document.querySelector(one)).display)"
    assert set(browser.execute_script(hidden, ["nav", "#theme", "#controls", ".pager"])) == {"none"}
    assert background(browser) == "rgb(255, 255, 255)"
    assert len(browser.execute_cdp_cmd("Page.printToPDF", {})["data"]) > 10_000
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})


def test_no_console_error_and_no_request_leaves_the_file(browser: Any, page: Path) -> None:
    browser.get_log("performance"), browser.get_log("browser")
    open_page(browser, page)
    browser.find_element(By.ID, "theme").click()
    browser.find_element(By.ID, "q-next").click()
    addresses = requested(browser)
    assert addresses == {page.as_uri()}
    assert browser.get_log("browser") == []


def requested(browser: Any) -> set[str]:
    import json

    events = (json.loads(entry["message"])["message"] for entry in browser.get_log("performance"))
    urls = {event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"}
    return {url.split("#")[0] for url in urls if not url.startswith("data:")}


def test_the_page_cannot_be_made_to_ask_the_network(browser: Any, page: Path, tmp_path: Path) -> None:
    """The page's own policy stops what a slip of ours would let in: a server is there, and gets no request."""
    requests: list[str] = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def do_GET(self) -> None:
            requests.append(self.path)
            super().do_GET()

        def log_message(self, *_: object) -> None: ...

    handler = functools.partial(Handler, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        open_page(browser, page)
        address = f"http://127.0.0.1:{server.server_address[1]}/picture.png"
        outcome = browser.execute_async_script(
            """const [address, done] = arguments;
            const image = new Image();
            image.onload = image.onerror = (event) =>
              fetch(address).then(() => done('fetched'), () => done(event.type));
            image.src = address;""",
            address,
        )
        server.shutdown()
    assert outcome == "error"
    assert requests == []
    browser.get_log("browser")


def test_hostile_names_are_shown_letter_for_letter(
    browser: Any,
    tmp_path: Path,
) -> None:
    results = make_results(  # without pictures, so that the file names are shown
        tmp_path / "results", queries=12, condition=HOSTILE, prefix="<img src=x onerror=alert(1)>",
        methods=((HOSTILE, 1.5, {"a": HOSTILE}), ("plain", 0.0, {})),
    )  # fmt: skip
    Results(results).report(tmp_path / "report.html", title=f"T {HOSTILE}")
    browser.get_log("browser")
    open_page(browser, tmp_path / "report.html", 390)
    assert browser.title == f"T {HOSTILE}"
    assert browser.execute_script("return document.querySelectorAll('script').length") == 2
    assert browser.execute_script("return document.querySelectorAll('img').length") == 0
    assert HOSTILE in browser.find_element(By.CSS_SELECTOR, "#leaderboard tbody th").text
    body = browser.find_element(By.TAG_NAME, "body").text
    assert HOSTILE in body
    assert "<img src=x onerror=alert(1)>" in body
    assert browser.execute_script("return document.documentElement.scrollWidth") <= 390
    assert browser.get_log("browser") == []
