"""Several instances in one thread and in virtual time, each in a loop of its own, and everything that can befall them.

``Simulation(plan, instances, seed, boot, ask)``
    *boot* is awaited in the loop of every ``Instance`` when it starts, and again, with a new instance, when it restarts
    after a crash; *ask* for every ``Ask`` of the plan, if somebody lives there. ``run()`` returns the journal: the same
    one for the same arguments. To be closed, as a context manager.
``Instance``
    What a program has: ``id``, ``loop``, ``steady()`` and ``wall()`` in microseconds, ``store`` (a ``Wire``),
    ``journal`` (``journal("act", "task", fence=..., tick=..., take=...)``); ``block(seconds)`` burns time in one step.
``Plan``, ``Pause``, ``Block``, ``Crash``, ``Cut``, ``Down``, ``Jump``, ``Ask``, ``Weather``, ``CALM``
    What happens, as plain data; ``Plan.drawn(seed)`` draws it.
``violations(journal, plan, ...)``, ``Bounds``
    What of the promises was broken, in words, with the lines of the journal; ``simulation.violations()`` for short.
``hunt(seeds, boot, ask)``
    Looks for a seed that breaks a promise, makes it small, and raises with the Python that replays it.

A pause is exact: an instance that is stopped is not stepped, while its clocks go on. So is a crash: nothing of the
program runs from that moment on. What is left of it, finally blocks too, is thrown away in ``close()``, where nobody
can hear it any more. Threads there are none: ``run_in_executor()`` raises.
"""

from simulated_hunt import broken, hunt, script, shrunk
from simulated_journal import Bounds, Entry, violations
from simulated_plan import CALM, Ask, Block, Crash, Cut, Down, Fault, Jump, Pause, Plan, Weather
from simulated_wire import Wire
from simulated_world import Asked, Boot, Instance, Simulation

__all__ = [
    "CALM",
    "Ask",
    "Asked",
    "Block",
    "Boot",
    "Bounds",
    "Crash",
    "Cut",
    "Down",
    "Entry",
    "Fault",
    "Instance",
    "Jump",
    "Pause",
    "Plan",
    "Simulation",
    "Weather",
    "Wire",
    "broken",
    "hunt",
    "script",
    "shrunk",
    "violations",
]
