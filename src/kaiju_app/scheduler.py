"""The public names of the scheduler."""

from ._clock import Clock
from ._combined import AnyOf, Except
from ._cron import Cron
from ._current import CurrentRun, current_run
from ._forms import trigger_from_json
from ._lint import Finding, Level, Report, lint
from ._model import ExecPolicy, FirstRun, Missed, OnLost, Outcome, Reason, Run, Scope
from ._scheduler import Scheduler
from ._shared_task import SharedTask
from ._task import ScheduledTask
from ._timing import LeaseTiming
from ._triggers import At, Every, Trigger

__all__ = [
    "AnyOf",
    "At",
    "Clock",
    "Cron",
    "CurrentRun",
    "Every",
    "Except",
    "ExecPolicy",
    "Finding",
    "FirstRun",
    "LeaseTiming",
    "Level",
    "Missed",
    "OnLost",
    "Outcome",
    "Reason",
    "Report",
    "Run",
    "ScheduledTask",
    "Scheduler",
    "Scope",
    "SharedTask",
    "Trigger",
    "current_run",
    "lint",
    "trigger_from_json",
]
