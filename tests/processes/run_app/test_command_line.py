"""``python -m kaiju_app run``."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.realtime


MODULE = "from stage import *\napp = shop(Told(name='a'))\n"


@pytest.mark.parametrize(
    ("file", "text", "place"),
    [
        ("main.py", MODULE, "main:app"),
        ("pkg/main.py", MODULE, "pkg.main:app"),
        ("pkg/__init__.py", MODULE, "pkg:app"),
        ("main.py", MODULE + "class Holder: pass\nholder = Holder()\nholder.app = app\n", "main:holder.app"),
    ],
)
def test_an_application_is_run_from_the_command_line(launch, tmp_path, file, text, place):
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / "pkg").mkdir(exist_ok=True)
    (tmp_path / "pkg" / "__init__.py").touch()
    (tmp_path / file).write_text(text)
    program = launch("-m", "kaiju_app", "run", place)
    program.until("^ready")
    program.signal(signal.SIGTERM)

    assert 0 == program.status(), program.errors()

    assert {"a"} == program.kept()
    for line in program.errors().splitlines():
        assert re.match(r"20\d\d-\d\d-\d\d \d\d:\d\d:\d\d,\d\d\d INFO kaiju_app\.app: application 'shop'", line), line
    assert re.search(r"'shop' is READY after \d\.\d{3} s, services: 1, tasks: 1", program.errors())
    assert "SIGTERM, stopping" in program.errors()
    assert "is CLOSED" in program.errors()


SCHEDULER = """
from kaiju_app.scheduler import Scheduler

