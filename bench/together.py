"""W8: 1,000 tasks at 1 s, shared by three processes through one store: ``make bench-together ARGS=--postgres``.

With ``--ahead 0`` nothing is claimed before its tick; ``--tasks 10000 --interval 60 --seconds 60`` is the wide form.

Every process registers every task. Each body records its tick and when it began. The parent combines the records: how
many of the ticks ran, how many ran twice, how late they began, how many questions the store got, how many statements
the database executed for them, and what CPU a run cost in these processes and in the server that the parent started.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import json
import os
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from math import nan
from pathlib import Path
from typing import Any

import asyncpg
import psutil
from asyncpg.prepared_stmt import PreparedStatement
from redis.asyncio import Redis

from kaiju_app.scheduler import ExecPolicy, LeaseTiming, Scheduler, Scope, current_run
from kaiju_app.stores import Store, store_from_url

ASKED = ("claim", "renew", "finish", "scan", "swap", "change_each", "heartbeat", "history", "dead", "prune")
FLAGS = {"postgresql": ["--postgres"], "valkey": ["--valkey"], "sqlite": []}
START_S = 6.0  # By then all processes have started and registered their tasks.


def main() -> int:
    """Run the processes and print one line of figures; return 1 if a tick ran twice, or not at all."""
    options = arguments().parse_args()
    if options.worker:
        asyncio.run(work(options.store, options))
        return 0
    figures = figures_of(options)
    print(json.dumps(figures, indent=1))
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n")
    return 1 if figures["duplicates"] or figures["missing"] else 0


def arguments() -> argparse.ArgumentParser:
    """Describe the command line."""
    parser = argparse.ArgumentParser("python -m bench.together", description=__doc__)
    parser.add_argument("--store", metavar="URL", help="URL of the store (default: a new SQLite file)")
    parser.add_argument("--postgres", action="store_true", help="use a PostgreSQL from the wheel, without fsync")
    parser.add_argument("--valkey", action="store_true", help="use a Valkey from the wheel, without fsync")
    parser.add_argument("--json", type=Path, metavar="PATH", help="also write all figures to this file")
    parser.add_argument("--tasks", type=int, default=1_000, metavar="N")
    parser.add_argument("--interval", type=float, default=1.0, metavar="S", help="interval of each task")
    parser.add_argument("--processes", type=int, default=3, metavar="N")
    parser.add_argument("--seconds", type=float, default=20.0, metavar="S", help="how long to count ticks")
    parser.add_argument("--ahead", type=float, default=LeaseTiming().ahead_s, metavar="S")
    parser.add_argument("--start", type=float, default=START_S, metavar="S", help="time for the processes to start")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--begin", type=float, help=argparse.SUPPRESS)
    return parser


def measure(
    *, store: str, tasks: int, interval_s: float, processes: int, seconds: float, start_s: float
) -> dict[str, float]:
    """W8 as a workload: *store* is `postgresql`, `valkey` or `sqlite`.

    Returns:
        Runs expected, missing and done twice; lateness in milliseconds; statements a second; microseconds of CPU a run
        in the processes and in the server (NaN without one).
    """
    sizes = f"--tasks={tasks} --interval={interval_s} --processes={processes} --seconds={seconds} --start={start_s}"
    found = figures_of(arguments().parse_args([*sizes.split(), *FLAGS[store]]))
    server_us = found["server_cpu_us_a_run"]
    return {
        "expected": found["expected"],
        "missing": found["missing"],
        "duplicates": found["duplicates"],
        "p50_ms": found["late_ms_p50"],
        "p99_ms": found["late_ms_p99"],
        "longest_ms": found["late_ms_max"],
        "statements": found["statements_a_second"],
        "cpu_us": found["cpu_us_a_run"],
        "server_us": nan if server_us is None else server_us,
    }


def figures_of(options: argparse.Namespace) -> dict[str, Any]:
    """Start the store, run the processes, and return all figures."""
    with ExitStack() as stack:
        url, server = options.store, None
        if url is None and options.postgres:
            server = stack.enter_context(postgres())
            url = server.dsn()
        if url is None and options.valkey:
            server = stack.enter_context(valkey())
            url = server.url
        url = url or f"sqlite:///{stack.enter_context(tempfile.TemporaryDirectory())}/w8.db"
        begin = time.time() + options.start + options.tasks / 1_000
        processes = start(options, url, begin)
        server_cpu_s = None if server is None else server_cpu(server, begin + 1, begin + 1 + options.seconds)
        said = [process.communicate(timeout=options.seconds + 60)[0] for process in processes]
    if any(process.returncode for process in processes):
        sys.exit("bench.together: a process failed, see above")
    found = [json.loads(each) for each in said]
    given = {name: getattr(options, name) for name in ("tasks", "interval", "processes", "seconds", "ahead")}
    return {"store": url.partition(":")[0], **given, **summary(found, server_cpu_s, options)}


@contextmanager
def postgres() -> Iterator[Any]:
    """Start the test suite's server, without fsync."""
    sys.path.append(str(Path(__file__).parents[1] / "tests"))
    module = importlib.import_module("support.postgres_server")
    programs = module.find_programs()
    if isinstance(programs, module.Missing):
        sys.exit(f"bench.together: no PostgreSQL: {programs.reason}; choose one with --store postgresql://...")
    with module.Server(programs) as server:
        yield server


