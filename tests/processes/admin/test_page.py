"""The dashboard in a browser: what a person sees and does there."""

from __future__ import annotations

import re
import time
from math import floor
from pathlib import Path
from typing import Any

import httpx
import pytest

from processes.admin.browser import PATIENCE_S, Server, Tabs, expect, served_page

pytestmark = [pytest.mark.realtime, pytest.mark.slow, pytest.mark.untimed, pytest.mark.timeout(180)]

HOSTILE = "<img src=x onerror=window.hacked=1>"


def row_of(page: Any, name: str) -> Any:
    return page.locator("[role=row][data-row]").filter(has=page.get_by_role("link", name=name, exact=True))


@pytest.mark.mechanism
def test_the_tasks_are_shown_and_a_hostile_name_is_text(page_server: Server, tabs: Tabs) -> None:
    page = tabs.open(f"{page_server.base}#/tasks")

    expect(row_of(page, "supplier")).to_contain_text("failed")
    expect(row_of(page, "newsletter")).to_contain_text("the text is not ready")
    row_of(page, HOSTILE).get_by_role("link", name=HOSTILE).click()
    expect(page.get_by_role("heading", level=1)).to_have_text(HOSTILE)
    assert page.evaluate("window.hacked") is None
    assert page.locator("img").count() == 0


def test_search_and_filters_are_in_the_address(page_server: Server, tabs: Tabs) -> None:
    page = tabs.open(f"{page_server.base}#/tasks")

    page.get_by_role("searchbox").fill("suppl")
    expect(page.locator("[role=row][data-row]")).to_have_count(1)
    page.wait_for_url(re.compile("q=suppl"))
    page.get_by_role("searchbox").fill("")
    page.get_by_label("State").select_option("paused")
    expect(page.locator("[role=row][data-row]")).to_have_count(1)
    expect(row_of(page, "newsletter")).to_be_visible()
    again = tabs.open(page.url)
    expect(again.locator("[role=row][data-row]")).to_have_count(1)
    again.get_by_label("Outcome of the last run").select_option("LOST")
    expect(again.get_by_text("No task matches")).to_be_visible()
    again.get_by_role("button", name="Show all tasks").click()
    expect(row_of(again, "supplier")).to_be_visible()


def test_a_failing_task_is_found_paused_resumed_and_run(page_server: Server, tabs: Tabs) -> None:
    page = tabs.open(page_server.base)

    page.get_by_role("link", name="supplier", exact=True).first.click()
    expect(page.get_by_role("heading", level=1)).to_have_text("supplier")
    page.locator("tr[data-outcome=FAILED] summary").first.click()
    expect(page.locator("tr[data-outcome=FAILED] pre").first).to_contain_text("this is the second line")
    assert page.locator("tr b").count() == 0, "the error is text"

    page.get_by_role("button", name="Pause: supplier").click()
    page.get_by_label("Reason").fill("the supplier is closed")
    page.get_by_label("For how long").select_option("3600")
    page.get_by_role("button", name="Pause", exact=True).click()
    expect(page.locator("[data-notice]")).to_contain_text("supplier is paused for 1 h")
    expect(page.locator(".hold")).to_contain_text("the supplier is closed")
    assert page_server.task("supplier")["holds"][0]["reason"] == "the supplier is closed"

    page.get_by_role("button", name="Resume: supplier").click()
    expect(page.locator("[data-notice]")).to_contain_text("supplier is resumed")
    expect(page.locator(".hold")).to_have_count(0)
    assert page_server.task("supplier")["holds"] == []


def test_what_is_run_now_appears_in_the_history_without_a_reload(page_server: Server, tabs: Tabs) -> None:
    page = tabs.open(f"{page_server.base}#/task/{page_server.task('nightly')['id']}")

    expect(page.get_by_text("It has not run yet")).to_be_visible()
    page.get_by_role("button", name="Run now: nightly").click()
    expect(page.locator("[data-notice]")).to_contain_text("nightly succeeded")
    row = page.locator("tr[data-outcome=SUCCEEDED]")
    expect(row).to_have_count(1)
    expect(row).to_contain_text("asked for")
    expect(page.locator("[data-timeline]")).to_have_attribute("aria-label", re.compile("1 succeeded"))


