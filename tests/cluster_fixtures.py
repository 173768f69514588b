"""What tests of processes that share tasks begin with; a plugin, for ``pytest_plugins``."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest
from cluster_processes import Processes

LONG = {"interval_s": 60.0, "run_s": 30.0}  # One run, which is there for as long as anything is looked at.
OFTEN = {"interval_s": 0.3, "run_s": 0.15}
SEVERAL = ("one", "two", "three", "four", "five", "six")  # Everybody's share of them has some.

# A store that failed for long is asked again after 5 s at the latest; then comes what comes after a crash.
ASKED_AGAIN_S = 5.0

HOUR_S = 3600

Group = Callable[..., Processes]
Figures = Callable[..., None]


@pytest.fixture
def group(tmp_path: Path) -> Iterator[Group]:
    """Make processes that share a store; none is left behind."""
    with ExitStack() as made:

        def group(**options: Any) -> Processes:
            processes = Processes(tmp_path, **options)
            made.callback(processes.close)
            return processes

        yield group


@pytest.fixture
def figures(request: pytest.FixtureRequest, record_property: Callable[[str, object], None]) -> Figures:
    """Note figures in the report, and print them with ``-s``."""

    def figures(**values: object) -> None:
        shown = []
        for name, value in values.items():
            record_property(name, value)
            shown.append(f"{name} {value:.3f}" if isinstance(value, float) else f"{name} {value}")
        print(f"\n{request.node.name}: {', '.join(shown)}")

    return figures


@pytest.fixture
def small_disk(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    """A file system of 24 megabytes, or as many as the parameter says."""
    where = tmp_path / "disk"
    where.mkdir()
    size = f"size={getattr(request, 'param', 24)}m"
    mount = ["mount", "-t", "tmpfs", "-o", size, "tmpfs", str(where)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("NOT TESTED: a full disk; only root may mount a small one")
    yield where
    subprocess.run(["umount", "-l", str(where)], check=True)


def fill(disk: Path) -> None:
    """Leave no room, also where some was given back meanwhile."""
    with suppress(OSError), (disk / "ballast").open("ab", buffering=0) as file:
        while True:
            file.write(b"x" * 2**16)
