"""The public names of the scheduler."""

from ._clock import Clock
from ._combined import AnyOf, Except
from ._cron import Cron
from ._forms import trigger_from_json
from ._lint import Finding, Level, Report, lint
from ._model import ExecPolicy, FirstRun, Missed, Outcome, Reason, Run
from ._run import CurrentRun, current_run
from ._scheduler import Scheduler
from ._task import ScheduledTask
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
    "Level",
    "Missed",
    "Outcome",
    "Reason",
    "Report",
    "Run",
    "ScheduledTask",
    "Scheduler",
    "Trigger",
    "current_run",
    "lint",
    "trigger_from_json",
]
