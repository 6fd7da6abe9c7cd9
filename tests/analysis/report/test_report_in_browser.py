"""The report in a browser: it loads without error, filters, opens by keyboard, prints, and fits a phone."""

from __future__ import annotations

import re
import shutil
import signal
from collections import Counter

import pytest

from plumbline.analysis import Outcome
from tests.reports import OUTCOMES, small_report

driver = pytest.importorskip("playwright.sync_api", reason="the driver is missing: pip install '.[test]'")
expect = driver.expect

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
TOTAL = sum(OUTCOMES.values())
DEADLINE = 60  # seconds for a test; all of them together take a few

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def browser():
    """Headless Chromium, ended with the module."""
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        pytest.skip(f"no browser found ({', '.join(BROWSERS)}): apt-get install chromium")
    with driver.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, timeout=20_000)
        yield browser
        browser.close()


@pytest.fixture(autouse=True)
def deadline():
    """A browser that hangs fails its test; on systems without alarms the driver's own timeouts have to do."""
    if not hasattr(signal, "SIGALRM"):
        yield
        return

    def late(*_):
        raise TimeoutError(f"the browser did not answer within {DEADLINE} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(DEADLINE)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """The small report, on disk."""
    path = tmp_path_factory.mktemp("report") / "index.html"
    path.write_text(small_report(), encoding="utf-8")
    return path.as_uri()


@pytest.fixture
def open_page(browser, address):
    """Open the report, at a place in it, in a fresh context with the given options; console and requests are kept."""
    contexts = []

    def open_(place="", **options):
        contexts.append(browser.new_context(**options))
        page = contexts[-1].new_page()
        page.set_default_timeout(5000)
        page.said, page.requested = [], []
        page.on("console", lambda message: page.said.append(message.text))
        page.on("pageerror", lambda error: page.said.append(str(error)))
        page.on("request", lambda request: page.requested.append(request.url))
        page.goto(address + place)
        return page

    yield open_
    for context in contexts:
        context.close()


def shown(page):
    """Names of the claims that are not hidden."""
    return page.locator(".claim:visible h3").all_inner_texts()


def sheets(page):
    """Pages of the PDF that the browser prints, counted in its objects, which Chromium leaves uncompressed."""
    return len(re.findall(rb"/Type\s*/Page\b", page.pdf()))


def test_it_loads_without_error_from_disk_alone(open_page, address):
    """Nothing on the console, nothing requested but the page and its images, no hostile text run."""
    page = open_page()
    page.get_by_role("button", name="open shown").click()

    assert page.said == []
    assert {url.split(",")[0] for url in page.requested} <= {address, "data:image/svg+xml;base64"}
    assert page.title().startswith(f"Plumbline report: {TOTAL} claims")
    assert page.evaluate("document.compatMode") == "CSS1Compat"


def test_policy_forbids_the_network(open_page):
    """A request is refused before it leaves."""
    page = open_page()
    refused = page.evaluate(
        """new Promise((done) => {
          addEventListener("securitypolicyviolation", (event) => done(event.effectiveDirective));
          fetch("http://localhost:9").catch(() => {});
          setTimeout(() => done("nothing"), 2000);
        })"""
    )

    assert refused == "connect-src"


def test_every_figure_is_drawn(open_page):
    """Images have a size, gauges their marks, on a white card in the dark too."""
    page = open_page(color_scheme="dark")
    widths = page.evaluate(
        "Promise.all([...document.images].map((image) => image.decode().then(() => image.naturalWidth)))"
    )

    assert len(widths) == 3
    assert all(width > 300 for width in widths)
    assert page.locator("svg.gauge").count() >= 2
    assert page.locator("svg.gauge").first.locator("circle").count() >= 1
    backgrounds = page.evaluate(
        "[document.body, ...document.images].map((element) => getComputedStyle(element).backgroundColor)"
    )
    assert set(backgrounds[1:]) == {"rgb(255, 255, 255)"}
    assert max(map(int, backgrounds[0].strip("rgb()").split(","))) < 60


def test_filters_show_what_they_say(open_page):
    """Each option of each list leaves the claims that have it; lists and search combine; the count is announced."""
    page = open_page()
    count = page.get_by_role("status")
    assert count.get_attribute("aria-live") == "polite"
    assert count.inner_text() == f"{TOTAL} of {TOTAL} claims"
    for name in ("family", "kind", "status", "verdict"):
        own = Counter(page.locator(".claim").evaluate_all(f"(all) => all.map((claim) => claim.dataset.{name})"))
        for value, number in own.items():
            page.get_by_label(name).select_option(value)
            assert count.inner_text() == f"{number} of {TOTAL} claims"
            assert len(shown(page)) == number
        assert page.get_by_label(name).locator("option").count() == len(own) + 1
        page.get_by_role("button", name="show all").click()
        expect(count).to_have_text(f"{TOTAL} of {TOTAL} claims")

    page.get_by_label("verdict").select_option(str(Outcome.CONSISTENT))
    page.get_by_label("search").fill("RANK  keys")
    assert shown(page) == ["multi-head-rank"]
    assert page.locator(".family:visible").count() == 1
    page.get_by_label("search").fill("no claim says this")
    assert count.inner_text() == f"0 of {TOTAL} claims"


def test_link_to_a_hidden_claim_shows_it(open_page):
    """A place in the address opens what it names, and a filter that hides it is taken back."""
    page = open_page("#figure-published")
    assert page.locator("#figure-published img").is_visible()

    page.get_by_label("family").select_option("reasoning")
    page.evaluate("location.hash = 'claim-multi-head-rank'")
    expect(page.locator("#claim-multi-head-rank dl").first).to_be_visible()
    assert len(shown(page)) == TOTAL


def test_keyboard_reaches_and_opens_everything(open_page):
    """The skip link comes first and leads to the claims; a claim opens and closes by Enter; the focus is seen."""
    page = open_page()
    page.keyboard.press("Tab")
    focused = page.locator(":focus")
    assert focused.inner_text() == "Skip to the claims"
    assert focused.bounding_box()["x"] >= 0
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.parentElement.id") == "claim-nonlinear-attention"
    assert focused.evaluate("(element) => getComputedStyle(element).outlineStyle") == "solid"
    for open_ in (True, False):
        page.keyboard.press("Enter")
        assert page.evaluate("document.activeElement.parentElement.open") is open_

    page.get_by_label("search").focus()
    page.keyboard.type("multi-head-rank")
    assert shown(page) == ["multi-head-rank"]
    page.keyboard.press("Enter")  # sends no form
    assert shown(page) == ["multi-head-rank"]
    assert page.said == []


def test_print_shows_the_details_without_filters(open_page):
    """Paper has every page that it has with all open by hand; on the screen again only what was is open."""
    page = open_page("#claim-multi-head-rank")
    assert page.locator("details[open]").count() == 1
    printed = sheets(page)
    expect(page.locator("details[open]")).to_have_count(1)
    assert page.locator("details[open]").get_attribute("id") == "claim-multi-head-rank"

    page.evaluate("for (const details of document.querySelectorAll('details')) details.open = true")
    assert printed == sheets(page) > TOTAL / 2
    page.emulate_media(media="print")
    assert page.locator(".claim table:visible").count() == 2 * TOTAL
    assert page.locator("img:visible").count() == 3
    assert not page.locator("#filters").is_visible()


@pytest.mark.parametrize("width", [320, 390, 1280])
def test_page_fits_the_width(open_page, width):
    """All open, and nothing sticks out: wide tables and figures scroll by themselves."""
    page = open_page(viewport={"width": width, "height": 800})
    page.get_by_role("button", name="open shown").click()

    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.locator(".claim[open]").count() == TOTAL
    assert page.locator("#figure-beside-rank img").bounding_box()["width"] > 250