scheduler = Scheduler()
scheduler.schedule_task(print, interval_s=60, name="prices")
"""


@pytest.mark.parametrize("safe", ["", "1"])
def test_the_installed_script_finds_a_module_in_the_working_directory(tmp_path, safe):
    script = Path(sys.executable).parent / "kaiju"
    assert script.exists(), "the tests run where the project is installed"
    (tmp_path / "shop.py").write_text(SCHEDULER)
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | {"PYTHONSAFEPATH": safe}
    done = subprocess.run(
        [script, "lint", "shop:scheduler"], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=30
    )

    assert ("there is no module 'shop' in this directory" in done.stderr) == bool(safe), done.stderr
    assert ("prices" in done.stdout) == (not safe), done.stdout


def test_the_logging_of_the_program_is_left_alone(launch, tmp_path):
    begin = "import logging, sys\nlogging.basicConfig(level='WARNING', format='mine: %(message)s')\n"
    (tmp_path / "main.py").write_text(begin + MODULE + "logging.warning('hello')\n")
    program = launch("-m", "kaiju_app", "run", "main:app")
    program.until("^ready")
    program.signal(signal.SIGTERM)

    assert 0 == program.status(), program.errors()
    assert "mine: hello\n" == program.errors()


PLACES = {
    "main": "'main' must be MODULE:NAME, e.g. shop.main:app",
    "main:": "'main:' must be MODULE:NAME",
    ":app": "':app' must be MODULE:NAME",
    "": "'' must be MODULE:NAME",
    "nowhere:app": "there is no module 'nowhere'",
    "nowhere.main:app": "'nowhere.main:app': there is no module 'nowhere",
    "main.deeper:app": "there is no module 'main.deeper' in this directory",
    ".main:app": "'.main:app'",
    "..main:app": "'..main:app'",
    "main..deeper:app": "'main..deeper:app'",
    "main:application": "has no attribute 'application'",
    "main:holder.app": "has no attribute 'holder'",
    "main:app.": "'main:app.' must be MODULE:NAME",
    "main:number": "'main:number' is of type int, not an Application",
    "main:make": "is of type function, not an Application",
    "main.py:app": "there is no module 'main.py' in this directory",
    "./main:app": "'./main:app'",
}


@pytest.mark.parametrize("place", PLACES)
def test_a_place_that_is_wrong_ends_with_status_2_and_one_helpful_line(launch, tmp_path, place):
    (tmp_path / "main.py").write_text(MODULE + "number = 7\ndef make(): return app\n")
    program = launch("-m", "kaiju_app", "run", place)

    assert 2 == program.status(), program.errors()

    *usage, line = program.errors().splitlines()
    assert PLACES[place] in line
    assert "Traceback" not in program.errors()
    assert len(usage) < 3
    assert [] == program.lines


def test_the_cause_of_a_wrong_place_is_logged_for_whoever_logs_at_debug(launch, tmp_path):
    (tmp_path / "main.py").write_text("import logging\nlogging.basicConfig(level='DEBUG')\n" + MODULE)
    program = launch("-m", "kaiju_app", "run", "main:application")

    assert 2 == program.status(), program.errors()
    assert "DEBUG:kaiju_app.app:'main:application': module 'main' has no attribute" in program.errors()
    assert "Traceback" in program.errors()


IMPORTS = {
    "in the module": {"main.py": "import no_such_driver\n"},
    "in what it imports": {"main.py": "import helper\n", "helper.py": "import no_such_driver\n"},
    "in its package": {"main/__init__.py": "import no_such_driver\n", "main/deeper.py": MODULE},
}


@pytest.mark.parametrize("kind", IMPORTS)
def test_what_goes_wrong_inside_an_import_is_shown_with_its_traceback(launch, tmp_path, kind):
    for file, text in IMPORTS[kind].items():
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_text(text)
    program = launch("-m", "kaiju_app", "run", "main.deeper:app" if "package" in kind else "main:app")

    assert 1 == program.status(), program.errors()
    assert "Traceback" in program.errors()
    assert "ModuleNotFoundError: No module named 'no_such_driver'" in program.errors()


def test_an_application_that_cannot_start_ends_the_command_with_status_1(launch, tmp_path):
    text = "class Broken(Told):\n    async def init(self):\n        raise OSError('no such host')\n"
    (tmp_path / "main.py").write_text(MODULE + text + "app.add_services(Broken(name='b'))\n")
    program = launch("-m", "kaiju_app", "run", "main:app")

    assert 1 == program.status()
    assert "CRITICAL kaiju_app.app: application 'shop': service 'b' failed in init" in program.errors()
    assert 1 == program.errors().count("Traceback")
    assert {"a"} == program.kept()


def test_the_command_line_does_not_need_uvloop(launch, tmp_path):
    (tmp_path / "uvloop.py").write_text("raise ImportError('not installed here')\n")
    (tmp_path / "main.py").write_text(MODULE)
    program = launch("-m", "kaiju_app", "run", "main:app")
    program.until("^ready")
    program.signal(signal.SIGINT)

    assert 0 == program.status(), program.errors()


def test_a_second_signal_cuts_the_command_short_too(launch, tmp_path):
    (tmp_path / "main.py").write_text(MODULE + "app.add_services(Hanging(name='b'))\n")
    program = launch("-m", "kaiju_app", "run", "main:app")
    program.until("^ready")
    program.signal(signal.SIGINT)
    program.until("^close b")
    program.signal(signal.SIGINT)

    assert 128 + signal.SIGINT == program.status()
    assert {"a"} == program.kept()
    assert "Traceback" not in program.errors()


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"]])
def test_the_help_is_for_whoever_types_the_command(launch, arguments):
    program = launch("-m", "kaiju_app", *arguments)

    assert 0 == program.status()

    assert "python -m kaiju_app" in program.text
    assert "run" in program.text
    for word in ("loop_factory", "Args:", "Raises:", "WrongState"):
        assert word not in program.text, "what a caller of run_app() has to know"


def test_without_a_command_the_usage_is_shown_with_status_2(launch):
    program = launch("-m", "kaiju_app")

    assert 2 == program.status()
    assert "usage: python -m kaiju_app" in program.errors()
    assert "Traceback" not in program.errors()
