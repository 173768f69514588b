"""Ids of tasks for addresses: a name may hold any text, an id holds letters, digits and dashes."""

from __future__ import annotations

import re
from base64 import b32encode
from collections.abc import Iterable
from hashlib import sha256

READABLE = 32  # Characters of the name that an id begins with.
SHOWN_INSTANCE = 8


def id_of(name: str) -> str:
    """Return the id of a task: the same in every process, and another one for every name."""
    readable = re.sub(r"[^a-z0-9]+", "-", name[: 2 * READABLE].lower())[:READABLE].strip("-")
    digest = b32encode(sha256(name.encode("utf-8", "surrogatepass")).digest()[:10]).decode().lower()
    return f"{readable}-{digest}" if readable else digest


def remote_id(name: str, instance: str) -> str:
    """Return the id of a local task of another instance: each instance may have one of that name."""
    return f"{id_of(name)}~{instance[:SHOWN_INSTANCE]}"


class Ids:
    """The ids that were given, so that a name is found again."""

    def __init__(self) -> None:
        self._ids: dict[str, str] = {}
        self._names: dict[str, str] = {}

    def of(self, name: str) -> str:
        """Return the id of *name*."""
        found = self._ids.get(name)
        if found is None:
            found = self._ids[name] = id_of(name)
            self._names[found] = name
        return found

    def name_of(self, task_id: str, names: Iterable[str]) -> str | None:
        """Return which one of *names* has this id; None if none has."""
        if task_id not in self._names:
            for name in names:
                self.of(name)
        return self._names.get(task_id)

    def keep(self, names: set[str]) -> None:
        """Forget the ids of tasks that are gone, if those are the majority."""
        if len(self._ids) > 2 * len(names) + 1_000:
            self._ids = {name: each for name, each in self._ids.items() if name in names}
            self._names = {each: name for name, each in self._ids.items()}
