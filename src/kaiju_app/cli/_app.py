"""The commands that need the extra ``cli``, put together."""

from __future__ import annotations

import typer

from ._operations import add_operations
from ._questions import add_questions
from ._tail import add_tail
from ._top import add_top


def application() -> typer.Typer:
    """Return all commands; those that need no extra only so that a shell completes their names."""
    commands = typer.Typer(
        help="Periodic work inside an application.", no_args_is_help=True, pretty_exceptions_enable=False,
        rich_markup_mode=None,
    )  # fmt: skip
    for add in (add_questions, add_operations, add_tail, add_top):
        add(commands)
    for name in ("run", "lint", "admin"):
        commands.command(name, add_help_option=False)(_elsewhere)
    return commands


def _elsewhere() -> None:
    """See kaiju COMMAND --help."""
