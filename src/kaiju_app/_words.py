"""Values, exceptions and tasks in words: what a log line or an error shows of them."""

from __future__ import annotations

from typing import Any


def shown(value: object) -> str:
    """Return ``repr(value)`` cut to a length that fits a log line; a failing repr must not hide the real error."""
    try:
        text = repr(value)
    except Exception as exc:
        text = f"<{type(value).__name__} whose repr() raises {type(exc).__name__}>"
    return text if len(text) <= 120 else text[:117] + "..."


def described(exc: BaseException | None) -> str | None:
    """Return type and message of *exc*; never the object, whose frames would keep the run's data alive."""
    if exc is None:
        return None
    try:
        text = str(exc)
    except Exception as broken:
        text = f"its message cannot be had: __str__ raised {type(broken).__name__}"
    return f"{type(exc).__name__}: {text}" if text else type(exc).__name__


def stack_of(task: Any) -> str:
    """Return where the asyncio *task* is waiting, one frame a line, the innermost last."""
    lines = []
    awaited = None if task is None else task.get_coro()
    while awaited is not None:  # Task.get_stack() shows the outermost coroutine only.
        frame = getattr(awaited, "cr_frame", None) or getattr(awaited, "gi_frame", None)
        if frame is not None:
            lines.append(f"\n  {frame.f_code.co_filename}:{frame.f_lineno} in {frame.f_code.co_name}")
        awaited = getattr(awaited, "cr_await", None) or getattr(awaited, "gi_yieldfrom", None)
    return "".join(lines) or " (not known)"
