"""What blocks the loop: which task, and at which line of which file."""

from __future__ import annotations

import asyncio
import os
import selectors
from collections.abc import Iterator
from dataclasses import dataclass
from types import FrameType

from kaiju_app._core.clock import utc

LIBRARY = os.path.dirname(os.__file__) + os.sep
PACKAGE = os.path.dirname(os.path.dirname(__file__)) + os.sep
ASYNCIO = os.path.dirname(asyncio.__file__) + os.sep
UVLOOP = f"{os.sep}uvloop{os.sep}"
INSTALLED = ("site-packages", "dist-packages")


@dataclass(frozen=True, slots=True)
class Place:
    """Where the thread of the loop was while the loop was blocked.

    Attributes:
        task: Name of the task whose run it was in; None if it was in none.
        file: Path of the source file: of the innermost code that belongs to the program itself.
        line: Number of the line in it.
        function: Name of the function in it.
        inside: What that code was calling, if Python code: ``socket.py:720 in readinto``; None if it was there itself.
    """

    task: str | None
    file: str
    line: int
    function: str
    inside: str | None = None

    def __str__(self) -> str:
        inside = "" if self.inside is None else f", inside {self.inside}"
        return f"{self.file}:{self.line} in {self.function}(){inside}"


@dataclass(frozen=True, slots=True)
class Block:
    """A time in which the loop did not get on. Times are steady-clock microseconds.

    Attributes:
        began: When what should have happened did not.
        ended: When the loop got on.
        offset: Wall clock minus steady clock when it had ended.
        tasks: Names of the tasks that have caused it, or may have: those that were running.
        is_certain: Whether the one task has caused it for certain.
        place: Where the thread was; None if nobody looked.
    """

    began: int
    ended: int
    offset: int
    tasks: tuple[str, ...]
    is_certain: bool
    place: Place | None

    def json_repr(self) -> dict[str, object]:
        """Return the block as JSON values; instants as UTC ISO text."""
        place = self.place
        return {
            "began_at": utc(self.began + self.offset).isoformat(),
            "ended_at": utc(self.ended + self.offset).isoformat(),
            "duration_s": (self.ended - self.began) / 1e6,
            "tasks": list(self.tasks),
            "is_certain": self.is_certain,
            "file": place and place.file,
            "line": place and place.line,
            "function": place and place.function,
            "inside": place and place.inside,
        }


def place_in(innermost: FrameType | None, task: str | None) -> Place | None:
    """Return the place of a stack that ends in *innermost*; None if the loop was at rest, and only waited."""
    stack = [(frame.f_code.co_filename, frame.f_lineno or 0, frame.f_code.co_name) for frame in _outwards(innermost)]
    of_loop = [each[0].startswith(ASYNCIO) or UVLOOP in each[0] for each in stack]
    called = len(stack) - of_loop[::-1].index(True) - 1 if True in of_loop else len(stack)  # What the loop has called.
    inner = [each for each, is_loop in zip(stack[:called], of_loop, strict=False) if not is_loop]
    # A selector that the loop itself has called is the loop at rest.
    if inner and inner[0] is stack[0] and stack[0][0] == selectors.__file__ and of_loop[1]:
        del inner[0]
    if not inner:
        return None
    own = next((each for each in inner if _is_of_the_program(each[0])), None)
    if own is None:  # The program itself is installed as a package: the outermost of its code is a task's function.
        own = next((each for each in reversed(inner) if not each[0].startswith((LIBRARY, PACKAGE))), inner[0])
    file, line, function = stack[0]
    inside = None if stack[0] is own else f"{os.path.basename(file)}:{line} in {function}"
    return Place(task, *own, inside)


def _outwards(frame: FrameType | None) -> Iterator[FrameType]:
    while frame is not None:
        yield frame
        frame = frame.f_back


def _is_of_the_program(file: str) -> bool:
    return not (file.startswith((LIBRARY, PACKAGE, "<frozen")) or any(each in file for each in INSTALLED))
