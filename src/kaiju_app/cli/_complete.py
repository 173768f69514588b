"""What a shell offers after TAB: the names of tasks, outcomes and states. It says nothing when that fails."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
from collections.abc import Callable, Iterator
from typing import Any

import typer

from kaiju_app._core.model import Reason

from ._palette import OUTCOMES, STATES
from ._place import place_of

PATIENCE_S = 0.6  # Nobody waits longer for a shell to answer.
PAGES = 2


def complete_task(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return the names of tasks that begin so."""
    given = ctx.params

    async def names() -> list[str]:
        place = place_of(given.get("url"), given.get("token"), given.get("store"), given.get("app"))
        async with asyncio.timeout(PATIENCE_S):
            if place.store is not None:
                from ._onlook import names_in  # What shows a whole store takes a second to import.

                return await names_in(place.store, place.app)
            from ._place import reached
            from ._tasks import names_of

            async with reached(place) as endpoint:
                return await names_of(endpoint, PAGES, incomplete[:200])

    try:
        with _silence():
            found = asyncio.run(names())
    except Exception:  # A shell that completes must not be disturbed.
        return []
    fitting = [each for each in found if each.startswith(incomplete) and each.isprintable()]
    return [Word(each) for each in fitting] if os.environ.get("_KAIJU_COMPLETE") == "complete_bash" else fitting


class Word(str):
    """A name that is written as bash takes it, and that typer compares with what was typed as it is."""

    __slots__ = ()

    def __format__(self, _: str) -> str:
        """Return the name for bash."""
        return quoted(str(self), open_quote(os.environ["COMP_WORDS"], int(os.environ["COMP_CWORD"])))


def quoted(name: str, inside: str = "") -> str:
    """Return a name as bash takes it for one word, or *inside* a quotation; the other shells quote by themselves."""
    if inside == "'":
        return name.replace("'", "'\\''")
    return re.sub(r'(["$`\\])' if inside else r"([^\w@%+=:,./-])", r"\\\1", name)


def open_quote(words: str, number: int) -> str:
    """Return the quotation mark of bash that is open at the end of a word; "" if there is none.

    Args:
        words: All words of the line, each on a line of its own. A quotation may have several lines.
        number: Which word, from 0. The words after it, which follow the cursor, do not matter.
    """
    found, is_escaped, at = "", False, 0
    for each in words:
        if is_escaped:
            is_escaped = False
        elif each == "\\" and found != "'":
            is_escaped = True
        elif each == found or (not found and each in "\"'"):
            found = "" if found else each
        elif each == "\n" and not found:
            at += 1
            if at > number:
                break
    return found


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stderr(nowhere):
        yield


def complete_outcome(incomplete: str) -> list[str]:
    """Return the outcomes that begin so."""
    return [each.lower() for each in OUTCOMES if each.lower().startswith(incomplete.lower())]


def complete_state(incomplete: str) -> list[str]:
    """Return the states that begin so."""
    return [each for each in (*STATES, "over", "waiting", "unknown") if each.startswith(incomplete)]


def complete_scope(incomplete: str) -> list[str]:
    """Return the scopes that begin so."""
    return [each for each in ("local", "cluster") if each.startswith(incomplete)]


def complete_reason(incomplete: str) -> list[str]:
    """Return the reasons that begin so."""
    return [each.replace(" ", "-") for each in Reason if each.replace(" ", "-").startswith(incomplete)]


def several(option: str, metavar: str, what: str, complete: Callable[[str], list[str]]) -> Any:
    """Return the declaration of an option that may be given several times, with what a shell offers for it."""
    return typer.Option(option, metavar=metavar, autocompletion=complete, help=f"{what} May be repeated.")
