"""One HTTP endpoint for all periodic work of an application: an ASGI application to mount, or to serve alone.

It is made with FastAPI: one declaration of a route is what checks requests, gives answers their types, and appears in
the OpenAPI 3.1 description, so that the three cannot disagree. FastAPI has been kept since 2018, and most applications
that would mount this have it. Starlette alone would need a generator of descriptions beside it, and those for msgspec
and pydantic are small projects with few keepers.
"""

try:
    import fastapi  # noqa: F401
except ModuleNotFoundError as exc:
    if exc.name != "fastapi":
        raise
    raise ModuleNotFoundError(
        "kaiju_app.admin needs the library fastapi (pip install fastapi)", name="fastapi"
    ) from None

from ._access import Access
from ._app import admin

__all__ = ["Access", "admin"]
