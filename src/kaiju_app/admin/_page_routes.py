"""The routes of the dashboard: plain files, which hold no data."""

from __future__ import annotations

import asyncio
import gzip
from base64 import urlsafe_b64encode
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from importlib import resources
from importlib.resources.abc import Traversable

from fastapi import APIRouter, Request
from starlette.responses import RedirectResponse, Response

from ._problems import Refused

FILES = "static"
PAGE = "index.html"

KINDS = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
    "txt": "text/plain; charset=utf-8",
}

HEADERS = {"Cache-Control": "no-cache", "Vary": "Accept-Encoding"}  # Asked for each time, sent only if it is a new one.


@dataclass(frozen=True, slots=True)
class File:
    """A file of the dashboard, as it is sent.

    Attributes:
        etag: The same as long as the file is the same.
    """

    plain: bytes
    packed: bytes
    etag: str
    media_type: str


@cache
def files() -> dict[str, File]:
    """Return the files of the dashboard by their paths. Nothing else can be asked for."""
    return dict(_files_of(resources.files("kaiju_app.admin") / FILES, ""))


def _files_of(folder: Traversable, prefix: str) -> list[tuple[str, File]]:
    found: list[tuple[str, File]] = []
    for each in folder.iterdir():
        if each.is_dir():
            found += _files_of(each, f"{prefix}{each.name}/")
        elif (kind := KINDS.get(each.name.rpartition(".")[2])) is not None:
            found.append((f"{prefix}{each.name}", _file(each.read_bytes(), kind)))
    return found


def _file(plain: bytes, media_type: str) -> File:
    digest = urlsafe_b64encode(sha256(plain).digest()[:12]).decode()
    return File(plain, gzip.compress(plain, mtime=0), f'"{digest}"', media_type)


def page_routes() -> APIRouter:
    """Return the routes of the dashboard."""
    router = APIRouter(include_in_schema=False)

    @router.get("/")
    async def page(request: Request) -> Response:
        """Return the page. Its addresses are relative, so its own address has to end with a slash."""
        path = bytes(request.scope.get("raw_path") or b"/").partition(b"?")[0]
        if not path.endswith(b"/"):
            return RedirectResponse(f"./{path.rpartition(b'/')[2].decode('ascii', 'replace')}/")
        return await _sent(request, PAGE)

    @router.get("/static/{path:path}")
    async def static(path: str, request: Request) -> Response:
        """Return a file of the page."""
        return await _sent(request, path)

    return router


async def _sent(request: Request, path: str) -> Response:
    found = (await asyncio.to_thread(files)).get(path)  # The first time they are read and compressed.
    if found is None:
        raise Refused(404, "No such file", "The dashboard has no such file: open the page at the mount path")
    headers = {**HEADERS, "ETag": found.etag}
    if _has(request.headers.get("if-none-match", ""), found.etag):
        return Response(status_code=304, headers=headers)
    if _has(request.headers.get("accept-encoding", ""), "gzip"):
        return Response(found.packed, headers={**headers, "Content-Encoding": "gzip"}, media_type=found.media_type)
    return Response(found.plain, headers=headers, media_type=found.media_type)


def _has(header: str, wanted: str) -> bool:
    """Return whether a list in a header has an item; a weak tag counts as a strong one, and a weight of 0 as none."""
    for each in header.split(","):
        item, _, weight = each.partition(";")
        if item.strip().removeprefix("W/") == wanted and weight.replace(" ", "") not in ("q=0", "q=0.0"):
            return True
    return False
