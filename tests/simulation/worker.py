"""The program of the scenes: a Scheduler whose bodies do everything that a body may do, for as long as it may."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from kaiju_app._cluster.task import ClusterEntry
from kaiju_app._core.clock import epoch_us
from kaiju_app.errors import StoreUnavailable, SuspensionLost, TaskBusy, TaskSuspended, WrongState
from kaiju_app.scheduler import ExecPolicy, LeaseTiming, Missed, OnLost, Scheduler, Scope, current_run
from kaiju_app.testing._cluster.journal import Event
from kaiju_app.testing._cluster.plan import Ask, us
from kaiju_app.testing._cluster.process import Process
from simulation.scheduler import ACT_S, Program

FROZEN_S = 0.1  # A body that wakes this late was frozen, and was not cancelled in time.


@dataclass(frozen=True)
class Work:
    """What every instance of a scene runs.

    Args:
        every_s: The interval. With several, each lifetime of a process uses the next one, as a new version.
        takes_s: How long a body takes.
        cleanup_s: How long a cancelled body goes on acting, be it of a run or of a suspension.
    """

    tasks: tuple[str, ...] = ("task",)
    every_s: tuple[float, ...] = (7.0,)
    takes_s: float = 2.0
    cleanup_s: float = 1.5
    policy: ExecPolicy = ExecPolicy.CANCEL
    missed: Missed = Missed.ONCE
    on_lost: OnLost = OnLost.RETRY
    jitter_s: float = 0.0


class Worker(Program):
    """One instance's program.

    An ``Ask`` is one of ``suspend``, ``pause``, ``run_now``, ``stop``, ``again`` (register again), ``cancel`` (on any
    instance) and ``toggle``.
    """

    def __init__(self, instance: Process, timing: LeaseTiming, work: Work) -> None:
        self.instance = instance
        self.timing = timing
        self.work = work
        self.suspensions = 0
        self.dues: dict[tuple[str, int | None], int] = {}
        self.make()

    def make(self) -> None:
        work, life = self.work, int(self.instance.id[1:])
        version = life if len(work.every_s) > 1 else 0
        self.every_s = work.every_s[(life - 1) % len(work.every_s)]
        self.scheduler = Scheduler(self.instance.store, lease=self.timing, version=version)
        for name in work.tasks:
            self.schedule(name)

    def schedule(self, name: str) -> None:
        self.scheduler.schedule_task(
            self.body,
            self.every_s,
            (name,),
            name=name,
            policy=self.work.policy,
            missed=self.work.missed,
            on_lost=self.work.on_lost,
            jitter_s=self.work.jitter_s,
            scope=Scope.CLUSTER,
        )

    async def body(self, _: str) -> None:
        self.journal("begin")
        run = current_run()
        host = run._run.entry.host
        assert isinstance(host, ClusterEntry)
        self.dues[run.task, run.fence] = host.ticks(run._run.spec).due(epoch_us(run.scheduled_at))
        await self.act(self.work.takes_s, lambda: self.journal("act"))
        self.journal("end")

    async def act(self, for_s: float, act: Callable[[], None]) -> None:
        """Act now and then. When cancelled, clean up until the last moment allowed.

        After a freeze there is no clean-up: nothing is promised about acts after a freeze longer than the lease.
        """
        steady, began = self.instance.steady, 0
        try:
            for _ in range(round(for_s / ACT_S)):
                began = steady()
                await asyncio.sleep(ACT_S)
                act()
        except asyncio.CancelledError:
            steps = round(self.work.cleanup_s / ACT_S)
            pause_s = self.work.cleanup_s / steps
            patience = us(max(ACT_S, pause_s) + FROZEN_S)
            for _ in range(steps):
                if steady() - began > patience:
                    break
                began = steady()
                await asyncio.sleep(pause_s)
                if steady() - began <= patience:
                    act()
            raise

    async def suspend(self, ask: Ask) -> None:
        """Suspend the task, or all tasks if the request names none."""
        self.suspensions += 1

        number = self.suspensions
        # Only of these: a task registered later may have a run elsewhere that this suspension has not waited for.
        names = [ask.task] if ask.task else list(self.scheduler.tasks)

        def journal(event: Event) -> None:
            for name in names:
                self.instance.journal(event, name, note=str(number))

        journal("suspend")
        try:
            async with (self.scheduler.tasks[ask.task] if ask.task else self.scheduler).suspend():
                journal("suspended-begin")
                await self.act(ask.for_s, lambda: journal("act-in-suspension"))
        except (StoreUnavailable, SuspensionLost, WrongState):
            pass
        finally:
            journal("suspended-end")

    async def pause(self, ask: Ask) -> None:
        """Pause the task for *for_s*, which outlives this process; resume it if that is 0."""
        try:
            if ask.for_s:
                await self.scheduler.tasks[ask.task].pause("maintenance", ask.for_s)
            else:
                await self.scheduler.tasks[ask.task].resume()
        except (StoreUnavailable, WrongState):
            return

    async def on_ask(self, ask: Ask) -> None:
        if ask.what == "stop":
            await self.stop(ask)
        elif ask.task and ask.task not in self.scheduler.tasks:
            return  # It is being registered again.
        elif ask.what == "suspend":
            await self.suspend(ask)
        elif ask.what == "pause":
            await self.pause(ask)
        elif ask.what == "cancel":
            with suppress(StoreUnavailable, WrongState):
                await self.scheduler.remote(ask.task).cancel("by mistake")
        elif ask.what == "again":
            await self.register_again(ask)
        elif ask.what == "toggle":
            task = self.scheduler.tasks[ask.task]
            task.disable()
            await asyncio.sleep(ask.for_s)
            task.enable()
        else:
            try:
                await self.scheduler.tasks[ask.task].run_now()
            except (StoreUnavailable, TaskBusy, TaskSuspended, WrongState):
                return

    async def stop(self, ask: Ask) -> None:
        """Stop, cancel whatever is left as ``asyncio.run()`` does, and start again after a while."""
        await self.scheduler.stop()
        mine = asyncio.current_task()
        for task in asyncio.all_tasks():
            if task is not mine:
                task.cancel()
        await asyncio.sleep(ask.for_s)
        self.make()
        await self.scheduler.start()

    async def register_again(self, ask: Ask) -> None:
        self.scheduler.tasks[ask.task].remove()
        await asyncio.sleep(ask.for_s)
        while ask.task in self.scheduler.tasks or ask.task in self.scheduler._engine.entries:  # noqa: ASYNC110
            await asyncio.sleep(ACT_S)
        self.schedule(ask.task)
