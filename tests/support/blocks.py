"""The code blocks of README.md and of the site in docs/, and how they are run as they are printed.

The Python blocks of a page are run one after the other in one namespace, as cells of a notebook are, so that a later
one may use the names of an earlier one. Time is virtual: ``asyncio.run()`` and ``await`` at the top level run in the
loop of a ``VirtualClock``. If a block of the language ``text`` follows directly, it is what the block prints; ``...``
in it stands for any text. Blocks with tests are run by pytest instead.
"""

from __future__ import annotations

import ast
import asyncio
import doctest
import inspect
import io
import logging
import re
import sys
from collections.abc import Coroutine, Iterator
from contextlib import closing, contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from kaiju_app.testing import VirtualClock

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]

FENCE = re.compile(r"^(?P<ticks>`{3,})(?P<language>[a-z]*)[^\n]*\n(?P<code>.*?)^(?P=ticks)$", re.DOTALL | re.MULTILINE)
ANY_TEXT = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


@dataclass(frozen=True)
class Block:
    """A code block: its page, the line of its first code, its language, its code, and what it is said to print."""

    page: Path
    line: int
    language: str
    code: str
    printed: str | None = None

    @property
    def is_test(self) -> bool:
        return re.search(r"^(async )?def test_", self.code, re.MULTILINE) is not None

    @property
    def needs_postgresql(self) -> bool:
        return "asyncpg.connect(" in self.code


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def blocks_of(page: Path) -> list[Block]:
    text = page.read_text("utf-8")
    found: list[Block] = []
    ended = 0
    for fence in FENCE.finditer(text):
        language, code = fence["language"], fence["code"]
        if language == "text" and found and not text[ended : fence.start()].strip():
            before = found.pop()
            found.append(Block(before.page, before.line, before.language, before.code, printed=code))
        else:
            found.append(Block(page, text.count("\n", 0, fence.start("code")) + 1, language, code))
        ended = fence.end()
    return found


def python_blocks(page: Path) -> list[Block]:
    return [each for each in blocks_of(page) if each.language == "python"]


@dataclass(frozen=True)
class Printed:
    """What a block has written."""

    stdout: str
    stderr: str


class Stage:
    """Where the blocks of one page are run: their namespace, their clock and their loop."""

    def __init__(self, module: ModuleType, clock: VirtualClock) -> None:
        self.module = module
        self.clock = clock
        self._cells: asyncio.Runner | None = None

    def run(self, block: Block) -> Printed:
        """Run *block*; return what it has written.

        Raises:
            AssertionError: It has not printed what the page says.
        """
        code = compile(
            "\n" * (block.line - 1) + block.code,
            str(block.page),  # A traceback shows the line of the page.
            "exec",
            flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT,
            dont_inherit=True,
        )
        stdout, stderr = io.StringIO(), io.StringIO()
        with redirect_stdout(stdout), redirect_stderr(stderr):
            if code.co_flags & inspect.CO_COROUTINE:
                self._run_cell(eval(code, self.module.__dict__))
            else:
                exec(code, self.module.__dict__)
        printed = Printed(stdout.getvalue(), stderr.getvalue())
        if block.printed is not None:
            matches = doctest.OutputChecker().check_output(block.printed, printed.stdout, ANY_TEXT)
            assert matches, f"{name_of(block.page)}, line {block.line}, printed:\n{printed.stdout}"
        return printed

    def _run_cell(self, cell: Coroutine[Any, Any, None]) -> None:
        """Run a block that awaits, as a cell of a notebook: all cells of a page share one loop."""
        if self._cells is None:
            self._cells = asyncio.Runner(loop_factory=self.clock.new_loop)
        self._cells.run(cell)

    def close(self) -> None:
        if self._cells is not None:
            self._cells.close()


@contextmanager
def stage(directory: Path, patch: pytest.MonkeyPatch) -> Iterator[Stage]:
    """Give blocks a namespace, a clock and a working directory, and put back what they change in the process."""
    module = ModuleType("block_of_a_page")
    root, handlers, level = logging.getLogger(), logging.getLogger().handlers[:], logging.getLogger().level
    registry = _prometheus_collectors()
    before = set(registry)
    patch.chdir(directory)
    patch.setitem(sys.modules, module.__name__, module)  # Dataclasses and annotations look for it.
    try:
        with VirtualClock() as clock, closing(Stage(module, clock)) as made:
            patch.setattr(asyncio, "run", clock.run)
            yield made
    finally:
        root.handlers[:], root.level = handlers, level
        for each in set(registry) - before:
            from prometheus_client import REGISTRY

            REGISTRY.unregister(each)


def _prometheus_collectors() -> dict[Any, Any]:
    try:
        from prometheus_client import REGISTRY
    except ImportError:
        return {}
    collectors: dict[Any, Any] = REGISTRY._collector_to_names
    return collectors
