"""Services of an application: started in the order of their dependencies, closed in reverse."""

from ._application import Application
from ._run_app import run_app
from ._scheduled import cron, every, task
from ._service import ApplicationContext, Health, Service, ServiceState, service

__all__ = [
    "Application",
    "ApplicationContext",
    "Health",
    "Service",
    "ServiceState",
    "cron",
    "every",
    "run_app",
    "service",
    "task",
]
