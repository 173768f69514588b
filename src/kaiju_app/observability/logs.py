"""Ties the log lines that a scheduled function writes to its run, for the standard ``logging``.

``structlog`` needs nothing of this: its processor ``merge_contextvars`` adds the same fields.
"""

from __future__ import annotations

import logging

from kaiju_app.scheduler import current_run


class RunFields(logging.Filter):
    """Gives each log record ``task``, ``tick``, ``run_id`` and ``attempt`` of the run in which it was made.

    Add it to a handler: ``handler.addFilter(RunFields())``. If records go through a queue to another thread, add it to
    the handler that puts them there. Outside a run the fields are None; a record that has a field keeps it.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Add the fields; return True, so that every record is handled."""
        try:
            run = current_run()
            fields = {
                "task": run.task,
                "tick": run.scheduled_at.isoformat(),
                "run_id": run.run_id,
                "attempt": run.attempt,
            }
        except LookupError:
            fields = {"task": None, "tick": None, "run_id": None, "attempt": None}
        for name, value in fields.items():
            record.__dict__.setdefault(name, value)
        return True
