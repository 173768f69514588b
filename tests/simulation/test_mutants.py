"""The table of mutants matches the source, and the scenes find no violation in correct code."""

from __future__ import annotations

import ast
import os
from pathlib import Path

import pytest

import kaiju_app
from simulation.mutant import Edit, Mutant, SceneGate, Stale
from simulation.mutants import MUTANTS
from simulation.scene import Scene
from simulation.scenes import SCENES

pytestmark = pytest.mark.pure

SEEDS = max(2, int(os.environ.get("SEEDS", "0")) // 20)  # Per scene; there are about twenty scenes.
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
            if isinstance(gate, SceneGate):
                assert set(gate.scenes) <= SCENES.keys()
            else:
                assert all((Path(__file__).parents[2] / test.partition("::")[0]).exists() for test in gate.tests)


@pytest.mark.parametrize("text", ["no such text", "import"])
def test_a_text_that_is_gone_or_no_longer_the_only_one_is_an_error(text: str) -> None:
    mutant = Mutant("one", "", (Edit("_cluster/coordinator.py", text, ""),), ())

    with pytest.raises(Stale, match="mutant one does not apply any more"):
        mutant.texts(PACKAGE)


@pytest.mark.slow
@pytest.mark.timeout(36_000)  # SEEDS may be large.
@pytest.mark.parametrize("scene", SCENES.values(), ids=list(SCENES))
def test_nothing_is_broken_in_hard_times(scene: Scene) -> None:
    for seed in range(SEEDS):
        assert scene.violations(seed) == [], scene.report(seed)
