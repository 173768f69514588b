"""Simulate several instances and their faults: one thread, virtual time, one event loop per instance.

``Simulation(plan, instances, seed, boot, ask)``
    Awaits *boot* in the loop of every ``Process`` when it starts, and again, with a new instance, when it restarts
    after a crash. Awaits *ask* for every ``Ask`` of the plan whose instance is alive. ``run()`` returns the journal,
    which is the same for the same arguments. Use it as a context manager.
``Process``
    What the simulated program works with: ``id``, ``loop``, ``steady()`` and ``wall()`` in microseconds, ``store`` (a
    ``Wire``) and ``journal("act", "task", fence=..., tick=..., take=...)``. ``block(seconds)`` spends time in one step.
``Plan``, ``Pause``, ``Block``, ``Crash``, ``Cut``, ``Outage``, ``Jump``, ``Loss``, ``Ask``, ``Network``, ``RELIABLE``
    The faults, as plain data. ``drawn_plan(seed)`` draws a plan at random.
``violations(journal, plan, ...)``, ``Bounds``
    The broken promises, in words, with the lines of the journal that show them. Shortcut: ``simulation.violations()``.
``hunt(seeds, boot, ask)``
    Searches for a seed that breaks a promise, shrinks its plan, and raises with the Python code that replays it.

Pauses and crashes are exact. A paused instance is not stepped, while its clocks go on. Nothing of a crashed program
runs after the crash, not even ``finally`` blocks: ``close()`` discards what is left without any effect. There are no
threads: ``run_in_executor()`` raises.
"""

from kaiju_app.testing._cluster.journal import Entry
from kaiju_app.testing._cluster.network import RELIABLE, Network
from kaiju_app.testing._cluster.plan import Ask, Block, Crash, Cut, Fault, Jump, Loss, Outage, Pause, Plan
from kaiju_app.testing._cluster.process import Process
from kaiju_app.testing._cluster.wire import Wire
from kaiju_app.testing._cluster.world import AskHook, BootHook
from simulation.checked import Simulation
from simulation.drawn import drawn_plan
from simulation.hunt import broken, hunt, script, shrink
from simulation.promises import Bounds, violations

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
    "Jump",
    "Loss",
    "Network",
    "Outage",
    "Pause",
    "Plan",
    "Process",
    "Simulation",
    "Wire",
    "broken",
    "drawn_plan",
    "hunt",
    "script",
    "shrink",
    "violations",
]
