"""The commands that look: tasks, show, runs, upcoming, explain, instances."""

from __future__ import annotations

import asyncio
from typing import Annotated, TypeAlias

import typer

from ._client import Answer, Query
from ._command import Session, command
from ._complete import complete_outcome, complete_reason, complete_scope, complete_state, complete_task
from ._moments import FORMS, instant_of
from ._status import Ended, Status
from ._tasks import find_task, path_of
from ._views import detail_lines, instance_lines, run_lines, task_lines, upcoming_lines

NEXT = 5  # Ticks that `show` tells.

Name: TypeAlias = Annotated[str, typer.Argument(metavar="TASK", help="Name or id.", autocompletion=complete_task)]
MaybeName: TypeAlias = Annotated[
    str | None, typer.Argument(metavar="TASK", help="Name or id; all tasks without it.", autocompletion=complete_task)
]
Outcomes: TypeAlias = Annotated[
    list[str] | None,
    typer.Option("--outcome", metavar="OUTCOME", help="May be repeated.", autocompletion=complete_outcome),
]
Limit: TypeAlias = Annotated[int, typer.Option("--limit", metavar="N", min=1, max=500, help="Most that are listed.")]
Cursor: TypeAlias = Annotated[
    str | None, typer.Option("--cursor", metavar="TEXT", help='The field "next" of the page before, as --json has it.')
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
        q: Annotated[str | None, typer.Option("-q", "--query", metavar="TEXT", help="Only names with TEXT.")] = None,
        state: Annotated[
            list[str] | None,
            typer.Option("--state", metavar="STATE", help="May be repeated.", autocompletion=complete_state),
        ] = None,
        outcome: Outcomes = None,
        scope: Annotated[
            list[str] | None, typer.Option("--scope", metavar="SCOPE", autocompletion=complete_scope)
        ] = None,
        overdue: Annotated[bool, typer.Option("--overdue", help="Only those that have not succeeded in time.")] = False,
        sort: Annotated[
            str,
            typer.Option(
                "--sort", metavar="KEY", help="name, next_run_at, last_run_at or state; -name is from last to first."
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
            typer.Option("--reason", metavar="REASON", help="Why it ended so.", autocompletion=complete_reason),
        ] = None,
        since: Annotated[str | None, typer.Option("--from", metavar="TIME", help="The earliest tick, as --at.")] = None,
        until: Annotated[str | None, typer.Option("--to", metavar="TIME", help="The latest tick, as --at.")] = None,
        limit: Limit = 50,
        cursor: Cursor = None,
    ) -> None:
        """List what became of ticks, the newest first: runs and skips."""
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
            str | None, typer.Option("--to", metavar="TIME", help="Without TASK: until when, e.g. +2h.")
        ] = None,
        limit: Limit = 20,
    ) -> None:
        """List the ticks that come: of a task, or of all tasks within an hour."""
        if task is not None and to is not None:
            raise Ended(Status.USAGE, "--to is for all tasks: leave it out, or say how many ticks with --limit")
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
            str, typer.Option("--at", metavar="TIME", help=f"The tick at or nearest to it: {FORMS}.")
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
        """List the instances that are alive; the one that answers is bold."""
        answer = await session.endpoint.get("api/instances")
        note_partial(session, answer)
        if session.screen.as_json:
            session.screen.write_json(answer.text)
        else:
            session.screen.write(instance_lines(session.screen, answer.data))
