"""The public names of the scheduler."""

from typing import TYPE_CHECKING

from kaiju_app._cluster.timing import LeaseTiming
from kaiju_app._core.clock import Clock
from kaiju_app._core.lazy import lazy_names
from kaiju_app._core.model import ExecPolicy, FirstRun, Missed, OnLost, Outcome, Overdue, Reason, Run, RunPage, Scope
from kaiju_app._engine.backoff import Backoff
from kaiju_app._engine.lag import LoopLag
from kaiju_app._engine.listeners import Subscription
from kaiju_app.triggers import Every, Trigger

from ._current_run import CurrentRun, current_run
from ._health import Problem, ProblemKind, SchedulerHealth
from ._requested import RequestedRun
from ._scheduler import Scheduler
from ._task import ScheduledTask

if TYPE_CHECKING:
    from kaiju_app._core.explanation import Cause, CauseKind, Explanation, Fate
    from kaiju_app.triggers import AnyOf, At, Calendar, Cron, Except, register_trigger, trigger_from_json
    from kaiju_app.triggers._lint import Finding, Level

    from ._cluster_task import ClusterTask
    from ._lint import Report, lint
    from ._remote_task import RemoteTask
else:
    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            "._cluster_task": ("ClusterTask",),
            "._lint": ("Report", "lint"),
            "._remote_task": ("RemoteTask",),
            "kaiju_app._core.explanation": ("Cause", "CauseKind", "Explanation", "Fate"),
            "kaiju_app.triggers": (
                "AnyOf",
                "At",
                "Calendar",
                "Cron",
                "Except",
                "register_trigger",
                "trigger_from_json",
            ),
            "kaiju_app.triggers._lint": ("Finding", "Level"),
        },
    )

__all__ = [
    "AnyOf",
    "At",
    "Backoff",
    "Calendar",
    "Cause",
    "CauseKind",
    "Clock",
    "ClusterTask",
    "Cron",
    "CurrentRun",
    "Every",
    "Except",
    "ExecPolicy",
    "Explanation",
    "Fate",
    "Finding",
    "FirstRun",
    "LeaseTiming",
    "Level",
    "LoopLag",
    "Missed",
    "OnLost",
    "Outcome",
    "Overdue",
    "Problem",
    "ProblemKind",
    "Reason",
    "RemoteTask",
    "Report",
    "RequestedRun",
    "Run",
    "RunPage",
    "ScheduledTask",
    "Scheduler",
    "SchedulerHealth",
    "Scope",
    "Subscription",
    "Trigger",
    "current_run",
    "lint",
    "register_trigger",
    "trigger_from_json",
]
