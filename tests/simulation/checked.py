"""A world whose journal is checked."""

from __future__ import annotations

from kaiju_app.testing._cluster.world import World
from simulation.promises import Bounds, violations


class Simulation(World):
    """A world that says which promises its journal shows to be broken."""

    def violations(self, bounds: Bounds | None = None) -> list[str]:
        """Return the broken promises, and the errors that loops would have logged."""
        complaints = [f"{life.id}: {each}" for life in self.lives for each in life.complaints]
        return complaints + violations(self.journal, self.plan, self.instances, bounds or Bounds(), self.rows())
