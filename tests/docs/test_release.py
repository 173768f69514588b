"""The texts of a release: no merge is left in them, and none says to install it from the index by its name.

The index has another package of this name.
"""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

import pytest

from kaiju_app.errors import InvalidArgument
from kaiju_app.scheduler import Scheduler

pytestmark = pytest.mark.pure

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
PARTS = "src", "examples", "tools", "docs"
TEXTS = [*ROOT.glob("*.md"), *(each for part in PARTS for each in (ROOT / part).rglob("*.*"))]

MERGE = re.compile(r"^(<<<<<<<|>>>>>>>|\|\|\|\|\|\|\|) ", re.MULTILINE)
FROM_THE_INDEX = re.compile(r"kaiju[-_]app\[|install\b[^\n#]*\bkaiju[-_]app\b", re.IGNORECASE)


def read_texts() -> dict[Path, str]:
    return {path: path.read_text("utf-8") for path in TEXTS if path.suffix in {".py", ".md", ".sql", ".sh", ""}}


def test_no_text_has_the_marks_of_a_merge() -> None:
    assert [str(path) for path, text in read_texts().items() if MERGE.search(text)] == []


def test_no_text_installs_it_by_its_name() -> None:
    texts = read_texts()
    found = [
        f"{path.relative_to(ROOT)}: {match[0]}"
        for path, text in texts.items()
        for match in FROM_THE_INDEX.finditer(text)
    ]

    assert len(texts) > 100
    assert found == []


def test_the_version_is_above_every_release_of_the_other_package() -> None:
    assert int(PROJECT["version"].partition(".")[0]) >= 1


def test_the_readme_installs_the_checkout() -> None:
    readme = (ROOT / "README.md").read_text("utf-8")

    assert "$ pip install ." in readme
    for extra in PROJECT["optional-dependencies"]:
        assert f"pip install '.[{extra}]'" in readme


@pytest.mark.parametrize(
    ("url", "library", "said"),
    [
        (
            f"{scheme}://me@host/database",
            "asyncpg",
            "on a PostgreSQL server needs the library asyncpg (pip install asyncpg), got 'postgresql://host/database'",
        )
        for scheme in ("postgresql", "postgres")
    ]
    + [
        (
            f"{scheme}://me@host/0",
            "redis",
            f"on a Redis or Valkey server needs the library redis (pip install redis), got '{scheme}://***@host/0'",
        )
        for scheme in ("redis", "valkeys+cluster")
    ],
)
def test_a_library_that_is_missing_is_named_itself(
    url: str, library: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = "kaiju_app.stores.postgres", "kaiju_app.stores.redis"
    for module in [each for each in sys.modules if each.startswith((library, *ours))]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, library, None)

    with pytest.raises(InvalidArgument) as refusal:
        Scheduler(store=url)

    assert str(refusal.value) == f"store {said}"


def test_a_library_that_is_there_and_broken_is_not_called_missing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for module in [each for each in sys.modules if each.startswith(("asyncpg", "kaiju_app.stores.postgres"))]:
        monkeypatch.delitem(sys.modules, module)
    (tmp_path / "asyncpg.py").write_text("import a_part_that_is_gone")
    monkeypatch.syspath_prepend(tmp_path)

    with pytest.raises(ModuleNotFoundError, match="a_part_that_is_gone"):
        Scheduler(store="postgresql://me@host/database")
