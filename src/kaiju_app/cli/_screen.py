"""Where the output goes: lines for people, or the documents of the endpoint as they came."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from contextlib import suppress
from datetime import datetime
from zoneinfo import ZoneInfo

from rich.console import Console
from rich.text import Text

from kaiju_app._core.clock import utc, wall_us
from kaiju_app._core.text import ACTING, spelled_out
from kaiju_app.errors import InvalidArgument
from kaiju_app.triggers._zones import known_zone

from ._palette import Look
from ._text import clean


class Screen:
    """Writes what a command has found.

    Args:
        as_json: Write documents for programs, and nothing for people.

    Attributes:
        zone: The zone of local times.
    """

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json
        self.zone = local_zone()
        for stream in (sys.stdout, sys.stderr):
            with suppress(AttributeError):  # Somebody may have put another object there.
                stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
        plain = "NO_COLOR" in os.environ and os.environ["NO_COLOR"] != ""
        self.console = Console(
            color_system=None if plain else "auto", highlight=False, markup=False, emoji=False, soft_wrap=True
        )

    @property
    def now(self) -> datetime:
        """The time of this machine."""
        return utc(wall_us())

    @property
    def width(self) -> int:
        """The columns of the terminal; 80 if there is none."""
        return self.console.width

    @property
    def is_ascii(self) -> bool:
        """Whether only ASCII can be shown."""
        return not self.console.encoding.startswith("utf")

    def mark(self, look: Look) -> Text:
        """Return the mark of an outcome."""
        return Text(end="").append(look.plain if self.is_ascii else look.mark, style=look.color)

    def write(self, lines: Iterable[Text | str]) -> None:
        """Write lines for people."""
        for line in lines:
            text = line if isinstance(line, Text) else Text(line)
            if ACTING.search(text.plain):
                text = Text(spelled_out(text.plain))
            self.console.print(text, soft_wrap=True, end="\n")

    def write_json(self, document: str) -> None:
        """Write a document as it came; characters that act on a terminal are escaped, which changes no value."""
        self.console.file.write(ACTING.sub(lambda found: f"\\u{ord(found[0]):04x}", document).strip() + "\n")
        self.console.file.flush()

    def warn(self, text: str) -> None:
        """Write a line to standard error."""
        print(f"kaiju: {clean(text)}", file=sys.stderr, flush=True)

    def zone_line(self) -> Text:
        """Return in which zone the times are, said once."""
        return Text(f"Times are {self.zone.key.removeprefix('Etc/')}.", style="dim")


def local_zone() -> ZoneInfo:
    """Return the zone of this machine; UTC if it does not say which one that is."""
    try:
        return known_zone("tz", "local")
    except InvalidArgument:
        return known_zone("tz", "UTC")
