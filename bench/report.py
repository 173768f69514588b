"""Tables and JSON."""

from __future__ import annotations

import json
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import isfinite
from pathlib import Path
from statistics import median
from typing import Any

from bench.runner import Figures, Interpreter, Rounds
from bench.targets import Verdict, short
from bench.work import Figure, Work


@dataclass(frozen=True)
class Result:
    """The result of one workload on one interpreter."""

    work: Work
    interpreter: Interpreter
    rounds: Rounds
    judged: bool

    def verdicts(self, figure: Figure) -> list[tuple[str, Verdict]]:
        """Compare a figure of each candidate with its targets."""
        if not self.judged:
            return []
        targets = [target for target in figure.targets if target.eager in (None, self.interpreter.eager)]
        return [
            (who, verdict)
            for who in self.work.candidates
            for target in targets
            if (verdict := target.judge(figure.key, self.rounds.get(who, ()), self.rounds))
        ]


def table(result: Result) -> str:
    """Format one workload: a row per figure, a column per candidate, then the targets and the verdicts."""
    work, rounds = result.work, result.rounds
    rows = [["", *rounds, "target"]]
    for figure in work.figures:
        several = len(work.candidates) > 1
        target = [f"{who} {verdict}" if several else str(verdict) for who, verdict in result.verdicts(figure)]
        rows.append([figure.label, *(cell(figure.key, rounds[who]) for who in rounds), *target[:1]])
        rows.extend([*[""] * (len(rounds) + 1), further] for further in target[1:])
    return f"{work.name}  {work.title}  [{result.interpreter.name}]\n{aligned(rows)}\n"


def cell(key: str, rounds: Sequence[Figures]) -> str:
    """Format the median of a figure and, if rounds differ, its least and greatest value."""
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
    """Write all rounds and verdicts, for comparison with later measurements."""
    document = {
        "platform": platform.platform(),
        "settings": settings,
        "failures": list(failures),
        "results": [record(result) for result in results],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, indent=1) + "\n")


def record(result: Result) -> dict[str, Any]:
    """Return a result as plain values for JSON."""
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
    """Replace NaN (not measured) and infinity (given up) by None, because JSON has neither."""
    return {key: value if isfinite(value) else None for key, value in figures.items()}
