"""Delete a task from the store for all instances, because somebody says that no code has it any more."""

from __future__ import annotations

from collections.abc import Sequence

from kaiju_app.errors import StoreUnavailable, WrongState
from kaiju_app.stores._record import LedgerRow, TaskRecord, scheduler_of
from kaiju_app.stores._transitions import is_active

from .store_client import StoreClient


async def forget(client: StoreClient, name: str, *, history: bool) -> bool:
    """Delete the record of a task, and its history if *history*; return whether there was any of it.

    Raises:
        StoreUnavailable: The store did not answer; the task may be deleted or not.
        WrongState: An instance runs or holds it.
    """
    changed = await client.change(name, _deleted)
    if changed is None:
        raise StoreUnavailable(client.store.name, f"no answer to the request to forget task {name!r}")
    if changed.old is not None and not changed.done:
        raise WrongState(f"task {name!r} cannot be forgotten: {_in_use(changed.old)}")
    what = f"the request to delete the history of task {name!r}"
    rows = await client.call_or_raise("delete_history", client.store.delete_history(name), what) if history else 0
    return changed.done or rows > 0


def _deleted(old: TaskRecord | None, now: int) -> tuple[None, Sequence[LedgerRow]] | None:
    return None if old is None or is_active(old) else (None, ())


def _in_use(record: TaskRecord) -> str:
    if record.owner is not None:
        return f"instance {scheduler_of(record.owner)} runs it; stop that instance, or wait for the end of the run"
    holders = ", ".join(held.describe(key) for key, held in sorted(record.holds.items()))
    return f"it is held by {holders}; leave the suspension, or await task.resume() first"
