"""The option ``run --admin``: serves the endpoint of an application beside it."""

from __future__ import annotations

import argparse
import os

from kaiju_app.application import Application
from kaiju_app.errors import InvalidArgument

TOKEN, READ_TOKEN = "KAIJU_ADMIN_TOKEN", "KAIJU_ADMIN_READ_TOKEN"  # Other users can see the arguments of a command.


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options about the endpoint to the command ``run``."""
    parser.add_argument(
        "--admin",
        metavar="HOST:PORT",
        help=f"serve the HTTP endpoint there, e.g. 127.0.0.1:8700. The environment has the bearer tokens, {TOKEN} of "
        f"those who may operate and {READ_TOKEN} of those who may read; without them only this machine is answered, "
        "and only at a loopback address",
    )
    parser.add_argument(
        "--admin-host",
        metavar="NAME",
        action="append",
        help="a name by which the endpoint may be called, besides its address; may be repeated",
    )


def serve_admin(app: Application, options: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    """Have *app* serve the endpoint, if the command line says so. Otherwise exit with an error and status 2."""
    if options.admin is None:
        if options.admin_host:
            parser.error("--admin-host needs --admin HOST:PORT")
        return
    host, _, port = options.admin.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not host or not port.isdecimal() or int(port) > 65_535:
        parser.error(f"--admin {options.admin!r} must be HOST:PORT, e.g. 127.0.0.1:8700")
    try:
        from kaiju_app.admin import admin
        from kaiju_app.admin._hosts import is_loopback
        from kaiju_app.admin._server import AdminServer
    except ModuleNotFoundError as exc:
        if exc.name not in ("fastapi", "uvicorn"):
            raise
        parser.error("--admin needs the libraries fastapi and uvicorn: pip install fastapi uvicorn")
    token, read_token = os.environ.get(TOKEN), os.environ.get(READ_TOKEN)
    if token is None and read_token is None and not is_loopback(host):
        parser.error(
            f"--admin {options.admin}: anybody who reaches {host} could operate the tasks. Set {TOKEN} or "
            f"{READ_TOKEN}, or say --admin 127.0.0.1:8700 and use a tunnel (ssh -L)"
        )
    try:
        endpoint = admin(app, token=token, read_token=read_token, allowed_hosts=options.admin_host)
    except InvalidArgument as exc:
        parser.error(str(exc).replace("allowed_hosts", "--admin-host").replace("read_token", READ_TOKEN))
    app.add_services(AdminServer(endpoint, host, int(port)))
