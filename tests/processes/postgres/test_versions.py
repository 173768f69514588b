"""Real processes on PostgreSQL: deploys of two versions, and steps of the schema."""

from __future__ import annotations

import json
import signal
import time
from itertools import pairwise

import pytest

from kaiju_app._core.clock import steady_us
from kaiju_app.stores.postgres._schema import SCHEMA
from processes.fixtures import OFTEN, SEVERAL, Figures, Make
from processes.group import PATIENCE_S, longest_gap, seconds, us
from processes.postgres.common import LAG_S

pytestmark = [pytest.mark.realtime, pytest.mark.slow]


@pytest.mark.parametrize(("old_s", "new_s"), [(1.0, 0.5), (0.5, 1.0)])
def test_of_two_versions_the_newer_one_says_when_though_the_older_one_starts_again_beside_it(
    hosts: Make, figures: Figures, old_s: float, new_s: float
) -> None:
    """Instances are replaced one by one. Ticks change to the new interval once, at the cost of one tick at most."""
    processes = hosts(tasks=SEVERAL, run_s=0.1)
    old, new = {"interval_s": old_s, "version": 1}, {"interval_s": new_s, "version": 2}
    processes.start_ready("a", "b", "c", **old)
    processes.next_begin(steady_us())

    processes.process_named("a").stop()
    processes.start_ready("a2", **new)
    came = steady_us()
    processes.wait_until(came + us(1.5))
    for name, next_name, version in ("b", "b2", old), ("b2", "b3", new), ("c", "c2", new):
        processes.process_named(name).stop()
        processes.start_ready(next_name, **version)
        processes.wait_until(steady_us() + us(1.5))
    end = steady_us()

    begun = [each for each in processes.entries if each.event == "begin"]
    after = [each for each in begun if each.at > came + us(max(old_s, new_s))]
    of = {task: [each for each in after if (each.task, each.take) == (task, 1)] for task in SEVERAL}
    steps = [later.tick - earlier.tick for ticks in of.values() for earlier, later in pairwise(ticks)]
    silence_s = max(longest_gap([each for each in begun if each.task == task], came, end) for task in SEVERAL)
    bound_s = 2 * new_s + LAG_S
    figures(silence_s=silence_s, bound_s=bound_s, ticks=len(after), missed=sum(step > us(new_s) for step in steps))
    assert {each.who for each in after} >= {"a2", "b2", "b3", "c2"}
    assert set(steps) <= {us(new_s), us(2 * new_s)}
    processes.end()
    processes.check(tasks=SEVERAL)
    assert silence_s < bound_s


def test_a_task_that_no_version_knows_any_more_is_forgotten_but_not_its_history_and_its_fences_grow(
    hosts: Make, figures: Figures
) -> None:
    processes = hosts(unseen_s=1.5, **OFTEN)
    (first,) = processes.start_ready("a", tasks=("task", "old"))
    known = processes.wait_for_line(lambda each: (each.event, each.task) == ("end", "old"))
    first.stop()
    processes.start_ready("b", tasks=("task",))

    without = steady_us()
    while processes.ask("SELECT count(*) FROM kaiju_task WHERE name = 'old'"):
        assert seconds(without, steady_us()) < PATIENCE_S, processes.failure("it is not forgotten")
        time.sleep(0.05)
    gone = steady_us()
    processes.next_begin(gone, task="task")
    rows = processes.ask("SELECT count(*) FROM kaiju_run WHERE name = 'old' AND outcome = 'SUCCEEDED'")
    processes.start_ready("c", tasks=("task", "old"))
    again = processes.next_begin(gone, task="old")

    figures(forgotten_after_s=seconds(without, gone), rows_kept=rows)
    assert rows >= 1
    assert again.fence > max(each.fence for each in processes.entries if each.task == "old" and each.at < gone)
    assert again.tick > known.tick
    assert again.take == 1
    processes.end()
    processes.check(tasks=("task", "old"))


@pytest.mark.timeout(120)
def test_twenty_processes_whose_store_is_one_step_behind_take_it_once_while_an_older_one_goes_on(
    hosts: Make, figures: Figures
) -> None:
    step = "CREATE TABLE kaiju_second (one integer); INSERT INTO kaiju_second VALUES (7)"
    processes = hosts(tasks=SEVERAL, **OFTEN)
    processes.start_ready("old")
    processes.next_act("old")
    before = processes.ask("SELECT version FROM kaiju_schema")
    names = [f"p{number}" for number in range(20)]
    for who in names:
        processes.start(who, store=processes.url, wait=True, step=step)
    for who in names:
        processes.wait_for_line(lambda each, who=who: (each.who, each.event) == (who, "ready"), within_s=40)

    told = steady_us()
    for process in processes.all[1:]:
        process.tell("go")
    for who in names:
        processes.wait_for_line(lambda each, who=who: (each.who, each.event) == (who, "boot"))
    booted = steady_us()
    processes.wait_for_line(lambda each: each.event == "end" and each.who in names, since=booted)
    for process in processes.all[1:]:  # With so many instances, none of the tasks may be in the share of the old one.
        process.signal(signal.SIGTERM)
    processes.wait_for_line(lambda each: each.event == "end" and each.who == "old", since=steady_us())

    versions = processes.ask("SELECT json_agg(version)::text FROM kaiju_schema")
    silence_s = max(
        longest_gap([each for each in processes.entries if each.task == task], told, booted) for task in SEVERAL
    )
    figures(all_started_s=seconds(told, booted), longest_silence_s=silence_s)
    assert [before + 1] == json.loads(versions)
    assert 1 == processes.ask("SELECT count(*) FROM kaiju_second")
    processes.check(tasks=SEVERAL)
    assert seconds(told, booted) < 5


def test_an_older_process_that_has_to_connect_again_after_a_step_is_told_so_once_and_not_as_a_bug(hosts: Make) -> None:
    processes = hosts(**OFTEN)
    (old,) = processes.start_ready("old")
    processes.next_act()
    processes.ask("UPDATE kaiju_schema SET version = version + 1")

    processes.cut()
    cut_at = steady_us()
    while f"must have schema {len(SCHEMA)}" not in old.errors.read_text():
        assert seconds(cut_at, steady_us()) < PATIENCE_S, processes.failure("it is not told")
        time.sleep(0.01)
    processes.wait_until(steady_us() + us(1))

    said = old.errors.read_text()
    assert "a bug in" not in said
    assert 1 == said.count("no further ticks of cluster tasks are claimed")
