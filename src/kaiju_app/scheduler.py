"""The public names of the scheduler."""

from ._clock import Clock
from ._model import ExecPolicy, FirstRun, Missed, Outcome, Reason, Run
from ._run import CurrentRun, current_run
from ._scheduler import Scheduler
from ._task import ScheduledTask
from ._triggers import Every, Trigger

__all__ = [
    "Clock",
    "CurrentRun",
    "Every",
    "ExecPolicy",
    "FirstRun",
    "Missed",
    "Outcome",
    "Reason",
    "Run",
    "ScheduledTask",
    "Scheduler",
    "Trigger",
    "current_run",
]
