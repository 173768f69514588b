"""What instances run in hard times: a Scheduler whose bodies do all that a body may, for as long as it may."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from simulated_journal import Event
from simulated_plan import Ask, us
from simulated_scheduler import ACT_S, Program
from simulated_world import Instance

from kaiju_app._clock import epoch_us
from kaiju_app._shared import Shared
from kaiju_app.errors import StoreUnavailable, SuspendLost, TaskBusy, TaskHeld, WrongState
from kaiju_app.scheduler import Clock, ExecPolicy, LeaseTiming, Missed, OnLost, Scheduler, Scope, current_run

FROZEN_S = 0.1  # Whoever wakes so much later than he wanted to was not cancelled in time.


@dataclass(frozen=True)
class Work:
    """What every instance of a scene runs.

    Args:
        every_s: The interval; with several, each life of a process brings the next one, as a new version.
        takes_s: How long a body takes.
        cleanup_s: How long a body, also that of a suspension, goes on acting after it was cancelled.
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

    It may be asked to ``suspend``, ``pause``, ``run_now``, ``stop``, register ``again``, and ``toggle``.
    """

    def __init__(self, instance: Instance, timing: LeaseTiming, work: Work) -> None:
        self.instance = instance
        self.timing = timing
        self.work = work
        self.suspensions = 0
        self.starts = 0
        self.dues: dict[tuple[str, int | None], int] = {}
        self.make()

    def make(self) -> None:
        work, life = self.work, int(self.instance.id[1:])
        version = life if len(work.every_s) > 1 else 0
        self.every_s = work.every_s[(life - 1) % len(work.every_s)]
        clock = Clock(self.instance.steady, self.instance.wall)
        self.scheduler = Scheduler(self.instance.store, lease=self.timing, clock=clock, version=version)
        # Nothing may be drawn by chance here.
        self.scheduler._driver.instance = f"{self.instance.id}{'.' * self.starts}"
        self.starts += 1
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
        assert isinstance(run._run.entry, Shared)
        self.dues[run.task, run.fence] = run._run.entry.ticks(run._run.spec).due(epoch_us(run.scheduled_at))
        await self.act(self.work.takes_s, lambda: self.journal("act"))
        self.journal("end")

    async def act(self, for_s: float, act: Callable[[], None]) -> None:
        """Act now and then; whoever is cancelled meanwhile cleans up to the very last moment that there is for it.

        But not who was frozen: what is done after a freeze that was longer than the lease is nobody's promise.
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
        """Suspend the task; without a name all of them."""
        self.suspensions += 1

        number = self.suspensions
        # Of a task that is registered later, others may have a run that nobody here has waited for.
        names = [ask.task] if ask.task else list(self.scheduler.tasks)

        def journal(event: Event) -> None:
            for name in names:
                self.instance.journal(event, name, note=str(number))

        journal("suspend")
        try:
            async with (self.scheduler.tasks[ask.task] if ask.task else self.scheduler).suspend():
                journal("suspended-begin")
                await self.act(ask.for_s, lambda: journal("act-in-suspension"))
        except (StoreUnavailable, SuspendLost, WrongState):
            pass
        finally:
            journal("suspended-end")

    async def pause(self, ask: Ask) -> None:
        """Hold the task for so long, whatever becomes of this process; or end that."""
        try:
            if ask.for_s:
                await self.scheduler.tasks[ask.task].pause("maintenance", ask.for_s)
            else:
                await self.scheduler.tasks[ask.task].resume()
        except (StoreUnavailable, WrongState):
            return

    async def asked(self, ask: Ask) -> None:
        if ask.what == "stop":
            await self.stop(ask)
        elif ask.task and ask.task not in self.scheduler.tasks:
            return  # It is about to be registered again.
        elif ask.what == "suspend":
            await self.suspend(ask)
        elif ask.what == "pause":
            await self.pause(ask)
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
            except (StoreUnavailable, TaskBusy, TaskHeld, WrongState):
                return

    async def stop(self, ask: Ask) -> None:
        """Stop, end as ``asyncio.run()`` does, by cancelling whatever is left, and be started again after a while."""
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
        while ask.task in self.scheduler.tasks or ask.task in self.scheduler._driver.entries:  # noqa: ASYNC110
            await asyncio.sleep(ACT_S)
        self.schedule(ask.task)
