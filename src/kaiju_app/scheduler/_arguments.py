"""The arguments of ``Scheduler()``, validated: each is refused with its name, its value and what to write instead."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, TypedDict, Unpack

from kaiju_app._cluster.timing import LeaseTiming
from kaiju_app._core.clock import REAL, Clock
from kaiju_app._core.model import OnLost, Scope
from kaiju_app._core.text import random_identity
from kaiju_app._core.validate import duration_us, flag, integer, key
from kaiju_app._engine.engine import Engine
from kaiju_app._engine.entry import REMOVE_WHEN_OVER
from kaiju_app._engine.options import member
from kaiju_app._engine.spec import Settings, TaskSpec
from kaiju_app.errors import InvalidArgument

if TYPE_CHECKING:
    from kaiju_app._cluster.cluster import Cluster
    from kaiju_app.stores import Store

MAX_SHARED_FAILURES = 50
LEAST_SHARED_HISTORY = 100  # Rows in which failures are counted, with the skips between them.
MAX_SAFE_MOD = 1e6  # Gaps: a deadline a million gaps away is a mistake, and larger numbers overflow with a long gap.


def settings_of(
    history: int,
    cancel_grace_s: float | timedelta,
    threads: int,
    wait_task_timeout_safe_mod: float,
    tz: str,
    watch_loop: bool,
) -> Settings:
    """Return the settings of the engine, with a new random identity of the instance.

    Raises:
        InvalidArgument: One of the arguments is out of range.
    """
    factor = wait_task_timeout_safe_mod
    if isinstance(factor, bool) or not isinstance(factor, int | float) or not 1 <= factor <= MAX_SAFE_MOD:
        raise InvalidArgument("wait_task_timeout_safe_mod", factor, "must be a number from 1 to 1,000,000")
    return Settings(
        cancel_grace=duration_us("cancel_grace_s", cancel_grace_s),
        history=integer("history", history, at_least=1),
        threads=integer("threads", threads, at_least=1),
        safe_mod=float(factor),
        instance=random_identity(),
        tz=_zone(tz),
        watch_loop=flag("watch_loop", watch_loop),
    )


def _zone(tz: str) -> str:
    if tz == "UTC":
        return tz
    from kaiju_app.triggers._zones import known_zone

    return known_zone("tz", tz).key


def cluster_of(
    engine: Engine,
    store: str | Store | None,
    app: str,
    lease: LeaseTiming,
    version: int | tuple[int, ...],
    store_history: int | None,
    store_history_age_s: float | timedelta | None,
) -> Cluster | None:
    """Return what a scheduler with this *store* shares with other instances; None if it has none.

    Raises:
        InvalidArgument: One of the arguments is out of range.
    """
    lease, version = lease_of(lease), version_of(version)
    kept = kept_rows(store, store_history, store_history_age_s)
    opened = store_of(store, app, engine.wall, **kept)
    if opened is None:
        return None
    from kaiju_app._cluster.cluster import Cluster

    return Cluster(engine, opened, lease, version)


class KeptRows(TypedDict, total=False):
    """Arguments of a store: how many ledger rows of each task it keeps, and for how long."""

    history: int
    history_age_s: float | timedelta


def kept_rows(
    store: str | Store | None, store_history: int | None, store_history_age_s: float | timedelta | None
) -> KeptRows:
    """Return what the store that *store* names is to keep, as far as it is given.

    Raises:
        InvalidArgument: It is given for no store, or for a Store, which has its own, or is out of range.
    """
    kept = KeptRows()
    given = {"store_history": store_history, "store_history_age_s": store_history_age_s}
    for argument, value in given.items():
        if value is not None and not isinstance(store, str):
            own = "a Store has its own: give it there, as in SqliteStore(..., history=1000)"
            rule = "must be left out without a store" if store is None else f"must be left out: {own}"
            raise InvalidArgument(argument, value, rule)
    if store_history is not None:
        kept["history"] = integer("store_history", store_history, at_least=LEAST_SHARED_HISTORY)
    if store_history_age_s is not None:
        if not duration_us("store_history_age_s", store_history_age_s):
            raise InvalidArgument("store_history_age_s", store_history_age_s, "must be more than 0 seconds")
        kept["history_age_s"] = store_history_age_s
    return kept


def store_of(store: str | Store | None, app: str, wall: Callable[[], int], **kept: Unpack[KeptRows]) -> Store | None:
    """Return the store that *store* is or names; None if there is none. One in memory has the clock *wall*.

    Raises:
        InvalidArgument: *app* cannot name a set of instances or contradicts the store, or no store has this URL.
    """
    app = key("app", app)
    if store is None:
        return None
    from kaiju_app.stores import MemoryStore, Store, store_from_url

    if store == "memory://":
        return MemoryStore(wall, **kept)
    if isinstance(store, Store):
        if app not in ("default", store.app):
            rule = f"must be the one of the store, {store.app!r}: give it to the store, as in SqliteStore(..., app=...)"
            raise InvalidArgument("app", app, f"{rule}; a MemoryStore belongs to one application as a whole")
        return store
    return store_from_url(store, app, **kept)


def flags_of(scope: Scope, on_lost: OnLost, overlap_on_loss: bool, keep_result: bool, remove_when_over: bool) -> int:
    """Return the bits of a new task's entry that follow from its options.

    Raises:
        InvalidArgument: One of them is wrong, or does not apply to a task of this *scope*.
    """
    flags_off = overlap_on_loss is False and keep_result is False and remove_when_over is False
    if flags_off and scope is Scope.LOCAL and on_lost is OnLost.RETRY:
        return 0  # As nearly every task has them: a million checks are not free.
    member("on_lost", on_lost, OnLost)
    flag("overlap_on_loss", overlap_on_loss)
    flag("keep_result", keep_result)
    shared = member("scope", scope, Scope) is Scope.CLUSTER
    if flag("remove_when_over", remove_when_over) and shared:
        raise InvalidArgument(
            "remove_when_over", remove_when_over,
            "must be False with Scope.CLUSTER: the record in the store keeps the other instances and the next start "
            "from running the task again. Call task.remove() when task.state is 'over'",
        )  # fmt: skip
    return REMOVE_WHEN_OVER if remove_when_over else 0


def check_replace(replace: bool, name: str | None) -> None:
    """Refuse to replace a task without a *name*.

    Raises:
        InvalidArgument: There is none, or *replace* is not a bool.
    """
    if flag("replace", replace) and name is None:
        raise InvalidArgument("replace", replace, "needs a name: say name= of the task that is to be replaced")


def failures_of(scope: Scope, number: int | None) -> int | None:
    """Return the *number* of unsuccessful runs after which a task is paused; None for never.

    Raises:
        InvalidArgument: It is not an integer of at least 1, or too large for a task of this *scope*.
    """
    if number is None:
        return None
    if scope is Scope.CLUSTER and integer("pause_after_failures", number, at_least=1) > MAX_SHARED_FAILURES:
        rule = (
            f"must be at most {MAX_SHARED_FAILURES} with Scope.CLUSTER: they are counted in 100 records, skips included"
        )
        raise InvalidArgument("pause_after_failures", number, rule)
    return integer("pause_after_failures", number, at_least=1)


def expectation_of(spec: TaskSpec, within_s: float | timedelta | None) -> int | None:
    """Return within how many microseconds after a success the next one is expected; None if none is.

    Raises:
        InvalidArgument: It is not a positive number of seconds, or not longer than the gap of the rule.
    """
    if within_s is None:
        return None
    within = duration_us("expect_success_within_s", within_s)
    if within <= 0 or (spec.rule is None and within <= spec.gap):
        gap = "0 s" if spec.rule is not None else f"the gap between two ticks, {spec.gap / 1e6:g} s"
        raise InvalidArgument("expect_success_within_s", within_s, f"must be more than {gap}")
    return within


def lease_of(lease: LeaseTiming) -> LeaseTiming:
    """Return *lease* if it is a LeaseTiming.

    Raises:
        InvalidArgument: It is not.
    """
    if not isinstance(lease, LeaseTiming):
        raise InvalidArgument("lease", lease, "must be a LeaseTiming, such as LeaseTiming.for_failover(10)")
    return lease


def clock_of(clock: Clock | None) -> Clock:
    """Return *clock* if it is a Clock, and the real one for None.

    Raises:
        InvalidArgument: It is not.
    """
    if clock is None:
        return REAL
    if not isinstance(clock, Clock):
        raise InvalidArgument("clock", clock, "must be a Clock, such as Clock(steady=..., wall=...), or None")
    return clock


def version_of(version: int | tuple[int, ...]) -> tuple[int, ...]:
    """Return *version* as a tuple of integers.

    Raises:
        InvalidArgument: It is neither an integer of at least 0 nor a tuple of them.
    """
    parts = version if isinstance(version, tuple) else (version,)
    if not parts or any(isinstance(part, bool) or not isinstance(part, int) or part < 0 for part in parts):
        raise InvalidArgument("version", version, "must be an integer of at least 0 or a tuple of them: 7 or (1, 4, 2)")
    return parts
