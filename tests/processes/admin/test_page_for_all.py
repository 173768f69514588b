"""The dashboard for everybody: by keyboard, for screen readers, on small screens, in large and in bad times."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import httpx
import pytest

from processes.admin.browser import Server, Tabs, expect, served_page, wait_until

pytestmark = [pytest.mark.realtime, pytest.mark.slow, pytest.mark.untimed, pytest.mark.timeout(180)]


def views(server: Server) -> dict[str, tuple[str, str]]:
    """Return the address of each view, and a text that is there once it is complete."""
    failing, held = server.task("supplier")["id"], server.task("newsletter")["id"]
    return {
        "overview": ("#/", "Next hour"),
        "tasks": ("#/tasks", "the text is not ready"),
        "a failing task": (f"#/task/{failing}", "this is the second line"),
        "a held task": (f"#/task/{held}?at=2026-01-01T00:00:00Z", "What became of it"),
        "instances": ("#/instances", "answers here"),
        "events": ("#/events", "refresh"),
        "nothing": ("#/tasks?q=nothing-has-this-name", "No task matches"),
        "no view": ("#/nowhere", "There is no such view"),
    }


def open_views(server: Server, page: Any) -> Any:
    for name, (address, text) in views(server).items():
        page.goto(f"{server.base}{address}")
        expect(page.locator("main")).to_contain_text(text)
        yield name


def test_no_view_keeps_anybody_out(page_server: Server, tabs: Tabs) -> None:
    from axe_playwright_python.sync_playwright import Axe

    page = tabs.open(page_server.base, reduced_motion="reduce")

    def check(what: str) -> None:
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)
            found = Axe().run(page)
            assert found.response["passes"], "it has looked at something"
            assert found.violations_count == 0, f"{what}, {scheme}: {found.generate_report()}"

    for name in open_views(page_server, page):
        check(name)
    page.goto(f"{page_server.base}#/task/{page_server.task('disk')['id']}")
    page.get_by_role("button", name="Pause: disk").click()
    check("the dialog")


@pytest.mark.parametrize("width", [320, 390])
def test_no_view_scrolls_sideways_on_a_phone(page_server: Server, tabs: Tabs, width: int) -> None:
    page = tabs.open(page_server.base, viewport={"width": width, "height": 700}, has_touch=True)
    for name in open_views(page_server, page):
        assert page.evaluate("document.documentElement.scrollWidth") <= width, name


def test_a_phone_shows_what_fails_and_the_timeline_and_folds_the_rest(page_server: Server, tabs: Tabs) -> None:
    page = tabs.open(page_server.base, viewport={"width": 390, "height": 844}, has_touch=True)
    fails = page.get_by_role("link", name="supplier", exact=True).first
    expect(fails).to_be_visible()
    expect(page.locator("[data-timeline]")).to_be_in_viewport()
    running = page.locator("details.panel").filter(has_text="Running now")
    expect(running.get_by_role("link", name="long", exact=True)).to_be_hidden()
    running.locator("summary").click()
    expect(running.get_by_role("link", name="long", exact=True)).to_be_visible()


def test_the_filters_of_a_phone_are_folded(page_server: Server, tabs: Tabs) -> None:
    page = tabs.open(f"{page_server.base}#/tasks", viewport={"width": 320, "height": 700}, has_touch=True)
    button, state = page.get_by_role("button", name="Filters"), page.get_by_label("State")
    expect(state).to_be_hidden()
    search = page.get_by_role("searchbox").bounding_box()
    assert search["y"] == button.bounding_box()["y"], "one row"
    button.click()
    state.select_option("paused")
    expect(page.locator("[role=row][data-row]")).to_have_count(1)
    expect(page.get_by_role("button", name="Filters (1)")).to_have_attribute("aria-expanded", "true")


def test_what_is_below_the_lists_stays_where_it_is(page_server: Server, tabs: Tabs) -> None:
    """The lists become longer with each failure, and shorter again; what is below them is not to move then."""
    page = tabs.open(page_server.base)
    lists, row = page.locator(".columns"), page.locator(".columns .list li")
    expect(row.first).to_be_visible()
    before = lists.bounding_box()["height"]
    page.evaluate("""() => {
        const sheet = new CSSStyleSheet();
        sheet.replaceSync(".columns .list li { padding-block: 40px; }");
        document.adoptedStyleSheets = [sheet];
    }""")
    wait_until(page, f"document.querySelector('.columns').offsetHeight > {before} + 100")
    kept = (
        "(({ style, offsetHeight }) => parseInt(style.minHeight) >= offsetHeight)(document.querySelector('.columns'))"
    )
    wait_until(page, kept)
    higher = lists.bounding_box()["height"]
    page.evaluate("() => { document.adoptedStyleSheets = []; }")
    expect(row.first).not_to_have_css("padding-top", "40px")
    assert lists.bounding_box()["height"] >= higher, "it may have become higher still"


def test_all_that_matters_is_done_by_keyboard_alone(page_server: Server, tabs: Tabs) -> None:
    page = tabs.open(page_server.base)
    expect(page.get_by_text("Next hour")).to_be_visible()
    press, write = page.keyboard.press, page.keyboard.type

    press("?")
    expect(page.get_by_role("dialog", name="Keyboard")).to_be_visible()
    press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    press("/")
    expect(page.get_by_role("searchbox")).to_be_focused()
    write("nightly")
    expect(page.locator("[role=row][data-row]")).to_have_count(1)
    press("Escape")
    press("j")
    expect(page.get_by_role("link", name="nightly")).to_be_focused()
    press("p")
    expect(page.get_by_label("Reason")).to_be_focused()
    write("by keyboard")
    press("Enter")
    expect(page.locator("[data-notice]")).to_contain_text("nightly is paused")
    expect(page.locator("[role=row][data-row]")).to_contain_text("by keyboard")
    expect(page.get_by_role("link", name="nightly")).to_be_focused()
    press("p")
    expect(page.locator("[data-notice]")).to_contain_text("nightly is resumed")
    press("r")
    expect(page.locator("[data-notice]")).to_contain_text("nightly succeeded")
    press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("nightly")
    expect(page.locator("[data-timeline]")).to_have_attribute("aria-label", re.compile("succeeded"))
    for _ in range(60):
        if page.evaluate("document.activeElement.matches('[data-timeline]')"):
            break
        press("Tab")
    press("ArrowLeft")
    expect(page.locator(".tip-fixed")).to_contain_text("nightly")
    press("Enter")
    expect(page.locator("[data-explanation] .sentence")).to_contain_text("nightly")
    press("Escape")
    expect(page.locator("[data-explanation]")).to_have_count(0)


def test_theme_and_time_zone_are_kept(page_server: Server, tabs: Tabs) -> None:
    page = tabs.open(page_server.base, color_scheme="light", timezone_id="America/New_York")

    dark = "getComputedStyle(document.documentElement).colorScheme"
    assert page.evaluate(dark) == "light"
    page.get_by_role("button", name="Theme").click()
    assert page.evaluate(dark) == "dark"
    page.get_by_role("button", name="Local").click()
    page.reload()
    expect(page.get_by_role("button", name="UTC")).to_be_visible()
    assert page.evaluate(dark) == "dark"
    page.get_by_role("link", name="Tasks", exact=True).click()
    nightly = page.locator("[role=row][data-row]").filter(has_text="nightly").locator("time").first
    expect(nightly).to_have_attribute("title", re.compile("UTC"))
    page.get_by_role("button", name="UTC").click()
    expect(nightly).to_have_attribute("title", re.compile(r"GMT-[45]|E[SD]T"))


def test_the_page_says_that_the_server_is_gone_and_recovers_by_itself(tmp_path: Path, tabs: Tabs) -> None:
    with served_page(tmp_path) as server:
        page = tabs.open(server.base)
        expect(page.get_by_text("Not well")).to_be_visible()
        server.stop()
        banner = page.locator("[data-banner]")
        expect(banner).to_contain_text("The server does not answer")
        assert page.locator("[data-timeline]").is_visible(), "what was seen stays"
        server.start()
        expect(banner).to_have_count(0)
        before = server.task("refresh")["counts"]["SUCCEEDED"]
        page.get_by_role("link", name="Events").click()
        expect(page.locator(".event").first).to_be_visible()
        assert server.task("refresh")["counts"]["SUCCEEDED"] >= before
        tabs.close()
    tabs.forgive("ERR_")  # The server was away.


def test_another_instance_shows_and_honours_a_pause(tmp_path: Path, tabs: Tabs) -> None:
    store = f"sqlite:///{tmp_path}/scheduler.db"
    with served_page(tmp_path, STORE=store) as a, served_page(tmp_path, STORE=store) as b:
        address = f"#/task/{a.task('bill')['id']}"
        here, there = tabs.open(f"{a.base}{address}"), tabs.open(f"{b.base}{address}")
        here.get_by_role("button", name="Pause: bill").click()
        here.get_by_label("Reason").fill("audit")
        here.keyboard.press("Enter")
        expect(there.locator(".hold")).to_contain_text("audit")
        asked = httpx.post(f"{b.base}api/tasks/{b.task('bill')['id']}/run", json={})
        assert (asked.status_code, "audit" in asked.text) == (409, True)
        there.get_by_role("button", name="Resume: bill").click()
        expect(here.locator(".hold")).to_have_count(0)
        there.get_by_role("link", name="Instances").click()
        expect(there.locator("tbody tr")).to_have_count(2)
        tabs.close()


def test_a_token_is_asked_for_and_kept_for_the_tab(tmp_path: Path, tabs: Tabs) -> None:
    with served_page(tmp_path, TOKEN="operate-01") as server:
        page = tabs.open(f"{server.base}#/tasks")
        page.get_by_label("Token").fill("wrong")
        page.keyboard.press("Enter")
        expect(page.get_by_role("alert")).to_contain_text("not accepted")
        page.get_by_label("Token").fill("operate-01-read")
        page.keyboard.press("Enter")
        row = page.locator("[role=row][data-row]").filter(has_text="nightly")
        expect(row).to_be_visible()
        page.reload()
        expect(row).to_be_visible()
        page.get_by_role("link", name="Events").click()
        expect(page.locator(".event").first).to_be_visible()  # The stream takes the token, too.
        other = tabs.watch(page.context.new_page(), server.base)
        expect(other.get_by_label("Token")).to_be_visible()
        tabs.close()
    tabs.forgive("status of 40")


def test_who_may_only_read_is_shown_no_actions(tmp_path: Path, tabs: Tabs) -> None:
    acts = re.compile("^(Run|Pause|Resume|Cancel)")
    with served_page(tmp_path, TOKEN="operate-01") as server:
        for token, number in (("operate-01-read", 0), ("operate-01", 1)):
            page = tabs.open(f"{server.base}#/tasks")
            page.get_by_label("Token").fill(token)
            page.keyboard.press("Enter")
            row = page.locator("[role=row][data-row]").filter(has_text="nightly")
            expect(page.get_by_text("read only")).to_have_count(1 - number)
            expect(page.get_by_role("columnheader", name="Actions")).to_have_count(number)
            expect(row.get_by_role("button", name="Run now: nightly")).to_have_count(number)
            assert bool(page.get_by_role("button", name=acts).count()) == bool(number)
            row.get_by_role("link").focus()
            page.keyboard.press("p")
            expect(page.get_by_role("dialog")).to_have_count(number)
            page.keyboard.press("Escape")
            page.keyboard.press("?")
            expect(page.get_by_text("pause or resume the task")).to_have_count(number)
            page.keyboard.press("Escape")
            row.get_by_role("link").click()
            expect(page.get_by_role("heading", level=1)).to_have_text("nightly")
            expect(page.get_by_text("It has not run yet")).to_be_visible()
            expect(page.get_by_role("button", name="Cancel run")).to_have_count(number)
            assert bool(page.get_by_role("button", name=acts).count()) == bool(number)
        tabs.close()
    tabs.forgive("status of 40")


def test_ten_thousand_tasks_are_drawn_as_far_as_they_are_seen(tmp_path: Path, tabs: Tabs) -> None:
    with served_page(tmp_path, MANY="10000") as server:
        page = tabs.open(f"{server.base}#/tasks")
        expect(page.get_by_text("10,009 tasks")).to_be_visible()
        expect(page.locator("[role=row][data-row]").first).to_be_visible()
        for _ in range(6):
            page.mouse.move(600, 500)
            page.mouse.wheel(0, 6_000)
            expect(page.locator(".loading")).to_be_attached()
        last = "Math.max(...[...document.querySelectorAll('[aria-rowindex]')].map((each) => +each.ariaRowIndex))"
        wait_until(page, f"{last} > 150")
        assert page.locator("[role=row]").count() < 80
        page.get_by_role("searchbox").fill("many-09999")
        expect(page.locator("[role=row][data-row]")).to_have_count(1)
        tabs.close()
