"""What the main thread of a page does, traced by the browser itself."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

CATEGORIES = ["toplevel", "devtools.timeline", "disabled-by-default-devtools.timeline", "blink.user_timing"]


@dataclass
class Trace:
    """What was traced, known once the tracing has ended.

    Attributes:
        tasks_ms: Processor time of each task of the main thread: between two of them a frame can be drawn.
        parts_ms: Processor time of what such tasks consist of, the longest of each name.
        frames: How many frames the page has drawn.
    """

    tasks_ms: list[float] = field(default_factory=list)
    parts_ms: dict[str, float] = field(default_factory=dict)
    frames: int = 0

    @property
    def longest_ms(self) -> float:
        """The longest task: time of the processor, in which other processes of the machine do not count."""
        return max(self.tasks_ms)


@contextmanager
def traced(page: Any) -> Iterator[Trace]:
    """Trace what *page* does inside."""
    found, browser = Trace(), page.context.browser
    page.evaluate("performance.mark('kaiju-page')")
    browser.start_tracing(page=page, categories=CATEGORIES)
    page.evaluate("performance.mark('kaiju-page')")
    yield found
    events = json.loads(browser.stop_tracing())["traceEvents"]
    [main] = {(each["pid"], each["tid"]) for each in events if each["name"] == "kaiju-page"}
    for each in events:
        if (each["pid"], each["tid"]) != main or each["ph"] not in ("X", "I"):
            continue
        name, took = each["name"], each.get("tdur", 0) / 1e3
        found.frames += name in ("Paint", "Commit")
        if name.endswith("RunTask"):
            found.tasks_ms.append(took)
        else:
            found.parts_ms[name] = max(took, found.parts_ms.get(name, 0.0))
    assert found.tasks_ms, "nothing was traced"
