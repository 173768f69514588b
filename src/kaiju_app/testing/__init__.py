"""Tests in virtual time: a clock that a test moves, a cluster in one thread, and assertions. Needs no pytest."""

from typing import TYPE_CHECKING

from kaiju_app._core.lazy import lazy_names

if TYPE_CHECKING:
    from kaiju_app.errors import VirtualTimeError

    from ._clock import VirtualClock
    from ._cluster.cluster import Cluster
    from ._cluster.hosted import Instance
    from ._cluster.network import Network
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
            "._cluster.cluster": ("Cluster",),
            "._cluster.hosted": ("Instance",),
            "._cluster.network": ("Network",),
            "._ledger": ("ledger",),
            "._loop": ("VirtualLoop",),
            "._ran": ("ran",),
            "._run_once": ("run_once",),
            "._schedule": ("assert_schedule",),
        },
    )

__all__ = [
    "Cluster",
    "Instance",
    "Network",
    "VirtualClock",
    "VirtualLoop",
    "VirtualTimeError",
    "assert_schedule",
    "ledger",
    "ran",
    "run_once",
]
