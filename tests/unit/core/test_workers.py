"""Threads that execute calls: as many as are needed, and no longer than they are needed."""

from __future__ import annotations

import gc
import threading
import weakref
from concurrent.futures import Future
from functools import partial
from typing import Any

import pytest

from kaiju_app._core import workers as module
from kaiju_app._core.workers import NoThread, Workers

pytestmark = [pytest.mark.realtime, pytest.mark.timeout(60)]


def own_threads(name: str) -> list[threading.Thread]:
    return [each for each in threading.enumerate() if each.name == name]


def wait_for_the_end(name: str) -> None:
    for thread in own_threads(name):
        thread.join(30)
        assert not thread.is_alive()


def test_no_more_threads_than_were_asked_for_and_every_call_is_executed() -> None:
    pool, most = Workers(3, "three"), []
    together = threading.Barrier(3, action=lambda: most.append(len(own_threads("three"))))

    def call(number: int) -> int:
        together.wait(30)
        return number

    futures = [pool.submit(partial(call, number)) for number in range(30)]

    assert [future.result(30) for future in futures] == list(range(30))
    assert most == [3] * 10
    pool.close()
    wait_for_the_end("three")


def test_one_call_after_another_needs_one_thread() -> None:
    pool = Workers(8, "one")
    seen = set()
    for _ in range(50):
        seen.add(pool.submit(threading.get_ident).result(30))
        while not pool._idle:
            pass

    assert len(seen) == 1
    pool.close()
    wait_for_the_end("one")


def test_what_was_submitted_before_the_end_is_executed_and_what_was_cancelled_is_not() -> None:
    pool, may_go = Workers(1, "last"), threading.Event()
    futures: list[Future[Any]] = [pool.submit(may_go.wait), pool.submit(lambda: 1), pool.submit(lambda: 2)]
    assert futures[1].cancel()
    pool.close()
    may_go.set()

    assert futures[2].result(30) == 2
    wait_for_the_end("last")


@pytest.mark.parametrize("failure", [ValueError("no"), StopIteration(1), KeyboardInterrupt(), SystemExit(3)])
def test_whatever_a_call_raises_is_in_its_future_and_the_thread_goes_on(failure: BaseException) -> None:
    def call() -> None:
        raise failure

    pool = Workers(1, "raises")

    assert pool.submit(call).exception(30) is failure
    assert pool.submit(lambda: 5).result(30) == 5
    pool.close()
    wait_for_the_end("raises")


def test_an_idle_thread_keeps_nothing_alive_and_ends_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    class Large:
        pass

    def call(large: Large) -> Large:
        return large

    pool = Workers(1, "idle")
    result = pool.submit(partial(call, Large())).result(30)
    there = weakref.ref(result)
    while not pool._idle:
        pass
    del result
    gc.collect()
    assert there() is None

    monkeypatch.setattr(module, "MOST_LOOKS", 0)
    wait_for_the_end("idle")
    assert pool.submit(lambda: 7).result(30) == 7
    pool.close()
    wait_for_the_end("idle")


def test_a_thread_that_cannot_be_started_is_told_and_its_call_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    pool, called = Workers(2, "none"), []
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(NoThread, match=r"no thread can be started \(can't start new thread\): end some threads"):
            pool.submit(lambda: called.append(1))

    assert pool.submit(lambda: 3).result(30) == 3
    assert not called
    may_go = threading.Event()
    first = pool.submit(may_go.wait)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        second = pool.submit(lambda: 4)  # It waits for the thread that there is.
    may_go.set()
    assert (first.result(30), second.result(30)) == (True, 4)
    pool.close()
    wait_for_the_end("none")