@contextmanager
def valkey() -> Iterator[Any]:
    """Start the test suite's server, without fsync."""
    sys.path.append(str(Path(__file__).parents[1] / "tests"))
    module = importlib.import_module("support.redis_server")
    program = module.find_program("valkey")
    if not isinstance(program, Path):
        sys.exit(f"bench.together: no Valkey: {program.reason}; choose a server with --store redis://...")
    with module.Server(program) as server:
        yield server


def start(options: argparse.Namespace, url: str, begin: float) -> list[subprocess.Popen[str]]:
    """Start the processes. Each prints its records when it ends."""
    command = [
        sys.executable, "-m", "bench.together", "--worker", "--store", url, "--tasks", str(options.tasks),
        "--seconds", str(options.seconds), "--interval", str(options.interval), "--begin", str(begin),
        "--ahead", str(options.ahead),
    ]  # fmt: skip
    return [
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[1])
        for _ in range(options.processes)
    ]


def server_cpu(server: Any, from_s: float, until_s: float) -> float:
    """Return the CPU seconds of all the server's processes from *from_s* until *until_s* by the wall clock."""
    time.sleep(max(0.0, from_s - time.time()))
    before_s = tree_cpu(server.processes())
    time.sleep(max(0.0, until_s - time.time()))
    return tree_cpu(server.processes()) - before_s


def tree_cpu(processes: list[psutil.Process]) -> float:
    """Return the CPU seconds of a process and its children, those of children that have ended included."""
    used_s = 0.0
    for process in processes:
        with suppress(psutil.NoSuchProcess):  # It ended just now: its time is that of its parent's children.
            times = process.cpu_times()
            used_s += times.user + times.system + times.children_user + times.children_system
    return used_s


async def work(url: str, options: argparse.Namespace) -> None:
    """Run as one process, and print the records of its runs."""
    tasks, begin, seconds = options.tasks, options.begin, options.seconds
    store = store_from_url(url)
    asked, stated = counted(store), counted_statements()
    runs: list[tuple[str, float, float]] = []

    async def body() -> None:
        run = current_run()
        tick = run.scheduled_at.timestamp()
        runs.append((run.task, tick, time.time() - tick))

    scheduler = Scheduler(store, lease=LeaseTiming(ahead_s=options.ahead))
    first = datetime.fromtimestamp(begin, UTC)
    for number in range(tasks):
        scheduler.schedule_task(
            body, options.interval, name=f"task {number}", scope=Scope.CLUSTER, policy=ExecPolicy.WAIT,
            first_run=first + timedelta(seconds=number / tasks * options.interval),
        )  # fmt: skip
    async with scheduler:
        if (late_s := time.time() - begin) > 0:  # Ticks that nobody could claim yet would count as missing.
            sys.exit(f"bench.together: this process started {late_s:.1f} s too late; raise --start")
        await asyncio.sleep(begin + 1 - time.time())
        asked.clear()
        stated.clear()
        cpu = time.process_time()
        await asyncio.sleep(begin + 1 + seconds - time.time())
        cpu, calls, statements = time.process_time() - cpu, dict(asked), dict(stated)
        await asyncio.sleep(1.5)
    print(json.dumps({"pid": os.getpid(), "runs": runs, "asked": calls, "stated": statements, "cpu_s": cpu}))


