"""Texts on their way out: nothing in them can act on a terminal or a page, and no password leaves."""

from __future__ import annotations

from kaiju_app._core.text import spelled_out
from kaiju_app.stores._masking import masked

MOST_HEAD = 200


def valid(text: str) -> str:
    """Return *text* as text that UTF-8 can encode."""
    return text.encode("utf-8", "backslashreplace").decode()


def name_of(task: str) -> str:
    """Return the name *task* as it is shown: on one line, with the characters that act on a terminal written out."""
    return valid(spelled_out(task).replace("\n", "\\n").replace("\t", "\\t"))


def harmless(text: str) -> str:
    """Return *text*, such as an error, with the characters that act on a terminal written out."""
    return valid(spelled_out(masked(text)))


def one_line(text: str) -> str:
    """Return *text* for a line of a log or a table."""
    return harmless(text).replace("\n", "\\n").replace("\t", "\\t")


def head_of(text: str) -> str:
    """Return the first line of an error, shortened."""
    line = harmless(text).partition("\n")[0]
    return line if len(line) <= MOST_HEAD else line[: MOST_HEAD - 3] + "..."
