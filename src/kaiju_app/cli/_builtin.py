"""The commands that need no library beside this package: run, lint, and admin with the extra of that name."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Mapping
from typing import NoReturn

from kaiju_app._core.logs import logger
from kaiju_app.application import Application, run_app
from kaiju_app.scheduler import Scheduler
from kaiju_app.scheduler._never_started import drop_all

from ._admin import add_admin, add_options, admin_command, serve_admin
from ._lint import lint_command
from ._target import import_target, set_up_logging

log = logger("kaiju_app.app")


class Parser(argparse.ArgumentParser):
    """A parser whose last word is its error."""

    def error(self, message: str) -> NoReturn:
        """Exit with *message*: that the schedulers of the program were never started is no news."""
        drop_all()
        if (cause := sys.exception()) is not None:
            log.debug("%s", message, exc_info=cause)
        super().error(message)


def run_builtin(name: str, others: Mapping[str, str]) -> None:
    """Parse the command line and run the command.

    Args:
        name: How the program was called.
        others: The other commands, for the list in ``--help``, with what they do.
    """
    options, parsers = parsed(name, others)
    if options.command == "run":
        run_command(options, parsers["run"])
    elif options.command == "admin":
        admin_command(options, parsers["admin"])
    else:
        lint_command(options.target, parsers["lint"], init=options.init)


def parsed(name: str, others: Mapping[str, str]) -> tuple[argparse.Namespace, dict[str, argparse.ArgumentParser]]:
    """Return the options of a command that needs no extra, and the parsers of these commands."""
    parser = Parser(
        prog=name,
        description="Periodic work inside an application.",
        epilog="A tick is one time at which a task is due.",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND", dest="command")
    run = commands.add_parser(
        "run",
        help="run an application until a signal stops it",
        description="Run an application until SIGINT (Ctrl-C) or SIGTERM stops it cleanly; a second signal cuts the "
        "stop short. Exit status: 0 if it stopped cleanly; 1 if it failed to start or something did not stop cleanly, "
        "see the log; 128 + n if signal n cut the stop short.",
    )
    run.add_argument("target", metavar="MODULE:NAME", help="where the Application is, e.g. shop.main:app")
    check = commands.add_parser(
        "lint",
        help="show when tasks will run, and likely mistakes in their schedules",
        description="Show the schedules of the tasks of an application or scheduler, their next runs, and likely "
        "mistakes: tasks that never run, daylight saving changes, steps that do not divide evenly, days of month "
        "and week that need not both match, limits that exceed the gap, dozens of tasks in the same second. "
        "No task is run. Exit status: 0; 1 if there is an error or no task.",
    )
    check.add_argument(
        "target", metavar="MODULE:NAME", help="where the Application or Scheduler is, e.g. shop.main:app"
    )
    check.add_argument(
        "--init",
        action="store_true",
        help="initialize the services of the application, include the tasks that they schedule, and close them again",
    )
    add_options(run)
    alone = add_admin(commands)
    for other, what in others.items():  # For the list in --help; main() has taken them by now.
        commands.add_parser(other, help=what, add_help=False)
    return parser.parse_args(), {"run": run, "lint": check, "admin": alone}


def run_command(options: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    """Run the application that the command line names as MODULE:NAME."""
    target = options.target
    app = import_target(target, parser)
    if not isinstance(app, Application):
        advice = ": give it to one, Application(name, scheduler=...)" if isinstance(app, Scheduler) else ""
        parser.error(f"{target!r} is of type {type(app).__name__}, not an Application{advice}")
    serve_admin(app, options, parser)
    set_up_logging(logging.INFO)
    run_app(app)
