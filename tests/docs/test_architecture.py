"""ARCHITECTURE.md names what exists, in the order that the import contracts enforce."""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path

import pytest

pytestmark = pytest.mark.pure

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src" / "kaiju_app"
PAGE = (ROOT / "ARCHITECTURE.md").read_text("utf-8")
NAMED = sorted(set(re.findall(r"`([^`\n]+)`", PAGE)))

METHODS_OF_A_KIND = {"after()", "at_or_before()", "next_at", "run()"}  # Of triggers and of duties.


def defined() -> set[str]:
    """Return the names of all classes, functions and methods: ``Class``, ``Class.method``, ``module.function``."""
    names: set[str] = set()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.parse(path.read_text("utf-8")).body:
            if isinstance(node, ast.ClassDef):
                names.add(node.name)
                members = [each.name for each in node.body if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef)]
                names.update(f"{node.name}.{each}" for each in members)
            elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                names.update((node.name, f"{path.stem}.{node.name}"))
    return names


def is_command(name: str) -> bool:
    return name.startswith(("make ", "python -m "))


@pytest.mark.parametrize("name", [each for each in NAMED if "/" in each or each.endswith((".py", ".md"))])
def test_every_file_and_folder_that_it_names_is_there(name: str) -> None:
    if not is_command(name):
        assert (ROOT / name).exists() or (PACKAGE / name).exists(), name


def test_every_class_and_function_that_it_names_is_there() -> None:
    names = [each for each in NAMED if "/" not in each and not is_command(each) and not each.endswith((".py", ".md"))]
    known = defined()
    wanted = {each.removesuffix("()") for each in names if each not in METHODS_OF_A_KIND and each != "lint"}

    assert len(wanted) > 25
    assert sorted(wanted - known) == []


def test_it_lists_the_wings_in_the_order_of_the_contract_and_all_of_them() -> None:
    linter = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["importlinter"]
    [layers] = [each["layers"] for each in linter["contracts"] if each.get("containers") == ["kaiju_app"]]
    order = [wing for layer in layers for wing in re.split(r"\W*\|\W*", layer) if wing != "__main__"]
    rows = re.findall(r"^\| `(\w+)(?:/|\.py)` \|", PAGE.split("## The wings")[1].split("\n## ")[0], re.MULTILINE)

    assert rows == order
    there = {each.stem for each in PACKAGE.iterdir() if each.name not in ("__pycache__", "py.typed")}
    assert there - {"__init__", "__main__"} == set(rows)