def test_the_timeline_explains_what_did_not_run_and_the_address_can_be_sent(page_server: Server, tabs: Tabs) -> None:
    page = tabs.open(f"{page_server.base}#/task/{page_server.task('newsletter')['id']}")

    drawing = page.locator("[data-timeline]")
    expect(drawing).to_have_attribute("aria-label", re.compile("held by marketing"))
    box = drawing.bounding_box()
    drawing.click(position={"x": box["width"] * 0.95, "y": box["height"] * 0.6})  # The future, which the pause holds.
    said = page.locator("[data-explanation] .sentence")
    expect(said).to_contain_text("newsletter")
    page.wait_for_url(re.compile("at="))
    sentence, address = said.inner_text(), page.url
    assert sentence.endswith("."), sentence

    again = tabs.open(address)
    expect(again.locator("[data-explanation] .sentence")).to_be_visible()
    assert again.url == address
    again.keyboard.press("Escape")
    expect(again.locator("[data-explanation]")).to_have_count(0)


def test_a_skipped_tick_is_explained(page_server: Server, tabs: Tabs) -> None:
    page = tabs.open(f"{page_server.base}#/task/{page_server.task('overlapping')['id']}")

    page.get_by_role("button", name="skipped").click()
    row = page.locator("tr[data-outcome=SKIPPED]").first
    expect(row).to_contain_text("overlap")
    row.get_by_title("Explain this tick").click()
    expect(page.locator("[data-explanation]")).to_contain_text("overlap")
    expect(page.locator("[data-explanation] .causes")).to_be_visible()


def test_the_timeline_zooms_pans_and_follows_the_present(page_server: Server, tabs: Tabs) -> None:
    page = tabs.open(page_server.base)

    drawing = page.locator("[data-timeline]")
    expect(drawing).to_be_visible()
    page.get_by_role("button", name="1 h").click()
    page.wait_for_url(re.compile("span=3600000"))
    page.get_by_role("button", name="Zoom in").click()
    expect(page.get_by_role("button", name="30 min")).to_have_attribute("aria-pressed", "true")
    page.get_by_role("button", name="Earlier").click()
    page.wait_for_url(re.compile("from="))
    expect(page.get_by_role("button", name="Live")).to_have_attribute("aria-pressed", "false")
    drawing.focus()
    page.keyboard.press("End")
    expect(page.get_by_role("button", name="Live")).to_have_attribute("aria-pressed", "true")
    box = drawing.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 60)
    page.keyboard.down("Control")
    page.mouse.wheel(0, -200)
    page.keyboard.up("Control")
    expect(page.get_by_role("button", name="30 min")).to_have_attribute("aria-pressed", "false")
    page.get_by_text("The same as a table").click()
    expect(page.get_by_role("table", name="What the timeline shows, the newest first")).to_be_visible()


def test_where_older_runs_are_not_kept_is_drawn_and_said(page_server: Server, tabs: Tabs) -> None:
    page = tabs.open(f"{page_server.base}#/task/{page_server.task('disk')['id']}?span=60000")

    drawing = page.locator("[data-timeline]")
    expect(drawing).to_have_attribute("aria-label", re.compile("disk: .*older runs are not kept"))
    expect(page.get_by_label("What the shapes mean")).to_contain_text("older runs are not kept")
    box, until = drawing.bounding_box(), time.monotonic() + PATIENCE_S
    while "are not kept" not in (page.locator(".tip").text_content() if page.locator(".tip").count() else ""):
        assert time.monotonic() < until, page.locator(".tip").all_text_contents()
        page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] * (0.6 + time.monotonic() % 0.1))
        page.wait_for_timeout(50)
    expect(page.locator(".tip")).to_contain_text(re.compile(r"runs before \d\d:\d\d:\d\d are not kept"))
    found = page.evaluate(
        """import("./static/timeline-draw.js").then(({ hit }) => [1000, 4000, 6000].map((at) => hit(
            { task: { marks: [], bars: [], bands: [], upcoming: [], droppedFrom: 3000, keptSince: 5000 } },
            at / 10, { from: 0, to: 10_000, width: 1_000 }, 9000)?.kind))"""
    )
    assert found == [None, "dropped", None], "before the scheduler was started there were no runs"


