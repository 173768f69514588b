"""Tasks and runs as the answers that are sent."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial
from typing import Any

from kaiju_app._core.clock import utc
from kaiju_app.scheduler import Backoff, Outcome, Run, ScheduledTask, Scope
from kaiju_app.scheduler import _hosting as hosting
from kaiju_app.scheduler._glance import Glance, recent_of
from kaiju_app.scheduler._window import begun

from ._ids import Ids
from ._known import Known
from ._models import Hold, RunHead, RunItem, TaskDetail, TaskItem, UpcomingItem
from ._seen import RECENT, Record, Seen
from ._states import State
from ._text import harmless, head_of, name_of
from ._values import shown, shown_arguments

MOST_DOC = 4_000
RUNNING = (State.RUNNING, State.HUNG)


def run_item(run: Run, ids: Ids) -> RunItem:
    """Return the record of a tick."""
    return RunItem(
        task=name_of(run.task),
        task_id=ids.of(run.task),
        run_id=run.run_id,
        scheduled_at=run.scheduled_at,
        last_scheduled_at=run.last_scheduled_at,
        count=run.count,
        more=run.more,
        due=run.due,
        started_at=run.started_at,
        finished_at=run.finished_at,
        outcome=run.outcome,
        reason=run.reason,
        error=None if run.error is None else harmless(run.error),
        attempts=run.attempts,
        delivery=run.delivery,
        instance=run.instance,
        fence=run.fence,
        manual=run.manual,
        lateness_s=run.lateness_s,
        duration_s=run.duration_s,
    )


def _head(run: Run) -> RunHead:
    return RunHead(
        outcome=run.outcome,
        reason=run.reason,
        scheduled_at=run.scheduled_at,
        started_at=run.started_at,
        finished_at=run.finished_at,
        lateness_s=run.lateness_s,
        duration_s=run.duration_s,
        error=None if run.error is None else head_of(run.error),
    )


def task_item(
    task: Known, runs: Sequence[Run] | None, seen: Seen, me: str, process: str, glance: Glance | None = None
) -> TaskItem:
    """Return a task as a list shows it.

    Args:
        runs: Its latest records, oldest first; None: those that this instance has.
        me: The instance that answers, and its *process*.
        glance: Of a local task of this instance, what it is at a glance: looking again would take longer.
    """
    return TaskItem(**_fields(task, runs, seen, me, process, glance))


def _fields(
    task: Known, runs: Sequence[Run] | None, seen: Seen, me: str, process: str, glance: Glance | None = None
) -> dict[str, Any]:
    face, record = task.face, task.record
    recent: list[Outcome] = []
    last: Run | None = None
    if runs is not None:
        recent, last = [run.outcome for run in runs[-RECENT:]], runs[-1] if runs else None
    elif face is not None:
        recent, last = recent_of(face, RECENT)
    owner = record["runs_on"] if record is not None else None
    if glance is None:
        running = owner is not None or (face is not None and face.running)
        state, next_run_at = task.state, task.next_run_at
    else:
        running, state = glance.state in RUNNING, State(glance.state)
        next_run_at = None if glance.next_at is None else utc(glance.next_at)
    if owner is None and running and face is not None and begun(face) is not None:
        owner = me  # Another instance may have a run of a cluster task that the store was read before.
    is_local = task.scope is Scope.LOCAL
    home = task.home
    return {
        "id": task.id,
        "name": name_of(task.name),
        "scope": task.scope,
        "rule": task.rule,
        "state": state,
        "running": running,
        "overdue": face is not None and face.overdue,
        "next_run_at": next_run_at,
        "last_run": None if last is None else _head(last),
        "recent": recent,
        "holds": holds_of(face, record),
        "counts": dict.fromkeys(Outcome, 0) if face is None else dict(face.counts),
        "runs_on": owner,
        "runs_in": None if owner is None else process if owner == me else seen.process_of(owner),
        "instance": None if not is_local else me if home is None else home["id"],
        "process": None if not is_local else process if home is None else home.get("process"),
        "controlled_here": home is None,
    }


def holds_of(face: ScheduledTask[Any] | None, record: Record | None) -> list[Hold]:
    """Return what keeps a task from running: in this process, and in the store."""
    here = [] if face is None else hosting.holds_of(face)
    stored = [] if record is None else record["holds"]
    return [
        Hold(
            holder=harmless(str(each["holder"])),
            reason=None if each["reason"] is None else harmless(str(each["reason"])),
            since=_moment(each.get("since")),
            until=_moment(each.get("until")),
        )
        for each in (*here, *stored)
    ]


def _moment(text: object) -> datetime | None:
    return datetime.fromisoformat(text) if isinstance(text, str) else None


def task_detail(task: Known, runs: Sequence[Run] | None, seen: Seen, me: str, process: str) -> TaskDetail:
    """Return everything that is known of a task."""
    face = task.face
    nothing = dict.fromkeys(set(TaskDetail.model_fields) - set(TaskItem.model_fields))
    found = {**nothing, **_fields(task, runs, seen, me, process), "note": note_on(task)}
    return TaskDetail(**(found | (_of_code(face) if face is not None else {})))


def _of_code(face: ScheduledTask[Any]) -> dict[str, Any]:
    """Return what the code says of a task."""
    pause = face.retry_interval_s
    function, place, doc = described(face.method)
    return {
        "policy": face.policy,
        "interval_s": face.interval_s,
        "max_timeout_s": face.max_timeout_s,
        "retries": face.retries,
        "retry_interval_s": pause.json_repr() if isinstance(pause, Backoff) else pause,
        "jitter_s": face.jitter_s,
        "until": face.until,
        "expect_success_within_s": face.expect_success_within_s,
        "missed": hosting.missed_of(face),
        "on_lost": hosting.on_lost_of(face),
        "function": function,
        "defined_at": place,
        "doc": doc,
        **(_values(face) if face.show else {}),
    }


def _values(face: ScheduledTask[Any]) -> dict[str, Any]:
    """Return what was given to a task and what came of it, as texts."""
    args, kwargs = shown_arguments(face.method, face.args, face.kws)
    return {"args": args, "kwargs": kwargs, "result": None if face.result is None else shown(face.result)}


def described(func: Callable[..., Any]) -> tuple[str | None, str | None, str | None]:
    """Return the name of a function, its file and line, and its docstring. None is what cannot be known."""
    while isinstance(func, partial):
        func = func.func
    plain = inspect.unwrap(getattr(func, "__func__", func))
    name = getattr(plain, "__qualname__", None) or type(plain).__qualname__
    module = getattr(plain, "__module__", None)
    code = getattr(plain, "__code__", None)  # An object that can be called has none.
    place = None if code is None else f"{code.co_filename}:{code.co_firstlineno}"
    doc = inspect.getdoc(func) if code is not None else None
    return (
        harmless(f"{module}.{name}" if module else str(name)),
        None if place is None else harmless(place),
        None if doc is None else harmless(doc[:MOST_DOC]),
    )


def note_on(task: Known) -> str | None:
    """Return what is special about a task; None if nothing is."""
    if (where := task.home_name) is not None:
        return f"It is a local task of instance {where}: only the endpoint of that process can act on it"
    if task.face is None:
        return "Only other instances have it: pausing, resuming and running it goes through the store"
    if task.state is State.DISABLED and task.scope is Scope.CLUSTER:
        return "It is disabled in this process: other instances run its ticks"
    return None


def upcoming_items(task: Known, moments: Sequence[datetime]) -> list[UpcomingItem]:
    """Return planned ticks of a task."""
    return [UpcomingItem(task=name_of(task.name), task_id=task.id, due=each) for each in moments]
