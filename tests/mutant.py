"""A change that breaks something, and what has to find it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Times:
    """Scenes of ``simulated_hard``, one of which has to find something within so many seeds."""

    scenes: tuple[str, ...]
    seeds: int = 300


@dataclass(frozen=True)
class Suite:
    """Tests, one of which has to fail; *only* those whose names match."""

    tests: tuple[str, ...]
    only: str = ""


class Stale(Exception):
    """The source has changed."""


@dataclass(frozen=True)
class Edit:
    """A text of a file of kaiju_app, and what is there instead."""

    file: str
    old: str
    new: str


@dataclass(frozen=True)
class Mutant:
    """A change that breaks something.

    Args:
        what: In words.
        gates: What has to find it, one after the other.
        lives: Why nothing does.
    """

    name: str
    what: str
    edits: tuple[Edit, ...]
    gates: tuple[Times | Suite, ...]
    lives: str = ""

    def texts(self, package: Path) -> dict[str, str]:
        """Return the files as they are with the change.

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
        """Change the files of *package*."""
        for file, text in self.texts(package).items():
            (package / file).write_text(text, "utf-8")


def mutant(name: str, what: str, file: str, old: str, new: str, *gates: Times | Suite, lives: str = "") -> Mutant:
    return Mutant(name, what, (Edit(file, old, new),), gates, lives)


def times(*scenes: str, seeds: int = 300) -> Times:
    return Times(scenes, seeds)
