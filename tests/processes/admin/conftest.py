"""The fixtures of the tests that use a browser."""

from processes.admin.browser import chromium, server, tabs

__all__ = ["chromium", "server", "tabs"]
