"""The command top: the dashboard in a terminal, live."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import typer
from rich.text import Text

from ._client import Json, Query
from ._command import Session, command
from ._follow import events_of
from ._status import Ended, Status
from ._tasks import path_of
from ._terminal import check_terminal, full_screen, keys_read
from ._text import clean
from ._top_frame import frame
from ._top_state import Action, State

LEAST_PAUSE_S = 1.0  # Between two looks: a busy scheduler has many events a second.
MOST_PAUSE_S = 5.0  # A run that begins is no event by itself, and relative times go on.
TICK_S = 1.0
BAD = ["FAILED", "TIMED_OUT", "LOST"]

QUESTIONS: dict[str, tuple[str, Query]] = {
    "scheduler": ("api/scheduler", {}),
    "running": ("api/tasks", {"state": ["running", "hung"], "limit": 50}),
    "overdue": ("api/tasks", {"overdue": "true", "limit": 50}),
    "failing": ("api/tasks", {"outcome": BAD, "limit": 50}),
    "held": ("api/tasks", {"state": ["paused", "suspended"], "limit": 50}),
    "upcoming": ("api/upcoming", {"limit": 100}),
    "runs": ("api/runs", {"limit": 50}),
}


def add_top(commands: typer.Typer) -> None:
    """Add the command."""

    @command(commands, "top", has_json=False)
    async def top(session: Session) -> Status:
        """Watch what runs, what fails and what comes, and act on it with keys: ? lists them."""
        check_terminal()
        await session.endpoint.get("api/scheduler")  # What is wrong is said before the screen is taken.
        await Top(session).run()
        return Status.DONE


class Top:
    """The screen, kept up to date until it ends."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._state = State()
        self._stale = asyncio.Event()
        self._redraw = asyncio.Event()
        self._acting: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Show the screen until somebody quits."""
        console = self._session.screen.console
        duties = [asyncio.create_task(each()) for each in (self._look, self._follow)]
        try:
            with keys_read(self._on_key, self._redraw.set), full_screen(console) as draw:
                while not self._state.ends:
                    draw(self._frame())
                    with suppress(TimeoutError):
                        async with asyncio.timeout(TICK_S):
                            await self._redraw.wait()
                    self._redraw.clear()
                    for each in duties:
                        if each.done():
                            each.result()
        finally:
            for each in (*duties, *self._acting):
                each.cancel()
            await asyncio.gather(*duties, *self._acting, return_exceptions=True)

    def _frame(self) -> Text:
        width, height = self._session.screen.console.size
        lines = frame(self._session.screen, self._state, width, height, self._session.endpoint.where)
        return Text("\n").join(lines)

    def _on_key(self, key: str) -> None:
        action = self._state.press(key)
        if action is not None:
            self._state.message = f"{action.what}: asked for"
            acting = asyncio.ensure_future(self._act(action))
            self._acting.add(acting)
            acting.add_done_callback(self._acting.discard)
        self._redraw.set()
        self._stale.set()

    async def _act(self, action: Action) -> None:
        bodies: dict[str, dict[str, object]] = {"run": {"wait_s": 0}, "resume": {}}
        body = bodies.get(action.what, {"reason": action.reason})
        name = clean(action.row.name)
        try:
            await self._session.endpoint.post(path_of(action.row.task_id, f"/{action.what}"), body)
        except Ended as ended:
            self._state.message = f"{name}: {ended}"
        else:
            self._state.message = f"{name}: {DONE[action.what]}"
        self._stale.set()
        self._redraw.set()

    async def _look(self) -> None:
        """Ask for everything that is shown, soon after something has happened, and every few seconds."""
        while True:
            self._stale.clear()
            try:
                answers = await asyncio.gather(*(self._ask(each) for each in QUESTIONS))
            except Ended as ended:
                if ended.status is not Status.UNREACHABLE:
                    raise
                self._state.link = f"away: {ended}"
            else:
                self._state.learn(dict(zip(QUESTIONS, answers, strict=True)))
                if self._state.link.startswith(("away", "connecting")):
                    self._state.link = "polling"
            self._redraw.set()
            await asyncio.sleep(LEAST_PAUSE_S)
            with suppress(TimeoutError):
                async with asyncio.timeout(MOST_PAUSE_S - LEAST_PAUSE_S):
                    await self._stale.wait()

    async def _ask(self, name: str) -> Json:
        path, query = QUESTIONS[name]
        if path == "api/tasks" and self._state.filter:
            query = {**query, "q": self._state.filter}
        return (await self._session.endpoint.get(path, query)).data

    async def _follow(self) -> None:
        """Hear of events; without them, such as when too many follow, looking every few seconds has to do."""
        try:
            async for event in events_of(self._session.endpoint):
                if event.kind == "lost":
                    self._state.link = f"away: {event.data}"
                elif event.kind == "connected":
                    self._state.link = "live"
                self._stale.set()
                self._redraw.set()
        except Ended:
            self._state.link = "polling"


DONE = {"run": "a run begins", "pause": "paused", "resume": "resumed", "cancel": "its run was asked to end"}
