"""The table of mutants follows the source."""

from __future__ import annotations

import ast
import os
from pathlib import Path

import pytest
from mutant import Edit, Mutant, Stale, Times
from mutants import MUTANTS
from simulated_hard import SCENES
from simulated_scene import Scene

import kaiju_app

pytestmark = pytest.mark.pure

SEEDS = max(2, int(os.environ.get("SEEDS", "0")) // 20)  # Of each scene; there are some twenty of them.
PACKAGE = Path(kaiju_app.__file__).parent


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda each: each.name)
def test_a_mutant_still_applies_and_is_python(mutant: Mutant) -> None:
    for file, text in mutant.texts(PACKAGE).items():
        assert text != (PACKAGE / file).read_text("utf-8")
        if file.endswith(".py"):
            ast.parse(text)


def test_every_mutant_has_a_name_of_its_own_and_gates_that_exist() -> None:
    assert len({each.name for each in MUTANTS}) == len(MUTANTS)
    for mutant in MUTANTS:
        assert mutant.gates
        for gate in mutant.gates:
            if isinstance(gate, Times):
                assert set(gate.scenes) <= SCENES.keys()
            else:
                assert all((Path(__file__).parent.parent / test.partition("::")[0]).exists() for test in gate.tests)


@pytest.mark.parametrize("text", ["no such text", "import"])
def test_a_text_that_is_gone_or_no_longer_the_only_one_is_an_error(text: str) -> None:
    mutant = Mutant("one", "", (Edit("_cluster.py", text, ""),), ())

    with pytest.raises(Stale, match="mutant one does not apply any more"):
        mutant.texts(PACKAGE)


@pytest.mark.slow
@pytest.mark.timeout(36_000)  # As many seeds as somebody wants.
@pytest.mark.parametrize("scene", SCENES.values(), ids=list(SCENES))
def test_nothing_is_broken_in_hard_times(scene: Scene) -> None:
    for seed in range(SEEDS):
        assert scene.found(seed) == [], scene.told(seed)
