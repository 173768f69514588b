"""Methods of services with ``@every``, ``@cron`` and ``@task``: each service has its tasks while it is started."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

import kaiju_app
from kaiju_app import Application, Scheduler, Service
from kaiju_app.errors import InvalidArgument, ServiceStartFailed
from kaiju_app.scheduler import Cron, Every, Scope
from kaiju_app.stores import MemoryStore
from support.reading import now_s
from support.virtual import VirtualLoop


@dataclass(eq=False)
class Cache(Service):
    runs: list[tuple[str, float, str]] = field(default_factory=list)

    @kaiju_app.every(10)
    async def refresh(self) -> None:
        self.runs.append((self.name, now_s(), self.app.state))

    @kaiju_app.cron("0 6 * * mon-fri")
    @kaiju_app.task(trigger=Every(3600), retries=2)
    def prune(self) -> None: ...


async def test_each_service_has_tasks_of_its_own_while_the_application_is_ready(loop: VirtualLoop) -> None:
    scheduler = Scheduler(tz="Europe/Berlin", clock=loop.virtual_clock)
    one, other = Cache(), Cache()
    app = Application("shop", [one, other], scheduler=scheduler)
    assert list(scheduler.tasks) == []
    for _ in range(2):
        async with app:
            assert list(scheduler.tasks) == [
                *("Cache.refresh", "Cache.prune", "Cache.prune#2"),
                *("Cache#2.refresh", "Cache#2.prune", "Cache#2.prune#2"),
            ]
            prune, again = scheduler.tasks["Cache.prune"], scheduler.tasks["Cache.prune#2"]
            assert (prune.trigger, prune.retries) == (Every(3600), 2)
            assert again.trigger == Cron("0 6 * * mon-fri", "Europe/Berlin")
            await asyncio.sleep(15)
        assert list(scheduler.tasks) == []

    assert [name for name, _, _ in one.runs] == ["Cache"] * 4
    assert [at for _, at, _ in other.runs] == [0, 10, 15, 25]
    assert {state for _, _, state in one.runs} == {"READY"}


def test_a_decorated_method_stays_a_function() -> None:
    assert inspect.isfunction(Cache.refresh)
    assert inspect.iscoroutinefunction(Cache.refresh)
    Cache.prune(Cache())


async def test_a_subclass_takes_over_the_tasks_of_its_base_unless_it_overrides_the_method(scheduler: Scheduler) -> None:
    class Small(Cache):
        async def refresh(self) -> None: ...

        @kaiju_app.every(5, name="warm up")
        @staticmethod
        async def warm() -> None: ...

    async with Application("shop", [Small()], scheduler=scheduler):
        assert list(scheduler.tasks) == ["Small.prune", "Small.prune#2", "warm up"]


async def test_a_shared_method_needs_no_name_as_its_default_is_the_same_in_all_processes(loop: VirtualLoop) -> None:
    class Report(Service):
        @kaiju_app.every(60, scope=Scope.CLUSTER)
        async def send(self) -> None: ...

    scheduler = Scheduler(MemoryStore(loop.virtual_clock.wall), clock=loop.virtual_clock)
    async with Application("shop", [Report()], scheduler=scheduler):
        assert scheduler.tasks["Report.send"].scope is Scope.CLUSTER


async def test_an_option_that_is_wrong_fails_the_start_and_names_the_method(scheduler: Scheduler) -> None:
    class Broken(Service):
        @kaiju_app.every(60, retries=-1)
        async def send(self) -> None: ...

    with pytest.raises(
        ServiceStartFailed, match=r"'Broken' failed in init: .*Broken\.send\(\): retries must be an integer"
    ):
        await Application("shop", [Broken()], scheduler=scheduler).start()
    assert list(scheduler.tasks) == []

    async with Application("shop", [Cache(), Broken()], scheduler=scheduler, optional_services=["Broken"]):
        assert "Cache.refresh" in scheduler.tasks
        assert "Broken.send" not in scheduler.tasks


async def refresh() -> None: ...


@pytest.mark.parametrize(
    ("use", "text"),
    [
        (
            lambda: kaiju_app.every(60)(refresh),
            "func must be a method of a Service: above a function write @scheduler.e",
        ),
        (lambda: kaiju_app.every(refresh), "interval_s must be a number of seconds: write @every(60), not @every"),  # type: ignore[arg-type]
        (lambda: kaiju_app.cron("0 6 * *"), "expression must have 5 fields"),
        (lambda: kaiju_app.task(), "interval_s or trigger must be given to task()"),
        (lambda: kaiju_app.every(60, id="x"), "id is not an argument of every(): write name='x'"),  # type: ignore[call-arg]
        (lambda: kaiju_app.every(hours=1), "hours is not an argument of every(): write interval_s=3600"),  # type: ignore[call-arg]
    ],
)
def test_a_decorator_that_is_used_wrongly_says_so_where_it_stands(use: Callable[[], object], text: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        use()

    assert str(refused.value).startswith(text)
