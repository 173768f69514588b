"""Tests in virtual time: a clock that a test moves, and assertions about what a scheduler did. Needs no pytest."""

from typing import TYPE_CHECKING

from kaiju_app._core.lazy import lazy_names

if TYPE_CHECKING:
    from kaiju_app.errors import VirtualTimeError

    from ._clock import VirtualClock
    from ._ledger import ledger
    from ._loop import VirtualLoop
    from ._ran import ran
    from ._run_once import run_once
    from ._schedule import assert_schedule
else:
    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            "kaiju_app.errors": ("VirtualTimeError",),
            "._clock": ("VirtualClock",),
            "._ledger": ("ledger",),
            "._loop": ("VirtualLoop",),
            "._ran": ("ran",),
            "._run_once": ("run_once",),
            "._schedule": ("assert_schedule",),
        },
    )

__all__ = [
    "VirtualClock",
    "VirtualLoop",
    "VirtualTimeError",
    "assert_schedule",
    "ledger",
    "ran",
    "run_once",
]
