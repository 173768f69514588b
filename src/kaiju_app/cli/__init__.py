"""The command line: what runs and checks applications, and what looks at a running scheduler."""

from ._main import main

__all__ = ["main"]
