"""The command tail: what happens, line by line, as it happens."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.text import Text

from ._client import Json
from ._command import Session, command
from ._complete import complete_outcome, complete_task, several
from ._follow import Event, events_of
from ._moments import length
from ._palette import STATES
from ._questions import upper
from ._status import Status
from ._table import cut, shortened, styled
from ._tasks import find_task
from ._text import clean
from ._views import at, outcome_cell, why_of

NAME = 30  # Columns for the name of a task.
TITLES = ("gone", "gap")


def add_tail(commands: typer.Typer) -> None:
    """Add the command."""

    @command(commands, "tail")
    async def tail(
        session: Session,
        task: Annotated[
            list[str] | None,
            typer.Argument(
                metavar="TASK...", help="Names or ids. Without any: all tasks.", autocompletion=complete_task
            ),
        ] = None,
        outcome: Annotated[
            list[str] | None,
            several("--outcome", "OUTCOME", "Only runs that end with this outcome.", complete_outcome),
        ] = None,
    ) -> Status:
        """Print what happens on all instances, until Ctrl-C: ends of runs, changes of state, pauses, suspensions."""
        ids = {(await find_task(session.endpoint, each))["id"] for each in task or []}
        screen = session.screen
        names: dict[str, str] = {}
        was_lost = False
        async for event in events_of(session.endpoint):
            if event.kind == "connected":
                if was_lost:
                    screen.warn(f"{session.endpoint.where} answers again")
                was_lost = False
            elif event.kind == "lost":
                if not was_lost:
                    screen.warn(f"{event.data}; trying again")
                was_lost = True
            elif is_wanted(event, ids, upper(outcome)):
                if screen.as_json:
                    screen.write_json('{"event":"%s","data":%s}' % (event.kind, event.text))  # noqa: UP031
                else:
                    screen.write([line_of(session, event, names)])
        return Status.DONE


def is_wanted(event: Event, ids: set[str], outcomes: list[str]) -> bool:
    """Return whether an event passes the filters; that events are missing always does."""
    if event.kind == "gap":
        return True
    if ids and event.data.get("task_id") not in ids:
        return False
    return not outcomes or (event.kind == "ended" and event.data["outcome"] in outcomes)


def line_of(session: Session, event: Event, names: dict[str, str]) -> Text:
    """Return an event as a line for people."""
    data = event.data
    if event.kind == "gap":
        missed = "some events" if data["missed"] is None else f"{data['missed']} events"
        return Text(f"({missed} are missing here)", style="dim")
    name = data.get("task") or names.get(data["task_id"], data["task_id"])
    names[data["task_id"]] = name
    line = styled(f"{_now(session)}  ", "dim")
    line.append(f"{shortened(clean(name), NAME):{NAME}}  ")
    if event.kind == "ended":
        line.append_text(_ending(session, data))
    elif event.kind == "task":
        line.append(clean(data["state"]), style=STATES.get(data["state"], ""))
        for hold in data["holds"]:
            line.append(f", held by {clean(hold['holder'])}" + (f": {clean(hold['reason'])}" if hold["reason"] else ""))
    else:
        line.append("gone")
    return cut(line, session.screen.width) if session.screen.console.is_terminal else line


def _ending(session: Session, run: Json) -> Text:
    many = f" x{run['count']}{'+' if run['more'] else ''}" if run["count"] != 1 else ""
    lasted = "" if run["duration_s"] is None else f" in {length(run['duration_s'])}"
    text = outcome_cell(session.screen, run["outcome"], f"{many}{lasted}")
    why = why_of(run)
    return text.append(f": {clean(why)}" if why else "")


def _now(session: Session) -> str:
    return at(session.screen, session.screen.now.isoformat())
