"""The commands that look: tasks, show, runs, upcoming, explain, instances."""

from __future__ import annotations

import asyncio
from typing import Annotated, TypeAlias

import typer

from ._client import Answer, Query
from ._command import Session, command
from ._complete import complete_outcome, complete_reason, complete_scope, complete_state, complete_task, several
from ._moments import FORMS, instant_of
from ._status import Ended, Status
from ._tasks import find_task, path_of
from ._views import detail_lines, instance_lines, run_lines, task_lines, upcoming_lines

NEXT = 5  # Ticks that `show` tells.

Name: TypeAlias = Annotated[str, typer.Argument(metavar="TASK", help="Name or id.", autocompletion=complete_task)]
MaybeName: TypeAlias = Annotated[
    str | None, typer.Argument(metavar="TASK", help="Name or id. Without it: all tasks.", autocompletion=complete_task)
]
Outcomes: TypeAlias = Annotated[
    list[str] | None,
    several("--outcome", "OUTCOME", f"Only this outcome: {', '.join(complete_outcome(''))}.", complete_outcome),
]
Limit: TypeAlias = Annotated[int, typer.Option("--limit", metavar="N", min=1, max=500, help="List at most N.")]
Cursor: TypeAlias = Annotated[
    str | None,
    typer.Option("--cursor", metavar="TEXT", help='Where to go on: the field "next" of the last --json.'),
]


def instant_option(session: Session, option: str, text: str | None, *, ahead: bool = False) -> str | None:
    """Return an instant as the endpoint takes it.

    Raises:
        Ended: The text means none.
    """
    if text is None:
        return None
    try:
        return instant_of(text, session.screen.now, session.screen.zone, ahead=ahead).isoformat()
    except (ValueError, OverflowError) as exc:
        raise Ended(Status.USAGE, f"{option}: {exc}") from None


def upper(values: list[str] | None) -> list[str]:
    """Return values of an option as the endpoint writes them: a person may type ``timed-out``."""
    return [each.upper().replace("-", "_") for each in values or []]


def note_partial(session: Session, answer: Answer) -> None:
    """Say on standard error why a list may not be complete."""
    if why := answer.data.get("partial"):
        session.screen.warn(f"this may not be complete: {why}")


