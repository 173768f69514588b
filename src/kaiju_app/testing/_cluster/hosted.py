"""The user's application inside a simulated instance: made, checked, started and stopped."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass

from kaiju_app._core.clock import REAL, epoch_us
from kaiju_app.application import Application, ServiceState
from kaiju_app.errors import InvalidArgument, safe_repr
from kaiju_app.scheduler import Run, Scheduler
from kaiju_app.stores import Store

from .process import Process

Version = int | tuple[int, ...]


@dataclass(frozen=True)
class Instance:
    """What the application factory of a ``Cluster`` gets: the instance that is about to start.

    Attributes:
        number: Its number, from 0 on. A restarted instance has the same number.
        store: The store that all instances share, as this one reaches it. Give it to the Scheduler.
        version: The version that ``deploy()`` has given it; 0 at first.
    """

    number: int
    store: Store
    version: Version


Factory = Callable[[Instance], Application | Scheduler]


class Hosts:
    """Makes, starts and stops the application of each instance.

    Attributes:
        versions: The version of each instance, by its number.
        started: The processes whose application has started.
        stopped: The processes whose application has stopped.
        failures: What went wrong in an instance and has not been raised yet.
    """

    def __init__(self, factory: Factory, instances: int) -> None:
        self.versions: list[Version] = [0] * instances
        self.started: set[Process] = set()
        self.stopped: set[Process] = set()
        self.failures: list[BaseException] = []
        self._factory = factory
        self._apps: dict[Process, Application | Scheduler] = {}

    async def boot(self, process: Process) -> None:
        """Make and start the application of *process*."""
        process.loop.set_exception_handler(None)  # asyncio logs what nobody has caught, as in a real process.
        process.loop.refusals = self.failures
        try:
            app = self._made(process)
            self._apps[process] = app
            _scheduler_of(app).subscribe(lambda run: _tell(process, run))
            await app.start()
        except GeneratorExit:  # It was killed while it started, and is discarded now.
            raise
        except BaseException as exc:  # What pytest.skip() raises is no Exception.
            self._fail(process, exc)
        self.started.add(process)

    async def stop(self, process: Process) -> None:
        """Stop the application of *process* in order."""
        try:
            if process in self._apps:
                await self._apps[process].stop()
        except GeneratorExit:
            raise
        except BaseException as exc:
            self._fail(process, exc)
        self.stopped.add(process)

    def _fail(self, process: Process, exc: BaseException) -> None:
        exc.add_note(f"This was raised in instance {process.place} of the cluster.")
        if exc not in self.failures:
            self.failures.append(exc)

    def _made(self, process: Process) -> Application | Scheduler:
        instance = Instance(process.place, process.store, self.versions[process.place])
        app: object = self._factory(instance)
        if inspect.iscoroutine(app):
            app.close()
            raise InvalidArgument("app_factory", self._factory, "must be a plain function: the cluster starts the app")
        if not isinstance(app, Application | Scheduler):
            rule = f"must return an Application or a Scheduler; it returned {safe_repr(app)}"
            raise InvalidArgument("app_factory", self._factory, rule)
        if any(app is each for each in self._apps.values()):
            rule = "must make a new app for each instance; it returned one that another instance has already"
            raise InvalidArgument("app_factory", self._factory, rule)
        self._check(app, instance)
        return app

    def _check(self, app: Application | Scheduler, instance: Instance) -> None:
        scheduler = _scheduler_of(app)
        lifecycle = scheduler._lifecycle
        if scheduler.started or (isinstance(app, Application) and app.state is not ServiceState.CLOSED):
            rule = f"must return an app that is not started, for the cluster starts it; it returned {app!r}"
        elif lifecycle.cluster is None or lifecycle.cluster.store is not instance.store:
            store = None if lifecycle.cluster is None else lifecycle.cluster.store.name
            rule = (
                "must give the store of the instance to the Scheduler, so that all instances share it: write "
                f"Scheduler(instance.store); the scheduler has {'no store' if store is None else f'the store {store}'}"
            )
        elif lifecycle._clock is not REAL:
            rule = "must make a Scheduler without a clock of its own: it lives by the clocks of the instance"
        else:
            return
        raise InvalidArgument("app_factory", self._factory, rule)


def _scheduler_of(app: Application | Scheduler) -> Scheduler:
    return app.scheduler if isinstance(app, Application) else app


def _tell(process: Process, run: Run) -> None:
    reason = "" if run.reason is None else f" ({run.reason.value})"
    process.journal(
        "ended", run.task, fence=run.fence or 0, tick=epoch_us(run.scheduled_at), take=run.delivery,
        note=f"{run.outcome.value}{reason}",
    )  # fmt: skip