def counted(store: Store) -> Counter[str]:
    """Return a counter of the calls to *store* from now on."""
    asked: Counter[str] = Counter()
    for name in ASKED:
        setattr(store, name, _counting(getattr(store, name), name, asked))
    return asked


def _counting(method: Callable[..., Any], name: str, asked: Counter[str]) -> Callable[..., Any]:
    def call(*args: Any, **options: Any) -> Any:
        asked[name] += 1
        return method(*args, **options)

    return call


def counted_statements() -> Counter[str]:
    """Return a counter, by first word, of the statements that this process has a database execute from now on."""
    stated: Counter[str] = Counter()

    class Counting(sqlite3.Connection):
        def execute(self, sql: str, /, *values: Any) -> sqlite3.Cursor:
            stated.update(sql.split(None, 1)[:1])
            return super().execute(sql, *values)

        def executemany(self, sql: str, rows: Iterable[Any], /) -> sqlite3.Cursor:
            each = list(rows)
            stated[sql.split(None, 1)[0]] += len(each)
            return super().executemany(sql, each)

    sqlite3.connect = partial(sqlite3.connect, factory=Counting)  # type: ignore[assignment]
    _count_queries(Redis, "execute_command", lambda _, name, *values: str(name), stated)
    for name in ("fetch", "fetchval", "fetchrow", "execute"):
        _count_queries(asyncpg.Connection, name, lambda _, sql, *values: sql, stated)
    for name in ("fetch", "fetchval", "fetchrow"):
        _count_queries(PreparedStatement, name, lambda statement, *values: statement.get_query(), stated)
    return stated


def _count_queries(owner: type, name: str, sql_of: Callable[..., str], stated: Counter[str]) -> None:
    method = getattr(owner, name)

    async def counting(self: Any, *args: Any, **options: Any) -> Any:
        stated.update(sql_of(self, *args).split(None, 1)[:1])
        return await method(self, *args, **options)

    setattr(owner, name, counting)


def summary(found: list[dict[str, Any]], server_cpu_s: float | None, options: argparse.Namespace) -> dict[str, Any]:
    """Return the figures for the ticks within the measured time."""
    first = min(tick for each in found for _, tick, _ in each["runs"]) + 1
    last = first + options.seconds
    runs = [(task, tick, late) for each in found for task, tick, late in each["runs"] if first <= tick < last]
    ticks = Counter((task, tick) for task, tick, _ in runs)
    late = sorted(late for _, _, late in runs)
    asked, stated = (sum((Counter(each[what]) for each in found), Counter()) for what in ("asked", "stated"))
    expected = round(options.tasks * options.seconds / options.interval)
    return {
        "expected": expected,
        "done": len(ticks),
        "missing": expected - len(ticks),
        "duplicates": sum(number - 1 for number in ticks.values()),
        "questions_a_second": round(asked.total() / options.seconds, 1),
        "questions": {name: round(number / options.seconds, 1) for name, number in asked.most_common()},
        "statements_a_second": round(stated.total() / options.seconds, 1),
        "statements": {word: round(number / options.seconds, 1) for word, number in stated.most_common()},
        "late_ms_p50": round(late[len(late) // 2] * 1e3, 2),
        "late_ms_p99": round(late[len(late) * 99 // 100] * 1e3, 2),
        "late_ms_max": round(late[-1] * 1e3, 2),
        "runs_by_process": [sum(first <= tick < last for _, tick, _ in each["runs"]) for each in found],
        "cpu_us_a_run": round(sum(each["cpu_s"] for each in found) / len(runs) * 1e6, 1),
        "server_cpu_us_a_run": None if server_cpu_s is None else round(server_cpu_s / len(runs) * 1e6, 1),
    }


if __name__ == "__main__":
    sys.exit(main())
