"""Measure the scheduler against the physical limit of asyncio.

``python -m bench`` prints a table for each work, with the targets beside the figures and whether they are met.

| work | what is measured |
|---|---|
| W1 | CPU and lateness of 1,000 tasks at 1 s |
| W2 | the largest number of tasks at 100 ms that a candidate keeps up with |
| W2-overload | 1, 2 and 4 times the largest number of F4: runs a second, fairness, the waits of a handler |
| W2-recovery | 70 % of that number, after a blocked loop, after a burst of registrations, after SIGSTOP and SIGCONT |
| W3 | memory and registration of idle tasks |
| W4 | a herd: all tasks due at one instant |
| W5 | tasks that are added and removed |
| W6 | bodies slower than their interval, under each policy, also next to another scheduler |
| W8-STORE-N | N tasks at 1 s, shared by three processes through a store |

Ratios matter, not absolute figures, which depend on the machine. Candidate and floor take turns on one core, each
measurement in a process of its own, so that a machine that warms up, slows down or swaps affects both alike. W8 runs on
all cores and compares with nothing, so have nothing else run beside it.

All of it takes about an hour. Parts of it::

    make bench ARGS="--only W1,W8-sqlite --rounds 1"
    make bench ARGS="--only W2-overload --largest 12000"                    # does not search F4's largest number again
    make bench ARGS="--only W2-recovery --loops asyncio,uvloop"
    tools/bootstrap .venvs/3.12 /path/to/python3.12                         # the scheduler and what it needs, once
    make bench ARGS="--only W2 --python .venvs/3.12/bin/python"
    make bench ARGS=--quick                                                 # only proves that everything runs

| file | noun |
|---|---|
| `floors.py`, `timers.py` | the floors F2 to F5e: bare asyncio, written by hand |
| `peers.py` | other schedulers; `requirements/` pins what is installed for each |
| `candidates.py` | what is measured: one small interface over the floors, the peers and the scheduler |
| `measure.py`, `clocks.py`, `timing.py` | lateness, blocks of the loop, CPU, memory; clocks; first ticks |
| `workloads.py`, `overload.py` | what is done to a candidate, inside the measured process |
| `together.py` | W8: the processes, their store, and its figures |
| `worker.py` | the measured process |
| `runner.py` | starts workers, lets candidates take turns |
| `work.py` | a work: the plan of a candidate's measurements, the figures that it yields |
| `plan.py`, `plan_overload.py`, `plan_together.py` | the works: how large, which figures, which targets |
| `saturation.py` | the search for the largest number of tasks |
| `targets.py` | targets for the figures: met, or missed by how much |
| `report.py` | tables and JSON |
"""
