"""The fixtures of the tests that use a browser."""

from processes.admin.browser import chromium, page_server, tabs

__all__ = ["chromium", "page_server", "tabs"]
