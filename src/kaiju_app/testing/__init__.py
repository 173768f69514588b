"""Tests in virtual time: a clock that a test moves, and assertions about what a scheduler did. Needs no pytest."""

from typing import TYPE_CHECKING

from kaiju_app._core.lazy import lazy_names

if TYPE_CHECKING:
    from kaiju_app.errors import VirtualTimeError

    from ._clock import VirtualClock
    from ._loop import VirtualLoop
else:
    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            "kaiju_app.errors": ("VirtualTimeError",),
            "._clock": ("VirtualClock",),
            "._loop": ("VirtualLoop",),
        },
    )

__all__ = ["VirtualClock", "VirtualLoop", "VirtualTimeError"]
