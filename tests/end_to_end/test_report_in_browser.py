"""The saved page in a real browser: no request, no foreign script, readable without JavaScript, keyboard."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.unit.report import examples

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
CHROMIUM = os.environ.get("CHROMIUM") or next((path for path in map(shutil.which, NAMES) if path), None)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed (set CHROMIUM to its path)"),
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as driver:
        # A container's root cannot use Chromium's own sandbox; the pages are our own.
        flags = ["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
        started = driver.chromium.launch(executable_path=CHROMIUM, args=flags)
        yield started
        started.close()


class Visit:
    """One page that was opened from disk, with everything that it did wrong."""

    def __init__(self, browser: Any, path: Path, anchor: str = "", **options: Any) -> None:
        size = {"width": options.pop("width", 1280), "height": 900}
        self.page = browser.new_page(viewport=size, locale="en-US", **options)
        self.faults: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", lambda message: self.faults.append(f"console: {message.text}"))
        self.page.on("pageerror", lambda error: self.faults.append(f"error: {error}"))
        self.page.on("dialog", self._dialog)
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.url = path.as_uri() + anchor
        self.page.goto(self.url)

    def _dialog(self, dialog: Any) -> None:
        self.faults.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    def visible_rows(self) -> list[str]:
        """Numbers of the pairs whose rows are shown, in the order of the page."""
        return [link.inner_text() for link in self.page.locator(".pair a.open").all() if link.is_visible()]


@pytest.fixture
def visit(browser: Any, tmp_path: Path) -> Iterator[Any]:
    opened: list[Visit] = []

    def open_page(report: Any, anchor: str = "", **options: Any) -> Visit:
        opened.append(Visit(browser, report.save(tmp_path / "report.html"), anchor, **options))
        return opened[-1]

    yield open_page
    for one in opened:
        one.page.close()


@pytest.mark.parametrize("name", [*examples.EXAMPLES, "hostile", "large"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_page_opens_from_disk_without_any_request_or_fault(visit: Any, name: str, scheme: str) -> None:
    seen = visit(getattr(examples, name)(), color_scheme=scheme)
    assert seen.faults == []
    assert seen.requests == [seen.url]
    assert seen.page.locator("h1 .word").is_visible()


@pytest.mark.parametrize("name", ["divergent", "faithful", "inconclusive", "hostile", "large"])
@pytest.mark.parametrize("width", [360, 768, 1280])
def test_the_page_never_scrolls_sideways_as_a_whole(visit: Any, name: str, width: int) -> None:
    seen = visit(getattr(examples, name)(), width=width)
    assert seen.page.evaluate("document.documentElement.scrollWidth") <= width


def test_a_script_in_a_name_would_not_run_even_if_it_came_through(
    visit: Any, tmp_path: Path, browser: Any
) -> None:
    page = examples.faithful().save(tmp_path / "page.html").read_text()
    tampered = tmp_path / "tampered.html"
    tampered.write_text(page.replace("<main>", "<main><script>alert(1)</script><img src=x onerror=alert(2)>"))
    seen = Visit(browser, tampered)
    assert not any("dialog" in fault for fault in seen.faults)
    assert sum("Content Security Policy" in fault for fault in seen.faults) >= 2
    seen.page.close()


def test_light_and_dark_differ_and_text_stands_out_in_both(visit: Any) -> None:
    grounds = {}
    for scheme in ("light", "dark"):
        page = visit(examples.divergent(), color_scheme=scheme).page
        colours = "e => { const s = getComputedStyle(e); return [s.color, s.backgroundColor] }"
        text, ground = page.locator("body").evaluate(colours)
        grounds[scheme] = ground
        assert contrast(text, ground) > 7
        muted = page.locator("main .muted").first.evaluate("e => getComputedStyle(e).color")
        assert contrast(muted, ground) > 4.5
        for badge in ("divergent", "round-off"):
            colour = page.locator(f".row .badge.{badge}").first.evaluate("e => getComputedStyle(e).color")
            assert contrast(colour, ground) > 4.5
    assert grounds["light"] != grounds["dark"]


def contrast(one: str, other: str) -> float:
    """Contrast ratio of two ``rgb(r, g, b)`` colours, after WCAG 2.2, relative luminance."""

    def luminance(colour: str) -> float:
        parts = [float(part) / 255 for part in colour.removeprefix("rgb(").rstrip(")").split(",")[:3]]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def test_without_javascript_all_is_readable_and_details_open_by_link(visit: Any) -> None:
    seen = visit(examples.divergent(), java_script_enabled=False)
    page = seen.page
    assert page.locator(".row").count() == 8
    assert not page.locator(".controls").is_visible()
    assert page.locator(".tally").is_visible()
    detail = page.locator("#pair-6 .detail")
    assert not detail.is_visible()
    page.locator("#pair-6 a.open").click()
    assert detail.is_visible()
    assert "equal after swapping the spatial axes" in detail.inner_text()
    assert seen.faults == []


def test_a_click_opens_a_pair_and_another_closes_it(visit: Any) -> None:
    page = visit(examples.divergent()).page
    row, detail = page.locator("#pair-2 .row"), page.locator("#pair-2 .detail")
    row.click()
    assert detail.is_visible()
    assert page.locator("#pair-2 a.open").get_attribute("aria-expanded") == "true"
    row.click()
    assert not detail.is_visible()


def test_a_deep_link_opens_its_pair(visit: Any) -> None:
    page = visit(examples.large(), "#pair-201").page
    assert page.locator("#pair-201 .detail").is_visible()
    row = page.locator("#pair-201 .row")
    for _ in range(100):  # the page's policy forbids waiting by a script
        if 0 <= row.bounding_box()["y"] < 900:
            break
        page.wait_for_timeout(50)
    assert 0 <= row.bounding_box()["y"] < 900
    assert not page.locator("#pair-200 .detail").is_visible()


def test_a_point_of_the_drawing_leads_to_its_pair(visit: Any) -> None:
    page = visit(examples.divergent()).page
    page.locator("svg.growth a").nth(5).locator("rect").click()
    assert page.locator("#pair-6 .detail").is_visible()


def test_filters_by_verdict_and_by_text_combine(visit: Any) -> None:
    seen = visit(examples.divergent())
    page = seen.page
    page.locator(".chip[data-verdict=divergent]").click()
    assert seen.visible_rows() == ["1", "6"]
    page.fill("#find", "STEM")
    assert seen.visible_rows() == ["1"]
    assert page.locator("#shown").inner_text() == "1 of 8 pairs"
    page.locator(".chip[data-verdict=divergent]").click()
    assert seen.visible_rows() == ["1", "2", "3"]


def test_a_link_to_a_filtered_pair_shows_it_again(visit: Any) -> None:
    seen = visit(examples.divergent())
    seen.page.fill("#find", "flatten")
    assert seen.visible_rows() == ["7"]
    seen.page.locator("#findings a[href='#pair-6']").click()
    assert "6" in seen.visible_rows()
    assert seen.page.locator("#pair-6 .detail").is_visible()


def test_columns_sort_both_ways_by_number_and_nan_is_the_largest(visit: Any) -> None:
    seen = visit(examples.not_a_number())
    head = seen.page.locator("#table > thead th").nth(4)
    head.locator("button").click()
    assert head.get_attribute("aria-sort") == "descending"
    assert seen.visible_rows()[0] == "8"
    head.locator("button").click()
    assert head.get_attribute("aria-sort") == "ascending"
    assert seen.visible_rows()[-1] == "8"
    assert set(seen.visible_rows()[:2]) == {"3", "7"}
    seen.page.locator("#table > thead th").nth(2).locator("button").click()
    assert seen.visible_rows()[0] == "2"


def test_the_keyboard_is_enough(visit: Any) -> None:
    seen = visit(examples.divergent())
    page = seen.page
    page.keyboard.press("n")
    page.keyboard.press("n")
    assert page.evaluate("document.activeElement.textContent") == "6"
    page.keyboard.press("Enter")
    assert page.locator("#pair-6 .detail").is_visible()
    page.keyboard.press("k")
    assert page.evaluate("document.activeElement.textContent") == "5"
    page.keyboard.press("Escape")
    assert not page.locator("#pair-6 .detail").is_visible()
    page.keyboard.press("/")
    page.keyboard.type("jn")
    assert page.input_value("#find") == "jn"
    assert seen.visible_rows() == []
    page.keyboard.press("Escape")
    assert len(seen.visible_rows()) == 8


def test_the_fix_can_be_copied(visit: Any) -> None:
    seen = visit(examples.divergent(), permissions=["clipboard-read", "clipboard-write"])
    button = seen.page.locator(".finding .copy").first
    button.click()
    playwright.expect(button).to_have_text("Copied")
    assert seen.page.evaluate("navigator.clipboard.readText()") == examples.FIX


def test_a_large_page_is_ready_soon(visit: Any) -> None:
    page = visit(examples.large(400)).page
    assert (
        page.evaluate("performance.timing.domContentLoadedEventEnd - performance.timing.responseEnd") < 5000
    )


def test_printing_shows_the_wrong_pairs_in_full_and_no_controls(visit: Any) -> None:
    page = visit(examples.divergent()).page
    page.emulate_media(media="print")
    assert page.locator("#pair-1 .detail").is_visible()
    assert not page.locator("#pair-2 .detail").is_visible()
    assert not page.locator(".controls").is_visible()
