"""Simulate several instances and their faults: one thread, virtual time, one event loop per instance.

``Simulation(plan, instances, seed, boot, ask)``
    Awaits *boot* in the loop of every ``Instance`` when it starts, and again, with a new instance, when it restarts
    after a crash. Awaits *ask* for every ``Ask`` of the plan whose instance is alive. ``run()`` returns the journal,
    which is the same for the same arguments. Use it as a context manager.
``Instance``
    What the simulated program works with: ``id``, ``loop``, ``steady()`` and ``wall()`` in microseconds, ``store`` (a
    ``Wire``) and ``journal("act", "task", fence=..., tick=..., take=...)``. ``block(seconds)`` spends time in one step.
``Plan``, ``Pause``, ``Block``, ``Crash``, ``Cut``, ``Outage``, ``Jump``, ``Loss``, ``Ask``, ``Network``, ``RELIABLE``
    The faults, as plain data. ``Plan.drawn(seed)`` draws a plan at random.
``violations(journal, plan, ...)``, ``Bounds``
    The broken promises, in words, with the lines of the journal that show them. Shortcut: ``simulation.violations()``.
``hunt(seeds, boot, ask)``
    Searches for a seed that breaks a promise, shrinks its plan, and raises with the Python code that replays it.

Pauses and crashes are exact. A paused instance is not stepped, while its clocks go on. Nothing of a crashed program
runs after the crash, not even ``finally`` blocks: ``close()`` discards what is left without any effect. There are no
threads: ``run_in_executor()`` raises.
"""

from simulation.hunt import broken, hunt, script, shrink
from simulation.journal import Bounds, Entry, violations
from simulation.plan import RELIABLE, Ask, Block, Crash, Cut, Fault, Jump, Loss, Network, Outage, Pause, Plan
from simulation.wire import Wire
from simulation.world import AskHook, BootHook, Instance, Simulation

__all__ = [
    "RELIABLE",
    "Ask",
    "AskHook",
    "Block",
    "BootHook",
    "Bounds",
    "Crash",
    "Cut",
    "Entry",
    "Fault",
    "Instance",
    "Jump",
    "Loss",
    "Network",
    "Outage",
    "Pause",
    "Plan",
    "Simulation",
    "Wire",
    "broken",
    "hunt",
    "script",
    "shrink",
    "violations",
]
