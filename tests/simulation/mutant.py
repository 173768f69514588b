"""Mutants: changes of the source that break a promise, and the gates (tests, simulations) that have to catch them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class SceneGate:
    """Scenes of ``simulation.scenes``: at least one has to find a violation within the given number of seeds."""

    scenes: tuple[str, ...]
    seeds: int = 300


@dataclass(frozen=True)
class SuiteGate:
    """Tests, at least one of which has to fail. *only* selects tests by name, as ``pytest -k`` does."""

    tests: tuple[str, ...]
    only: str = ""


class Stale(Exception):
    """The source has changed, so that a mutant no longer applies."""


@dataclass(frozen=True)
class Edit:
    """A text in a file of kaiju_app, and its replacement."""

    file: str
    old: str
    new: str


@dataclass(frozen=True)
class Mutant:
    """A change that breaks a promise.

    Args:
        what: What the changed code does wrong.
        gates: Tried in order; one of them has to catch the mutant.
        lives: Why no gate can catch it; empty if one has to.
    """

    name: str
    what: str
    edits: tuple[Edit, ...]
    gates: tuple[SceneGate | SuiteGate, ...]
    lives: str = ""

    def texts(self, package: Path) -> dict[str, str]:
        """Return the changed files by name.

        Raises:
            Stale: A text does not occur exactly once.
        """
        found: dict[str, str] = {}
        for edit in self.edits:
            text = found.get(edit.file) or (package / edit.file).read_text("utf-8")
            if text.count(edit.old) != 1:
                raise Stale(
                    f"the source has changed: mutant {self.name} does not apply any more: in {edit.file}, "
                    f"this occurs {text.count(edit.old)} times: {edit.old!r}"
                )
            found[edit.file] = text.replace(edit.old, edit.new)
        return found

    def apply(self, package: Path) -> None:
        """Write the changed files into *package*."""
        for file, text in self.texts(package).items():
            (package / file).write_text(text, "utf-8")


def mutant(
    name: str, what: str, file: str, old: str, new: str, *gates: SceneGate | SuiteGate, lives: str = ""
) -> Mutant:
    return Mutant(name, what, (Edit(file, old, new),), gates, lives)


def scenes(*names: str, seeds: int = 300) -> SceneGate:
    return SceneGate(names, seeds)
