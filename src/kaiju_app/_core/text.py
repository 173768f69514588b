"""Exceptions, asyncio tasks, instants and processes as text; lists that are cut, and hashes."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Collection
from datetime import datetime, time
from itertools import islice
from types import FrameType
from typing import Any

from .exceptions import is_a, leaves

MOST_TEXT = 2_000  # Characters of a text that is kept: a record, of which there are many, is no place for data.
SHOWN_ERROR = 80  # Letters of a headline.
SHOWN_MEMBERS = 5  # Of a group of exceptions: mostly they are alike.
PACKAGE = "kaiju_app."

# Control characters but for line breaks and tabs, and what turns the direction of the text around it.
ACTING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]")
MARK = 40  # Characters for how much was left out.


def shortened(text: str, most: int = MOST_TEXT) -> str:
    """Return *text*; if it has more than *most* characters, its head, its tail and how much was left out between."""
    if len(text) <= most:
        return text
    half = (most - MARK) // 2
    return f"{text[:half]} [{len(text) - 2 * half:,} characters left out] {text[-half:]}"


def headline(error: str) -> str:
    """Return the first line of *error*, cut to what fits on a line with the rest."""
    line = error.partition("\n")[0]
    return line if len(line) <= SHOWN_ERROR else line[:SHOWN_ERROR] + "..."


def spelled_out(text: str) -> str:
    """Return *text* with the characters that act on a terminal written out."""
    return ACTING.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def listed(texts: Collection[str], most: int) -> str:
    """Return the first *most* of *texts*, and how many more there are: ``a, b and 3 more``."""
    more = len(texts) - most
    return ", ".join(islice(texts, most)) + (f" and {more} more" if more > 0 else "")


def hash_of(text: str) -> int:
    """Return 64 bits of *text* that are the same everywhere and always."""
    from hashlib import blake2b  # It loads a library for more than a millisecond, and few programs need it.

    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest())


def describe_exception(exc: BaseException | None) -> str | None:
    """Return type and message of *exc*, and of the members of a group, ``shortened()``.

    The object itself would keep the data of the run alive through its frames.
    """
    if exc is None:
        return None
    text = _describe(exc)
    if is_a(exc, BaseExceptionGroup):
        members = list(leaves(exc))
        more = f"; and {len(members) - SHOWN_MEMBERS} more" if len(members) > SHOWN_MEMBERS else ""
        text += f": {'; '.join(_describe(each) for each in members[:SHOWN_MEMBERS])}{more}"
    return shortened(text)


def _describe(exc: BaseException) -> str:
    try:
        text = str(exc)
    except BaseException as broken:
        text = f"no message, because __str__ raised {type(broken).__name__}"
    return f"{type(exc).__name__}: {text}" if text else type(exc).__name__


def stack_of(task: Any) -> str:
    """Return where the asyncio *task* is waiting: one frame a line, innermost last."""
    lines = []
    awaited = None if task is None else task.get_coro()
    while awaited is not None:  # Task.get_stack() shows the outermost coroutine only.
        frame = getattr(awaited, "cr_frame", None) or getattr(awaited, "gi_frame", None)
        if frame is not None:
            lines.append(f"\n  {frame.f_code.co_filename}:{frame.f_lineno} in {frame.f_code.co_name}")
        awaited = getattr(awaited, "cr_await", None) or getattr(awaited, "gi_yieldfrom", None)
    return "".join(lines) or " (unknown)"


def calling_place() -> str:
    """Return the file and line of the code that called this package."""
    frame: FrameType | None = sys._getframe()
    while frame is not None and f"{frame.f_globals.get('__name__')}.".startswith(PACKAGE):
        frame = frame.f_back
    return "an unknown place" if frame is None else f"{frame.f_code.co_filename}:{frame.f_lineno}"


def random_identity() -> str:
    """Return 32 random hexadecimal digits, which no other instance has."""
    return os.urandom(16).hex()


def code_of(moment: datetime | time) -> str:
    """Return a UTC datetime, or a time of day without its zone, as a person would type it in Python."""
    if isinstance(moment, time):
        return repr(moment.replace(tzinfo=None)).removeprefix("datetime.")
    naive = datetime(*moment.timetuple()[:6], moment.microsecond)  # noqa: DTZ001  Also of a subclass.
    return f"{repr(naive).removeprefix('datetime.')[:-1]}, tzinfo=UTC)"


def clock_time(moment: datetime, now: datetime | None = None) -> str:
    """Return a UTC datetime for people: ``06:00:00Z``, with the date if that is not the one of *now*."""
    text = moment.replace(tzinfo=None).isoformat(" ", "seconds") + "Z"
    return text.partition(" ")[2] if now is not None and moment.date() == now.date() else text


def this_process() -> str:
    """Return host and process id, as ``host:pid``: what a person looks for. Hosts in containers may share it."""
    from socket import gethostname  # A program that only asks a rule for its ticks has no sockets.

    return f"{gethostname()}:{os.getpid()}"
