"""The command line: ``kaiju COMMAND``, or ``python -m kaiju_app COMMAND``.

What needs no library beside this package is in ``_builtin``, the rest in ``_app``; only what is called is imported.
"""

from __future__ import annotations

import os
import sys

OTHERS = {
    "tasks": "list the tasks",
    "show": "show everything about a task",
    "runs": "list past runs and skipped ticks",
    "upcoming": "list the next ticks",
    "explain": "say in one sentence what became of a tick, and why",
    "run-now": "run a task now",
    "pause": "start no more runs of a task, or of all tasks",
    "resume": "end a pause",
    "cancel": "ask the run in progress to end",
    "top": "watch live what runs, what fails and what is next",
    "tail": "print what happens, as it happens",
    "instances": "list the instances that are alive",
}
"""The commands that need the extra ``cli``, with what they do."""
COMPLETION = ("--install-completion", "--show-completion")
LIBRARIES = ("typer", "rich", "httpx2")


def main() -> None:
    """Parse the command line and run the command."""
    program = os.path.basename(sys.argv[0])
    name = program if program.startswith("kaiju") else "python -m kaiju_app"
    first = sys.argv[1] if len(sys.argv) > 1 else ""
    if first in OTHERS or first in COMPLETION or "_KAIJU_COMPLETE" in os.environ:
        run_other(name)
        return
    from ._builtin import run_builtin

    run_builtin(name, OTHERS)


def run_other(name: str) -> None:
    """Run one of the commands that need the extra ``cli``, or say what to install."""
    try:
        from ._app import application

        application()(prog_name=name)
    except ModuleNotFoundError as exc:
        if exc.name not in LIBRARIES:
            raise
        print(
            f"{name}: this command needs the libraries typer, rich and httpx2: pip install typer rich httpx2",
            file=sys.stderr,
        )
        raise SystemExit(2) from None
