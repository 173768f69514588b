"""The tasks of an instance, as they are kept on the server, so that not every claim has to name thousands of them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

from kaiju_app.stores._selection import ClaimQuery


@dataclass(slots=True)
class Share:
    """The tasks that an instance may claim.

    Attributes:
        tasks: For each whether it may be claimed ahead of its tick (a), at its tick (p), or only when overdue (o).
        digest: Under which the server keeps them.
        made: The server's mark when it was asked which have no record: it changes when a record is made or deleted.
        missing: Those that had none.
    """

    tasks: dict[str, str]
    digest: str
    made: str = "never"
    missing: list[str] = field(default_factory=list)


class Shares:
    """Keeps the share of the last claim: it changes when an instance comes or goes, or a task is registered."""

    def __init__(self) -> None:
        self._terms: object = None
        self._share = Share({}, "")

    def of(self, query: ClaimQuery) -> Share:
        """Return the share that *query* means."""
        terms = frozenset(query.names), frozenset(query.not_ahead), query.partition.count, query.partition.index
        if self._terms != terms:
            self._terms, self._share = terms, _share(query)
        return self._share


def _share(query: ClaimQuery) -> Share:
    tasks = {name: _class(query, name) for name in sorted(set(query.names))}
    text = "".join(f"{name}\0{tasks[name]}" for name in tasks)
    return Share(tasks, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest() if tasks else "")


def _class(query: ClaimQuery, name: str) -> str:
    if not query.partition.is_own(name):
        return "o"
    return "p" if name in query.not_ahead else "a"
