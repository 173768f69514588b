"""The dashboard in a browser: what a person sees and does there."""

from __future__ import annotations

import re
from typing import Any

import pytest

from processes.admin.browser import Server, Tabs

pytestmark = [pytest.mark.realtime, pytest.mark.slow, pytest.mark.timeout(180)]

HOSTILE = "<img src=x onerror=window.hacked=1>"


def expect(what: Any) -> Any:
    from playwright.sync_api import expect

    expect.set_options(timeout=30_000)
    return expect(what)


def row_of(page: Any, name: str) -> Any:
    return page.locator("[role=row][data-row]").filter(has=page.get_by_role("link", name=name, exact=True))


@pytest.mark.mechanism
def test_the_tasks_are_shown_and_a_hostile_name_is_text(server: Server, tabs: Tabs) -> None:
    page = tabs.open(f"{server.base}#/tasks")

    expect(row_of(page, "supplier")).to_contain_text("failed")
    expect(row_of(page, "newsletter")).to_contain_text("the text is not ready")
    row_of(page, HOSTILE).get_by_role("link", name=HOSTILE).click()
    expect(page.get_by_role("heading", level=1)).to_have_text(HOSTILE)
    assert page.evaluate("window.hacked") is None
    assert page.locator("img").count() == 0


def test_search_and_filters_are_in_the_address(server: Server, tabs: Tabs) -> None:
    page = tabs.open(f"{server.base}#/tasks")

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
