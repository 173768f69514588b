"""The commands that change something: run-now, pause, resume, cancel."""

from __future__ import annotations

from typing import Annotated, TypeAlias

import typer

from ._client import Answer, Json
from ._command import Session, command
from ._complete import complete_task
from ._moments import about, length, seconds_of
from ._questions import Name
from ._status import Ended, Status
from ._tasks import find_task, path_of
from ._text import clean
from ._views import hold_text, outcome_cell, state_cell, why_of

ACCEPTED = 202
MOST_WAIT_S = 30

OneOrAll: TypeAlias = Annotated[
    str | None, typer.Argument(metavar="TASK", help="Name or id. For all tasks: --all.", autocompletion=complete_task)
]
All: TypeAlias = Annotated[bool, typer.Option("--all", help="All tasks, instead of TASK.")]
ReasonText: TypeAlias = Annotated[
    str, typer.Option("--reason", metavar="TEXT", help="Why you do this. It is logged, and shown to others.")
]


async def target_of(session: Session, task: str | None, everything: bool) -> str:
    """Return the path of what a command acts on: a task, or all tasks.

    Raises:
        Ended: Neither or both were given, or there is no such task.
    """
    if (task is None) != everything:
        raise Ended(Status.USAGE, "give either TASK or --all")
    return "api" if task is None else path_of((await find_task(session.endpoint, task))["id"])


def write_task(session: Session, answer: Answer, note: str = "") -> None:
    """Write the state of a task that was acted on, and a *note*."""
    task = answer.data
    line = session.screen.console.render_str("", markup=False)
    line.append(f"{clean(task['name'])}: ", style="bold").append_text(state_cell(task))
    for hold in task["holds"]:
        line.append(f", held {clean(hold_text(session.screen, hold))}")
    session.screen.write([line.append(note)])


def write_all(session: Session, what: str, found: Json) -> Status:
    """Write on how many tasks a command has acted, and on which it has not."""
    session.screen.write([f"{what} {found['tasks']} tasks."])
    for each in found["elsewhere"]:
        session.screen.warn(f"the local tasks of {each} are left as they are: ask the endpoint of their own process")
    for each in found["failed"]:
        session.screen.warn(each)
    return Status.FAILED if found["failed"] else Status.DONE


def add_operations(commands: typer.Typer) -> None:
    """Add the commands that change something."""

    @command(commands, "run-now")
    async def run_now(
        session: Session,
        task: Name,
        wait: Annotated[
            str | None,
            typer.Option("--wait", metavar="TIME", help="Wait for its end, at most 30s; status 1 unless it succeeded."),
        ] = None,
    ) -> Status:
        """Run a task now. Its next ticks stay where they are."""
        wait_s = 0.0 if wait is None else duration_option("--wait", wait)
        if wait_s > MOST_WAIT_S:
            raise Ended(Status.USAGE, f"--wait: {wait!r} must be at most {MOST_WAIT_S} s; `kaiju tail` follows longer")
        path = path_of((await find_task(session.endpoint, task))["id"], "/run")
        answer = await session.endpoint.post(path, {"wait_s": wait_s}, wait_s)
        has_ended = answer.status != ACCEPTED
        if session.screen.as_json:
            session.screen.write_json(answer.text)
        elif has_ended:
            write_ending(session, answer.data)
        else:
            await write_requested(session, answer.data, wait_s)
        if has_ended:
            return Status.DONE if answer.data["outcome"] == "SUCCEEDED" else Status.FAILED
        return Status.DONE if wait is None else Status.FAILED

    @command(commands, "pause")
    async def pause(
        session: Session,
        reason: ReasonText,
        task: OneOrAll = None,
        for_: Annotated[
            str | None, typer.Option("--for", metavar="TIME", help="How long, e.g. 2h. Default: until `kaiju resume`.")
        ] = None,
        everything: All = False,
    ) -> Status:
        """Start no more runs of a task, or of all tasks. A run in progress goes on."""
        for_s = None if for_ is None else duration_option("--for", for_)
        path = await target_of(session, task, everything)
        answer = await session.endpoint.post(f"{path}/pause", {"reason": reason, "for_s": for_s})
        return write_changed(session, "Paused", answer, everything=everything)

    @command(commands, "resume")
    async def resume(session: Session, task: OneOrAll = None, everything: All = False) -> Status:
        """End a pause."""
        path = await target_of(session, task, everything)
        return write_changed(
            session, "Resumed", await session.endpoint.post(f"{path}/resume", {}), everything=everything
        )

    @command(commands, "cancel")
    async def cancel(session: Session, task: Name, reason: ReasonText) -> None:
        """Ask the run in progress to end. A task with the policy SHIELD refuses."""
        path = path_of((await find_task(session.endpoint, task))["id"], "/cancel")
        answer = await session.endpoint.post(path, {"reason": reason})
        write_changed(session, "Cancelled", answer, everything=False, note="; its run was asked to end")


def write_changed(session: Session, what: str, answer: Answer, *, everything: bool, note: str = "") -> Status:
    """Write what the endpoint says after a change."""
    if session.screen.as_json:
        session.screen.write_json(answer.text)
        return Status.FAILED if everything and answer.data["failed"] else Status.DONE
    if everything:
        return write_all(session, what, answer.data)
    write_task(session, answer, note)
    return Status.DONE


def write_ending(session: Session, run: Json) -> None:
    """Write how a run ended."""
    line = outcome_cell(session.screen, run["outcome"], f" after {length(run['duration_s'])}")
    why = why_of(run)
    session.screen.write([line.append(f": {clean(why)}" if why else "")])


async def write_requested(session: Session, asked: Json, wait_s: float) -> None:
    """Write that a run has not ended yet; if no instance is alive to begin it, say so."""
    waited = f"has not ended within {about(wait_s)}" if wait_s else "is requested"
    session.screen.write([f"A run of {clean(asked['task'])} {waited}; `kaiju runs` shows how it ends."])
    if not (await session.endpoint.get("api/instances")).data["items"]:
        session.screen.warn("no instance is alive: the run begins when one starts")


def duration_option(option: str, text: str) -> float:
    """Return the seconds of an option.

    Raises:
        Ended: The text means none.
    """
    try:
        return seconds_of(text)
    except ValueError as exc:
        raise Ended(Status.USAGE, f"{option}: {exc}") from None
