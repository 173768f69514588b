"""The scripts that the server executes, each with what all of them share, and their names for the server."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files


@dataclass(frozen=True, slots=True)
class Script:
    """A script, and the digest under which a server that knows it finds it."""

    text: str
    digest: str


def _text(name: str) -> str:
    return files(__package__).joinpath(f"{name}.lua").read_text("utf-8")


@cache
def script(name: str) -> Script:
    """Return the script *name*."""
    return made_of(_text("lib") + _text(name))


def made_of(text: str) -> Script:
    """Return the script with this *text*."""
    return Script(text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())
