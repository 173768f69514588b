"""What the endpoint answers, as lines for people."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

from rich.text import Text

from ._client import Json
from ._moments import length, local_time, relative
from ._palette import OVERDUE, STATES, look_of
from ._screen import Screen
from ._table import Cell, Column, cut, styled, table
from ._text import clean

RECENT = 10
LABEL = 12


def moment_of(text: str | None) -> datetime | None:
    """Return an instant of the endpoint."""
    return None if text is None else datetime.fromisoformat(text)


def ago(screen: Screen, text: str | None) -> str:
    """Return how far an instant is from now; a dash if there is none."""
    moment = moment_of(text)
    return "-" if moment is None else relative(moment, screen.now)


def at(screen: Screen, text: str | None) -> str:
    """Return an instant in local time; a dash if there is none."""
    moment = moment_of(text)
    return "-" if moment is None else local_time(moment, screen.now, screen.zone)


def outcome_cell(screen: Screen, outcome: str | None, more: str = "") -> Text:
    """Return an outcome with its mark, in its colour."""
    look = look_of(outcome)
    text = screen.mark(look)
    text.append(f" {clean((outcome or 'none').lower().replace('_', ' '))}{more}", style=look.color)
    return text


def state_cell(task: Json) -> Text:
    """Return the state of a task; that it is overdue counts more."""
    if task["overdue"]:
        return styled("overdue" if task["state"] == "waiting" else f"{task['state']}!", OVERDUE)
    return styled(task["state"], STATES.get(task["state"], ""))


def recent_cell(screen: Screen, outcomes: Sequence[str], most: int = RECENT) -> Text:
    """Return the marks of the last outcomes, the newest at the right."""
    return Text("").join(screen.mark(look_of(each)) for each in outcomes[-most:])


def task_lines(screen: Screen, page: Json) -> Iterable[Text]:
    """Yield the table of tasks."""
    columns = [Column("TASK", gives=True), Column("STATE"), Column("NEXT"), Column("LAST"), Column("RECENT")]
    rows: list[list[Cell]] = []
    for task in page["items"]:
        last = task["last_run"]
        rows.append([
            task["name"],
            state_cell(task),
            ago(screen, task["next_run_at"]),
            styled("never") if last is None else outcome_cell(
                screen, last["outcome"], f" {ago(screen, last['finished_at'] or last['scheduled_at'])}"
            ),
            recent_cell(screen, task["recent"]),
        ])  # fmt: skip
    yield from table(columns, rows, screen.width) if rows else [Text("No task matches.")]
    if page["next"] is not None:
        yield Text("There are more: use --limit 500, or -q TEXT to search for names.", style="dim")


def detail_lines(screen: Screen, task: Json, upcoming: Json) -> Iterable[Text]:
    """Yield everything about a task."""
    head = styled(task["name"], "bold")
    head.append(f"  {clean(task['id'])}", style="dim")
    yield cut(head, screen.width)
    yield labelled("state", state_cell(task), screen)
    yield labelled("rule", task["rule"], screen)
    for hold in task["holds"]:
        yield labelled("held", hold_text(screen, hold), screen)
    moments = [each["due"] for each in upcoming["items"]] or [task["next_run_at"]]
    for label, moment in zip(["next", *[""] * len(moments)], moments, strict=False):
        yield labelled(label, "-" if moment is None else f"{at(screen, moment)}  {ago(screen, moment)}", screen)
    yield from last_lines(screen, task["last_run"])
    counts = ", ".join(f"{number} {name.lower()}" for name, number in task["counts"].items() if number)
    yield labelled("counts", counts or "no tick yet in this process", screen)
    for label, text in _facts(task):
        yield labelled(label, text, screen)
    for remark in upcoming["remarks"]:
        yield labelled(remark["level"], remark["text"], screen)
    yield screen.zone_line()


def hold_text(screen: Screen, hold: Json) -> str:
    """Return who holds a task, why and until when."""
    reason = f": {hold['reason']}" if hold["reason"] else ""
    until = f", until {at(screen, hold['until'])}" if hold["until"] else ""
    return f"by {hold['holder']}{until}{reason}"


def last_lines(screen: Screen, last: Json) -> Iterable[Text]:
    """Yield how the last run of a task ended."""
    if last is None:
        yield labelled("last", "never", screen)
        return
    lasted = "" if last["duration_s"] is None else f", took {length(last['duration_s'])}"
    reason = f" ({last['reason'].lower()})" if last["reason"] else ""
    when = f"{reason} {ago(screen, last['finished_at'] or last['scheduled_at'])}{lasted}"
    yield labelled("last", outcome_cell(screen, last["outcome"], when), screen)
    if last["error"]:
        yield labelled("error", last["error"], screen)


def _facts(task: Json) -> Iterable[tuple[str, str]]:
    if task["runs_on"]:
        yield "runs in", task["runs_in"] or task["runs_on"]
    yield "scope", task["scope"].lower()
    if task["policy"]:
        yield "policy", task["policy"].lower()
    for label, field in (("deadline", "max_timeout_s"), ("succeeds in", "expect_success_within_s")):
        if task[field]:
            yield label, length(task[field])
    if task["retries"]:
        yield "retries", str(task["retries"])
    if task["process"]:
        yield "process", task["process"]
    if task["function"]:
        yield "function", f"{task['function']}  {task['defined_at'] or ''}".rstrip()
    if task["doc"]:
        yield "about", task["doc"].strip().partition("\n")[0]
    if task["args"] is not None:
        given = [*task["args"], *(f"{name}={value}" for name, value in task["kwargs"].items())]
        yield "arguments", ", ".join(given) or "none"
    if task["result"] is not None:
        yield "result", task["result"]
    if task["note"]:
        yield "note", task["note"]


def labelled(label: str, text: Cell, screen: Screen) -> Text:
    """Return a line with a label before it."""
    line = styled(f"{label:{LABEL}}", "dim")
    line.append_text(text if isinstance(text, Text) else styled(text))
    return cut(line, screen.width) if screen.console.is_terminal else line


def run_lines(screen: Screen, page: Json, *, with_task: bool) -> Iterable[Text]:
    """Yield the table of a part of the ledger, the newest first."""
    columns = [Column("TICK"), Column("TASK", gives=True), Column("OUTCOME"), Column("TOOK", right=True)]
    columns += [Column("LATE", right=True), Column("WHY", gives=True)]
    rows = [run_row(screen, run) for run in page["items"]]
    if not with_task:
        del columns[1]
        rows = [[row[0], *row[2:]] for row in rows]
    yield from table(columns, rows, screen.width) if rows else [Text("No record matches.")]
    if page["oldest"] is not None:
        yield Text(f"The oldest record that is kept: {ago(screen, page['oldest'])}.", style="dim")
    if page["next"] is not None:
        yield Text("There are older records: use --limit 500, or --to with an earlier time.", style="dim")
    yield screen.zone_line()


def run_row(screen: Screen, run: Json) -> list[Cell]:
    """Return a record of the ledger as cells: tick, task, outcome, duration, lateness, why."""
    many = f" x{run['count']}{'+' if run['more'] else ''}" if run["count"] != 1 else ""
    return [
        at(screen, run["scheduled_at"]) + (" by hand" if run["manual"] else ""),
        run["task"],
        outcome_cell(screen, run["outcome"], many),
        length(run["duration_s"]),
        length(run["lateness_s"]),
        why_of(run),
    ]


def why_of(run: Json) -> str:
    """Return why a run ended so: its error, or the reason."""
    reason = (run["reason"] or "").lower().replace("_", " ")
    error = (run["error"] or "").partition("\n")[0]
    return f"{reason}: {error}" if reason and error else error or reason


def upcoming_lines(screen: Screen, found: Json) -> Iterable[Text]:
    """Yield the table of ticks that come."""
    columns = [Column("DUE"), Column("IN"), Column("TASK", gives=True)]
    rows = [[at(screen, each["due"]), ago(screen, each["due"]), each["task"]] for each in found["items"]]
    yield from table(columns, rows, screen.width) if rows else [Text("Nothing is due in that time.")]
    if found.get("truncated"):
        yield Text("There are more ticks in that time: use --limit 500.", style="dim")
    for remark in found.get("remarks", ()):
        yield labelled(remark["level"], remark["text"], screen)
    yield screen.zone_line()


def instance_lines(screen: Screen, page: Json) -> Iterable[Text]:
    """Yield the table of instances."""
    columns = [Column("PROCESS", gives=True), Column("INSTANCE"), Column("UP"), Column("HEARD"), Column("VERSION")]
    columns.append(Column("TASKS", right=True))
    rows: list[list[Cell]] = []
    for each in page["items"]:
        since = moment_of(each["since"])
        rows.append([
            styled(each["process"] or "unknown", "bold" if each["answers"] else ""),
            styled(each["id"][:8]),
            "-" if since is None else relative(since, screen.now).removesuffix(" ago"),
            ago(screen, each["heard_at"]),
            ".".join(map(str, each["version"])) or "-",
            "-" if each["tasks"] is None else str(each["tasks"]),
        ])  # fmt: skip
    yield from table(columns, rows, screen.width) if rows else [Text("No instance is alive.")]
