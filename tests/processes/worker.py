"""One process of an application with cluster tasks. Its bodies write what they do to a journal that processes share.

It is started with its options as JSON, see ``Options``, and reads commands from standard input, one a line:

* ``go`` starts the scheduler (with the option ``wait``),
* ``suspend TASK SECONDS`` suspends a task, or all tasks if TASK is ``*``,
* ``clock SECONDS`` shifts its wall clock from now on,
* ``block SECONDS`` blocks its loop,
* ``fork`` forks a child that starts the scheduler again.

SIGTERM stops it in order, and so does the end of its input.
"""

from __future__ import annotations

import asyncio
import json
import os
import selectors
import signal
import sys
import time
import traceback
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

import asyncpg

from kaiju_app._cluster import pruner, registration
from kaiju_app._core import clock
from kaiju_app._core.clock import epoch_us
from kaiju_app.errors import LeaseLost, StoreUnavailable, SuspensionLost, WrongState
from kaiju_app.scheduler import ExecPolicy, LeaseTiming, Scheduler, Scope, current_run
from kaiju_app.stores.postgres import _schema

LASTING_S = 6.0

_read_true = clock._read


def steady_us() -> int:
    """Return the steady time on which all processes agree, even if the scheduler of this one sees a distorted clock."""
    return _read_true(clock._STEADY) // 1000


@dataclass(frozen=True)
class Options:
    """The options of a process.

    Args:
        who: Its name in the journal.
        store: URL of the store.
        journal: Path of the journal.
        lease: The fields of a LeaseTiming, in order.
        tasks: Names of the cluster tasks.
        run_s: How long a body takes; it acts every *act_s*.
        lasting: Cluster tasks that run for seconds, once a minute: "shielded", which is never cancelled, and
            "stubborn", which ignores its cancellation.
        writes: Each act also inserts a row into the table ``written`` of the store's database, checked by guard().
        local: Name of a local task that acts every *act_s*; empty for none.
        wait: Start the scheduler only at the command ``go``.
        shift_s: How far its wall clock is ahead.
        rate: The speed of all its steady clocks, 1 for real time.
        version: The version of the application.
        step: SQL of one more step of the store's schema; empty for none.
        unseen_s: Interval and age at which a task that no instance knows is pruned; 0 for the defaults.
    """

    who: str
    store: str
    journal: str
    lease: Sequence[float]
    tasks: Sequence[str] = ("task",)
    interval_s: float = 0.5
    run_s: float = 0.3
    act_s: float = 0.02
    lasting: Sequence[str] = ()
    writes: bool = False
    local: str = ""
    wait: bool = False
    shift_s: float = 0
    rate: float = 1
    version: int = 0
    step: str = ""
    unseen_s: float = 0


class Turns(selectors.DefaultSelector):  # type: ignore[misc, valid-type]
    """Measures how late each turn of the loop began, because the process was stopped or had no processor.

    Attributes:
        began: When the current turn began, in microseconds.
        late: How late it began, because the turn before it took long or because the process overslept.
    """

    def __init__(self, rate: float = 1) -> None:
        super().__init__()
        self.rate = rate
        self.began = steady_us()
        self.late = 0

    def select(self, timeout: float | None = None) -> list[Any]:
        asked = steady_us()
        busy = asked - self.began
        ready = super().select(timeout if timeout is None else timeout / self.rate)
        self.began = steady_us()
        slept = self.began - asked
        self.late = max(busy, 0 if timeout is None else slept - round(max(0.0, timeout / self.rate) * 1e6))
        return ready


class Loop(asyncio.SelectorEventLoop):
    """A loop whose clock runs at the same speed as the other clocks of its process."""

    def time(self) -> float:
        return time.monotonic_ns() / 1e9


def go_at(rate: float) -> None:
    """Multiply the speed of all steady clocks of this process, including those of loops."""

    def rated(read: Callable[..., int]) -> Callable[..., int]:
        return lambda *which: round(read(*which) * rate)

    clock._read, time.monotonic_ns = rated(clock._read), rated(time.monotonic_ns)


class Wall:
    """The wall clock of this process, which a test can shift."""

    def __init__(self, shift_s: float) -> None:
        self.shift_s = shift_s
        self._true = time.time_ns
        time.time_ns = self.time_ns

    def time_ns(self) -> int:
        return self._true() + round(self.shift_s * 1e9)


