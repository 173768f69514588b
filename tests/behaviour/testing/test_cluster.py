"""A simulated cluster of an application: its faults, its journal, its script, and what it refuses."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import cronsim
import hypothesis.strategies as st
import pytest
from hypothesis import example, given, settings

import kaiju_app
from kaiju_app import Application, ScheduledTask, Scheduler
from kaiju_app.errors import InvalidArgument, StoreUnavailable, UnknownTask, WrongState
from kaiju_app.scheduler import Clock, ExecPolicy, Outcome, Reason, Scope
from kaiju_app.testing import Cluster, Instance, Network, VirtualClock, VirtualTimeError, ledger, ran

from . import shop

START = datetime(2027, 1, 1, tzinfo=UTC)
CALM = Network(lost=0, lost_answers=0, late=0, duplicated=0, lost_hints=0)


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Leave the log of hundreds of lost messages out."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


def minutes(*numbers: int) -> list[datetime]:
    return [START + timedelta(minutes=each) for each in numbers]


def minutely(body_s: float = 2.0, seen: list[int] | None = None, **options: Any) -> Callable[[Instance], Scheduler]:
    """Return the factory of a scheduler with the cluster task "report", at each minute."""

    def make_app(instance: Instance) -> Scheduler:
        scheduler = Scheduler(instance.store, version=instance.version)

        async def report() -> None:
            await asyncio.sleep(body_s)
            if seen is not None:
                seen.append(instance.number)

        scheduler.schedule_task(report, trigger="* * * * *", name="report", scope=Scope.CLUSTER, **options)
        return scheduler

    return make_app


# --- what it plays ---


@pytest.mark.parametrize("seed", range(5))
def test_each_tick_runs_once_on_one_of_the_instances(seed: int) -> None:
    seen: list[int] = []
    with Cluster(minutely(seen=seen), seed=seed) as cluster:
        cluster.advance(290)

        ran(cluster.task("report")).at(*minutes(1, 2, 3, 4)).never_overlapped()
        assert len(seen) == 4
        assert cluster.now() == START + timedelta(seconds=290)


def test_who_is_killed_runs_no_more_and_another_instance_takes_over() -> None:
    seen: list[int] = []
    with Cluster(minutely(body_s=10, seen=seen), network=CALM) as cluster:
        cluster.advance(65)
        killed = cluster.task("report").owner
        assert killed is not None
        cluster.kill(killed)
        cluster.advance(115)

        assert seen != []
        assert killed not in seen
        assert cluster.task("report").counts[Outcome.LOST] == 1
        ran(cluster.task("report")).times(2, Outcome.SUCCEEDED)
        with pytest.raises(
            WrongState, match=rf"cluster.kill\({killed}\): the instance is not running; cluster.restart"
        ):
            cluster.kill(killed)
        cluster.restart(killed)
        for other in {0, 1, 2} - {killed}:
            cluster.kill(other)
        cluster.advance(120)
        assert seen[-1] == killed


def test_an_orderly_restart_hands_the_tick_over_at_once() -> None:
    with Cluster(minutely(body_s=10), network=CALM) as cluster:
        cluster.advance(65)
        owner = cluster.task("report").owner
        assert owner is not None
        cluster.restart(owner)
        cluster.advance(30)

        given_up, run = cluster.task("report").history()
        assert (given_up.outcome, given_up.reason) == (Outcome.LOST, Reason.SHUTDOWN)
        assert (run.outcome, run.lateness_s) == (Outcome.SUCCEEDED, pytest.approx(5, abs=0.1))
        ends = [line.split()[1:] for line in cluster.journal if "stop" in line or "crash" in line]
        assert ends == [[f"{'abc'[owner]}1", "stop"]]


def test_a_paused_instance_is_late_and_the_run_of_another_one_has_its_tick() -> None:
    with Cluster(minutely(body_s=20), network=CALM) as cluster:
        cluster.advance(65)
        owner = cluster.task("report").owner
        assert owner is not None
        cluster.pause(owner, 40)
        cluster.advance(30)
        assert cluster.task("report").owner not in (owner, None)
        cluster.advance(15)

        run = cluster.task("report").history()[-1]
        assert (run.outcome, run.delivery) == (Outcome.SUCCEEDED, 2)


def test_an_instance_that_is_cut_off_gives_its_run_up() -> None:
    with Cluster(minutely(body_s=30), network=CALM) as cluster:
        cluster.advance(65)
        owner = cluster.task("report").owner
        assert owner is not None
        cluster.partition(owner, timedelta(seconds=50))
        cluster.advance(100)

        assert cluster.task("report").counts[Outcome.LOST] == 1
        assert any(f"{'abc'[owner]}1" in line and "ended report LOST (lease lost)" in line for line in cluster.journal)


def local(seen: list[tuple[int, str]]) -> Callable[[Instance], Scheduler]:
    """Return the factory of a scheduler with a local task, at each minute of its own wall clock."""

    def make_app(instance: Instance) -> Scheduler:
        async def note() -> None:
            seen.append((instance.number, f"{clusters[0].now():%M:%S}"))

        scheduler = Scheduler(instance.store)
        scheduler.schedule_task(note, trigger="* * * * *")
        return scheduler

    return make_app


clusters: list[Cluster] = []


def test_a_skewed_machine_goes_by_its_own_clocks() -> None:
    seen: list[tuple[int, str]] = []
    with Cluster(local(seen), network=CALM) as cluster:
        clusters[:] = [cluster]
        cluster.skew(1, 20)
        cluster.skew(2, rate=2)
        cluster.advance(119)

        assert [at for number, at in seen if number == 0] == ["01:00"]
        assert [at for number, at in seen if number == 1] == ["00:40", "01:40"]
        assert [at for number, at in seen if number == 2] == ["00:30", "01:00", "01:30"]
        cluster.kill(1)
        cluster.restart(1)
        cluster.advance(60)
        assert (1, "02:40") in seen


def test_the_clock_of_the_store_is_set() -> None:
    with Cluster(minutely(), network=CALM) as cluster:
        cluster.advance(10)
        cluster.jump_store_clock(40)
        cluster.advance(15)

        ran(cluster.task("report")).at(*minutes(1))


def test_a_deployment_brings_a_version_to_one_instance_after_the_other() -> None:
    made: list[tuple[int, object, datetime]] = []
    factory = minutely()

    def make_app(instance: Instance) -> Scheduler:
        made.append((instance.number, instance.version, clusters[0].now()))
        return factory(instance)

    clusters[:] = [cluster := Cluster(make_app, network=CALM)]
    with cluster:
        cluster.advance(30)
        cluster.deploy((2, 0))
        cluster.advance(40)

        assert sorted(made[:3])[0][:2] == (0, 0)
        assert [(number, version) for number, version, _ in made[3:]] == [(each, (2, 0)) for each in range(3)]
        times = [at for _, version, at in made if version]
        assert times == sorted(times)
        assert len(set(times)) == 3
        ran(cluster.task("report")).at(*minutes(1))


def test_an_application_with_services_is_started_and_stopped() -> None:
    with Cluster(shop.make_app, network=CALM) as cluster:
        cluster.advance(30)
        assert cluster.task("count").counts[Outcome.SUCCEEDED] >= 4
        with pytest.raises(UnknownTask, match=r"the cluster tasks in the store are: 'count', 'report'\. Local tasks"):
            cluster.task("refresh")
        cluster.restart(0)
        cluster.advance(1)
        assert sum(line.split()[1:3] == ["a2", "boot"] for line in cluster.journal) == 1


def test_the_ledger_of_all_instances_explains_a_failure() -> None:
    with Cluster(minutely(), network=CALM) as cluster:
        cluster.advance(70)
        with pytest.raises(AssertionError, match="task 'report' ran once, not 2 times") as caught:
            ran(cluster.task("report")).times(2)
        assert ledger(cluster.task("report")) in str(caught.value)


def test_nothing_runs_where_all_messages_are_lost() -> None:
    with Cluster(minutely(), network=Network(lost=1)) as cluster:
        cluster.advance(100)

        with pytest.raises(UnknownTask, match="none yet"):
            cluster.task("report")


# --- the same seed, the same journal ---


def test_the_same_seed_gives_the_same_journal_and_another_one_another() -> None:
    first = shop.played(1)

    assert shop.played(1) == first
    assert shop.played(2) != first


@cache
def played_here() -> list[str]:
    return shop.played(1)


def find_python(version: str) -> str | None:
    """Return a CPython of this version, if the machine has one."""
    home = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    names = [shutil.which(f"python{version}"), *map(str, sorted(home.glob(f"versions/{version}.*/bin/python")))]
    for name in filter(None, names):
        asked = [name, "-c", "import sys; print(sys.implementation.name, '%d.%d' % sys.version_info[:2])"]
        if subprocess.run(asked, capture_output=True, text=True).stdout.split() == ["cpython", version]:
            return name
    return None


@pytest.mark.parametrize("mode", ["plain", "debug"])
@pytest.mark.parametrize("version", ["3.11", "3.12", "3.13"])
def test_the_journal_is_the_same_on_every_python_in_debug_mode_and_not(version: str, mode: str, tmp_path: Path) -> None:
    python = find_python(version)
    if python is None:
        pytest.skip(f"CPython {version} is not installed")
    shutil.copytree(Path(cronsim.__file__).parent, tmp_path / "cronsim")
    package = Path(kaiju_app.__file__).parents[1]
    environment = {
        "PYTHONPATH": f"{package}{os.pathsep}{tmp_path}",
        "PYTHONASYNCIODEBUG": "1" if mode == "debug" else "",
        "PYTHONHASHSEED": "5" if mode == "debug" else "6",
    }
    command = [python, str(Path(shop.__file__)), "1"]
    there = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, check=True)

    assert there.stdout.encode() == ("\n".join(played_here()) + "\n").encode()


# --- the script ---


SECONDS = st.floats(0, 20).map(lambda each: round(each, 3))
CALLS = st.one_of(
    st.tuples(st.just("advance"), SECONDS),
    st.tuples(st.sampled_from(["kill", "restart"]), st.integers(0, 1)),
    st.tuples(st.sampled_from(["pause", "partition", "skew"]), st.integers(0, 1), SECONDS),
    st.tuples(st.just("jump_store_clock"), SECONDS),
    st.tuples(st.just("deploy"), st.integers(1, 3)),
)


def make_small(instance: Instance) -> Scheduler:
    scheduler = Scheduler(instance.store, version=instance.version)
    scheduler.schedule_task(asyncio.sleep, 5, (2,), name="task", scope=Scope.CLUSTER)
    return scheduler


@settings(max_examples=10)
@example([("restart", 0), ("advance", 0), ("kill", 0), ("advance", 20)], 0)
@given(st.lists(CALLS, max_size=50), st.integers(0, 3))
def test_a_script_below_thirty_lines_makes_the_same_journal(calls: list[tuple[Any, ...]], seed: int) -> None:
    with Cluster(make_small, 2, seed=seed, start=datetime(2026, 10, 25, tzinfo=UTC)) as cluster:
        for name, *arguments in calls:
            try:
                getattr(cluster, name)(*arguments)
            except WrongState:
                assert name in ("kill", "pause")
        script = cluster.script()
    names: dict[str, Any] = {"make_small": make_small}

    exec(script.replace(f"from {make_small.__module__} import make_small", ""), names)

    assert len(script.splitlines()) < 30
    assert names["cluster"].journal == cluster.journal


def play_and_fail() -> None:
    with Cluster(shop.make_app, seed=7) as cluster:
        for _ in range(60):
            cluster.advance(0.5)
        cluster.kill(2)
        cluster.advance(timedelta(minutes=1))
        raise AssertionError("as if")


def test_an_exception_that_leaves_the_block_has_the_script_as_a_note() -> None:
    with pytest.raises(AssertionError) as caught:
        play_and_fail()

    [note] = caught.value.__notes__
    assert note == (
        "<Cluster of 3 instances, seed 7>: these calls led here, 2027-01-01 00:01:30+00:00:\n\n"
        f"from {shop.__name__} import make_app\n"
        "from kaiju_app.testing import Cluster\n\n"
        "with Cluster(make_app, instances=3, seed=7) as cluster:\n"
        "    cluster.advance(30)\n"
        "    cluster.kill(2)\n"
        "    cluster.advance(60)"
    )


def test_the_script_names_the_network_and_a_factory_that_nobody_can_import() -> None:
    with Cluster(minutely(), 1, network=Network(lost=0.5), start=START + timedelta(hours=1)) as cluster:
        pass

    assert cluster.script().splitlines()[:4] == [
        "from datetime import datetime",
        f"# make_app is minutely.<locals>.make_app of {__name__}",
        "from kaiju_app.testing import Cluster, Network",
        "",
    ]
    assert "start=start, network=Network(lost=0.5)" in cluster.script()
    assert "datetime.fromisoformat('2027-01-01T01:00:00+00:00')" in cluster.script()


# --- wrong use ---


def refused(make_app: Callable[[Instance], Any], match: str, kind: type[Exception] = InvalidArgument) -> None:
    with pytest.raises(kind, match=match) as caught, Cluster(make_app, 1, network=CALM) as cluster:
        cluster.advance(120)
    assert "This was raised in instance 0 of the cluster." in caught.value.__notes__ or kind is VirtualTimeError


def test_a_factory_that_returns_something_wrong_is_refused() -> None:
    async def coroutine(instance: Instance) -> Scheduler:
        return Scheduler(instance.store)

    shared = Scheduler()
    refused(coroutine, "must be a plain function: the cluster starts the app")
    refused(lambda _: None, "must return an Application or a Scheduler; it returned None")
    refused(lambda _: shared, r"write Scheduler\(instance.store\); the scheduler has no store")
    refused(lambda _: Scheduler("memory://"), "the scheduler has the store memory")
    refused(lambda _: Application("shop"), "the scheduler has no store")
    refused(lambda each: Scheduler(each.store, clock=Clock()), "without a clock of its own")
    with pytest.raises(InvalidArgument, match="must be a function"):
        Cluster(Scheduler())  # type: ignore[arg-type]


def test_an_app_that_is_started_is_refused() -> None:
    def make_app(_: Instance) -> Scheduler:
        scheduler = Scheduler()
        with pytest.raises(StopIteration):
            scheduler.start().send(None)
        return scheduler

    refused(make_app, "must return an app that is not started, for the cluster starts it")


def test_one_app_for_all_instances_is_refused() -> None:
    apps: list[Scheduler] = []

    def make_app(instance: Instance) -> Scheduler:
        apps.append(Scheduler(instance.store))
        return apps[0]

    with pytest.raises(InvalidArgument, match="must make a new app for each instance"), Cluster(make_app):
        pass


def test_what_a_factory_raises_is_raised_in_the_test() -> None:
    def make_app(instance: Instance) -> Scheduler:
        raise LookupError("no settings")

    refused(make_app, "no settings", LookupError)
    with Cluster(minutely()):
        pass  # The clocks of the machine are back.


def with_body(body: Callable[..., Any]) -> Callable[[Instance], Scheduler]:
    def make_app(instance: Instance) -> Scheduler:
        scheduler = Scheduler(instance.store)
        scheduler.schedule_task(body, 30, name="task", scope=Scope.CLUSTER, overlap_on_loss=True)
        return scheduler

    return make_app


def test_real_sleep_and_threads_in_an_instance_are_refused() -> None:
    async def sleeps() -> None:
        time.sleep(1)  # noqa: ASYNC251

    async def hands_over() -> None:
        await asyncio.to_thread(print)

    async def starts() -> None:
        threading.Thread(target=print).start()

    def plain() -> None:
        pass

    refused(
        with_body(sleeps),
        r"Write `await asyncio.sleep\(\)`; to make an instance late, call cluster.pause",
        VirtualTimeError,
    )
    for body in (hands_over, starts, plain):
        refused(with_body(body), "Write the function as `async def`: a task that is a plain function", VirtualTimeError)
    threading.Thread(target=time.sleep, args=(0,)).start()


def test_a_body_that_never_awaits_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    async def spins() -> None:
        while True:
            pass

    monkeypatch.setattr("kaiju_app.testing._cluster.stage.PATIENCE_S", 0.2)
    with Cluster(with_body(spins), 1, network=CALM) as cluster:
        cluster.advance(10)

        [run] = cluster.task("task").history()
        assert run.outcome is Outcome.FAILED
        assert "never awaits" in (run.error or "")
        assert "patience_s" not in (run.error or "")


def test_two_clusters_and_a_cluster_beside_a_clock_are_refused() -> None:
    with Cluster(minutely(), seed=3):
        with pytest.raises(
            VirtualTimeError, match="there are two clusters: <Cluster of 3 instances, seed 3> is in use"
        ):
            Cluster(minutely()).__enter__()
        with pytest.raises(VirtualTimeError, match="there are two clocks: <clock of <Cluster of 3 instances, seed 3>>"):
            VirtualClock().__enter__()
    with VirtualClock(), pytest.raises(VirtualTimeError, match="do not ask for the fixtures `clock`, `scheduler`"):
        Cluster(minutely()).__enter__()


def test_a_cluster_is_used_in_its_block_only_and_once() -> None:
    cluster = Cluster(minutely(), network=CALM)
    with pytest.raises(VirtualTimeError, match=r"cluster.advance\(\) is called before the block"):
        cluster.advance(1)
    with cluster:
        cluster.advance(70)
    with pytest.raises(VirtualTimeError, match=r"cluster.kill\(\) is called after the block"):
        cluster.kill(0)
    with pytest.raises(VirtualTimeError, match="has been used already: make a new one"):
        cluster.__enter__()
    assert cluster.journal != []  # It can be looked at.
    ran(cluster.task("report")).times(1)


async def test_a_cluster_in_another_loop_is_refused() -> None:
    with pytest.raises(VirtualTimeError, match="write the test as a plain `def`"), Cluster(minutely()):
        pass


def test_an_instance_cannot_call_the_cluster() -> None:
    async def kills() -> None:
        clusters[0].kill(0)

    with Cluster(with_body(kills), 1, network=CALM) as cluster:
        clusters[:] = [cluster]
        cluster.advance(10)
        assert "not in the code of an instance" in (cluster.task("task").history()[0].error or "")


def test_another_thread_cannot_call_the_cluster() -> None:
    caught: list[BaseException] = []

    def call() -> None:
        try:
            cluster.advance(1)
        except VirtualTimeError as exc:
            caught.append(exc)

    with Cluster(minutely()) as cluster:
        thread = threading.Thread(target=call)
        thread.start()
        thread.join()
    assert "is called in another thread than its `with` block" in str(caught[0])


def test_a_scheduler_outside_of_the_instances_is_refused() -> None:
    async def main() -> None:
        await Scheduler().start()

    with Cluster(minutely()), pytest.raises(VirtualTimeError, match="let the application factory make it"):
        asyncio.run(main())


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda cluster: cluster.kill(3), "instance must be less than 3"),
        (lambda cluster: cluster.kill(-1), "instance must be an integer of at least 0"),
        (lambda cluster: cluster.advance(-1), "seconds"),
        (lambda cluster: cluster.pause(0, -1), "for_s"),
        (lambda cluster: cluster.skew(0, rate=0), "rate must be between 0.1 and 10"),
        (lambda _: Cluster(minutely(), 0), "instances must be an integer of at least 1"),
        (lambda _: Cluster(minutely(), 27), "instances must be at most 26"),
        (lambda _: Cluster(minutely(), seed=-1), "seed must be an integer of at least 0"),
        (lambda _: Cluster(minutely(), start=datetime(2027, 1, 1)), "start"),  # noqa: DTZ001
        (lambda _: Cluster(minutely(), network="none"), "network must be a Network"),
        (lambda _: Network(lost=1.5), "lost must be a share between 0 and 1, got 1.5"),
        (lambda _: Network(latency_s=(2, 1)), "latency_s must be the least and the greatest number of seconds"),
        (lambda _: Network(late_s=-1), "late_s must be at least 0 seconds"),
    ],
)
def test_an_argument_out_of_range_is_refused(call: Callable[[Any], object], match: str) -> None:
    with Cluster(minutely()) as cluster, pytest.raises(InvalidArgument, match=match):
        call(cluster)


def test_the_store_of_an_instance_can_be_asked_directly() -> None:
    heard: list[str] = []

    def make_app(instance: Instance) -> Scheduler:
        async def ask() -> None:
            try:
                await instance.store.scan()
            except StoreUnavailable as exc:
                heard.append(str(exc))

        scheduler = Scheduler(instance.store)
        scheduler.schedule_task(ask, 30)
        return scheduler

    with Cluster(make_app, 1, network=Network(lost=1, impatient=1)) as cluster:
        cluster.advance(29)
    assert len(heard) == 1


def test_a_factory_without_a_repr_leaves_no_clock_behind() -> None:
    class Factory:
        def __call__(self, instance: Instance) -> Scheduler:
            return minutely()(instance)

        def __repr__(self) -> str:
            raise RuntimeError("no repr")

    before = time.sleep, threading.Thread.start
    with pytest.raises(AssertionError, match="as if") as caught, Cluster(Factory(), 1):
        raise AssertionError("as if")

    assert (time.sleep, threading.Thread.start) == before
    assert "with Cluster(make_app, instances=1, seed=0)" in caught.value.__notes__[0]


def test_a_note_that_cannot_be_made_leaves_no_clock_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: object) -> str:
        raise RuntimeError("no script")

    before = time.sleep, threading.Thread.start
    monkeypatch.setattr("kaiju_app.testing._cluster.script.Script.__str__", fail)
    with pytest.raises(RuntimeError, match="no script"), Cluster(minutely(), 1):
        raise AssertionError("as if")

    assert (time.sleep, threading.Thread.start) == before


def test_the_history_is_complete_after_a_month_by_the_clock_of_the_store() -> None:
    with Cluster(minutely(), network=CALM) as cluster:
        cluster.advance(200)
        cluster.jump_store_clock(31 * 86_400)
        cluster.advance(3_700)

        history = cluster.task("report").history()
        assert [run.scheduled_at for run in history][:3] == minutes(1, 2, 3)


class Ended(BaseException):
    """What pytest.skip() and pytest.fail() raise is no Exception either."""


@pytest.mark.parametrize("kind", [Ended, asyncio.CancelledError, LookupError])
@pytest.mark.parametrize("step", ["made", "started", "stopped"])
def test_what_an_app_raises_is_raised_in_the_test_whatever_it_is(step: str, kind: type[BaseException]) -> None:
    class Fails(Scheduler):
        async def start(self) -> None:
            if step == "started":
                raise kind(step)
            await super().start()

        async def stop(self, timeout_s: float | timedelta | None = None) -> list[ScheduledTask[Any]]:
            await super().stop(timeout_s)
            raise kind(step)

    def make_app(instance: Instance) -> Scheduler:
        if step == "made":
            raise kind(step)
        return Fails(instance.store)

    with pytest.raises(kind, match=step) as caught, Cluster(make_app, 1, network=CALM) as cluster:
        cluster.restart(0)
    assert "This was raised in instance 0 of the cluster." in caught.value.__notes__


def test_an_instance_that_is_killed_while_it_starts_has_raised_nothing() -> None:
    class Slow(Scheduler):
        async def start(self) -> None:
            await asyncio.sleep(1_000)

    with Cluster(lambda instance: Slow(instance.store), 1, network=CALM) as cluster:
        cluster.advance(1)
        cluster.kill(0)
    assert cluster._stage._hosts.failures == []


def test_an_instance_that_does_not_stop_within_a_minute_is_killed() -> None:
    factory = minutely(body_s=100, policy=ExecPolicy.SHIELD, overlap_on_loss=True)
    with Cluster(factory, 1, network=CALM) as cluster:
        cluster.advance(65)
        cluster.restart(0)

        assert cluster.now() >= START + timedelta(seconds=125)
        ends = [line.split()[1:] for line in cluster.journal if "stop" in line or "crash" in line]
        assert ends == [["a1", "crash"]]


def test_an_instance_that_does_not_start_within_a_minute_is_an_error() -> None:
    class Slow(Scheduler):
        async def start(self) -> None:
            await asyncio.sleep(70)
            await super().start()

    def make_app(instance: Instance) -> Scheduler:
        return Slow(instance.store) if instance.version else minutely()(instance)

    with Cluster(make_app, 1, network=CALM) as cluster:
        match = "instance 0 has not started within 60 s"
        with pytest.raises(VirtualTimeError, match=match):
            cluster.deploy(1)
        with pytest.raises(VirtualTimeError, match=match):
            cluster.restart(0)


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt])
def test_a_body_that_exits_ends_its_instance(kind: type[BaseException]) -> None:
    async def exits() -> None:
        raise kind

    with Cluster(with_body(exits), 1, network=CALM) as cluster:
        with pytest.raises(kind):
            cluster.advance(60)
        assert [line.split()[1:] for line in cluster.journal if "crash" in line] == [["a1", "crash"]]
        with pytest.raises(WrongState, match="the instance is not running"):
            cluster.kill(0)
        cluster.restart(0)
        with pytest.raises(kind):  # The next instance works, and takes the tick over.
            cluster.advance(120)