def test_runs_that_are_near_to_each_other_are_drawn_apart(page_server: Server, tabs: Tabs) -> None:
    """Of short ones one for each four pixels; the worst of them counts. Those that are alone keep their place."""
    page = tabs.open(page_server.base)
    near, far, long = page.evaluate(
        """import("./static/timeline-draw.js").then(({ apart }) => {
            const run = (start, outcome = "SUCCEEDED", length = 1, count = 1, worst = count) =>
                ({ start, end: start + length, outcome, count, worst });
            const outcome = (i) => i % 25 === 7 ? "FAILED" : "SUCCEEDED";
            const every = (gap) => [...Array(100).keys()].map((i) => run(i * gap, outcome(i)));
            return [apart([...every(1000), run(200_000, "LOST", 79_999, 800, 8)], 4000, 0),
                apart(every(5000), 4000, 0), apart([run(0, "FAILED", 50_000), run(100, "CANCELLED", 50_000)], 4000, 0)];
        })"""
    )

    alone = [each for each in near if each["start"] < 200_000]
    assert [each["start"] for each in alone] == [4_000 * number for number in range(25)]
    failed = {each["start"]: (each["count"], each["worst"]) for each in alone if each["outcome"] == "FAILED"}
    assert failed == dict.fromkeys([4_000, 32_000, 56_000, 80_000], (4, 1))
    united = [each for each in near if each["start"] >= 200_000]
    assert [each["start"] for each in united] == [200_000 + 4_000 * number for number in range(20)]
    assert {(each["outcome"], round(each["count"]), round(each["worst"], 3)) for each in united} == {("LOST", 40, 0.4)}
    assert all(each["end"] == each["start"] for each in near), "a column is as wide as the least bar"
    assert [each["end"] - each["start"] for each in far] == [1] * 100
    assert [each["start"] for each in far] == [5_000 * number for number in range(100)]
    assert [each["end"] - each["start"] for each in long] == [50_000, 50_000]


def test_bars_of_many_runs_are_columns_of_one_width_at_any_width(page_server: Server, tabs: Tabs) -> None:
    """Eight bars of a hundred runs fill an hour. Neither rounding nor the start of the hour changes what is drawn."""
    widths = [*range(800, 830), 1000, 1280, 1366, 1919, 2560]
    drawn = tabs.open(page_server.base).evaluate(
        """(widths) => import("./static/timeline-draw.js").then(({ apart }) => widths.flatMap((width) =>
            [0, 1, 4499.7].map((shift) => {
            const [from, wide] = [1_764_000_000_000 + shift, 3_600_000 / width * 4];
            const bars = [...Array(8).keys()].map((i) => from + i * 450_000).map((start) =>
                ({ start, end: start + 445_501, outcome: "FAILED", count: 100, worst: 50 }));
            return { wide, bars, columns: apart(bars, wide, 0) };
        })))""",
        widths,
    )

    for wide, bars, columns in ((each["wide"], each["bars"], each["columns"]) for each in drawn):
        assert all(each["isColumn"] and each["end"] == each["start"] for each in columns)
        numbers = [each["start"] / wide for each in columns]
        assert numbers == pytest.approx([round(each) for each in numbers], abs=1e-6, rel=0)
        wanted = {n for bar in bars for n in range(floor(bar["start"] / wide), floor(bar["end"] / wide) + 1)}
        assert sorted(map(round, numbers)) == sorted(wanted)
        assert sum(each["count"] for each in columns) == pytest.approx(800)
        assert sum(each["worst"] for each in columns) == pytest.approx(400)