class Program:
    """The scheduler of a process, and the commands that it obeys."""

    def __init__(self, options: Options, turns: Turns) -> None:
        self.options = options
        self.who = options.who
        self.turns = turns
        self.stopped = asyncio.Event()
        self.may_start = asyncio.Event()
        self._journal = os.open(options.journal, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        self._suspensions = 0
        self._doing: set[asyncio.Task[None]] = set()
        self._input = b""
        self._tables: dict[str, asyncpg.Connection[Any]] = {}
        self._wall = Wall(options.shift_s)
        if options.step:
            _schema.SCHEMA[str(len(_schema.SCHEMA) + 1)] = options.step
        if options.unseen_s:
            pruner.UNKNOWN_FOR = pruner.INTERVAL = pruner.FIRST_DELAY = round(options.unseen_s * 1e6)
            registration.REPEAT_AFTER = pruner.UNKNOWN_FOR
        self.scheduler = Scheduler(options.store, lease=LeaseTiming(*options.lease), version=options.version)
        for name in options.tasks:
            self.scheduler.schedule_task(
                self.body,
                options.interval_s,
                name=name,
                policy=ExecPolicy.WAIT,
                scope=Scope.CLUSTER,
            )
        for name in options.lasting:
            policy = ExecPolicy.SHIELD if name == "shielded" else ExecPolicy.WAIT
            self.scheduler.schedule_task(
                self.lasting, 60, name=name, policy=policy, scope=Scope.CLUSTER, overlap_on_loss=True
            )
        if options.local:
            self.scheduler.schedule_task(self.local, options.act_s, name=options.local)

    def say(self, event: str, task: str = "", fence: int = 0, tick: int = 0, take: int = 0, note: str = "") -> None:
        """Append a line to the journal, with the lateness of the current turn of the loop."""
        at = steady_us()
        late = max(self.turns.late, at - self.turns.began)
        os.write(
            self._journal, (json.dumps([at, late, self.who, event, task, fence, tick, take, note]) + "\n").encode()
        )

    # --- what it runs ---

    def of_run(self, event: str, note: str = "") -> None:
        run = current_run()
        self.say(event, run.task, run.fence or 0, epoch_us(run.scheduled_at), run.delivery, note)

    async def body(self) -> None:
        await self.acting(self.options.run_s)

    async def lasting(self) -> None:
        await self.acting(LASTING_S, stubborn=current_run().task == "stubborn")

    async def acting(self, for_s: float, *, stubborn: bool = False) -> None:
        self.of_run("begin")
        try:
            for _ in range(round(for_s / self.options.act_s)):
                await self.pause(stubborn)
                self.of_run("act", self.lost())
                if self.options.writes:
                    await self.write()
        except asyncio.CancelledError:
            self.of_run("end", "cut")
            raise
        self.of_run("end")

    async def pause(self, stubborn: bool) -> None:
        try:
            await asyncio.sleep(self.options.act_s)
        except asyncio.CancelledError:
            if not stubborn:
                raise

    def lost(self) -> str:
        """Return whether the run knows that its lease is lost: its event and check() have to agree."""
        run = current_run()
        noted = ["lost"] if run.lost.is_set() else []
        try:
            run.check()
        except LeaseLost:
            return "".join(noted) or "lost by check() alone"
        return "lost by its event alone" if noted else ""

    async def write(self) -> None:
        """Insert a row in a transaction that commits only if the run was not replaced."""
        run = current_run()
        if run.task not in self._tables:
            self._tables[run.task] = await asyncpg.connect(self.options.store)
        table = self._tables[run.task]
        try:
            async with table.transaction():
                await table.execute("INSERT INTO written (task, fence) VALUES ($1, $2)", run.task, run.fence)
                await run.guard(table)
        except LeaseLost:
            self.of_run("refused")
        else:
            self.of_run("written")

    async def local(self) -> None:
        self.say("act", self.options.local)

    async def suspend(self, task: str, for_s: float) -> None:
        """Suspend a task, or all tasks; a suspension of all is written to the journal for each task."""
        self._suspensions += 1
        key = str(self._suspensions)
        names = self.options.tasks if task == "*" else [task]

        def say(event: str) -> None:
            for name in names:
                self.say(event, name, note=key)

        say("suspend")
        try:
            async with self.scheduler.suspend() if task == "*" else self.scheduler.tasks[task].suspend():
                say("suspended-begin")
                for _ in range(round(for_s / self.options.act_s)):
                    await asyncio.sleep(self.options.act_s)
                    say("act-in-suspension")
                say("suspended-end")
        except SuspensionLost:
            say("suspend-lost")
        except (StoreUnavailable, WrongState):  # WrongState: not started yet.
            say("suspend-refused")

    # --- commands ---

    def obey(self) -> None:
        """Read commands from standard input and obey them."""
        read = os.read(0, 4096)
        if not read:
            asyncio.get_running_loop().remove_reader(0)
            self.stopped.set()
        self._input += read
        *lines, self._input = self._input.split(b"\n")
        for line in lines:
            self._obey(*line.decode().split())

    def _obey(self, what: str, *arguments: str) -> None:
        if what == "go":
            self.may_start.set()
        elif what == "suspend":
            self._do(self.suspend(arguments[0], float(arguments[1])))
        elif what == "clock":
            self._wall.shift_s = float(arguments[0])
        elif what == "block":
            time.sleep(float(arguments[0]))
        elif what == "fork":
            self.fork()
        else:
            raise ValueError(f"unknown command {what!r}")

    def _do(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._doing.add(task)
        task.add_done_callback(self._doing.discard)

    def fork(self) -> None:
        """Fork a child that starts the inherited scheduler, which the parent had started, in a loop of its own."""
        if os.fork():
            return
        try:  # The loop of the parent is never entered again.
            self.who += "-child"
            self.turns = Turns(self.options.rate)
            self._doing.clear()
            self.stopped = asyncio.Event()
            with asyncio.Runner(loop_factory=lambda: Loop(self.turns)) as runner:
                runner.run(self.live())
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(0)

    async def live(self) -> None:
        """Run the scheduler until the process is asked to stop."""
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, self.stopped.set)
        await self.scheduler.start()
        self.say("boot", note=f"{os.getpid()} {self.scheduler.json_repr()['instance']}")
        await self.stopped.wait()
        await self.scheduler.stop()
        self.say("stopped")


async def main(program: Program) -> None:
    asyncio.get_running_loop().add_reader(0, program.obey)
    if program.options.wait:
        program.say("ready")
        await program.may_start.wait()
    await program.live()


if __name__ == "__main__":
    options = Options(**json.loads(sys.argv[1]))
    if options.rate != 1:
        go_at(options.rate)
    turns = Turns(options.rate)
    program = Program(options, turns)
    with asyncio.Runner(loop_factory=lambda: Loop(turns)) as runner:
        runner.run(main(program))
