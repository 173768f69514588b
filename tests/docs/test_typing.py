"""Type checkers accept correct uses of the public API, and find the wrong ones."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.realtime, pytest.mark.slow, pytest.mark.mechanism, pytest.mark.timeout(300)]

ROOT = Path(__file__).parents[2]
CORRECT, WRONG = (Path(__file__).with_name(f"typing_{which}.py") for which in ("api", "wrong"))

Found = set[tuple[str, int, str]]
"""Findings: the name of the file, the line, and what the checker calls it."""


def output_of(*command: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True, timeout=280, check=False
    )
    assert done.returncode in (0, 1), done.stderr
    return done.stdout


def mypy() -> Found:
    text = output_of("mypy", "--no-error-summary", "--hide-error-context", str(CORRECT), str(WRONG))
    lines = re.findall(r"^(\S+):(\d+): error: .*\[([a-z-]+)\]$", text, re.MULTILINE)
    return {(Path(name).name, int(line), code) for name, line, code in lines}


def pyright(tmp_path: Path) -> Found:
    pytest.importorskip("basedpyright")
    settings = {"include": [str(CORRECT), str(WRONG)], "typeCheckingMode": "standard", "pythonVersion": "3.11"}
    project = tmp_path / "pyrightconfig.json"
    project.write_text(json.dumps(settings | {"extraPaths": [str(ROOT / "src")]}))
    answer = json.loads(output_of("basedpyright", "--outputjson", "--project", str(project)))
    return {
        (Path(each["file"]).name, each["range"]["start"]["line"] + 1, each["rule"])
        for each in answer["generalDiagnostics"]
        if each["severity"] == "error"
    }


def expected(checker: str) -> Found:
    """Return what the comments in the file of wrong uses announce: the words of pyright begin with ``report``."""
    found: Found = set()
    for number, line in enumerate(WRONG.read_text("utf-8").splitlines(), 1):
        for word in line.partition("  # ")[2].split():
            if word.startswith("report") == (checker == "pyright"):
                found.add((WRONG.name, number, word))
    return found


@pytest.mark.parametrize("checker", ["mypy", "pyright"])
def test_wrong_uses_are_found_and_correct_ones_are_not(checker: str, tmp_path: Path) -> None:
    found = mypy() if checker == "mypy" else pyright(tmp_path)

    assert len(found) > 40
    assert found == expected(checker)
