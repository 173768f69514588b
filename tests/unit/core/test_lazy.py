"""What few programs need is imported when somebody asks for it, so that the others start quickly."""

from __future__ import annotations

import importlib
import subprocess
import sys
from functools import cache

import pytest

pytestmark = pytest.mark.pure

PUBLIC = ["kaiju_app", "kaiju_app.scheduler", "kaiju_app.stores", "kaiju_app.triggers"]

PLAIN = "from kaiju_app.scheduler import Scheduler, Every; Scheduler().schedule_task(lambda: None, 60)"
OTHERS_NEED = {
    "a calendar": "cronsim zoneinfo kaiju_app.triggers._cron kaiju_app.triggers._combined kaiju_app.triggers._windows",
    "a store": "kaiju_app._cluster.cluster kaiju_app._cluster.task kaiju_app.scheduler._cluster_task kaiju_app.stores",
    "the file of a store": "sqlite3 ctypes importlib.resources json pathlib tempfile urllib.parse",
    "a server": "asyncpg uuid platform",
    "lint": "kaiju_app.scheduler._lint kaiju_app.triggers._lint",
    "services": "kaiju_app.application graphlib",
    "jitter": "hashlib",
    "threads": "concurrent.futures.thread",
    "who watches": "kaiju_app.observability structlog prometheus_client opentelemetry",
    "nobody": "decimal fractions",
}


@cache
def modules_after(code: str) -> set[str]:
    """Return the names of the modules that are loaded once a new process has run *code*."""
    shown = subprocess.run(
        [sys.executable, "-S", "-c", f"import sys; sys.path[:] = {sys.path!r}; {code}; print(*sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    return set(shown.stdout.split())


@pytest.mark.parametrize("whose", OTHERS_NEED)
def test_a_scheduler_without_a_store_loads_nothing_that_only_others_need(whose: str) -> None:
    assert modules_after(PLAIN) & set(OTHERS_NEED[whose].split()) == set()


def test_a_rule_that_is_asked_for_its_ticks_needs_no_hash_no_network_and_no_loop() -> None:
    ask = "from kaiju_app.triggers import Cron; from datetime import *; Cron('0 6 * * *').after(datetime.now(UTC))"

    assert modules_after(ask) & {"hashlib", "socket", "asyncio", "logging"} == set()


def test_the_package_itself_loads_none_of_its_wings() -> None:
    loaded = {each for each in modules_after("import kaiju_app") if each.startswith("kaiju_app")}

    assert loaded == {"kaiju_app", "kaiju_app._core", "kaiju_app._core.lazy"}


def test_a_file_as_store_loads_no_driver_of_a_server_and_the_reverse() -> None:
    new = "from kaiju_app.scheduler import Scheduler; Scheduler({!r})"

    assert modules_after(new.format("sqlite:///a.db")) & {"asyncpg"} == set()
    assert modules_after(new.format("postgresql://me@host/database")) & {"sqlite3"} == set()


@pytest.mark.parametrize("package", PUBLIC)
def test_every_public_name_is_there_when_it_is_asked_for_and_shown_before(package: str) -> None:
    modules_after(f"from {package} import *")
    module = importlib.import_module(package)

    assert set(module.__all__) <= set(dir(module))
    for name in module.__all__:
        assert getattr(module, name) is not None


def test_the_wings_can_be_reached_through_the_package() -> None:
    assert "kaiju_app.application" in modules_after("import kaiju_app; kaiju_app.application.Service")
    assert "kaiju_app.scheduler" in modules_after("import kaiju_app; kaiju_app.scheduler.Scheduler")


@pytest.mark.parametrize("package", PUBLIC)
def test_a_name_that_is_not_there_is_refused_as_by_any_module(package: str) -> None:
    module = importlib.import_module(package)

    with pytest.raises(AttributeError, match=f"module '{package}' has no attribute 'Schedular'"):
        module.Schedular  # noqa: B018
    with pytest.raises(ImportError, match="cannot import name 'Schedular' from"):
        exec(f"from {package} import Schedular")
