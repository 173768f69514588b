"""Triggers of one's own, by name: written as JSON, read back, shared by instances."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Self

import pytest

from kaiju_app.errors import InvalidArgument
from kaiju_app.scheduler import AnyOf, Every, Except, Scheduler, Scope
from kaiju_app.stores import MemoryStore
from kaiju_app.triggers import _registered, register_trigger, trigger_from_json
from support.virtual import VirtualLoop

NOW = datetime(2026, 7, 1, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


@pytest.fixture(autouse=True)
def nothing_registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_registered, "_kinds", {})


class Beat:
    """Ticks in the given second of each minute."""

    def __init__(self, second: int) -> None:
        self.second = second

    def after(self, moment: datetime, /) -> datetime:
        found = moment.replace(second=self.second, microsecond=0)
        return found if found > moment else found + MINUTE

    def at_or_before(self, moment: datetime, /) -> datetime:
        found = moment.replace(second=self.second, microsecond=0)
        return found if found <= moment else found - MINUTE

    def to_json(self) -> Any:
        return {"second": self.second}

    @classmethod
    def from_json(cls, values: Any, /) -> Self:
        return cls(values["second"])


class Lossy(Beat):
    @classmethod
    def from_json(cls, values: Any, /) -> Self:
        return cls(values["second"] + 1)


class Unwritable(Beat):
    def to_json(self) -> Any:
        return {NOW}


class Changeling(Beat):
    @classmethod
    def from_json(cls, values: Any, /) -> Any:
        return Beat(values["second"])


@pytest.mark.pure
def test_a_registered_trigger_is_written_by_its_name_and_read_back() -> None:
    register_trigger("beat", Beat)
    form = {"registered": "beat", "values": {"second": 7}}
    read = trigger_from_json(json.loads(json.dumps(form)))

    assert form == read.json_repr()
    assert [NOW + timedelta(seconds=7), NOW + MINUTE + timedelta(seconds=7)] == read.upcoming(NOW, 2)
    whole = Except(AnyOf(Beat(7), Every(3600)), Beat(8))
    again = trigger_from_json(whole.json_repr())
    assert again == whole
    assert hash(again) == hash(whole)
    assert again != Except(AnyOf(Beat(6), Every(3600)), Beat(8))


@pytest.mark.pure
def test_registered_triggers_are_equal_and_hash_alike_if_they_are_written_alike() -> None:
    register_trigger("beat", Beat)
    register_trigger("unwritable", Unwritable)
    rules = [AnyOf(Beat(second)) for second in range(60)]

    assert [AnyOf(Beat(second)) for second in range(60)] == rules
    assert 60 == len({hash(each) for each in rules}) == len({*rules, AnyOf(Beat(5))})
    assert 2 == len({AnyOf(Unwritable(5)), AnyOf(Unwritable(6))}), "a task of this process needs no JSON"


@pytest.mark.pure
def test_a_class_that_is_registered_again_with_its_module_takes_the_name() -> None:
    @dataclass
    class First(Beat):
        second: int

    again = type(First.__name__, (Beat,), {"__module__": First.__module__, "__qualname__": First.__qualname__})
    register_trigger("beat", First)
    register_trigger("beat", First)
    register_trigger("beat", again)

    assert {"registered": "beat", "values": {"second": 5}} == AnyOf(again(5)).json_repr()["any_of"][0]  # type: ignore[index]


@pytest.mark.pure
@pytest.mark.parametrize(
    ("name", "kind", "why"),
    [
        ("", Beat, "name must be a non-empty string, got ''"),
        (5, Beat, "name must be a non-empty string, got 5"),
        ("other", Lossy, "name must be the only name of the class, which is registered as 'lossy', got 'other'"),
        ("lossy", Beat, "name must not be the name of two classes: it is that of <class "),
        ("beat", Beat(5), "kind must be a class of triggers with to_json() and from_json(), but has no after and no "),
        (
            "beat",
            Every,
            "kind must be a class of triggers with to_json() and from_json(), but has no to_json and no from",
        ),
    ],
)
def test_a_wrong_registration_is_refused(name: Any, kind: Any, why: str) -> None:
    register_trigger("lossy", Lossy)

    with pytest.raises(InvalidArgument) as refused:
        register_trigger(name, kind)
    assert str(refused.value).startswith(why)
    assert {"lossy": Lossy} == _registered._kinds


@pytest.mark.pure
@pytest.mark.parametrize(
    ("form", "why"),
    [
        ({"registered": "beat"}, "trigger must have the key values in addition to registered, got "),
        (
            {"registered": "tact", "values": 1},
            "trigger registered must be a name that register_trigger() was given in this process, got 'tact'",
        ),
        ({"registered": ["beat"], "values": 1}, "trigger registered must be a name that register_trigger() was given"),
        (
            {"registered": "beat", "values": {}},
            "trigger registered values must be readable by Beat.from_json(), which raised KeyError: 'second', got {}",
        ),
        (
            {"registered": "changeling", "values": {"second": 5}},
            "trigger registered values must be readable by Changeling.from_json(), which raised TypeError: it ",
        ),
    ],
)
def test_a_form_that_cannot_be_read_is_refused(form: object, why: str) -> None:
    register_trigger("beat", Beat)
    register_trigger("changeling", Changeling)

    with pytest.raises(InvalidArgument) as refused:
        trigger_from_json(form)
    assert str(refused.value).startswith(why)


async def work() -> None: ...


SHARED = "^trigger must be writable as JSON for Scope.CLUSTER: "


@pytest.mark.pure
@pytest.mark.parametrize(
    ("trigger", "why"),
    [
        (
            Beat(5),
            SHARED + r"trigger has no JSON form: register_trigger\('name', Beat\) in every process gives it one, ",
        ),
        (AnyOf(Beat(5), Every(60)), SHARED + r"triggers\[0\] has no JSON form: register_trigger\('name', Beat\) in "),
        (
            Unwritable(5),
            SHARED + r"trigger must return JSON values from to_json\(\), but: Object of type set is not JSON",
        ),
        (Lossy(5), "^trigger must be written as JSON and read back without loss for Scope.CLUSTER"),
    ],
)
def test_a_trigger_that_other_instances_could_not_read_is_refused_with_the_way_out(trigger: Any, why: str) -> None:
    register_trigger("lossy", Lossy)
    register_trigger("unwritable", Unwritable)

    with pytest.raises(InvalidArgument, match=why):
        Scheduler(MemoryStore()).schedule_task(work, trigger=trigger, name="work", scope=Scope.CLUSTER)
    assert Scheduler().schedule_task(work, trigger=trigger).trigger is trigger, "a local task needs no JSON"


async def test_instances_share_a_registered_trigger_and_each_tick_runs_once(loop: VirtualLoop) -> None:
    register_trigger("beat", Beat)
    store, ticks = MemoryStore(loop.virtual_clock.wall), []

    async def beat() -> None:
        ticks.append(loop.virtual_clock.wall())

    async with Scheduler(store, clock=loop.virtual_clock) as one, Scheduler(store, clock=loop.virtual_clock) as other:
        for each in (one, other):
            each.schedule_task(beat, trigger=Beat(7), name="beat", scope=Scope.CLUSTER)
        await asyncio.sleep(600)

        [record] = (await store.scan()).records
        assert {"trigger": {"registered": "beat", "values": {"second": 7}}} == json.loads(record.schedule)
    assert len(ticks) in (9, 10, 11)
    assert len(ticks) == len({tick // 60_000_000 for tick in ticks})
