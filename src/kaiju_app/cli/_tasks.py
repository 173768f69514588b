"""Finds a task by what was typed: its name, or its id."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from difflib import get_close_matches
from urllib.parse import quote

from ._client import MOST_PAGE, Endpoint, Json, Query
from ._status import Ended, Status
from ._text import clean

ID = re.compile(r"(?:[a-z0-9-]+-)?[a-z2-7]{16}(?:~[0-9a-f]{1,8})?")
MOST_SEARCHED = 4  # Pages of names among which close ones are looked for.
MOST_CLOSE = 3


def path_of(task_id: str, more: str = "") -> str:
    """Return the path of a task."""
    return f"api/tasks/{quote(task_id, safe='~')}{more}"


async def find_task(endpoint: Endpoint, text: str) -> Json:
    """Return the item of the task that *text* names.

    Raises:
        Ended: There is none, or there are several.
    """
    name = clean(text)  # The endpoint writes out the characters that act on a terminal.
    found: list[Json] = []
    near: list[str] = []
    async for item in _named_like(endpoint, text):
        if item["name"] == name:
            found.append(item)
        elif found:
            break
        elif len(near) < MOST_CLOSE:
            near.append(item["name"])
    if not found and ID.fullmatch(text):
        try:
            return (await endpoint.get(path_of(text))).data
        except Ended as ended:
            if ended.status is not Status.FAILED:
                raise
    own = [each for each in found if each["controlled_here"]] or found
    if len(own) == 1:
        return own[0]
    if own:
        where = ", ".join(f"{each['id']} ({clean(each['process'])})" for each in own)
        raise Ended(Status.FAILED, f"several instances have a local task {clean(text)!r}: give one of the ids {where}")
    near = near or get_close_matches(text, await names_of(endpoint, MOST_SEARCHED), MOST_CLOSE, 0.5)
    meant = f"; perhaps {' or '.join(repr(clean(each)) for each in near)}" if near else "; `kaiju tasks` lists them"
    raise Ended(Status.FAILED, f"there is no task {clean(text)!r}{meant}")


async def _named_like(endpoint: Endpoint, text: str) -> AsyncIterator[Json]:
    cursor = None
    while True:
        query: Query = {"q": text[:200], "limit": MOST_PAGE, "cursor": cursor}
        page = (await endpoint.get("api/tasks", query)).data
        for item in page["items"]:
            yield item
        cursor = page["next"]
        if cursor is None:
            return


async def names_of(endpoint: Endpoint, pages: int, q: str = "") -> list[str]:
    """Return the names of tasks, of at most so many pages."""
    names: list[str] = []
    cursor = None
    for _ in range(pages):
        page = (await endpoint.get("api/tasks", {"q": q, "limit": MOST_PAGE, "cursor": cursor})).data
        names += [item["name"] for item in page["items"]]
        cursor = page["next"]
        if cursor is None:
            break
    return names
