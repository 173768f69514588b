"""The words of an explanation: instants, lengths of time, causes and endings as text for people."""

from __future__ import annotations

from kaiju_app._core.clock import epoch_us, utc
from kaiju_app._core.explanation import Cause, CauseKind
from kaiju_app._core.model import Run
from kaiju_app._core.text import headline

SECOND, MINUTE, HOUR, DAY = 1_000_000, 60_000_000, 3_600_000_000, 86_400_000_000


def when(moment: int | None, near: int | None = None) -> str:
    """Return an instant in wall-clock microseconds, in UTC; without the date if *near* is on the same day."""
    if moment is None:
        return "an unknown time"
    shown = utc(moment).replace(tzinfo=None)
    text = shown.isoformat(" ", "milliseconds" if shown.microsecond >= 1_000 else "seconds") + "Z"
    return text.partition(" ")[2] if near is not None and utc(near).date() == shown.date() else text


def length(us: int) -> str:
    """Return a length of time."""
    if us < MINUTE:
        return f"{us} µs" if us < 1_000 else f"{us / 1_000:.3g} ms" if us < SECOND else f"{us / SECOND:.3g} s"
    for unit, smaller, one, many in ((HOUR, SECOND, "min", "s"), (DAY, MINUTE, "h", "min"), (None, HOUR, "d", "h")):
        if unit is None or us < unit:
            size = {"min": MINUTE, "h": HOUR, "d": DAY}[one]
            whole, rest = divmod(us, size)
            return f"{whole} {one} {rest // smaller} {many}" if rest >= smaller else f"{whole} {one}"
    return ""


def cause_text(cause: Cause, near: int) -> str:
    """Return what has happened; dates are left out if they are that of *near*."""
    since = None if cause.since is None else epoch_us(cause.since)
    until = None if cause.until is None else epoch_us(cause.until)
    span = _span(since, until, near)
    by = "" if cause.who is None else f" by {cause.who}"
    there = "" if cause.instance is None else f" of instance {cause.instance}"
    match cause.kind:
        case CauseKind.OVERLAP:
            tick = when(None if cause.tick is None else epoch_us(cause.tick), near)
            took = f", since {when(since, near)}" if until is None else ""
            if since is not None and until is not None:
                took = f", and took {length(until - since)}"
            return f"the run of tick {tick} was in progress{took}"
        case CauseKind.LOST:
            return f"the run before it, on {cause.who}, was lost at {when(until, near)}"
        case CauseKind.HELD:
            return f"the task was held{by}{span}"
        case CauseKind.DISABLED:
            where = "" if cause.instance is None else f" on instance {cause.instance}"
            return f"the task was disabled{where}{by}{span}"
        case CauseKind.BLOCKED:
            return f"the loop{there} was blocked {cause.who + ' ' if cause.who else ''}{span.strip()}"
        case CauseKind.SLEPT:
            return f"the machine{there} slept{span}"
        case CauseKind.CLOCK:
            return f"the wall clock{there} was set from {when(since, near)} to {when(until, near)}"
        case CauseKind.STORE:
            asked = "this process" if cause.instance is None else f"instance {cause.instance}"
            return f"the store did not answer {asked}{span}"
        case CauseKind.ABSENT:
            return f"no instance was heard of{span}"
        case CauseKind.LEFT:
            return f"instance {cause.instance} left at {when(since, near)}, and the others divided the tasks anew"
        case CauseKind.CAME:
            return f"instance {cause.instance} came at {when(since, near)}, and the tasks were divided anew"
        case CauseKind.STOPPED:
            if since is None:
                return (
                    f"the scheduler was first started{span}"
                    if until is not None
                    else "the scheduler was not started yet"
                )
            return f"the scheduler was stopped{span}"
        case CauseKind.RESCHEDULED:
            return f"the task got another rule at {when(until, near)}"


def _span(since: int | None, until: int | None, near: int) -> str:
    if since is None:
        return "" if until is None else f" at {when(until, near)}"
    if until is None:
        return f" since {when(since, near)}"
    return f" from {when(since, near)} to {when(until, near)}"


def run_text(run: Run, late: str, *, shared: bool) -> str:
    """Return how a run ended, where, and how late it was."""
    tick = epoch_us(run.scheduled_at)
    asked = "was asked for by run_now(), and " if run.manual else ""
    where = f" on instance {run.instance}" if shared else ""
    started = "" if run.started_at is None else f" at {when(epoch_us(run.started_at), tick)}"
    ran = "ran" if run.attempts else "was started"
    text = f"{asked}{ran}{started}{where}{', ' if late else ''}{late}: {run.outcome.value}"
    if run.reason is not None:
        text += f" ({run.reason.value})"
    if run.duration_s is not None:
        text += f" after {length(round(run.duration_s * 1e6))}"
    if not run.attempts:
        text += ", before its function was called"
    if run.attempts > 1:
        text += f" and {run.attempts} attempts"
    if run.error:
        text += f": {headline(run.error)}"
    return text
