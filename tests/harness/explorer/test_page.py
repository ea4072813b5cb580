"""The page of `condsim explore` in a real headless Chromium, on a server of this process."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import pytest
from PIL import Image

import condsim
from condsim.harness import configs
from condsim.harness.explorer.explorer import Explorer
from condsim.harness.explorer.search import Target
from condsim.harness.explorer.task import chosen_questions
from condsim.harness.search.marks import Marks

pytest.importorskip("selenium.webdriver", reason="the page tests need selenium (pip install selenium)")
from selenium.common.exceptions import NoSuchElementException, StaleElementReferenceException
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

pytestmark = pytest.mark.slow

PAGE = 12


@dataclass(frozen=True)
class Page:
    """The page in a browser."""

    browser: Any
    address: str
    explorer: Explorer

    def looks(self, width: int = 1280, scheme: str = "light", height: int = 1800) -> None:
        media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
        self.browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
        self.browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)

    def stay(self) -> None:
        """Use the page as another test has left it, if it is open."""
        self.looks()
        if self.browser.current_url != self.address or len(self.captions(0)) < PAGE:
            self.open()

    def open(self) -> None:
        self.looks()
        self.browser.get(self.address)
        self.until(lambda: len(self.captions(0)) == PAGE)

    def until(self, holds: Callable[[], object]) -> None:
        """Wait until a step of the server has arrived."""
        end = time.monotonic() + 120
        while True:
            try:
                if holds():
                    return
            except (NoSuchElementException, StaleElementReferenceException):  # not there yet, or just replaced
                pass
            assert time.monotonic() < end, "the page does not change as expected"
            time.sleep(0.05)

    def find(self, selector: str) -> Any:
        return self.browser.find_element(By.CSS_SELECTOR, selector)

    def text(self, name: str) -> str:
        return str(self.find(f"#{name} textarea, #{name} input").get_attribute("value"))

    def results(self, side: int) -> list[Any]:
        return list(self.browser.find_elements(By.CSS_SELECTOR, f"#results-{side} .grid-container button"))

    def captions(self, side: int) -> list[str]:
        buttons = f"document.querySelectorAll('#results-{side} .grid-container button')"
        return list(self.browser.execute_script(f"return [...{buttons}].map((button) => button.innerText.trim())"))

    def clicks(self, does: str) -> None:
        """Choose what a click on a result does."""
        self.find(f"#click input[value='{does}']").click()

    def query(self, picture: str, condition: str) -> None:
        self.find("#name input").send_keys(picture, Keys.ENTER)
        self.until(lambda: self.captions(1)[:1] and self.captions(1)[0].startswith("1: "))
        self.find("#conditions input").send_keys(condition, Keys.ENTER, Keys.ESCAPE)
        self.until(lambda: self.captions(0)[:1] and self.captions(0)[0].startswith("1: "))


@pytest.fixture(scope="module")
def monkeypatch_module() -> Iterator[pytest.MonkeyPatch]:
    with pytest.MonkeyPatch.context() as patch:
        yield patch


@pytest.fixture(scope="module")
def server(
    photos: Path, photo_cache: None, tmp_path_factory: pytest.TempPathFactory, monkeypatch_module: pytest.MonkeyPatch
) -> Iterator[tuple[str, Explorer]]:
    # Not at the top: each worker of pytest-xdist would import gradio for 3 seconds.
    pytest.importorskip("gradio", reason="the page needs gradio (pip install 'condsim[explore]')")
    from condsim.harness.explorer.page import build, open_page

    configs.forget()
    monkeypatch_module.setattr("condsim.harness.explorer.page.PAGE", PAGE)
    index = condsim.Index(photos, "shapes-clip")
    explorer = Explorer(
        Target(index, (str(photos),), "shapes-clip"), Marks(tmp_path_factory.mktemp("explored") / "marks")
    )
    page = build(explorer)
    yield open_page(page, None, in_browser=False), explorer
    page.close(verbose=False)
    explorer.close()
    configs.forget()


@pytest.fixture
def page(browser: Any, server: tuple[str, Explorer]) -> Iterator[Page]:
    browser.get_log("performance"), browser.get_log("browser")
    yield Page(browser, *server)
    assert [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == []
    outside = {address for address in requested(browser) if urlsplit(address).hostname != "127.0.0.1"}
    assert outside == set()


def requested(browser: Any) -> set[str]:
    events = (json.loads(entry["message"])["message"] for entry in browser.get_log("performance"))
    urls = {event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"}
    return {url for url in urls if not url.startswith(("data:", "blob:"))}


def test_look_mark_and_measure(page: Page) -> None:
    page.open()
    page.clicks("searches more like it")
    page.results(0)[8].click()  # red-0.png: the folder in the order of its names
    page.until(lambda: page.captions(1)[:1] and page.captions(1)[0].startswith("1: "))
    query = page.text("name")
    assert query == sorted(path.name for path in page.explorer.target.index.root.iterdir())[8]
    assert "needs a condition" in page.text("message-0")
    page.find("#conditions input").send_keys("color", Keys.ENTER, Keys.ESCAPE)
    page.until(lambda: page.captions(0)[:1] and page.captions(0)[0].startswith("1: "))
    assert page.text("values").startswith("color: red, blue, green")
    page.clicks("explains it")
    page.results(0)[0].click()
    page.until(lambda: "(query: " in page.text("note"))
    page.clicks("marks it right")
    page.results(0)[0].click()
    page.until(lambda: page.captions(0)[0].startswith("✓ 1: "))
    assert sum(caption.startswith("✓") for caption in page.captions(1)) == 1  # the same picture
    page.clicks("marks it wrong")
    page.results(0)[1].send_keys(Keys.ENTER)
    page.until(lambda: page.captions(0)[1].startswith("✗ 2: "))
    assert len(Marks(page.explorer.marks.folder)) == 2  # on disk already
    page.find("#save").click()
    page.until(lambda: page.text("bench"))
    assert page.text("bench").startswith("condsim bench benchmark=instance")
    page.find("#export").click()
    page.until(lambda: len(page.browser.find_elements(By.CSS_SELECTOR, "#sheets a[download]")) == 2)


def test_edited_values_and_settings_change_the_results_and_the_command(page: Page) -> None:
    page.open()
    page.query("blue-2.png", "color")
    before = page.captions(0)
    values = page.find("#values textarea")
    values.clear()
    values.send_keys("color: red, green, blue, yellow")
    page.find("#search").click()
    page.until(lambda: page.captions(0) and page.captions(0) != before)
    before = page.captions(0)
    settings = page.find("#settings-0 input, #settings-0 textarea")
    settings.send_keys("symmetric=false", Keys.ENTER)
    page.until(lambda: page.captions(0) and page.captions(0) != before)
    before = page.captions(0)
    slider = page.find("#slider-0 input[type=range]")
    slider.send_keys(Keys.HOME)
    page.until(lambda: page.captions(0) and page.captions(0) != before)
    command = page.text("command-0")
    assert "--image blue-2.png --condition color --method clay --backbone shapes-clip --top 12 " in command
    assert command.endswith("--values color=red,green,blue,yellow method.rank=1 method.symmetric=false")
    method = page.find("#method-0 input")
    method.send_keys(Keys.CONTROL, "a", Keys.NULL, "image_plus_text", Keys.ENTER)
    page.until(lambda: "--method image_plus_text " in page.text("command-0"))
    page.until(lambda: "symmetric" in page.text("message-0"))
    settings.send_keys(Keys.CONTROL, "a", Keys.NULL, Keys.BACKSPACE, Keys.ENTER)
    page.until(lambda: page.captions(0))
    assert page.text("command-0").endswith("method.weight=0.5")


def test_a_dropped_picture_is_searched_for(page: Page, tmp_path: Path) -> None:
    Image.new("RGB", (64, 64), "blue").save(tmp_path / "dropped.png")
    page.open()
    page.find("#picture input[type=file]").send_keys(str(tmp_path / "dropped.png"))
    page.until(lambda: "--image dropped.png" in page.text("command-1"))
    page.until(lambda: page.captions(1)[:1] and page.captions(1)[0].startswith("1: "))
    page.find("#conditions input").send_keys("tint", Keys.ENTER, Keys.ESCAPE)
    page.until(lambda: "write a line such as tint: first value, second value" in page.text("message-0"))
    page.find("#name input").send_keys("/etc/hostname", Keys.ENTER)
    page.until(lambda: "there is no such picture here" in page.find("body").text)


def is_dark(page: Page, dark: bool) -> bool:
    return bool(page.browser.execute_script("return document.body.classList.contains('dark')") == dark)


def test_a_phone_and_the_dark_are_served(page: Page) -> None:
    page.stay()
    for width, scheme in ((1280, "dark"), (390, "light"), (320, "dark")):
        page.looks(width, scheme)
        assert page.browser.execute_script("return document.documentElement.scrollWidth") <= width
        right = "return [...arguments].map((button) => button.getBoundingClientRect().right)"
        assert max(page.browser.execute_script(right, *page.results(0))) <= width
        page.until(partial(is_dark, page, scheme == "dark"))


def test_scrolling_a_grid_loads_more(page: Page) -> None:
    page.stay()
    page.looks(height=300)
    to_the_end = "const box = document.querySelector('#results-1 .grid-wrap'); box.scrollTop = box.scrollHeight"

    def all_are_shown() -> bool:
        page.browser.execute_script(to_the_end)
        return len(page.captions(0)) == len(page.captions(1)) > PAGE

    page.until(all_are_shown)


def test_every_control_is_reached_with_the_tab_key(page: Page) -> None:
    page.stay()
    page.browser.execute_script(
        "window.reached = []; document.activeElement.blur();"
        "document.addEventListener('focusin', ({target}) => reached.push(target.closest('[id]:not(input)')?.id))"
    )
    ActionChains(page.browser).send_keys(Keys.TAB * 80).perform()
    reached = page.browser.execute_script("return window.reached")
    controls = ["picture", "name", "conditions", "values", "search", "click", "more", "export", "save"]
    controls += [f"{part}-{side}" for side in (0, 1) for part in ("method", "settings", "results", "command")]
    assert set(controls) - set(reached) == set()


def test_a_query_of_a_benchmark_is_chosen_by_its_id(
    browser: Any, server: tuple[str, Explorer], photos: Path, tmp_path: Path
) -> None:
    from condsim.harness.explorer.page import build, open_page

    queries, gallery = tmp_path / "queries.csv", tmp_path / "gallery.csv"
    queries.write_text(
        "id,image,text,positives\nfirst,red-0.png,color,red-4.png|red-12.png\nsecond,,a circle,red-0.png\n"
    )
    gallery.write_text("image\n" + "".join(f"{path.name}\n" for path in photos.iterdir()))
    settings = ("benchmark=instance", f"benchmark.queries={queries}", f"benchmark.gallery={gallery}",
                f"benchmark.images={photos}")  # fmt: skip
    questions = chosen_questions(settings)
    index = condsim.Index(questions.gallery, server[1].target.index.backbone)
    explorer = Explorer(Target(index, settings, "shapes-clip", questions=questions), Marks(tmp_path / "marks"))
    built = build(explorer)
    page = Page(browser, open_page(built, None, in_browser=False), explorer)
    page.open()
    page.find("#ident input").send_keys("first", Keys.ENTER)
    page.until(lambda: sum("◎" in caption for caption in page.captions(0)) == 2)
    assert page.text("name") == "red-0.png"
    assert page.text("command-0").startswith("condsim bench benchmark=instance ")
    page.find("#name input").send_keys(Keys.CONTROL, "a", Keys.NULL, "blue-2.png", Keys.ENTER)
    page.until(lambda: page.captions(0) and not any("◎" in caption for caption in page.captions(0)))
    assert page.text("ident") == ""
    built.close(verbose=False)
    explorer.close()


def test_no_file_of_this_machine_is_served(page: Page) -> None:
    photo = page.explorer.target.index.root / "red-0.png"
    marks = page.explorer.marks.folder
    host = urlsplit(page.address).netloc
    for path in (photo, Path("/etc/hostname"), marks / "marks.csv", marks / "../marks/marks.csv", Path(__file__)):
        for place in ("/gradio_api/file=", "/gradio_api/file=../../../../../..", "/static/../../../../../../../../.."):
            connection = http.client.HTTPConnection(host, timeout=120)
            connection.request("GET", place + quote(str(path)))
            assert connection.getresponse().status in (403, 404), place
            connection.close()
