"""Measure the scheduler against the physical limit of asyncio.

``python -m bench`` runs the workloads W1 to W6 and prints one table each, with the reach beside the figures.

Ratios count. Candidate and floor take turns on one core, each measurement in a process of its own, so that a machine
that warms up, slows down or swaps treats both alike. Absolute figures belong to the machine.

| file | noun |
|---|---|
| `floors.py` | the floors F2 to F5e: bare asyncio, written by hand |
| `candidates.py` | what is measured: one small interface over the floors and the scheduler |
| `measure.py` | lateness, blocks of the loop, CPU, memory |
| `workloads.py` | what is done to a candidate, inside the measured process |
| `worker.py` | the measured process |
| `runner.py` | starts workers, lets candidates take turns |
| `plan.py` | W1 to W6: which workloads, how large, which figures, which reach |
| `reach.py` | met, or missed by how much |
| `report.py` | tables and JSON |
"""
