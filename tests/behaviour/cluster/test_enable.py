"""Cluster tasks: ``enable()``, ``disable()`` and ``remove()`` are of one instance."""

from __future__ import annotations

import asyncio

from behaviour.cluster.common import Journal, Made, share, started


async def test_disable_is_of_one_instance(made: Made) -> None:
    journal = Journal()
    a, b = made(), made()
    share(a, journal.body("a"))
    share(b, journal.body("b"))
    async with started(a, b):
        await asyncio.sleep(2)
        a.tasks["job"].disable()
        assert a.tasks["job"].state == "disabled"
        journal.lines.clear()
        await asyncio.sleep(50)
        assert {who for who, _ in journal.lines} == {"b"}
        b.tasks["job"].disable()
        await asyncio.sleep(30)
        assert len(journal.lines) == 5
        a.tasks["job"].enable()
        await asyncio.sleep(20)
        assert {who for who, _ in journal.lines[5:]} == {"a"}


async def test_remove_leaves_the_task_to_others(made: Made) -> None:
    journal = Journal()
    a, b = made(), made()
    share(a, journal.body("a"))
    share(b, journal.body("b"))
    async with started(a, b):
        await asyncio.sleep(2)
        a.tasks["job"].remove()
        assert "job" not in a.tasks
        journal.lines.clear()
        await asyncio.sleep(30)
        assert [who for who, _ in journal.lines] == ["b"] * 3
        share(a, journal.body("a again"))
        b.tasks["job"].remove()
        await asyncio.sleep(20)
        assert [who for who, _ in journal.lines[3:]] == ["a again"] * 2


async def test_a_task_that_is_not_known_here_is_left_to_others(made: Made) -> None:
    journal = Journal()
    a, b = made(), made()
    share(a, journal.body("a"))
    other = Journal()
    share(b, other.body("b"), name="other")
    async with started(a, b):
        await asyncio.sleep(55)

    assert len(journal.lines) == len(other.lines) == 6
    assert all(second % 10 <= 2.4 for second in journal.seconds + other.seconds)  # Left to the other instance at first.
