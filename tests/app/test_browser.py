"""The app in a real browser: every page and filter, live updates, phone size, dark theme.

Any exception box, page error or console error fails. Skipped without Debian's Chromium.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from shown_results import record, record_lessons

from elastic_ray.results.store import Results

ROOT = Path(__file__).parents[2]
CHROMIUM = shutil.which("chromium")
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--enable-unsafe-swiftshader",  # 3D without a GPU
]
PATIENCE = 60_000.0

pytest.importorskip("streamlit")
playwright = pytest.importorskip("playwright.sync_api")
pytestmark = [
    pytest.mark.integration,
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium: apt-get install chromium"),
]
expect = playwright.expect


class App:
    """The app, running on its own port on a results folder."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.results = Results(folder)
        self.url = f"http://127.0.0.1:{port}"
        command = [sys.executable, "-m", "streamlit", "run", "app.py", "--server.port", str(port)]
        self._log = (folder.parent / "app.log").open("wb")
        self._process = subprocess.Popen(
            [*command, "--", "--results", str(folder)],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=self._log,
            stderr=subprocess.STDOUT,
        )
        until = time.monotonic() + PATIENCE / 1000
        while True:
            try:
                urllib.request.urlopen(f"{self.url}/_stcore/health", timeout=5).close()
                return
            except OSError:
                assert self._process.poll() is None, (folder.parent / "app.log").read_text()
                assert time.monotonic() < until, "the app does not answer"
                time.sleep(0.1)

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(30)
        self._log.close()


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    running = App(tmp_path_factory.mktemp("browser") / "results")
    yield running
    running.stop()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as p:
        found = p.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield found
        found.close()


@pytest.fixture
def open_page(browser: Any, app: App) -> Iterator[Any]:
    """Opens a path of the app; fails at the end if any page had an error."""
    opened: list[Any] = []
    wrong: list[str] = []

    def open_path(path: str = "", **context: Any) -> Any:
        tab = browser.new_context(**context)
        tab.set_default_timeout(PATIENCE)
        page = tab.new_page()
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("console", lambda entry: wrong.append(entry.text) if _is_error(entry) else None)
        page.goto(f"{app.url}/{path}")
        page.wait_for_selector("h1")
        settled(page)
        opened.append(page)
        return page

    yield open_path
    for page in opened:
        assert page.get_by_test_id("stException").count() == 0
        page.context.close()
    assert wrong == []


def _is_error(entry: Any) -> bool:
    # Streamlit first looks for its server below the page's path, which fails with a 404.
    return entry.type == "error" and "/_stcore/" not in (entry.location or {}).get("url", "")


def settled(page: Any) -> None:
    """Wait until the script has run, and fail if it raised an exception."""
    page.wait_for_selector('[data-testid="stApp"][data-test-script-state="notRunning"]')
    assert page.get_by_test_id("stException").count() == 0, page.inner_text("body")


def go(page: Any, name: str) -> None:
    page.get_by_role("link", name=name, exact=True).first.click()
    expect(page.get_by_role("heading", name=name, exact=True)).to_be_visible(timeout=PATIENCE)
    settled(page)


def test_a_sweep_appears_and_advances_without_a_reload(app: App, open_page: Any) -> None:
    page = open_page()
    expect(page.get_by_text("No sweep is recorded")).to_be_visible(timeout=PATIENCE)
    record(app.results, scored=16)
    expect(page.get_by_text("16 of 72").first).to_be_visible(timeout=PATIENCE)
    expect(page.get_by_text("running").first).to_be_visible(timeout=PATIENCE)
    record(app.results, scored=40)
    expect(page.get_by_text("40 of 72").first).to_be_visible(timeout=PATIENCE)
    record(app.results)
    expect(page.get_by_text("72 of 72").first).to_be_visible(timeout=PATIENCE)


def test_every_page_and_its_filters(app: App, open_page: Any) -> None:
    record(app.results)
    page = open_page()
    go(page, "Curves")
    expect(page.locator(".js-plotly-plot")).to_have_count(3, timeout=PATIENCE)
    page.get_by_role("combobox", name="Models").click()  # the fourth model is not selected at first
    page.get_by_role("option").first.click()
    expect(page.locator(".js-plotly-plot")).to_have_count(4, timeout=PATIENCE)
    page.keyboard.press("Escape")
    page.get_by_role("radio", name="retention").click()
    page.wait_for_url(re.compile("show=retention"))
    settled(page)  # a click while the page reruns is lost
    page.get_by_role("radio", name="linear").click()
    page.wait_for_url(re.compile("(?=.*show=retention)(?=.*axis=linear)"))
    settled(page)
    with page.expect_download() as got:
        page.get_by_role("button", name="CSV", exact=True).click()
    assert b"retention" in Path(got.value.path()).read_bytes()
    page.get_by_role("radio", name="SVG").click()
    page.wait_for_url(re.compile("image=svg"))
    settled(page)
    with page.expect_download() as got:
        page.locator(".modebar-btn[data-title*='Download']").first.click()
    assert got.value.suggested_filename.endswith(".svg")

    linked = open_page("curves?show=retention&axis=linear&image=svg")
    expect(linked).to_have_title(re.compile("^Curves · .*elastic_ray$"), timeout=PATIENCE)
    with linked.expect_download() as got:
        linked.locator(".modebar-btn[data-title*='Download']").first.click()
    name = got.value.suggested_filename
    assert name.endswith(".svg") and "," not in name, "the first load saves as the address says"
    expect(linked.get_by_role("radio", name="retention")).to_be_checked(timeout=PATIENCE)
    expect(linked.get_by_role("radio", name="linear")).to_be_checked(timeout=PATIENCE)

    go(page, "Surfaces")
    expect(page.locator(".js-plotly-plot .heatmaplayer").first).to_be_attached(timeout=PATIENCE)
    page.get_by_role("radio", name="3D").click()
    page.wait_for_url(re.compile("view=3D"))
    settled(page)
    expect(page.locator(".js-plotly-plot .gl-container canvas").first).to_be_attached(
        timeout=PATIENCE
    )
    page.get_by_role("radio", name="difference").click()
    page.wait_for_url(re.compile("view=difference"))
    settled(page)
    expect(page.locator(".js-plotly-plot .heatmaplayer").first).to_be_attached(timeout=PATIENCE)

    go(page, "Scaling")
    expect(page.get_by_text("cannot show a trend").first).to_be_visible(timeout=PATIENCE)
    page.get_by_role("combobox", name="Compare").click()
    page.get_by_role("option", name="pre-training sizes of large").click()
    page.wait_for_url(re.compile("compare="))
    settled(page)


