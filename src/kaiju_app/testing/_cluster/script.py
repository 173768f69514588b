"""The calls of a test to a cluster, as a short program that repeats them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from kaiju_app.errors import safe_repr

MOST_LINES = 20  # With what stands around them, the script stays below thirty.
WIDTH = 100


class Script:
    """Remembers calls. Those that only let time pass are added up, which changes nothing.

    Args:
        factory: The application factory.
        arguments: The other arguments of the cluster, as Python code.
        start: When the cluster begins, if its arguments name it.
    """

    def __init__(self, factory: Callable[..., object], arguments: Sequence[str], start: datetime | None) -> None:
        self._factory = factory
        self._arguments = arguments
        self._start = start
        self._calls: list[str] = []
        self._passed: int | None = None

    def advance(self, passed: int) -> None:
        """Note that *passed* microseconds have been let pass."""
        self._passed = (self._passed or 0) + passed

    def note(self, call: str) -> None:
        """Note *call*, as Python code without the name of the cluster."""
        self._flush()
        self._calls.append(call)

    def __str__(self) -> str:
        self._flush()
        name, origin = _import_of(self._factory)
        lines = (
            []
            if self._start is None
            else [f"start = datetime.fromisoformat({self._start.astimezone(UTC).isoformat()!r})"]
        )
        head = [origin, "from kaiju_app.testing import Cluster, Network" if _names(self._arguments, "Network") else ""]
        head[1] = head[1] or "from kaiju_app.testing import Cluster"
        if lines:
            head.insert(0, "from datetime import datetime")
        calls = [f"    {each}" for each in filled([f"cluster.{each}" for each in self._calls])] or ["    pass"]
        given = ", ".join([name, *self._arguments])
        return "\n".join([*head, "", *lines, f"with Cluster({given}) as cluster:", *calls])

    def _flush(self) -> None:
        if self._passed is not None:  # Even 0: it runs what is due.
            self._calls.append(f"advance({in_seconds(self._passed)})")
            self._passed = None


def in_seconds(us: int) -> str:
    """Return *us* microseconds as Python code, in seconds."""
    return f"{us / 1e6:.6f}".rstrip("0").rstrip(".")


def filled(calls: Sequence[str]) -> list[str]:
    """Return *calls* in a line each, or in as few lines as the limit asks for."""
    if len(calls) <= MOST_LINES:
        return list(calls)
    width = max(WIDTH, max(map(len, calls)) + sum(len(each) + 2 for each in calls) // (MOST_LINES - 1))
    lines = [calls[0]]
    for each in calls[1:]:
        if len(lines[-1]) + 2 + len(each) <= width:
            lines[-1] += f"; {each}"
        else:
            lines.append(each)
    return lines


def _names(arguments: Sequence[str], name: str) -> bool:
    return any(name in each for each in arguments)


def _import_of(factory: Callable[..., object]) -> tuple[str, str]:
    """Return the name of *factory*, and the line that imports it; a comment if nothing can import it."""
    module, name = getattr(factory, "__module__", None), getattr(factory, "__qualname__", None) or safe_repr(factory)
    if module is not None and name.isidentifier():
        return name, f"from {module} import {name}"
    short = name.rpartition(".")[2].strip("<>")
    short = short if short.isidentifier() and short != "lambda" else "make_app"
    return short, f"# {short} is {name} of {module}"
