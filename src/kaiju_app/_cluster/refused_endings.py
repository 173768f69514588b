"""Endings that the store does not accept: what is left out of them, and how that is told."""

from __future__ import annotations

from kaiju_app._core.logs import facts
from kaiju_app._core.text import shortened
from kaiju_app._engine.events import log
from kaiju_app.stores._answers import FinishRequest

from .store_client import SHOWN

NOT_KEPT = "not kept, as the store does not accept it: "


def without_texts(ending: FinishRequest, why: str) -> FinishRequest | None:
    """Return *ending* with less to store; None if there is nothing that could be left out.

    First *why* takes the place of the texts of its rows: errors and results. Then the rows are left out.
    """
    if not ending.rows:
        return None
    error = shortened(NOT_KEPT + why, SHOWN)
    rows = tuple(
        row if row.error is None and row.result is None else row._replace(error=error, result=None)
        for row in ending.rows
    )
    is_lean = rows == ending.rows or any((row.error or "").startswith(NOT_KEPT) for row in ending.rows)
    return ending._replace(rows=() if is_lean else rows)


def tell(store: str, ending: FinishRequest, lean: FinishRequest | None, why: str) -> None:
    """Log that the store does not accept *ending*, and that *lean* is sent instead."""
    if lean is None:
        then = (
            "no instance can run the task until it does; this is tried again every minute. See which constraint, "
            "trigger or limit of the store refuses it"
        )
    elif lean.rows:
        then = "the store gets it without the text of the error and without the result"
    else:
        then = "its tick ends without a record in the store; the history() of the task in this process has it"
    log.error(
        "task %r: store %s does not accept the end of a run (%s): %s",
        ending.name, store, shortened(why, SHOWN), then, extra=facts(ending.name, ending.tick, fence=ending.fence),
    )  # fmt: skip