def test_inverse_and_forward_by_another_distance(app: App, open_page: Any) -> None:
    record(app.results)
    page = open_page("paths?sweep=learnt")  # a link to a sweep that is not recorded yet
    expect(page.get_by_text("No sweep named learnt is recorded")).to_be_visible(timeout=PATIENCE)
    record_lessons(app.results)
    expect(page.locator(".js-plotly-plot")).to_have_count(3, timeout=PATIENCE)
    page.get_by_role("radio", name="KL divergence").click()
    expect(page).to_have_url(re.compile("metric=KL"), timeout=PATIENCE)  # the label, not the key
    settled(page)
    expect(page.get_by_text("By KL divergence: not in every pair")).to_be_visible(timeout=PATIENCE)
    with page.expect_download() as got:
        page.get_by_role("button", name="CSV", exact=True).click()
    assert b"printed_inverse" in Path(got.value.path()).read_bytes()


def test_a_click_on_a_point_leads_to_its_states(app: App, open_page: Any) -> None:
    record(app.results)
    page = open_page("curves?sweep=shown")
    expect(page.locator(".js-plotly-plot")).to_have_count(3, timeout=PATIENCE)
    settled(page)
    point = page.locator(".js-plotly-plot .scatterlayer .point").first
    point.hover(force=True)  # the figure takes a click on the point that it shows to be under it
    expect(page.locator(".js-plotly-plot .hoverlayer .hovertext").first).to_be_visible()
    point.click(force=True)
    link = page.get_by_role("link", name=re.compile("seed 0: "))
    expect(link.first).to_be_visible(timeout=PATIENCE)
    state = open_page(str(link.first.get_attribute("href")).lstrip("/"))
    expect(state.get_by_text(re.compile("state after .* examples: mean score"))).to_be_visible(
        timeout=PATIENCE
    )


def test_responses_and_sql(app: App, open_page: Any) -> None:
    record(app.results)
    page = open_page("responses?sweep=shown")
    expect(page.get_by_text("1 to 10 of 12")).to_be_visible(timeout=PATIENCE)
    page.get_by_role("textbox", name="Contains").fill("no 7")
    page.get_by_role("textbox", name="Contains").press("Enter")
    expect(page.get_by_text("1 to 1 of 1")).to_be_visible(timeout=PATIENCE)
    again = open_page(page.url.removeprefix(f"{app.url}/"))
    expect(again.get_by_text("1 to 1 of 1")).to_be_visible(timeout=PATIENCE)

    go(page, "SQL")
    # A row for each sweep that earlier tests recorded.
    expect(page.get_by_text(re.compile(r"\d rows? in"))).to_be_visible(timeout=PATIENCE)
    query = page.locator("textarea").first
    query.fill("SELECT count(*) AS n FROM cells WHERE sweep = 'shown' UNION ALL FROM range(3)")
    page.get_by_role("button", name="Run").click()
    expect(page.get_by_text("4 rows in")).to_be_visible(timeout=PATIENCE)
    assert "q=SELECT" in page.url
    with page.expect_download() as got:
        page.get_by_role("button", name="CSV", exact=True).click()
    assert Path(got.value.path()).read_text().split() == ["n", "72", "0", "1", "2"]
    query.fill("COPY cells TO '/tmp/x.csv'")
    page.get_by_role("button", name="Run").click()
    expect(page.get_by_text("only SELECT is allowed")).to_be_visible(timeout=PATIENCE)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_on_a_phone_nothing_is_wider_than_the_screen(app: App, open_page: Any, scheme: str) -> None:
    record(app.results)
    phone = {"viewport": {"width": 390, "height": 844}, "color_scheme": scheme}
    names = ("curves", "responses") if scheme == "light" else ("", "scaling")
    for name in names:
        page = open_page(name, **phone)
        excess = page.evaluate(
            "(m => m.scrollWidth - m.clientWidth)(document.querySelector('[data-testid=stMain]'))"
        )
        assert excess <= 0, f"{name or 'overview'} is {excess} pixels too wide"
        ground = page.evaluate(
            "getComputedStyle(document.querySelector('[data-testid=stApp]')).backgroundColor"
        )
        red = int(re.findall(r"\d+", ground)[0])
        assert (red < 60) == (scheme == "dark"), ground
