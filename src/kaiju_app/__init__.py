"""Periodic work inside an asyncio application, and the life cycle around it."""

from typing import TYPE_CHECKING

from ._core.lazy import lazy_names

if TYPE_CHECKING:
    from .application import Application, Health, Service, ServiceState, cron, every, run_app, service, task
    from .scheduler import ExecPolicy, ScheduledTask, Scheduler
else:
    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            ".application": (
                "Application",
                "Health",
                "Service",
                "ServiceState",
                "cron",
                "every",
                "run_app",
                "service",
                "task",
            ),
            ".scheduler": ("ExecPolicy", "ScheduledTask", "Scheduler"),
        },
    )

__all__ = [
    "Application",
    "ExecPolicy",
    "Health",
    "ScheduledTask",
    "Scheduler",
    "Service",
    "ServiceState",
    "cron",
    "every",
    "run_app",
    "service",
    "task",
]
