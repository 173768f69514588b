"""Gives the user's own log lines inside a run the fields of the run, where structlog writes them."""

from __future__ import annotations

from kaiju_app._core.clock import utc

from .entry import ActiveRun

STRUCTLOG = "structlog"  # It is not imported here: a program that has not loaded it has no use for its variables.


def bind_fields(run: ActiveRun) -> None:
    """Set the context variables that ``structlog.contextvars.merge_contextvars()`` adds to each line of the run."""
    try:
        from structlog.contextvars import bind_contextvars
    except ImportError:  # Something else has this name.
        return
    tick = utc(run.tick + run.entry.host.offset).isoformat()
    fields = {"task": run.entry.name, "tick": tick, "run_id": run.run_id, "attempt": run.attempt}
    bind_contextvars(**fields)
    if run.context is not None:  # A thread runs in a copy of this context, made before the first attempt.
        run.context.run(bind_contextvars, **fields)
