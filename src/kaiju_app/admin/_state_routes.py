"""The routes that show the scheduler, its instances and its health."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Collection
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from typing import NamedTuple

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from starlette.responses import Response

from kaiju_app.scheduler import Outcome, ProblemKind
from kaiju_app.scheduler._hosting import is_onlooker

from ._access import caller_of
from ._api import READING, Api
from ._known import Slices
from ._models import Health, InstanceItem, Lag, Page, SchedulerItem, StoreItem
from ._seen import SHARE, Record, Seen
from ._states import State
from ._text import harmless

ALIVE = (ProblemKind.STOPPED, ProblemKind.STUCK)
LEAST_AGE_S = 0.5  # Seconds for which counts are used again.


def version_of_package() -> str:
    """Return the version of kaiju_app."""
    try:
        return version("kaiju-app")
    except PackageNotFoundError:  # It was copied, and not installed.
        return "unknown"


class Counted(NamedTuple):
    """How many tasks there are: in all, without the local ones of other instances, paused, by state and by outcome."""

    tasks: int
    controlled_here: int
    paused: int
    states: Counter[State]
    outcomes: Counter[Outcome]


class Counts:
    """How many tasks there are, by state and by the outcome of their last run."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._found = Counted(0, 0, 0, Counter(), Counter())
        self._good_until = 0.0
        self._counting = asyncio.Lock()

    async def read(self, seen: Seen) -> Counted:
        """Return the counts."""
        async with self._counting:
            time = asyncio.get_running_loop().time
            if time() >= self._good_until:
                began = time()
                self._found = await self._count(seen)
                self._good_until = began + max(LEAST_AGE_S, SHARE * (time() - began))
            return self._found

    async def _count(self, seen: Seen) -> Counted:
        states: Counter[State] = Counter()
        outcomes: Counter[Outcome] = Counter()
        tasks, slices = self._api.tasks, Slices()
        shared: dict[str, Outcome | None] = {}
        paused = 0
        tasks.glances.begin()
        keys = tasks.keys(seen)
        for key in keys:
            await slices.breathe()
            glance = tasks.glance(key, seen)
            states[State(glance.state)] += 1
            paused += glance.is_paused
            if glance.is_shared:
                shared[key[0]] = glance.outcome
            elif glance.outcome is not None:
                outcomes[glance.outcome] += 1
        lasts = await tasks.lasts(shared, seen)
        for name, outcome_here in shared.items():
            await slices.breathe()
            runs = lasts.get(name)
            outcome = runs[-1].outcome if runs else outcome_here
            if outcome is not None:
                outcomes[outcome] += 1
        return Counted(len(keys), sum(not home for _, home in keys), paused, states, outcomes)


def state_routes(api: Api) -> APIRouter:
    """Return the routes that show the scheduler and its instances."""
    router = APIRouter(responses=READING)
    counts = Counts(api)

    @router.get("/api/scheduler")
    async def scheduler(request: Request) -> SchedulerItem:
        """Return the state of the scheduler that answers, and the sum of what it knows."""
        seen = await api.store.seen()
        found = await counts.read(seen)
        state = api.state
        store = state["store"]
        return SchedulerItem(
            started=state["started"],
            time=api.now,
            instance=state["instance"],
            process=state["process"],
            version=version_of_package(),
            onlooker=is_onlooker(api.scheduler),
            store=None if store is None else StoreItem(**store),
            instances=len(seen.instances),
            health=_health(api, tuple(ProblemKind)),
            holds=[harmless(each) for each in state["holds"]],
            tasks=found.tasks,
            controlled_here=found.controlled_here,
            paused=found.paused,
            states=dict(found.states),
            outcomes=dict(found.outcomes),
            loop_lag=_lag(api),
            may=caller_of(request).rights,
            partial=seen.partial,
        )

    @router.get("/api/instances")
    async def instances() -> Page[InstanceItem]:
        """List the instances that are alive: with a store all that share it, without one this one."""
        seen, me = await api.store.seen(), api.me.instance
        items = [_instance(each, me, len(api.scheduler.tasks)) for each in seen.instances]
        return Page[InstanceItem](items=items, next=None, partial=seen.partial)

    return router


def _lag(api: Api) -> Lag | None:
    lag = api.scheduler.loop_lag
    if lag is None:
        return None
    cause = None if lag.cause is None else harmless(lag.cause)
    return Lag(p50_s=lag.p50_s, p99_s=lag.p99_s, max_s=lag.max_s, cause=cause)


def _instance(each: Record, me: str, own_tasks: int) -> InstanceItem:
    process = each.get("process")
    host, _, pid = (process or "").rpartition(":")
    since = each.get("since")
    return InstanceItem(
        id=each["id"],
        process=process,
        host=host or None,
        pid=int(pid) if pid.isdecimal() else None,
        version=list(each.get("version") or []),
        since=datetime.fromisoformat(since) if isinstance(since, str) else None,
        heard_at=datetime.fromisoformat(each["heard_at"]),
        tasks=own_tasks if each["id"] == me else each.get("local_count"),
        answers=each["id"] == me,
    )


def health_routes(api: Api) -> APIRouter:
    """Return the routes that say whether the scheduler works; anybody may ask."""
    router = APIRouter(responses={503: {"model": Health, "description": "It does not work, for these reasons."}})

    def answer(kinds: Collection[ProblemKind]) -> Response:
        health = _health(api, kinds)
        return JSONResponse(health.model_dump(), 200 if health.healthy else 503)

    @router.get("/health/live", response_model=Health)
    async def live() -> Response:
        """Return whether the scheduler is started and makes progress: 503 if not. Restart the process then."""
        if _reasons(api, ALIVE):
            await asyncio.sleep(0)  # Perhaps the loop has been blocked, and the scheduler's turn is the next one.
            await asyncio.sleep(0)
        return answer(ALIVE)

    @router.get("/health/ready", response_model=Health)
    async def ready() -> Response:
        """Return whether all tasks run as they should: 503 if not, with the reasons."""
        return answer(tuple(ProblemKind))

    return router


def _health(api: Api, kinds: Collection[ProblemKind]) -> Health:
    reasons = _reasons(api, kinds)
    return Health(healthy=not reasons, reasons=reasons)


def _reasons(api: Api, kinds: Collection[ProblemKind]) -> list[str]:
    """Return what is wrong, in sentences without the names of tasks: anybody may read them."""
    problems = [each for each in api.scheduler.health().problems if each.kind in kinds]
    overdue = sum(each.kind is ProblemKind.OVERDUE for each in problems)
    reasons = [harmless(each.text) for each in problems if each.kind is not ProblemKind.OVERDUE]
    return [*reasons, f"tasks that have not succeeded in time: {overdue}"] if overdue else reasons