def test_the_legend_explains_what_is_drawn(page_server: Server, tabs: Tabs) -> None:
    page = tabs.open(f"{page_server.base}#/task/{page_server.task('newsletter')['id']}")

    expect(page.get_by_label("What the shapes mean")).to_have_text("held")


def test_what_happened_again_and_again_is_one_line(tmp_path: Path, tabs: Tabs) -> None:
    with served_page(tmp_path, BLOCKS="1") as server:
        page = tabs.open(server.base)
        blocked = page.locator(".lines li").filter(has_text="blocked")
        expect(blocked).to_have_text(
            re.compile(r"^the event loop was blocked by task 'blocking' .*: \d+ times, [\d.]+ s in all, the last at ")
        )
        expect(blocked).to_have_count(1)
        expect(blocked).to_contain_text(": 3 times, ")
        merged = page.evaluate(
            """import("./static/timeline-data.js").then(({ merged, severalInWords }) => merged([
                { at: 1000, until: 3000, count: 1, text: "the event loop was blocked for 2 s by X" },
                { at: 4000, until: null, count: 1, text: "the scheduler was started" },
                { at: 5000, until: 9000, count: 2, text: "the event loop was blocked 2 times for 2.5 s in all by X" },
            ]).map((each) => [each.count, each.at, severalInWords(each)]))"""
        )
        assert merged == [
            [1, 4000, "the scheduler was started: 1 times"],
            [3, 9000, "the event loop was blocked by X: 3 times, 4.5 s in all"],
        ]
        tabs.close()
    tabs.forgive("ERR_")


def test_events_appear_as_they_come(page_server: Server, tabs: Tabs) -> None:
    page = tabs.open(f"{page_server.base}#/events")

    page.get_by_role("searchbox").fill("supplier")
    expect(page.locator(".event").first).to_contain_text("failed")
    page.get_by_role("button", name="Hold the list").click()
    number = page.locator(".event").count()
    page.get_by_role("link", name="Instances").click()
    expect(page.get_by_text("answers here")).to_be_visible()
    assert number >= 1


def test_all_tasks_are_paused_and_resumed_at_the_same_place(tmp_path: Path, tabs: Tabs) -> None:
    with served_page(tmp_path) as server:
        page = tabs.open(f"{server.base}#/tasks")
        page.get_by_role("button", name="Resume all").click()  # One task was paused when the program began.
        dialog = page.get_by_role("dialog", name="Resume all tasks")
        expect(dialog).to_contain_text("ends the pauses of 1 task,")
        disk = f"{server.base}api/tasks/{server.task('disk')['id']}"
        httpx.post(f"{disk}/pause", json={"reason": "by somebody else"}).raise_for_status()
        expect(dialog).to_contain_text("ends the pauses of 2 tasks,")  # The number of now, not of when it was opened.
        httpx.post(f"{disk}/resume", json={}).raise_for_status()
        page.keyboard.press("Escape")

        page.get_by_role("button", name="Pause all").click()
        dialog = page.get_by_role("dialog", name="Pause all tasks")
        expect(dialog).to_contain_text("This pauses 9 tasks")
        dialog.get_by_role("button", name="Pause 9 tasks").click()
        expect(dialog).to_be_visible()  # The reason is missing.
        assert server.task("disk")["holds"] == []
        dialog.get_by_label("Reason").fill("the database moves")
        page.keyboard.press("Enter")
        expect(page.locator("[data-notice]")).to_contain_text("Paused 9 tasks")
        assert server.task("long")["holds"][0]["reason"] == "the database moves", "although it runs"
        expect(row_of(page, "disk")).to_contain_text("held: the database moves")

        page.get_by_role("link", name="Overview").click()
        page.get_by_role("button", name="Resume all").click()
        dialog = page.get_by_role("dialog", name="Resume all tasks")
        dialog.get_by_role("button", name="Resume 9 tasks").click()
        expect(page.locator("[data-notice]")).to_contain_text("Resumed 9 tasks")
        expect(page.get_by_role("button", name="Resume all")).to_have_count(0)
        assert server.task("newsletter")["holds"] == []
        tabs.close()
