"""A program whose main thread ends while the event loop lives in another thread: everything goes on as before."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = [pytest.mark.realtime, pytest.mark.mechanism, pytest.mark.timeout(120)]

PROGRAM = """
import asyncio, logging, sys, threading
from kaiju_app.scheduler import Scheduler, Scope

logging.basicConfig(format="%(levelname)s %(message)s")
daemon = sys.argv[1] == "daemon"
start = threading.Thread.start

def refuse(thread):
    if not threading.main_thread().is_alive():
        raise RuntimeError("can't create new thread at interpreter shutdown")
    start(thread)

if sys.argv[1] == "forbidden":
    threading.Thread.start = refuse  # As CPython 3.12.0 and 3.12.1 do it.
first = threading.Event()

def body():
    first.set()
    print("run", threading.main_thread().is_alive(), flush=True)

async def main():
    scheduler = Scheduler("sqlite:///a.db")
    local = scheduler.schedule_task(body, 0.25, name="local")
    shared = scheduler.schedule_task(body, 0.25, name="shared", scope=Scope.CLUSTER, overlap_on_loss=True)
    async with scheduler:
        while threading.main_thread().is_alive():
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.3)  # What began before that is over.
        before = len(await scheduler.history("shared"))
        for _ in range(3):
            await local.run_now() if not local.running else await local.wait()
        while len(await scheduler.history("shared")) < min(before + 3, 100):
            await asyncio.sleep(0.05)
        failed = [run for task in (local, shared) for run in task.history() if run.error]
        print("failed", failed)
    print("stopped", flush=True)

threading.Thread(target=lambda: asyncio.run(main()), daemon=daemon).start()
first.wait()
"""

FORBIDDEN = """
import asyncio, logging, threading
from kaiju_app.scheduler import Scheduler

logging.basicConfig(format="%(levelname)s %(message)s")
start = threading.Thread.start

def refuse(thread):
    if not threading.main_thread().is_alive():
        raise RuntimeError("can't create new thread at interpreter shutdown")
    start(thread)

threading.Thread.start = refuse  # As CPython 3.12.0 and 3.12.1 do it.
begun = threading.Event()

async def main():
    async with Scheduler("sqlite:///a.db") as scheduler:
        begun.set()
        while threading.main_thread().is_alive():
            await asyncio.sleep(0.01)
        task = scheduler.schedule_task(print, 0.05, name="job")
        while len(task.history()) < 5:
            await asyncio.sleep(0.05)
        print(task.history()[-1].error)

threading.Thread(target=lambda: asyncio.run(main())).start()
begun.wait()
"""


def run(tmp_path: Path, program: str, *arguments: str) -> tuple[str, str]:
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        cwd=tmp_path, check=False, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout, done.stderr


@pytest.mark.parametrize("threads", ["allowed", "forbidden"])
def test_plain_functions_and_the_store_go_on(tmp_path: Path, threads: str) -> None:
    """Where Python starts no more threads, those that there are go on."""
    out, err = run(tmp_path, PROGRAM, threads)

    assert "run False" in out
    assert "failed []" in out
    assert out.endswith("stopped\n")
    unexpected = [line for line in err.splitlines() if "skipped (missed)" not in line]  # A busy machine misses ticks.
    assert unexpected == []


def test_a_loop_in_a_daemon_thread_does_not_keep_the_program(tmp_path: Path) -> None:
    begun = time.monotonic()
    out, _ = run(tmp_path, PROGRAM, "daemon")

    assert "run True" in out
    assert time.monotonic() - begun < 30


def test_where_python_starts_no_threads_it_is_said_once_with_the_way_out(tmp_path: Path) -> None:
    out, err = run(tmp_path, FORBIDDEN)

    told = (
        "no thread can be started, as the main thread has ended (can't create new thread at interpreter shutdown): let "
        "it wait for the end of the thread in which the event loop runs, with thread.join()"
    )
    assert out == f"NoThread: {told}\n"
    (line,) = (line for line in err.splitlines() if line.startswith(("ERROR", "WARNING")))
    assert line.startswith("ERROR task 'job', tick ")
