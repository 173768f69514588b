"""Every code block of README.md and of the site is run, and prints what the page says."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from kaiju_app.scheduler import Scheduler
from support.blocks import PAGES, Block, blocks_of, name_of, python_blocks, stage

BLOCKS = {page: python_blocks(page) for page in PAGES}
FRAMEWORKS = {"fastapi", "starlette", "litestar", "aiohttp", "quart", "django"}
LANGUAGES = {"python", "text", "console", "json", "toml", "yaml", "sql", "nginx", "dockerfile", "ini", "mermaid", ""}


@pytest.mark.parametrize("page", [page for page in PAGES if BLOCKS[page]], ids=name_of)
def test_the_blocks_of_a_page_run_as_they_are_printed(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCHEDULER_STORE", "memory://")  # As the deployment of a page sets it.
    with stage(tmp_path, monkeypatch) as blocks:
        for block in BLOCKS[page]:
            if not block.is_test and not block.needs_postgresql:  # These are run by the test below and by test_readme.
                blocks.run(block)
        if page.stem in FRAMEWORKS:
            names = blocks.module.__dict__
            blocks.clock.run(serve(names["app"], names["scheduler"], names["prices"]))


async def serve(app: Any, scheduler: Scheduler, prices: dict[str, int]) -> None:
    """Live through the lifespan of *app*, for a bit more than three minutes."""
    if isinstance(app, web.Application):
        runner = web.AppRunner(app)
        await runner.setup()
        await look_on(scheduler, prices)
        await runner.cleanup()
    else:
        received: asyncio.Queue[dict[str, str]] = asyncio.Queue()
        sent: asyncio.Queue[dict[str, str]] = asyncio.Queue()
        scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": {}}
        lifespan = asyncio.create_task(app(scope, received.get, sent.put))
        for what in "startup", "shutdown":
            received.put_nowait({"type": f"lifespan.{what}"})
            assert (await sent.get())["type"] == f"lifespan.{what}.complete"
            if what == "startup":
                await look_on(scheduler, prices)
        await lifespan
    assert not scheduler.started


async def look_on(scheduler: Scheduler, prices: dict[str, int]) -> None:
    assert scheduler.started
    await asyncio.sleep(200)
    assert prices == {"refreshed": 4}


@pytest.mark.realtime
def test_the_tests_on_the_pages_pass(tmp_path: Path) -> None:
    pytest.importorskip("pytest_asyncio")
    tests = [block for page in PAGES for block in BLOCKS[page] if block.is_test]
    for number, block in enumerate(tests):
        (tmp_path / f"test_{number}_{block.page.stem.replace('-', '_')}.py").write_text(block.code)
    options = ["-q", "-p", "no:cacheprovider", "-W", "error", "-o", "asyncio_default_fixture_loop_scope=function"]
    command = [sys.executable, "-m", "pytest", *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=50, cwd=tmp_path)

    assert tests
    assert done.returncode == 0, done.stdout
    assert f"{sum(block.code.count('def test_') for block in tests)} passed" in done.stdout


def parse(block: Block) -> None:
    if block.language == "json":
        json.loads(block.code)
    elif block.language == "toml":
        tomllib.loads(block.code)


@pytest.mark.pure
@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_block_has_a_known_language_and_can_be_read(page: Path) -> None:
    for block in blocks_of(page):
        assert block.language in LANGUAGES, block
        parse(block)
