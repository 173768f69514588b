"""The examples of the test kit pass as they are, and are short and quick."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[3] / "examples" / "tests"


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("test_*.py")), ids=lambda path: path.stem)
def test_an_example_passes_in_less_than_a_second_and_thirty_lines(path: Path) -> None:
    for needed in ("pytest_asyncio", "fastapi"):
        pytest.importorskip(needed)
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "quick", str(path)]
    options = ["-c", "/dev/null", "-o", "asyncio_default_fixture_loop_scope=function", "--rootdir", str(EXAMPLES)]
    done = subprocess.run(
        [*command, *options],
        capture_output=True,
        text=True,
        timeout=50,
        cwd=EXAMPLES,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent)},
    )

    assert done.returncode == 0, done.stdout
    lines = path.read_text("utf-8").splitlines()
    code = [line for line in lines if line.strip() and not line.startswith(("import ", "from ", '"""'))]
    assert len(code) < 30
