"""admin(): checks its arguments and puts the endpoint together."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from fastapi import Depends, FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from fastapi.security import HTTPBearer
from starlette.exceptions import HTTPException
from starlette.routing import Match
from starlette.types import ASGIApp, Scope

from kaiju_app._core.calls import explained
from kaiju_app.application import Application
from kaiju_app.errors import InvalidArgument, KaijuError
from kaiju_app.scheduler import Scheduler
from kaiju_app.scheduler._hosting import publish_local_tasks

from ._access import Authorize, Gate, ThisMachine, Tokens, gate_of
from ._action_routes import action_routes
from ._api import Api
from ._event_routes import event_routes
from ._explain_routes import explain_routes, metrics_routes
from ._guard import Guard
from ._hosts import hosts_of
from ._page_routes import page_routes
from ._problems import MEDIA_TYPE, on_bug, on_error_of_scheduler, on_invalid, on_refused
from ._run_routes import run_routes
from ._state_routes import health_routes, state_routes, version_of_package
from ._task_routes import task_routes
from ._timeline_routes import timeline_routes

OPENAPI = "/api/openapi.json"

# The application that mounts this may trace its requests; this one adds nothing to its traces.
NO_TELEMETRY: Any = {"tracing": False, "metrics": False, "logs": False, "operation_spans": False}


@explained({})
def admin(
    target: Scheduler | Application,
    *,
    authorize: Authorize | None = None,
    token: str | None = None,
    read_token: str | None = None,
    allowed_hosts: Iterable[str] | None = None,
) -> ASGIApp:
    """Return the endpoint of a scheduler: an ASGI application to mount, or to serve alone.

    With neither a token nor *authorize*, it answers only requests from this machine, by a name of this machine. It
    takes the address of a client, the scheme and the path that it is mounted at from the server: headers of a proxy
    count only if that was told to trust them (``uvicorn --proxy-headers --forwarded-allow-ips``).

    Args:
        target: The scheduler, or the application that has it. Whoever made it starts and stops it.
        authorize: Decides what a request may do: a function, plain or async, that takes a Starlette ``Request`` and
            returns an Access, or one with the name of who asks. What it raises denies access.
        token: Bearer token of those who may operate.
        read_token: Bearer token of those who may only read.
        allowed_hosts: Names that the endpoint has, such as ``["shop.example", "*.internal"]``; ``"*"`` for any. By
            default only the address that the server listens at.

    Raises:
        InvalidArgument: An argument is wrong, or they contradict each other.
    """
    scheduler = target.scheduler if isinstance(target, Application) else target
    if not isinstance(scheduler, Scheduler):
        raise InvalidArgument("target", target, "must be a Scheduler or an Application")
    gate = gate_of(authorize, token, read_token)
    hosts = hosts_of(allowed_hosts, needs_gate=isinstance(gate, ThisMachine))
    publish_local_tasks(scheduler)
    app = _routes(Api(scheduler), gate)

    def changes(scope: Scope) -> bool:
        return any(route.matches(scope)[0] is Match.FULL for route in app.routes)

    return Guard(app, gate, hosts, changes)


def _routes(api: Api, gate: Gate) -> FastAPI:
    app = _Described(
        title="kaiju_app",
        version=version_of_package(),
        description="All periodic work of an application. Instants are UTC, durations are seconds.",
        openapi_url=OPENAPI,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        telemetry=NO_TELEMETRY,
        generate_unique_id_function=_operation_id,
        exception_handlers={
            HTTPException: on_refused,
            KaijuError: on_error_of_scheduler,
            RequestValidationError: on_invalid,
            Exception: on_bug,
        },
    )
    # The guard has looked at the token; this describes it.
    described = [Depends(HTTPBearer(auto_error=False))] if isinstance(gate, Tokens) else []
    for routes in (
        state_routes, task_routes, run_routes, timeline_routes, explain_routes, metrics_routes, event_routes,
        action_routes,
    ):  # fmt: skip
        app.include_router(routes(api), dependencies=described)
    app.include_router(health_routes(api))
    app.include_router(page_routes())
    return app


def _operation_id(route: APIRoute) -> str:
    return route.name


class _Described(FastAPI):
    """Describes errors by the media type that they have."""

    def openapi(self) -> dict[str, Any]:
        """Return the description of all routes."""
        if self.openapi_schema is None:
            for path in super().openapi()["paths"].values():
                for operation in path.values():
                    for answer in operation["responses"].values():
                        content = answer.get("content", {})
                        if content.get("application/json", {}).get("schema", {}).get("$ref", "").endswith("/Problem"):
                            content[MEDIA_TYPE] = content.pop("application/json")
        return super().openapi()
