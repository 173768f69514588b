"""What happens, as it happens: one buffer of events that all who follow share, each from a place of its own."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import timedelta

from kaiju_app._core.clock import EPOCH
from kaiju_app._core.logs import logger
from kaiju_app._core.text import random_identity
from kaiju_app.scheduler import Run, Subscription

from ._api import Api
from ._items import holds_of, run_item
from ._known import Known, Slices
from ._seen import SHARE
from ._text import name_of

log = logger("kaiju_app.admin")

MOST_FOLLOWERS = 200
MOST_KEPT = 1_024  # Events that a follower may have missed, and still gets.
MOST_WAITING = 256  # Events that wait for a follower that does not read; then it is dropped.
AT_ONCE = 4  # Followers that are told in one turn of the loop, which takes each of them about 0.1 ms.
BEAT_S = 0.1  # Events are sent together: a thousand runs a second are ten messages a second.
LOOK_S = 1.0  # How often all tasks are looked at, for states, holds, and the runs of other instances.
KEPT_S = 60.0  # After the last follower has left, so that it finds what it has missed when it comes back.
TOLERANCE = timedelta(seconds=5)  # Of the clocks of other instances: what ended before anybody followed is not told.
MOST_RUNS = 4_096  # Runs that are remembered, so that none is told twice.

Look = tuple[str, tuple[tuple[str, str | None], ...]]
"""State and holds of a task."""


class Follower:
    """Somebody who follows the events.

    Attributes:
        place: Number of the last event that was given to it.
        sending: Whether it has been given events that it has not read.
        task: The asyncio task that serves it.
        is_dropped: It was too slow.
        turn: Set when there is something to tell it.
    """

    def __init__(self, place: int) -> None:
        self.place = place
        self.sending = False
        self.task = asyncio.current_task()
        self.is_dropped = False
        self.turn = asyncio.Event()


class Hub:
    """Collects what happens while somebody follows, and for a minute after that."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._era = random_identity()[:8]
        self._number = 0
        self._kept: deque[tuple[int, bytes]] = deque(maxlen=MOST_KEPT)
        self._new: deque[Callable[[], tuple[str, str]]] = deque(maxlen=MOST_WAITING)
        self._overrun = 0
        self._told: dict[tuple[object, ...], None] = {}
        self._looks: dict[str, Look] | None = None
        self._revs: dict[str, int] = {}
        self._followers: set[Follower] = set()
        self._since = EPOCH
        self._texts: dict[tuple[int, int], bytes] = {}
        self._subscription: Subscription | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._end: asyncio.TimerHandle | None = None

    # --- followers ---

    @property
    def is_full(self) -> bool:
        """Whether nobody more may follow."""
        return len(self._followers) >= MOST_FOLLOWERS

    def follow(self, last_id: str | None) -> tuple[Follower, list[bytes]]:
        """Return a new follower, and the first it is told: a gap, if there are events it has missed for good."""
        self._start()
        place, first = self._number, []
        if last_id:
            era, _, number = last_id.partition("-")
            oldest = self._kept[0][0] if self._kept else self._number + 1
            is_known = era == self._era and number.isdecimal() and oldest - 1 <= int(number) <= self._number
            if is_known:
                place = int(number)
            else:
                first.append(_encoded(None, "gap", json.dumps({"missed": None})))
        follower = Follower(place)
        self._followers.add(follower)
        return follower, first

    def leave(self, follower: Follower) -> None:
        """Let a follower go."""
        self._followers.discard(follower)
        if not self._followers:
            self._end = asyncio.get_running_loop().call_later(KEPT_S, self._stop)

    async def next(self, follower: Follower, timeout_s: float) -> bytes:
        """Wait for events after the place of *follower*; return them. After *timeout_s* there may be none."""
        follower.turn.clear()
        if follower.place == self._number:
            with suppress(TimeoutError):
                async with asyncio.timeout(timeout_s):
                    await follower.turn.wait()
        text = self._after(follower.place)
        follower.place = self._number
        return text

    def _after(self, place: int) -> bytes:
        """Return the events after *place*: nearly all followers are at the same one, and get the same bytes."""
        key = place, self._number
        text = self._texts.get(key)
        if text is None:
            found = [each for number, each in self._kept if number > place]
            missed = self._number - place - len(found)
            text = b"".join([_encoded(None, "gap", json.dumps({"missed": missed}))] * bool(missed) + found)
            self._texts[key] = text
        return text

    # --- events ---

    def _start(self) -> None:
        if self._end is not None:
            self._end.cancel()
            self._end = None
        if self._tasks and all(not each.done() for each in self._tasks):
            return
        self._stop()
        loop = asyncio.get_running_loop()
        self._looks = None
        self._since = self._api.now - TOLERANCE
        self._subscription = self._api.scheduler.subscribe(self._on_ending)
        self._tasks = [
            loop.create_task(self._beat(), name="kaiju_app: admin sends events"),
            loop.create_task(self._watch(), name="kaiju_app: admin looks for events"),
        ]

    def _stop(self) -> None:
        if self._subscription is not None:
            self._subscription()
            self._subscription = None
        for each in self._tasks:
            each.cancel()
        self._tasks = []

    def _on_ending(self, run: Run) -> None:
        key = run.task, run.scheduled_at, run.manual, run.delivery, run.outcome, run.count
        if key in self._told:
            return
        self._told[key] = None
        if len(self._told) > MOST_RUNS:
            del self._told[next(iter(self._told))]
        self._add(lambda: ("ended", run_item(run, self._api.tasks.ids).model_dump_json()))

    def _add(self, event: Callable[[], tuple[str, str]]) -> None:
        """Have an event sent with the next beat. It is written then: there may be more than anybody can be told."""
        self._overrun += len(self._new) == MOST_WAITING
        self._new.append(event)

    async def _beat(self) -> None:
        """Send what is new, and drop who does not read."""
        while True:
            await asyncio.sleep(BEAT_S)
            slices, was = Slices(step=2), self._number
            self._number += self._overrun  # These are missing, and followers are told of a gap.
            self._overrun = 0
            while self._new:
                kind, values = self._new.popleft()()
                self._number += 1
                self._kept.append((self._number, _encoded(f"{self._era}-{self._number}", kind, values)))
                await slices.breathe()
            for each in [each for each in self._followers if self._number - each.place > MOST_WAITING]:
                if each.sending and each.task is not None:
                    each.is_dropped = True
                    each.task.cancel()
            if self._number != was:
                self._texts.clear()
                await self._wake()

    async def _wake(self) -> None:
        """Tell the followers, a few in each turn of the loop: two hundred at once would hold up the tasks."""
        for place, each in enumerate(list(self._followers)):
            each.turn.set()
            if place % AT_ONCE == AT_ONCE - 1:
                await asyncio.sleep(0)  # They are told.
                await asyncio.sleep(0)  # What has become due meanwhile comes first.

    async def _watch(self) -> None:
        """Look at all tasks again and again: their states and holds, and what other instances have run."""
        time = asyncio.get_running_loop().time
        while True:
            began = time()
            try:
                await self._look()
            except Exception:  # Events are a comfort; whatever this is, the next look may work.
                log.exception("looking for events failed")
            await asyncio.sleep(max(LOOK_S, SHARE * (time() - began)))

    async def _look(self) -> None:
        api, slices = self._api, Slices(step=4)
        seen = await api.store.seen()
        before, self._looks = self._looks, {}
        changed = []
        for key in api.tasks.keys(seen):
            await slices.breathe()
            task = api.tasks.known(key, seen)
            look = task.state.value, tuple((each.holder, each.reason) for each in holds_of(task.face, task.record))
            self._looks[task.id] = look
            if before is not None and before.get(task.id) != look:
                self._add(_state_of(task, look))
            if task.record is not None:
                rev = int(task.record["rev"])
                if self._revs.get(task.name, rev) != rev:
                    changed.append(task)
                self._revs[task.name] = rev
        for gone in (before or {}).keys() - self._looks.keys():
            self._add(_gone(gone))
        histories = await api.tasks.histories(changed[:MOST_WAITING])
        self._tell(run for runs in histories.values() for run in runs)

    def _tell(self, runs: Iterable[Run]) -> None:
        for run in runs:
            if run.finished_at is not None and run.finished_at >= self._since:
                self._on_ending(run)


def _state_of(task: Known, look: Look) -> Callable[[], tuple[str, str]]:
    state, holds = look
    told = [{"holder": holder, "reason": reason} for holder, reason in holds]
    values = {"task": name_of(task.name), "task_id": task.id, "state": state, "holds": told}
    return lambda: ("task", json.dumps(values))


def _gone(task_id: str) -> Callable[[], tuple[str, str]]:
    return lambda: ("gone", json.dumps({"task_id": task_id}))


def _encoded(event_id: str | None, kind: str, values: str) -> bytes:
    head = "" if event_id is None else f"id: {event_id}\n"
    return f"{head}event: {kind}\ndata: {values}\n\n".encode()
