"""A program that is only imported, to be looked at or to be run afterwards, must not run while it is imported."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

from kaiju_app.errors import WrongState


@dataclass(eq=False)
class Importing:
    """An import during which nothing starts.

    Attributes:
        command: Who imports, for the error.
        refused: The calls that wanted to start something.
    """

    command: str
    refused: list[str] = field(default_factory=list)


_importing: ContextVar[Importing | None] = ContextVar("kaiju_app_importing", default=None)


@contextmanager
def only_importing(command: str) -> Iterator[Importing]:
    """Refuse to start a scheduler or an application in here, also in a loop that is made in here."""
    importing = Importing(command)
    token = _importing.set(importing)
    try:
        yield importing
    finally:
        _importing.reset(token)


def check_may_start(call: str) -> None:
    """Refuse *call* if the program is only imported.

    Raises:
        WrongState: It is.
    """
    importing = _importing.get()
    if importing is not None:
        importing.refused.append(call)
        raise WrongState(
            f"{call}: {importing.command} only imports this program, and does not run it: put the call that runs it "
            "under if __name__ == '__main__':"
        )
