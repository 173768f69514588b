"""Fixtures of the tests of the endpoint."""

from __future__ import annotations

from behaviour.cluster.conftest import made, store

__all__ = ["made", "store"]
