"""One life of an application: its services and its scheduler, from the first ``init()`` to the last ``close()``."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ._keeper import HURRY_S, PREFIX, Ending, Keeper, log
from ._part import Part
from .errors import StartFailed
from .scheduler import Scheduler

RUNS_S = 1.0  # For runs that have not ended when somebody has no patience any more: most give way at once.


@dataclass(frozen=True, slots=True)
class Limits:
    """Seconds that a service has: for its start, for ``post_init()``, for its end."""

    start_s: float
    post_init_s: float
    close_s: float


class Unasked(Part):
    """A service that need not say how it is before it counts as started."""

    async def _check(self) -> None: ...


class Course:
    """One life of an application: begun once, and ended once, wherever it had come to.

    Args:
        name: Name of the application.
        scheduler: Its scheduler.
        parts: Its services, in the order of their start.
        limits: What they have time for.
    """

    def __init__(self, name: str, scheduler: Scheduler, parts: Sequence[Part], limits: Limits) -> None:
        self.parts = parts
        self.problems: list[str] = []
        self.hurried = False  # Somebody has no patience: what is still to be done has little time.
        self._name = name
        self._scheduler = scheduler
        self._limits = limits
        self._known_tasks = frozenset(scheduler.tasks)
        self._background: list[tuple[Part, asyncio.Task[None]]] = []
        self._ending = False

    # --- begin ---

    async def begin(self) -> None:
        """Start the services in order, then the scheduler.

        Raises:
            StartFailed: A service that is not optional could not start.
            CancelledError: The caller was cancelled, and with it what was going on.
        """
        await self.begin_services()
        await self._scheduler.start()

    async def begin_services(self) -> None:
        """Start the services in order; see ``begin()``."""
        for part in self.parts:
            await self._start(part)

    def go_on(self) -> None:
        """Let ``post_init()`` of all services run in the background."""
        self._background = [
            (part, asyncio.create_task(self._post_init(part), name=f"{PREFIX}{part}: post_init"))
            for part in self.parts
            if part.open
        ]

    async def _post_init(self, part: Part) -> None:
        if not self._ending:  # Not if somebody was so quick to stop it.
            await part.post_init(self._limits.post_init_s)

    async def _start(self, part: Part) -> None:
        """Start one service. An optional one that fails leaves its place empty."""
        known_tasks = frozenset(self._scheduler.tasks)
        try:
            self._check_needs(part)
            await part.start(self._limits.start_s)
        except StartFailed as exc:
            if not part.optional:
                raise
            part.error = str(exc)
            log.warning("%s. It is optional: the application starts without it", exc.what, exc_info=exc.__cause__)
            ending = await part.close(self._limits.close_s)
            self._remove_tasks(known_tasks)
            for link in (link for other in self.parts for link in other.links):
                if link.target is part.service and not link.need.required:
                    setattr(link.service, link.field, None)
            _pass_on([ending])

    def _remove_tasks(self, known: frozenset[str]) -> None:
        """Remove the tasks that are not *known*."""
        for name in [name for name in self._scheduler.tasks if name not in known]:
            self._scheduler.tasks[name].remove()

    def _check_needs(self, part: Part) -> None:
        failed = {id(other.service): other for other in self.parts if other.error is not None}
        for link in part.links:
            if link.need.required and not link.need.nowait and id(link.target) in failed:
                raise StartFailed(
                    self._name,
                    part.service.name,
                    "init",
                    f"{link.field} needs {failed[id(link.target)].service.name!r}, which is optional and did not start",
                    "Declare the field service(required=False), or repair the cause that is told above",
                )

    # --- end ---

    async def end(self) -> None:
        """End everything that was begun, in reverse; then raise what must not get lost on the way.

        Raises:
            CancelledError: The caller was cancelled meanwhile, which cut short what was awaited.
        """
        self._ending = True
        self._scheduler._life.halt()  # At once: no run begins while the application is CLOSING.
        endings = [await self._end_runs(), await self._end_background()]
        for part in reversed(self.parts):
            self.hurried |= any(ending.cut for ending in endings)
            limit_s = min(self._limits.close_s, HURRY_S) if self.hurried else self._limits.close_s
            endings.append(await part.close(limit_s))
            if not endings[-1].fine:
                self.problems.append(f"service {part.service.name!r} did not close in order")
        self._remove_tasks(self._known_tasks)  # The next start registers them anew.
        _pass_on(endings)

    async def _end_runs(self) -> Ending:
        """Stop the scheduler; note the tasks whose runs are left."""

        async def stop() -> None:
            try:
                left = await self._scheduler.stop()
            except asyncio.CancelledError:
                left = await self._scheduler.stop(0)  # It tells of each where it is.
            self.problems.extend(f"task {task.name!r} is still running" for task in left)

        keeper = Keeper(f"application {self._name!r}: the scheduler")
        ending = await keeper.run(stop, RUNS_S if self.hurried else None, owed=True)
        keeper.dismiss()
        if ending.error is not None:
            self.problems.append("the scheduler did not stop in order")
            log.error("application %r: its scheduler did not stop in order", self._name, exc_info=ending.error)
        return ending

    async def _end_background(self) -> Ending:
        """Cancel what is left of ``post_init()``, but for the one that this is called from, if it is."""
        loop, me = asyncio.get_running_loop(), asyncio.current_task()
        left = {
            task: (part, part.error)
            for part, task in self._background
            if task.get_loop() is loop and not task.done() and not part.is_post_init_in(me)
        }
        self._background = []
        for task in left:
            task.cancel()
        cut = False
        pending = set(left)
        while pending:  # Not for ever: each gives up by itself after the grace.
            try:
                _, pending = await asyncio.wait(pending)
            except asyncio.CancelledError:
                cut = True
                for task in pending:
                    task.cancel()  # Once more: there is no patience for the grace.
        self.problems += [
            f"post_init() of service {part.service.name!r} did not end in order"
            for part, error in left.values()
            if part.error != error
        ]
        return Ending(cut=cut)


def _pass_on(endings: Iterable[Ending]) -> None:
    """Raise what must not get lost among *endings*: an exit, or that the caller was cancelled meanwhile."""
    for ending in endings:
        if isinstance(ending.error, KeyboardInterrupt | SystemExit):
            raise ending.error
    if any(ending.cut for ending in endings):
        raise asyncio.CancelledError
