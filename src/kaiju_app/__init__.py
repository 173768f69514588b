"""Periodic work inside an asyncio application."""

from .scheduler import ExecPolicy, ScheduledTask, Scheduler

__all__ = ["ExecPolicy", "ScheduledTask", "Scheduler"]
