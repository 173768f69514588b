"""The command line: ``run`` and ``lint``."""

from ._main import main

__all__ = ["main"]
