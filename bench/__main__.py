"""The command line: ``python -m bench --help``."""

from __future__ import annotations

import argparse
import sys
from datetime import UTC, datetime
from pathlib import Path

from bench import plan
from bench.candidates import names
from bench.report import Result, table, write_json
from bench.runner import Workers, interpreter, last_core, rounds

RESULTS = Path(__file__).parent / "results"
WORKS = ("W1", "W2", "W3", "W4", "W5", "W6")


def main() -> int:
    """Measure, print a table a workload, write JSON; return 1 if anything failed to run, whatever the figures."""
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
    parser.add_argument("--only", type=chosen(WORKS), default=WORKS, metavar="W1,W4", help="only these workloads")
    parser.add_argument(
        "--who", type=chosen(names()), default=names(), metavar="kaiju,F4", help="only these candidates"
    )
    parser.add_argument("--rounds", type=int, metavar="N", help="rounds to take the median of (3; quick: 1)")
    parser.add_argument("--quick", action="store_true", help="only prove that everything runs; judge nothing")
    parser.add_argument("--uvloop", action="store_true", help="W1 on uvloop as well")
    parser.add_argument("--core", type=int, default=last_core(), metavar="N", help="core to pin workers to (last one)")
    parser.add_argument("--json", type=Path, metavar="PATH", help="where to write all figures (bench/results/)")
    return parser


def measure(options: argparse.Namespace, failures: list[str]) -> list[Result]:
    """Run the chosen workloads on every chosen Python, and print each table as soon as it is there."""
    results = []
    works = [work for work in plan.works(quick=options.quick, uvloop=options.uvloop) if work.name in options.only]
    for python in map(interpreter, options.python or [sys.executable]):
        workers = Workers(python, options.core)
        for work in works:
            whos = [who for who in work.whos(eager=python.eager) if who in options.who]
            print(f"{work.name} on {python.name}, {work.loop}", file=sys.stderr)
            taken = rounds(work.plan, whos, workers.run, count(options), failures)
            results.append(Result(work, python, taken, judged=not options.quick))
            print(table(results[-1]), flush=True)
    return results


def chosen(known: tuple[str, ...]) -> argparse._ActionType:
    """Make the type of an argument that names some of *known*, separated by commas."""

    def names(text: str) -> tuple[str, ...]:
        picked = tuple(text.split(","))
        if unknown := set(picked) - set(known):
            raise argparse.ArgumentTypeError(f"{', '.join(sorted(unknown))} not among {', '.join(known)}")
        return picked

    return names


def count(options: argparse.Namespace) -> int:
    """Return the number of rounds: the median of one says nothing, unless nothing is to be said."""
    rounds: int = options.rounds or (1 if options.quick else 3)
    return rounds


def default_json(*, quick: bool) -> Path:
    """Name the file after the time of day, so that no measurement overwrites another; the quick form has one name."""
    return RESULTS / ("quick.json" if quick else f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}.json")


def settings(options: argparse.Namespace) -> dict[str, object]:
    """Note what was asked for."""
    return {"rounds": count(options), "quick": options.quick, "core": options.core}


if __name__ == "__main__":
    sys.exit(main())
