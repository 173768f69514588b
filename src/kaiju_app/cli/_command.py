"""What all commands have in common: where the scheduler is, how they print, and how they end."""

from __future__ import annotations

import asyncio
import inspect
import os
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import wraps
from typing import Annotated, Any

import typer

from ._client import Endpoint
from ._environment import APP, STORE, TOKEN, URL
from ._place import place_of, reached
from ._screen import Screen
from ._status import Ended, Status
from ._text import clean

WHERE = "Which scheduler"

PLACES = {
    "url": (
        "URL",
        f"The address of the endpoint, e.g. http://127.0.0.1:8700. Default: the environment variable {URL}.",
    ),
    "token": (
        "TOKEN",
        f"Its bearer token. Other users of this machine can see command lines: better set the variable {TOKEN}.",
    ),
    "store": (
        "URL",
        f"Ask this store: sqlite:///FILE, postgresql://... or redis://... Default: the variable {STORE}.",
    ),
    "app": ("NAME", f"With --store: the name in Scheduler(app=...). Default: the variable {APP}."),
}
"""Metavariable and help of the options that say which scheduler is meant."""
JSON = typer.Option("--json", help="Print the JSON that the endpoint answers.", show_default=False)
COMMON: dict[str, tuple[Any, Any, Any]] = {
    **{
        name: (str | None, typer.Option(f"--{name}", metavar=metavar, rich_help_panel=WHERE, help=what), None)
        for name, (metavar, what) in PLACES.items()
    },
    "json": (bool, JSON, False),
}
"""Type, declaration and default of the options of all commands."""


@dataclass(frozen=True, slots=True)
class Session:
    """What a command works with."""

    endpoint: Endpoint
    screen: Screen


Body = Callable[..., Awaitable[Status | None]]


def command(commands: typer.Typer, name: str, *, has_json: bool = True) -> Callable[[Body], Body]:
    """Add a coroutine function to *commands*: it gets a Session before its own options, and may return a Status.

    Args:
        has_json: Whether it can print JSON instead.
    """
    offered = {key: each for key, each in COMMON.items() if has_json or key != "json"}

    def add(body: Body) -> Body:
        signature = inspect.signature(body, eval_str=True)
        own = list(signature.parameters.values())[1:]
        common = [
            inspect.Parameter(key, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind, option])
            for key, (kind, option, default) in offered.items()
        ]

        @wraps(body)
        def run(*given: Any, **values: Any) -> None:
            common_values = {key: values.pop(key) for key in offered}
            raise typer.Exit(run_command(body, common_values, *given, **values))

        run.__signature__ = inspect.Signature([*own, *common])  # type: ignore[attr-defined]
        run.__annotations__ = {each.name: each.annotation for each in (*own, *common)}
        del run.__wrapped__  # Typer would look at what it wraps.
        commands.command(name)(run)
        return body

    return add


def run_command(body: Body, common: dict[str, Any], *given: Any, **values: Any) -> int:
    """Run a command, and return its exit status."""

    async def run() -> Status | None:
        place = place_of(common["url"], common["token"], common["store"], common["app"])
        screen = Screen(as_json=common.get("json", False))
        async with reached(place) as endpoint:
            return await body(Session(endpoint, screen), *given, **values)

    try:
        return int(asyncio.run(run()) or Status.DONE)
    except Ended as ended:
        print(f"kaiju: {clean(ended)}", file=sys.stderr)
        return int(ended.status)
    except (KeyboardInterrupt, asyncio.CancelledError):
        return int(Status.INTERRUPTED)
    except BrokenPipeError:  # Such as `kaiju runs | head`: who reads has seen enough.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return int(Status.DONE)
