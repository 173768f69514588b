"""What every command does first: find what the command line names as MODULE:NAME, and set up logging."""

from __future__ import annotations

import argparse
import importlib
import logging
import operator
import os
import sys
import traceback
from types import ModuleType

from kaiju_app.scheduler._importing import only_importing

LOG_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


def import_target(target: str, parser: argparse.ArgumentParser) -> object:
    """Return the object that *target*, ``module:name``, names. Otherwise exit with an error and status 2."""
    module, _, name = target.partition(":")
    is_name = all(part.isidentifier() for part in name.split("."))
    if not module or not is_name or module.startswith(".") or "/" in module:
        parser.error(f"{target!r} must be MODULE:NAME, e.g. shop.main:app")
    not_found = "there is no module {!r} in this directory or among the installed packages"
    if not all(part.isidentifier() for part in module.split(".")):
        parser.error(f"{target!r}: {not_found.format(module)}")
    try:
        imported = _import(module, parser)
    except ModuleNotFoundError as exc:
        if exc.name is None or not f"{module}.".startswith(f"{exc.name}."):
            raise  # The module exists; it imports another one that does not.
        parser.error(f"{target!r}: {not_found.format(exc.name)}")
    try:
        found: object = operator.attrgetter(name)(imported)
    except AttributeError as exc:
        parser.error(f"{target!r}: {exc}")
    return found


def _import(module: str, parser: argparse.ArgumentParser) -> ModuleType:
    """Import *module*; if that would run its program, say so."""
    here = os.getcwd()
    if not sys.flags.safe_path and not {"", here} & set(sys.path):
        sys.path.insert(0, here)  # As `python -m` has done already; an installed script has its own directory there.
    with only_importing(parser.prog) as importing:
        try:
            imported = importlib.import_module(module)
        except (Exception, SystemExit) as exc:
            if not importing.refused:
                raise
            parser.error(
                f"importing {module!r} would run its program: {_place_of(exc)} leads to {importing.refused[0]}; "
                "put that line under if __name__ == '__main__':"
            )
    if importing.refused:
        print(
            f"{parser.prog}: importing {module!r} has called {importing.refused[0]}, which was refused: put the call "
            "that runs the program under if __name__ == '__main__':",
            file=sys.stderr,
        )
    return imported


def _place_of(exc: BaseException) -> str:
    """Return the line at the top level of a module, the innermost one, from which *exc* came."""
    steps = [each for each in traceback.extract_tb(exc.__traceback__) if each.name == "<module>"]
    return f"line {steps[-1].lineno} of {os.path.basename(steps[-1].filename)}" if steps else "it"


def set_up_logging(level: int) -> None:
    """Log to standard error, unless the target has set up logging itself when it was imported."""
    logging.basicConfig(level=level, format=LOG_FORMAT)
