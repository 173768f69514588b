"""The command line: ``python -m kaiju_app run module:app``."""

from __future__ import annotations

import argparse
import importlib
import logging
import operator

from ._serve import run_app
from .app import Application


def main() -> None:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(prog="python -m kaiju_app", description="Periodic work inside an application.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    run = commands.add_parser(
        "run",
        help="run an application until a signal ends it",
        description="Run an application until SIGINT (Ctrl-C) or SIGTERM ends it in order; a second signal cuts short "
        "what it waits for then. Exit status: 0, it ended in order; 1, it could not start, or something did not end as "
        "it should, of which the log tells; 128 + n, it was cut short by signal n.",
    )
    run.add_argument("app", metavar="MODULE:NAME", help="where the Application is, e.g. shop.main:app")
    options = parser.parse_args()
    app = found(options.app, run)
    # Where the program has set up its own logging, this changes nothing.
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    run_app(app)


def found(place: str, parser: argparse.ArgumentParser) -> Application:
    """Return the application at *place*, ``module:name``; or end with what is wrong and status 2."""
    module, _, name = place.partition(":")
    if not module or not name or module.startswith(".") or "/" in module:
        parser.error(f"{place!r} must be MODULE:NAME, e.g. shop.main:app")
    missing = "there is no module {!r} here or among what is installed"
    if not all(part.isidentifier() for part in module.split(".")):
        parser.error(f"{place!r}: {missing.format(module)}")
    try:
        imported = importlib.import_module(module)
    except ModuleNotFoundError as exc:
        if exc.name is None or not f"{module}.".startswith(f"{exc.name}."):
            raise  # It is there, and imports another one that is not.
        parser.error(f"{place!r}: {missing.format(exc.name)}")
    try:
        app = operator.attrgetter(name)(imported)
    except AttributeError as exc:
        parser.error(f"{place!r}: {exc}")
    if not isinstance(app, Application):
        parser.error(f"{place!r} is of type {type(app).__name__}, not an Application")
    return app


if __name__ == "__main__":
    main()
