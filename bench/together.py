"""W8: 1,000 tasks at 1 s, shared by three processes over one store: ``make bench-together ARGS=--postgres``.

With ``--ahead 0`` nothing is claimed before its tick; ``--tasks 10000 --interval 60 --seconds 60`` is the wide form.

Every process registers every task. Each body notes its tick and when it began; what all of them noted is put together
here: how many of the ticks ran, how many ran twice, how late they began, and how often the store was asked. On
PostgreSQL a claim, a renewal, an ending and a beat are one statement each; on SQLite each is several, which are counted
too.
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
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

from kaiju_app.scheduler import ExecPolicy, LeaseTiming, Scheduler, Scope, current_run
from kaiju_app.stores import Store, store_from_url

ASKED = ("claim", "renew", "finish", "scan", "swap", "change", "change_each", "beat", "history", "dead", "tidy")
START_S = 6.0  # Registration is over by then, and everybody there.


def main() -> int:
    """Run the processes and print one line of figures; return 1 if a tick ran twice, or not at all."""
    options = arguments().parse_args()
    if options.worker:
        asyncio.run(work(options.store, options))
        return 0
    with ExitStack() as stack:
        url = options.store or (stack.enter_context(postgres()) if options.postgres else None)
        url = url or f"sqlite:///{stack.enter_context(tempfile.TemporaryDirectory())}/w8.db"
        begin = time.time() + START_S + options.tasks / 1_000
        found = [json.loads(each) for each in run(options, url, begin)]
    figures = summary(found, options)
    print(json.dumps(figures, indent=1))
    if options.json:
        given = {name: getattr(options, name) for name in ("tasks", "interval", "processes", "seconds", "ahead")}
        options.json.write_text(json.dumps({"store": url.partition(":")[0], **given, **figures}, indent=1) + "\n")
    return 1 if figures["duplicates"] or figures["missing"] else 0


def arguments() -> argparse.ArgumentParser:
    """Describe the command line."""
    parser = argparse.ArgumentParser("python -m bench.together", description=__doc__)
    parser.add_argument("--store", metavar="URL", help="the store (a new SQLite file)")
    parser.add_argument("--postgres", action="store_true", help="a PostgreSQL from the wheel, without fsync")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write all figures there as well")
    parser.add_argument("--tasks", type=int, default=1_000, metavar="N")
    parser.add_argument("--interval", type=float, default=1.0, metavar="S", help="of each task")
    parser.add_argument("--processes", type=int, default=3, metavar="N")
    parser.add_argument("--seconds", type=float, default=20.0, metavar="S", help="how long ticks are counted")
    parser.add_argument("--ahead", type=float, default=LeaseTiming().ahead_s, metavar="S")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--begin", type=float, help=argparse.SUPPRESS)
    return parser


@contextmanager
def postgres() -> Iterator[str]:
    """Start the server that the tests have, which waits for no disk, and return its address."""
    sys.path.append(str(Path(__file__).parents[1] / "tests"))
    module = importlib.import_module("postgres_server")
    programs = module.find_programs()
    if isinstance(programs, module.Missing):
        sys.exit(f"bench.together: no PostgreSQL: {programs.reason}; name one by --store postgresql://...")
    with module.Server(programs) as server:
        yield server.dsn()


def run(options: argparse.Namespace, url: str, begin: float) -> list[str]:
    """Return what each process prints."""
    command = [
        sys.executable, "-m", "bench.together", "--worker", "--store", url, "--tasks", str(options.tasks),
        "--seconds", str(options.seconds), "--interval", str(options.interval), "--begin", str(begin),
        "--ahead", str(options.ahead),
    ]  # fmt: skip
    processes = [
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[1])
        for _ in range(options.processes)
    ]
    return [process.communicate(timeout=options.seconds + 60)[0] for process in processes]


async def work(url: str, options: argparse.Namespace) -> None:
    """Be one process: run what comes, and print what it was."""
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
        await asyncio.sleep(begin + 1 - time.time())
        asked.clear()
        stated.clear()
        cpu = time.process_time()
        await asyncio.sleep(begin + 1 + seconds - time.time())
        cpu, calls, statements = time.process_time() - cpu, dict(asked), dict(stated)
        await asyncio.sleep(1.5)
    print(json.dumps({"pid": os.getpid(), "runs": runs, "asked": calls, "stated": statements, "cpu_s": cpu}))


def counted(store: Store) -> Counter[str]:
    """Return a count of the questions that are put to *store* from now on."""
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
    """Return a count of the statements, by their first word, of SQLite's connections that are made from now on."""
    stated: Counter[str] = Counter()

    class Counting(sqlite3.Connection):
        def execute(self, sql: str, /, *values: Any) -> sqlite3.Cursor:
            stated.update(sql.split(None, 1)[:1])
            return super().execute(sql, *values)

    sqlite3.connect = partial(sqlite3.connect, factory=Counting)  # type: ignore[assignment]
    return stated


def summary(found: list[dict[str, Any]], options: argparse.Namespace) -> dict[str, Any]:
    """Return the figures, of the ticks within the time that is counted."""
    first = min(tick for each in found for _, tick, _ in each["runs"]) + 1
    last = first + options.seconds
    runs = [(task, tick, late) for each in found for task, tick, late in each["runs"] if first <= tick < last]
    ticks = Counter((task, tick) for task, tick, _ in runs)
    late = sorted(late for _, _, late in runs)
    asked, stated = (sum((Counter(each[what]) for each in found), Counter()) for what in ("asked", "stated"))
    expected = round(options.tasks * options.seconds / options.interval)
    return {
        "done": f"{len(ticks)} of {expected}",
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
        "cpu_ms_per_1000_runs": round(sum(each["cpu_s"] for each in found) / len(runs) * 1e6, 1),
    }


if __name__ == "__main__":
    sys.exit(main())
