"""What the log says about the rules of cluster tasks, which other instances may have registered differently."""

from __future__ import annotations

from kaiju_app._core.logs import facts
from kaiju_app._engine.events import log
from kaiju_app.stores._record import TaskRecord
from kaiju_app.triggers._timeline import describe

from .task import ClusterEntry


def log_unreadable_rule(task: ClusterEntry, record: TaskRecord) -> None:
    """Say that this instance cannot run the task, by the rule in its *record*."""
    log.warning(
        "task %r: left to other instances: its rule in the store, of version %s, cannot be read here: %.200s",
        task.name, version_text(record.version), record.schedule, extra=facts(task.name),
    )  # fmt: skip


def log_two_rules(task: ClusterEntry, old: TaskRecord, version: tuple[int, ...]) -> None:
    """Say what becomes of a rule that differs from the stored one."""
    other = task.spec_of(old)
    rules = f"{describe(task.code)} here, {old.schedule if other is None else describe(other)} in the store"
    extra = facts(task.name)
    if old.version > version:
        old_version = version_text(old.version)
        log.warning("task %r: follows the rule of version %s: %s", task.name, old_version, rules, extra=extra)
    elif old.version == version:
        log.warning(
            "task %r: two rules have the same version, %s: %s. The one registered last applies; raise "
            "Scheduler(version=...) with each release that changes a rule",
            task.name, version_text(old.version), rules, extra=extra,
        )  # fmt: skip
    else:
        new_version = version_text(version)
        log.info("task %r: has a new rule since version %s: %s", task.name, new_version, rules, extra=extra)


def version_text(version: tuple[int, ...]) -> str:
    """Return *version* as people write it."""
    return ".".join(map(str, version))
