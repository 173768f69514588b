"""A program for simulated instances: a Scheduler as users have it, with a task whose body acts four times a second."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from kaiju_app._core.clock import epoch_us
from kaiju_app.errors import StoreUnavailable, SuspensionLost, TaskBusy, TaskSuspended
from kaiju_app.scheduler import ExecPolicy, LeaseTiming, Missed, Scheduler, Scope, current_run
from kaiju_app.testing._cluster.journal import Event
from kaiju_app.testing._cluster.plan import Ask
from kaiju_app.testing._cluster.process import Process

ACT_S = 0.25
CLEANUP_S = 1.5  # Within the time that the lease leaves for it.
IN_TIME_US = 250_000  # A cancellation that comes this late after the end of the lease comes after a pause.


class Program:
    """One instance's program.

    Args:
        tasks: Names of the tasks.
        every_s: Their interval.
        takes_s: How long a body takes.
    """

    def __init__(
        self,
        instance: Process,
        timing: LeaseTiming,
        tasks: Sequence[str],
        every_s: float,
        takes_s: float,
        policy: ExecPolicy,
        missed: Missed,
    ) -> None:
        self.instance = instance
        self.takes = round(takes_s / ACT_S)
        self.suspensions = 0
        self.scheduler = Scheduler(instance.store, lease=timing)
        for name in tasks:
            self.scheduler.schedule_task(
                self.body, every_s, (name,), name=name, policy=policy, missed=missed, scope=Scope.CLUSTER
            )

    async def run(self) -> None:
        await self.scheduler.start()
        await asyncio.Event().wait()

    def journal(self, event: Event) -> None:
        run = current_run()
        assert run.fence is not None
        manual = "manual" if run._run.base_tick is not None and run._run.kind.name == "MANUAL" else ""
        self.instance.journal(
            event, run.task, fence=run.fence, tick=epoch_us(run.scheduled_at), take=run.delivery, note=manual
        )

    async def body(self, _: str) -> None:
        self.journal("begin")
        try:
            for _ in range(self.takes):
                await asyncio.sleep(ACT_S)
                self.journal("act")
        except asyncio.CancelledError:
            claim = current_run()._run.claim
            if claim is not None and self.instance.steady() > claim.deadline + IN_TIME_US:
                raise  # After a freeze longer than the lease there is no time left to clean up.
            for _ in range(round(CLEANUP_S / ACT_S)):
                await asyncio.sleep(ACT_S)
                self.journal("act")
            raise
        self.journal("end")

    async def on_ask(self, ask: Ask) -> None:
        if not self.scheduler.started:  # It is still booting.
            return
        if ask.what == "run_now":
            try:
                await self.scheduler.tasks[ask.task].run_now()
            except (StoreUnavailable, TaskBusy, TaskSuspended):
                return
        else:
            await self.suspend(ask)

    async def suspend(self, ask: Ask) -> None:
        self.suspensions += 1
        note = str(self.suspensions)
        self.instance.journal("suspend", ask.task, note=note)
        try:
            async with self.scheduler.tasks[ask.task].suspend():
                self.instance.journal("suspended-begin", ask.task, note=note)
                for _ in range(round(ask.for_s / ACT_S)):
                    await asyncio.sleep(ACT_S)
                    self.instance.journal("act-in-suspension", ask.task, note=note)
        except (StoreUnavailable, SuspensionLost):
            pass
        finally:
            self.instance.journal("suspended-end", ask.task, note=note)


class Programs:
    """The programs of one simulation, by instance. *options* are those of ``Program``."""

    def __init__(self, timing: LeaseTiming, **options: Any) -> None:
        self._timing = timing
        self._options: dict[str, Any] = {
            "tasks": ("task",),
            "every_s": 7.0,
            "takes_s": 2.0,
            "policy": ExecPolicy.CANCEL,
            "missed": Missed.ONCE,
        } | options
        self.of: dict[str, Program] = {}

    async def boot(self, instance: Process) -> None:
        self.of[instance.id] = program = Program(instance, self._timing, **self._options)
        await program.run()

    async def ask(self, instance: Process, ask: Ask) -> None:
        await self.of[instance.id].on_ask(ask)
