"""Tables and JSON."""

from __future__ import annotations

import json
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import isnan
from pathlib import Path
from statistics import median
from typing import Any

from bench.plan import Figure, Work
from bench.reach import Verdict, short
from bench.runner import Figures, Interpreter, Rounds


@dataclass(frozen=True)
class Result:
    """What one workload came to on one interpreter."""

    work: Work
    interpreter: Interpreter
    rounds: Rounds
    judged: bool

    def verdicts(self, figure: Figure) -> list[tuple[str, Verdict]]:
        """Hold a figure of each candidate against its reach."""
        if not self.judged:
            return []
        reaches = [reach for reach in figure.reaches if reach.eager in (None, self.interpreter.eager)]
        return [
            (who, verdict)
            for who in self.work.candidates
            for reach in reaches
            if (verdict := reach.judge(figure.key, self.rounds.get(who, ()), self.rounds))
        ]


def table(result: Result) -> str:
    """Write one workload: a row a figure, a column a candidate, then the reach and how far it is met."""
    work, rounds = result.work, result.rounds
    rows = [["", *rounds, "reach"]]
    for figure in work.figures:
        several = len(work.candidates) > 1
        reach = [f"{who} {verdict}" if several else str(verdict) for who, verdict in result.verdicts(figure)]
        rows.append([figure.label, *(cell(figure.key, rounds[who]) for who in rounds), *reach[:1]])
        rows.extend([*[""] * (len(rounds) + 1), further] for further in reach[1:])
    return f"{work.name}  {work.title}  [{result.interpreter.name}]\n{aligned(rows)}\n"


def cell(key: str, rounds: Sequence[Figures]) -> str:
    """Write the median of a figure and, where rounds differ, its least and greatest value."""
    values = [figures[key] for figures in rounds if key in figures]
    if not values:
        return "-"
    least, greatest = short(min(values)), short(max(values))
    return short(median(values)) + (f" ({least}..{greatest})" if least != greatest else "")


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Line up columns: the first and the last to the left, figures to the right."""
    columns = len(rows[0])
    widths = [max(len(row[column]) for row in rows if column < len(row)) for column in range(columns)]
    return "\n".join("  ".join(padded(row, widths)).rstrip() for row in rows)


def padded(row: Sequence[str], widths: Sequence[int]) -> list[str]:
    """Pad the cells of a row."""
    last = len(widths) - 1
    return [f"{text:<{widths[at]}}" if at in (0, last) else f"{text:>{widths[at]}}" for at, text in enumerate(row)]


def write_json(path: Path, results: Sequence[Result], failures: Sequence[str], settings: dict[str, Any]) -> None:
    """Write all rounds and verdicts, so that another day's figures can be held against them."""
    document = {
        "platform": platform.platform(),
        "settings": settings,
        "failures": list(failures),
        "results": [record(result) for result in results],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, indent=1) + "\n")


def record(result: Result) -> dict[str, Any]:
    """Make plain values of a result."""
    return {
        "work": result.work.name,
        "title": result.work.title,
        "python": result.interpreter.name,
        "loop": result.work.loop,
        "rounds": {who: [plain(figures) for figures in taken] for who, taken in result.rounds.items()},
        "verdicts": [
            {"who": who, "figure": figure.key, **asdict(verdict)}
            for figure in result.work.figures
            for who, verdict in result.verdicts(figure)
        ],
    }


def plain(figures: Figures) -> dict[str, float | None]:
    """Write what could not be measured as null: JSON has no NaN."""
    return {key: None if isnan(value) else value for key, value in figures.items()}
