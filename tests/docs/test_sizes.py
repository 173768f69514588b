"""No module is longer than one reads at a sitting, and no class does more than one remembers."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

pytestmark = pytest.mark.pure

PACKAGE = Path(__file__).parents[2] / "src" / "kaiju_app"
MODULES = sorted(PACKAGE.rglob("*.py"))

MOST_LINES = 320
MOST_METHODS = 20
LARGE = {
    "ScheduledTask": "the public face of a task: a property for each of its facts, a method for each thing to do",
    "Store": "the contract of every store: a method for each verb, with a default for those that need no speed",
    "Wire": "a method for each verb of a Store",
    "PostgresStore": "a method for each verb of a Store",
    "RedisStore": "a method for each verb of a Store",
    "SqliteStore": "a method for each verb of a Store",
    "SqliteRecords": "each verb of a Store, inside a transaction",
    "Engine": "puts the parts of the engine together: a method for each thing that the scheduler asks of all of them",
}
"""Classes with more methods, and why."""


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_module_has_more_than_320_lines(path: Path) -> None:
    assert len(path.read_text("utf-8").splitlines()) <= MOST_LINES


def methods_by_class() -> dict[str, int]:
    """Return how many methods each class has; overloads and setters of one name count once."""
    found = {}
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.ClassDef):
                members = (each for each in node.body if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef))
                found[node.name] = max(found.get(node.name, 0), len({each.name for each in members}))
    return found


def test_only_the_named_classes_have_more_than_20_methods() -> None:
    assert LARGE.keys() == {name for name, number in methods_by_class().items() if number > MOST_METHODS}
