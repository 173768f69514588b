"""Periodic work inside an asyncio application, and the life cycle around it."""

from ._serve import run_app
from .app import Application
from .scheduler import ExecPolicy, ScheduledTask, Scheduler
from .service import Health, Service, ServiceState, service

__all__ = [
    "Application",
    "ExecPolicy",
    "Health",
    "ScheduledTask",
    "Scheduler",
    "Service",
    "ServiceState",
    "run_app",
    "service",
]