def add_questions(commands: typer.Typer) -> None:
    """Add the commands that look."""

    @command(commands, "tasks")
    async def tasks(
        session: Session,
        q: Annotated[
            str | None, typer.Option("-q", "--query", metavar="TEXT", help="Only tasks with TEXT in their name.")
        ] = None,
        state: Annotated[
            list[str] | None,
            several("--state", "STATE", f"Only this state: {', '.join(complete_state(''))}.", complete_state),
        ] = None,
        outcome: Outcomes = None,
        scope: Annotated[
            list[str] | None,
            typer.Option("--scope", metavar="SCOPE", help="local or cluster.", autocompletion=complete_scope),
        ] = None,
        overdue: Annotated[bool, typer.Option("--overdue", help="Only tasks that have not succeeded in time.")] = False,
        sort: Annotated[
            str,
            typer.Option(
                "--sort", metavar="KEY", help="name, next_run_at, last_run_at or state; -name reverses the order."
            ),
        ] = "name",
        limit: Limit = 100,
        cursor: Cursor = None,
    ) -> None:
        """List the tasks: state, next run, last run, recent outcomes."""
        query: Query = {
            "q": q, "state": [each.lower() for each in state or []], "outcome": upper(outcome), "scope": upper(scope),
            "overdue": "true" if overdue else None, "sort": sort, "limit": limit, "cursor": cursor,
        }  # fmt: skip
        answer = await session.endpoint.get("api/tasks", query)
        note_partial(session, answer)
        if session.screen.as_json:
            session.screen.write_json(answer.text)
        else:
            session.screen.write(task_lines(session.screen, answer.data))

    @command(commands, "show")
    async def show(session: Session, task: Name) -> None:
        """Show everything about a task."""
        task_id = (await find_task(session.endpoint, task))["id"]
        if session.screen.as_json:
            session.screen.write_json((await session.endpoint.get(path_of(task_id))).text)
            return
        detail, upcoming = await asyncio.gather(
            session.endpoint.get(path_of(task_id)), session.endpoint.get(path_of(task_id, "/upcoming"), {"n": NEXT})
        )
        session.screen.write(detail_lines(session.screen, detail.data, upcoming.data))

    @command(commands, "runs")
    async def runs(
        session: Session,
        task: MaybeName = None,
        outcome: Outcomes = None,
        reason: Annotated[
            list[str] | None,
            several("--reason", "REASON", "Only this reason, e.g. deadline or missed.", complete_reason),
        ] = None,
        since: Annotated[
            str | None, typer.Option("--from", metavar="TIME", help=f"The earliest tick: {FORMS}.")
        ] = None,
        until: Annotated[
            str | None, typer.Option("--to", metavar="TIME", help="The latest tick, in the same forms.")
        ] = None,
        limit: Limit = 50,
        cursor: Cursor = None,
    ) -> None:
        """List past runs and skipped ticks, the newest first."""
        path = "api/runs" if task is None else path_of((await find_task(session.endpoint, task))["id"], "/runs")
        reasons: list[str] = [each.lower().replace("-", " ") for each in reason or []]
        query: Query = {
            "outcome": upper(outcome), "reason": reasons, "from": instant_option(session, "--from", since),
            "to": instant_option(session, "--to", until), "limit": limit, "cursor": cursor,
        }  # fmt: skip
        answer = await session.endpoint.get(path, query)
        note_partial(session, answer)
        if session.screen.as_json:
            session.screen.write_json(answer.text)
        else:
            session.screen.write(run_lines(session.screen, answer.data, with_task=task is None))

    @command(commands, "upcoming")
    async def upcoming(
        session: Session,
        task: MaybeName = None,
        to: Annotated[
            str | None,
            typer.Option("--to", metavar="TIME", help="Until when, e.g. +2h; only without TASK. [default: +1h]"),
        ] = None,
        limit: Limit = 20,
    ) -> None:
        """List the next ticks of a task, or of all tasks."""
        if task is not None and to is not None:
            raise Ended(Status.USAGE, "--to works only without TASK: use --limit to say how many ticks")
        if task is None:
            until = instant_option(session, "--to", to, ahead=True)
            answer = await session.endpoint.get("api/upcoming", {"to": until, "limit": limit})
        else:
            task_id = (await find_task(session.endpoint, task))["id"]
            answer = await session.endpoint.get(path_of(task_id, "/upcoming"), {"n": limit})
        if session.screen.as_json:
            session.screen.write_json(answer.text)
        else:
            session.screen.write(upcoming_lines(session.screen, answer.data))

    @command(commands, "explain")
    async def explain(
        session: Session,
        task: Name,
        at: Annotated[
            str, typer.Option("--at", metavar="TIME", help=f"The time of the tick, or a time near it: {FORMS}.")
        ] = "now",
    ) -> None:
        """Say in one sentence what became of a tick, and why."""
        moment = instant_option(session, "--at", at)
        task_id = (await find_task(session.endpoint, task))["id"]
        answer = await session.endpoint.get(path_of(task_id, "/explain"), {"at": moment})
        if session.screen.as_json:
            session.screen.write_json(answer.text)
        else:
            session.screen.write([answer.data["sentence"]])

    @command(commands, "instances")
    async def instances(session: Session) -> None:
        """List the instances that are alive. The one that answers is bold."""
        answer = await session.endpoint.get("api/instances")
        note_partial(session, answer)
        if session.screen.as_json:
            session.screen.write_json(answer.text)
        else:
            session.screen.write(instance_lines(session.screen, answer.data))
