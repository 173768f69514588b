"""What arguments and methods that other frameworks have are called here."""

from __future__ import annotations

from kaiju_app._core.calls import Habits, renamed_to

APPLICATION_CALLS: dict[str, Habits] = {
    "__init__": {
        "service": "write services=[...]",
        "optional": renamed_to("optional_services"),
        "timeout": renamed_to("service_start_timeout_s"),
        "start_timeout": renamed_to("service_start_timeout_s"),
        "stop_timeout": renamed_to("service_close_timeout_s"),
        **dict.fromkeys(("store", "tz", "timezone", "threads"), "give it to a scheduler: scheduler=Scheduler(...)"),
    },
    "inspect": {"timeout": renamed_to("timeout_s")},
}
APPLICATION_METHODS = {
    "run": "write run_app(app)",
    "serve": "write run_app(app)",
    "add_service": "write app.add_services(service)",
    "register": "write app.add_services(service)",
    "get_service": "write a field of a service, cache: Cache = service(), or look into app.services",
    "close": "write await app.stop()",
    "shutdown": "write await app.stop()",
    "on_startup": "write init() of a Service",
    "on_shutdown": "write close() of a Service",
    "schedule_task": "write app.scheduler.schedule_task(...)",
    "tasks": "write app.scheduler.tasks",
    "started": "write app.state",
    "health": "write await app.inspect()",
}
