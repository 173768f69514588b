"""Texts of others, made fit for a line of a terminal."""

from __future__ import annotations

from kaiju_app._core.text import spelled_out


def clean(text: object) -> str:
    """Return *text* on one line, without characters that act on a terminal."""
    return spelled_out(str(text)).replace("\n", "\\n").replace("\t", "\\t")
