"""The schedule of a cluster task as JSON: any text in the store is either decoded or ignored, and never raises."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest

from kaiju_app._cluster.schedule_codec import same_ticks, spec_of, text_of
from kaiju_app._engine.spec import TaskSpec
from kaiju_app.scheduler import At, Calendar, Cron, Every, Scheduler, Scope
from kaiju_app.triggers._timeline import timeline_of
from support.reading import ZERO

pytestmark = pytest.mark.pure

DEEP = '{"trigger":' + '{"except":[' * 20_000 + "1" + "]}" * 20_000 + "}"
VALUES = (True, 0, -1, 1.5, 1e400, 10**30, "x", "", [], {}, {"cron": 5}, {"at": ["x"]}, {"cron": "* * * * *", "tz": 5})


def spec(interval_s: float | None = 10, **options: Any) -> TaskSpec:
    async def nothing() -> None: ...

    options = {"name": "job", "scope": Scope.CLUSTER, **options}
    return Scheduler("memory://").schedule_task(nothing, interval_s, **options)._entry.spec


@pytest.mark.parametrize(
    "one",
    [
        spec(),
        spec(0.001, jitter_s=0.0005),
        spec(until=ZERO),
        spec(None, trigger=Cron("*/5 * * * *", "Europe/Berlin"), jitter_s=1, until=ZERO + timedelta(days=1)),
        spec(None, trigger=Every(60)),
        spec(None, trigger=Calendar("2 weeks", on="wed", at="14:00", tz="Europe/Berlin", start="2026-01-07")),
        spec(None, trigger=Cron("H H L-3,15W * ?", "Asia/Tokyo", spread="job")),
        spec(None, trigger=At(ZERO)),
    ],
)
def test_a_rule_comes_back_as_it_was_written(one: TaskSpec) -> None:
    read = spec_of(text_of(one), spec())

    assert read is not None
    assert (one.gap, one.trigger, one.jitter, one.until) == (read.gap, read.trigger, read.jitter, read.until)


@pytest.mark.parametrize("base", [{}, {"interval_us": 10_000_000}, {"trigger": {"cron": "* * * * *"}}])
@pytest.mark.parametrize("key", ["interval_us", "trigger", "jitter_us", "until_us", "from_the_future"])
@pytest.mark.parametrize("value", VALUES)
def test_what_is_no_rule_is_not_read_and_what_is_read_has_ticks(base: Any, key: str, value: object) -> None:
    read = spec_of(json.dumps(base | {key: value}), spec())

    if read is not None:
        grid = timeline_of(read, shared=True)
        assert grid.due(grid.next_after(0).tick) > 0
        text_of(read)
    if key == "until_us" and read is not None:
        assert type(value) is int


@pytest.mark.parametrize("text", ["", "[", "5", "null", "[]", "\0", DEEP])
def test_what_is_no_object_is_not_read(text: str) -> None:
    assert spec_of(text, spec()) is None
    assert not same_ticks(text, text_of(spec()))


def test_ticks_are_the_same_whatever_their_jitter_and_their_end() -> None:
    text = text_of(spec())

    assert same_ticks(text, text_of(spec(jitter_s=2, until=ZERO)))
    assert not same_ticks(text, text_of(spec(11)))
    assert not same_ticks(text, text_of(spec(None, trigger=Every(10))))
