"""The endpoint served by a command: beside an application with ``run --admin``, or for a store alone with ``admin``."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import sys
from typing import Any

from kaiju_app.application import Application, run_app
from kaiju_app.errors import InvalidArgument

from ._environment import APP, STORE, app_of
from ._onlook import onlooker_of, opened, scheduler_of
from ._status import Ended
from ._target import set_up_logging

TOKEN, READ_TOKEN = "KAIJU_ADMIN_TOKEN", "KAIJU_ADMIN_READ_TOKEN"  # Other users can see the arguments of a command.


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options about the endpoint to the command ``run``."""
    parser.add_argument(
        "--admin",
        metavar="HOST:PORT",
        help=f"serve the HTTP endpoint there, e.g. 127.0.0.1:8700. Set bearer tokens in the environment: {TOKEN} "
        f"allows everything, {READ_TOKEN} only reading. Without a token, HOST must be a loopback address, and only "
        "requests from this machine are answered",
    )
    add_hosts(parser)


def add_hosts(parser: argparse.ArgumentParser) -> None:
    """Add the option about the names of the endpoint."""
    parser.add_argument(
        "--admin-host",
        metavar="NAME",
        action="append",
        help="accept requests for this host name, too; may be repeated",
    )


def serve_admin(
    app: Application, options: argparse.Namespace, parser: argparse.ArgumentParser, option: str = "--admin"
) -> None:
    """Have *app* serve the endpoint, if the command line says so. Otherwise exit with an error and status 2."""
    if options.admin is None:
        if options.admin_host:
            parser.error("--admin-host needs --admin HOST:PORT")
        return
    host, _, port = options.admin.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not host or not port.isdecimal() or int(port) > 65_535:
        parser.error(f"{option} {options.admin!r} must be HOST:PORT, e.g. 127.0.0.1:8700")
    try:
        from kaiju_app.admin import admin
        from kaiju_app.admin._hosts import is_loopback
        from kaiju_app.admin._server import AdminServer
    except ModuleNotFoundError as exc:
        if exc.name not in ("fastapi", "uvicorn"):
            raise
        parser.error(f"{option} needs the libraries fastapi and uvicorn: pip install fastapi uvicorn")
    token, read_token = os.environ.get(TOKEN), os.environ.get(READ_TOKEN)
    if token is None and read_token is None and not is_loopback(host):
        parser.error(
            f"{option} {options.admin}: anybody who reaches {host} could operate the tasks. Set {TOKEN} or "
            f"{READ_TOKEN}, or say {option} 127.0.0.1:8700 and use a tunnel (ssh -L)"
        )
    try:
        endpoint = admin(app, token=token, read_token=read_token, allowed_hosts=options.admin_host)
    except InvalidArgument as exc:
        parser.error(str(exc).replace("allowed_hosts", "--admin-host").replace("read_token", READ_TOKEN))
    app.add_services(AdminServer(endpoint, host, int(port)))


def add_admin(commands: Any) -> argparse.ArgumentParser:
    """Add the command ``admin``; return its parser."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "admin",
        help="serve the HTTP endpoint for a store, without the application",
        description="Serve the HTTP endpoint for a store, without the application. It runs no task itself. "
        "It acts on cluster tasks; on a local task only the endpoint of its own process can act. Exit status: 0 if a "
        "signal stopped it; 1 if it failed; 2 for wrong usage; 3 if the store cannot be reached.",
    )
    parser.add_argument(
        "--store", metavar="URL", default=os.environ.get(STORE) or None, required=not os.environ.get(STORE),
        help=f"the store: sqlite:///scheduler.db, postgresql://... or redis://...; default: the variable {STORE}",
    )  # fmt: skip
    parser.add_argument(
        "--app", metavar="NAME", help=f"the name in Scheduler(app=...); default: the environment variable {APP}"
    )
    parser.add_argument(
        "--bind", metavar="HOST:PORT", dest="admin", default="127.0.0.1:8700",
        help=f"where to serve it, by default 127.0.0.1:8700. Set bearer tokens in the environment: {TOKEN} allows "
        f"everything, {READ_TOKEN} only reading. Without a token, HOST must be a loopback address, and only requests "
        "from this machine are answered",
    )  # fmt: skip
    add_hosts(parser)
    return parser


def admin_command(options: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    """Serve the endpoint of the store that the command line names, until a signal ends it."""
    try:
        asyncio.run(_check(options.store, app_of(options.app, os.environ)))
        store = onlooker_of(options.store, app_of(options.app, os.environ))
    except Ended as ended:
        print(f"{parser.prog}: error: {ended}", file=sys.stderr)
        raise SystemExit(int(ended.status)) from None
    app = Application("kaiju admin", scheduler=scheduler_of(store))
    serve_admin(app, options, parser, "--bind")
    set_up_logging(logging.INFO)
    run_app(app)


async def _check(url: str, app: str) -> None:
    """Look at the store once.

    Raises:
        Ended: It can never be used, or it does not answer.
    """
    async with opened(url, app):
        pass
