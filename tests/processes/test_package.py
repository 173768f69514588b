"""What is shipped: the wheel and the sdist, in a clean environment for each extra; and what an import costs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

pytestmark = [pytest.mark.realtime, pytest.mark.timeout(300)]

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
UV = Path(sys.executable).with_name("uv")

RUN = """
import asyncio
from kaiju_app.scheduler import Scheduler, Scope

async def main():
    scheduler = Scheduler(store="sqlite:///scheduler.db")
    task = scheduler.schedule_task(asyncio.sleep, 60, args=(0,), name="sleep", scope=Scope.CLUSTER)
    async with scheduler:
        print((await task.run_now()).outcome)

asyncio.run(main())
"""

PAGE = """
import asyncio
from kaiju_app.admin import admin
from kaiju_app.scheduler import Scheduler

sent = []

async def ask(path):
    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "GET", "scheme": "http",
        "path": path, "raw_path": path.encode(), "root_path": "", "query_string": b"",
        "headers": [(b"host", b"localhost:8700")], "client": ("127.0.0.1", 9), "server": ("127.0.0.1", 8700),
    }
    async def receive():
        return {"type": "http.request", "body": b"", "more_body": False}
    async def send(message):
        sent.append(message.get("status"))
    await admin(Scheduler())(scope, receive, send)

for path in "/", "/static/app.js", "/api/tasks":
    asyncio.run(ask(path))
print([each for each in sent if each])
"""

TEST = """
import asyncio
from kaiju_app.testing import VirtualClock, ran

def test_an_hour(clock, scheduler):
    async def main():
        task = scheduler.schedule_task(asyncio.sleep, 60, args=(0,))
        async with scheduler:
            await clock.advance(3599)
        ran(task).times(60)
    clock.run(main())
"""

SMOKE = {
    "": (["python", "-c", RUN], 0, "SUCCEEDED"),
    "postgres": (["python", "-c", "import kaiju_app.stores.postgres as found; print(found.PostgresStore)"], 0, "class"),
    "redis": (["python", "-c", "import kaiju_app.stores.redis as found; print(found.RedisStore)"], 0, "class"),
    "prometheus": (
        ["python", "-c", "from kaiju_app.observability.prometheus import SchedulerCollector as found; print(found)"],
        0,
        "SchedulerCollector",
    ),
    "opentelemetry": (
        ["python", "-c", "from kaiju_app.observability.opentelemetry import SchedulerTelemetry as found; print(found)"],
        0,
        "SchedulerTelemetry",
    ),
    "admin": (["python", "-c", PAGE], 0, "[200, 200, 200]"),
    "cli": (["kaiju", "tasks", "--url", "http://127.0.0.1:9"], 3, ""),
    "testing": (["python", "-m", "pytest", "-q", "test_clock.py"], 0, "1 passed"),
}
"""For each extra: a command, its exit status, and what it prints."""


def output(*command: str | Path, cwd: Path = ROOT, status: int = 0, **environment: str) -> str:
    outside = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}
    done = subprocess.run(
        command, cwd=cwd, env=outside | environment, capture_output=True, text=True, timeout=200, check=False
    )
    assert done.returncode == status, (done.stdout + done.stderr)[-3000:]
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The wheel and the sdist."""
    home = tmp_path_factory.mktemp("dist")
    output(sys.executable, "-m", "hatchling", "build", "-d", str(home))
    [wheel], [sdist] = home.glob("*.whl"), home.glob("*.tar.gz")
    return wheel, sdist


def environment(home: Path, wheel: Path, extra: str) -> Path:
    """Make an environment that has the wheel and what *extra* needs, as uv.lock pins it; return its programs."""
    chosen = ["--extra", extra] if extra else []
    common = ["--quiet", "--python", sys.executable]
    requirements = home / "requirements.txt"
    # Without this machine's settings: see tools/bootstrap.
    clean = {"UV_NO_CONFIG": "1"}
    export = ["export", "--locked", "--offline", "--no-default-groups", "--no-emit-project"]
    output(UV, *export, *common, *chosen, "--output-file", requirements, **clean)
    output(UV, "venv", *common, home / "venv")
    install = [UV, "pip", "install", "--quiet", "--python", home / "venv" / "bin" / "python"]
    if re.search(r"^[a-z]", requirements.read_text(), re.MULTILINE):
        output(*install, "--require-hashes", "-r", requirements)
    output(*install, "--no-deps", "--offline", wheel)
    output(UV, "pip", "check", "--quiet", "--python", home / "venv" / "bin" / "python")
    return home / "venv" / "bin"


@pytest.mark.slow
@pytest.mark.untimed
@pytest.mark.parametrize("extra", SMOKE, ids=lambda extra: extra or "no extra")
def test_the_wheel_works_in_a_clean_environment(extra: str, built: tuple[Path, Path], tmp_path: Path) -> None:
    programs = environment(tmp_path, built[0], extra)
    (tmp_path / "test_clock.py").write_text(TEST)
    (program, *arguments), status, printed = SMOKE[extra]
    told = output(programs / program, *arguments, cwd=tmp_path, status=status)

    assert printed in told
    where = output(programs / "python", "-c", "import kaiju_app; print(kaiju_app.__file__)", cwd=tmp_path)
    assert Path(where.strip()).is_relative_to(tmp_path)


@pytest.mark.slow
@pytest.mark.untimed
def test_the_sdist_makes_the_same_wheel(built: tuple[Path, Path], tmp_path: Path) -> None:
    wheel, sdist = built
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path, filter="data")
    [source] = tmp_path.iterdir()
    output(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path / "dist"), cwd=source)
    with zipfile.ZipFile(wheel) as one, zipfile.ZipFile(tmp_path / "dist" / wheel.name) as other:
        contents = [{each: archive.read(each) for each in archive.namelist()} for archive in (one, other)]

    assert contents[0] == contents[1]
    package = ROOT / "src" / "kaiju_app"
    files = {each for each in package.rglob("*") if each.is_file() and "__pycache__" not in each.parts}
    assert {each.relative_to(ROOT / "src").as_posix() for each in files} <= set(contents[0])
    assert "kaiju_app/py.typed" in contents[0]
    [metadata] = [text.decode() for name, text in contents[0].items() if name.endswith("METADATA")]
    assert set(re.findall(r"^Provides-Extra: (\S+)$", metadata, re.MULTILINE)) == set(PROJECT["optional-dependencies"])


@pytest.mark.pure
def test_there_is_a_smoke_test_for_every_extra() -> None:
    assert set(SMOKE) == {"", *PROJECT["optional-dependencies"]}


IMPORT = """
import asyncio, time
before = time.process_time()
import kaiju_app.scheduler
print(time.process_time() - before)
"""
MOST_S = 0.060
MOST_TRIES = 20


def test_the_scheduler_is_imported_in_60_ms_of_the_processor() -> None:
    # A busy machine makes some tries slower and none faster, so the fastest one counts.
    tries: list[float] = []
    while min(tries, default=1.0) > MOST_S and len(tries) < MOST_TRIES:
        tries.append(float(output(sys.executable, "-c", IMPORT)))

    assert min(tries) <= MOST_S
