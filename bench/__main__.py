"""The command line: ``python -m bench --help``."""

from __future__ import annotations

import argparse
import sys
from datetime import UTC, datetime
from pathlib import Path

from bench import plan
from bench.candidates import PEERS, names
from bench.report import Result, table, write_json
from bench.runner import Workers, interpreter, last_core, rounds
from bench.saturation import Largest

RESULTS = Path(__file__).parent / "results"
LOOPS = ("asyncio", "uvloop")


def main() -> int:
    """Measure, print one table per workload and write JSON; return 1 if a measurement failed, whatever the figures."""
    options = arguments().parse_args()
    if options.core is None:
        print("bench: processes cannot be pinned to a core here; expect wider ranges", file=sys.stderr)
    failures: list[str] = []
    results = measure(options, failures)
    write_json(options.json or default_json(quick=options.quick), results, failures, settings(options))
    for failure in failures:
        print(f"FAILED {failure}", file=sys.stderr)
    return 1 if failures or not results else 0


def arguments() -> argparse.ArgumentParser:
    """Describe the command line."""
    parser = argparse.ArgumentParser("python -m bench", description="Measure the scheduler against bare asyncio.")
    parser.add_argument("--python", action="append", metavar="PATH", help="run workers on this Python (repeatable)")
    parser.add_argument(
        "--only",
        type=chosen(plan.NAMES),
        default=plan.NAMES,
        metavar="W1,W8",
        help="only these works; W8 means all W8-...",
    )
    parser.add_argument(
        "--who", type=chosen(names()), default=names(), metavar="kaiju,F4", help="only these candidates"
    )
    parser.add_argument(
        "--loops",
        type=chosen(LOOPS),
        default=LOOPS[:1],
        metavar="asyncio,uvloop",
        help="kinds of loop (default: asyncio)",
    )
    parser.add_argument("--largest", type=int, metavar="N", help="F4's largest N (default: as W2 finds it in this run)")
    parser.add_argument("--rounds", type=int, metavar="N", help="rounds for the median (default: 3; quick: 1)")
    parser.add_argument("--quick", action="store_true", help="only check that everything runs; judge nothing")
    parser.add_argument(
        "--core", type=int, default=last_core(), metavar="N", help="core of the workers (default: the last one)"
    )
    parser.add_argument("--json", type=Path, metavar="PATH", help="file for all figures (default: in bench/results/)")
    return parser


def measure(options: argparse.Namespace, failures: list[str]) -> list[Result]:
    """Run the chosen workloads on every chosen Python, and print each table as soon as it is complete."""
    results = []
    for python in map(interpreter, options.python or [sys.executable]):
        workers = Workers(python, options.core, tuple(PEERS))
        largest = Largest(workers.run, options.largest)
        works = plan.works(quick=options.quick, loops=options.loops, largest=largest)
        for work in [work for work in works if work.name in options.only]:
            whos = [who for who in work.whos(eager=python.eager) if who in options.who]
            print(f"{work.name} on {python.name}, {work.loop}", file=sys.stderr)
            taken = rounds(work.plan, whos, workers.run, count(options), failures)
            if work.name == "W2":
                largest.learn(work.loop, taken)
            results.append(Result(work, python, taken, judged=not options.quick))
            print(table(results[-1]), flush=True)
    return results


def chosen(known: tuple[str, ...]) -> argparse._ActionType:
    """Return the type of an argument that is a comma-separated list of *known* names, or of what some begin with."""

    def names(text: str) -> tuple[str, ...]:
        picked: list[str] = []
        for name in text.split(","):
            if not (meant := [name] if name in known else [each for each in known if each.startswith(f"{name}-")]):
                raise argparse.ArgumentTypeError(f"{name} not among {', '.join(known)}")
            picked += meant
        return tuple(picked)

    return names


def count(options: argparse.Namespace) -> int:
    """Return the number of rounds: three for a median, one for the quick form, which judges nothing."""
    rounds: int = options.rounds or (1 if options.quick else 3)
    return rounds


def default_json(*, quick: bool) -> Path:
    """Name the file after the time, so that no measurement overwrites another. The quick form has a fixed name."""
    return RESULTS / ("quick.json" if quick else f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}.json")


def settings(options: argparse.Namespace) -> dict[str, object]:
    """Return the settings of this measurement."""
    return {"rounds": count(options), "quick": options.quick, "core": options.core}


if __name__ == "__main__":
    sys.exit(main())
