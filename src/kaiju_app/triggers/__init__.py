"""Triggers: pure rules that say when a task is due."""

from typing import TYPE_CHECKING

from kaiju_app._core.lazy import lazy_names

from ._base import Trigger
from ._every import Every

if TYPE_CHECKING:
    from ._at import At
    from ._calendar import Calendar
    from ._codec import trigger_from_json
    from ._combined import AnyOf, Except
    from ._cron import Cron
    from ._registered import JsonTrigger, register_trigger
    from ._windows import DailyWindow, Window
else:
    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            "._at": ("At",),
            "._calendar": ("Calendar",),
            "._codec": ("trigger_from_json",),
            "._combined": ("AnyOf", "Except"),
            "._cron": ("Cron",),
            "._registered": ("JsonTrigger", "register_trigger"),
            "._windows": ("DailyWindow", "Window"),
        },
    )

__all__ = [
    "AnyOf",
    "At",
    "Calendar",
    "Cron",
    "DailyWindow",
    "Every",
    "Except",
    "JsonTrigger",
    "Trigger",
    "Window",
    "register_trigger",
    "trigger_from_json",
]
