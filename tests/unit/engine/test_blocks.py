"""Which line of a stack is named as the one that blocks the loop."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from kaiju_app._engine.blocks import Block, Place, place_in

pytestmark = pytest.mark.pure

HERE = __file__
found: list[Place | None] = []


def look(*_: object) -> None:
    """Stand for the thread: look at the stack without this frame."""
    caller: FrameType | None = sys._getframe(1)
    found.append(place_in(caller, "job"))


def place_of(call: Callable[[], object]) -> Place | None:
    async def main() -> None:
        call()

    asyncio.run(main())
    return found.pop()


def module(path: Path, code: str) -> dict[str, Any]:
    """Return the names of a module with this *code* that has been loaded from *path*."""
    names: dict[str, Any] = {"look": look}
    exec(compile(code, str(path), "exec"), names)
    return names


def test_code_of_the_program_is_named_by_its_innermost_line() -> None:
    def deeper() -> None:
        look()

    place = place_of(lambda: deeper())

    assert place == Place("job", HERE, deeper.__code__.co_firstlineno + 1, "deeper")
    assert str(place) == f"{HERE}:{place.line} in deeper()"


def test_what_the_library_does_for_it_is_told_beside_it() -> None:
    class Slow:
        pass

    place = place_of(lambda: json.dumps(Slow(), default=look))

    assert place is not None
    assert (place.file, place.function) == (HERE, "<lambda>")
    assert str(place).startswith(f"{HERE}:{place.line} in <lambda>(), inside encoder.py:")


def test_an_installed_package_that_is_called_is_not_the_program(tmp_path: Path) -> None:
    installed = module(tmp_path / "site-packages" / "driver.py", "def query():\n    look()\n")

    place = place_of(lambda: installed["query"]())

    assert place is not None
    assert (place.file, place.inside) == (HERE, "driver.py:2 in query")


def test_of_a_program_that_is_installed_the_function_of_the_task_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "site-packages"
    driver = module(folder / "driver.py", "def query():\n    look()\n")
    shop = module(folder / "shop.py", "async def purge():\n    query()\n")
    shop["query"] = driver["query"]
    asyncio.run(shop["purge"]())
    place = found.pop()

    assert place == Place("job", str(folder / "shop.py"), 2, "purge", "driver.py:2 in query")


def test_a_loop_at_rest_is_no_place() -> None:
    class Selector(asyncio.SelectorEventLoop):
        def __init__(self) -> None:
            super().__init__()
            selector: Any = self._selector  # type: ignore[attr-defined]
            polled = selector._selector

            class Poll:
                def poll(self, *arguments: Any) -> Any:
                    frame = sys._getframe(1)  # Of select(), in selectors.py.
                    found.append(place_in(frame, None))
                    return polled.poll(*arguments)

                def __getattr__(self, name: str) -> Any:
                    return getattr(polled, name)

            selector._selector = Poll()

    loop = Selector()
    loop.run_until_complete(asyncio.sleep(0.001))
    loop.close()

    assert len(found) >= 2
    assert set(found) == {None}
    found.clear()


def test_a_selector_that_the_program_uses_itself_is_a_place() -> None:
    import selectors

    class Poll:
        def poll(self, *_: Any) -> list[Any]:
            found.append(place_in(sys._getframe(1), "job"))
            return []

    def wait() -> None:
        selector = selectors.DefaultSelector()
        with selector:
            real, selector._selector = selector._selector, Poll()  # type: ignore[attr-defined]
            selector.select(0)
            selector._selector = real  # type: ignore[attr-defined]

    place = place_of(wait)

    assert place is not None
    assert (place.file, place.function) == (HERE, "wait")
    assert place.inside is not None
    assert place.inside.startswith("selectors.py:")


def test_nothing_at_all_is_no_place() -> None:
    assert place_in(None, None) is None


def test_a_block_is_shown_as_json() -> None:
    place = Place("job", "/app/jobs.py", 41, "purge")
    block = Block(1_000_000, 4_000_000, 86_400_000_000, ("job",), True, place)

    assert json.loads(json.dumps(block.json_repr())) == {
        "began_at": "1970-01-02T00:00:01+00:00",
        "ended_at": "1970-01-02T00:00:04+00:00",
        "duration_s": 3.0,
        "tasks": ["job"],
        "is_certain": True,
        "file": "/app/jobs.py",
        "line": 41,
        "function": "purge",
        "inside": None,
    }
    assert Block(0, 1, 0, (), False, None).json_repr()["file"] is None
