"""The files of the dashboard: who gets them, how they are cached, and how large they are."""

from __future__ import annotations

import gzip
import re
from pathlib import Path

import pytest

import kaiju_app.admin
from behaviour.admin.common import client_of
from kaiju_app.admin import Access, admin
from kaiju_app.admin._guard import HEADERS
from kaiju_app.scheduler import Scheduler

ROOT = Path(__file__).parents[3]
STATIC = Path(kaiju_app.admin.__file__).parent / "static"
FILES = sorted(each for each in STATIC.rglob("*") if each.is_file())
MOST_BYTES = 150_000  # Of the first load, compressed.


async def test_anybody_may_load_the_page_and_nobody_its_data(scheduler: Scheduler) -> None:
    async with client_of(scheduler, token="operate-01", peer=("10.0.0.3", 1)) as client:
        page = await client.http.get("/")
        script = await client.http.get("/static/app.js")
        await client.get("/api/tasks", 401)
        await client.post("/", {}, 401)
        await client.get("/static/nothing.js", 404)
        await client.get("/static/%2e%2e/_app.py", 404)
        foreign = await client.get("/", 421, headers={"Host": "evil.example"})

    assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert (script.status_code, script.headers["content-type"]) == (200, "text/javascript; charset=utf-8")
    assert "evil.example" in foreign["detail"]
    assert {name: page.headers[name] for name in HEADERS} == {**HEADERS, "Cache-Control": "no-cache"}


async def test_without_a_token_the_page_is_only_for_this_machine(scheduler: Scheduler) -> None:
    async with client_of(scheduler) as near, client_of(scheduler, peer=("10.0.0.3", 1)) as far:
        assert (await near.http.get("/")).status_code == 200
        await far.get("/", 403)


async def test_the_login_of_the_application_does_not_keep_the_page_back(scheduler: Scheduler) -> None:
    async with client_of(scheduler, authorize=lambda _: Access.NONE) as client:
        assert (await client.http.get("/")).status_code == 200
        await client.get("/api/tasks", 403)


async def test_a_file_is_sent_again_only_if_it_is_another_one(scheduler: Scheduler) -> None:
    async with client_of(scheduler) as client:
        first = await client.http.get("/static/style.css", headers={"Accept-Encoding": "gzip"})
        tag = first.headers["etag"]
        same = await client.http.get("/static/style.css", headers={"If-None-Match": f'"another", W/{tag}'})
        other = await client.http.get("/static/style.css", headers={"If-None-Match": '"another"'})
        plain = await client.http.get("/static/style.css", headers={"Accept-Encoding": "gzip;q=0, identity"})

    assert (same.status_code, same.content, same.headers["etag"]) == (304, b"", tag)
    assert other.status_code == 200
    assert first.headers["content-encoding"] == "gzip"
    assert "content-encoding" not in plain.headers
    assert first.content == plain.content == (STATIC / "style.css").read_bytes()


@pytest.mark.parametrize(("path", "location"), [("/scheduler", "./scheduler/"), ("/ops/scheduler", "./scheduler/")])
async def test_an_address_without_its_slash_leads_to_the_one_with_it(
    scheduler: Scheduler, path: str, location: str
) -> None:
    endpoint = admin(scheduler)

    async def mounted(scope, receive, send):  # type: ignore[no-untyped-def]
        await endpoint({**scope, "root_path": path}, receive, send)

    async with client_of(mounted) as client:
        answer = await client.http.get(path)
        assert (await client.http.get(f"{path}/")).status_code == 200

    assert (answer.status_code, answer.headers["location"]) == (307, location)


@pytest.mark.pure
def test_the_page_is_small() -> None:
    sizes = {str(each.relative_to(STATIC)): len(gzip.compress(each.read_bytes())) for each in FILES}

    assert len(sizes) > 10
    assert sum(sizes.values()) < MOST_BYTES, sizes


@pytest.mark.pure
def test_all_modules_are_asked_for_at_once() -> None:
    page = (STATIC / "index.html").read_text("utf-8")
    modules = {f"static/{each.relative_to(STATIC)}" for each in FILES if each.suffix == ".js"}

    assert set(re.findall(r'<link rel="modulepreload" href="([^"]+)">', page)) == modules - {"static/theme.js"}


@pytest.mark.pure
@pytest.mark.parametrize("path", FILES, ids=lambda each: str(each.relative_to(STATIC)))
def test_no_file_asks_for_another_host_or_needs_what_the_policy_forbids(path: Path) -> None:
    text = path.read_text("utf-8")
    if path.suffix in {".js", ".css", ".html"}:
        assert not re.search(r"https?://(?!www\.w3\.org/)", text)
        assert not re.search(r"\beval\(|new Function|@import|document\.write|insertAdjacentHTML", text)
    if path.suffix == ".js" and "vendor" not in path.parts:
        assert "innerHTML" not in text
        assert "dangerouslySetInnerHTML" not in text
        assert len(text.splitlines()) <= 320
    if path.suffix == ".html":
        assert not re.search(r"<script(?![^>]* src=)|<style| style=| on[a-z]+=", text)
        assert not re.search(r"(?:src|href)=\"/", text), "addresses are relative"


@pytest.mark.pure
def test_the_readme_shows_a_small_picture() -> None:
    assert "](docs/dashboard.png)" in (ROOT / "README.md").read_text("utf-8")
    assert 10_000 < (ROOT / "docs" / "dashboard.png").stat().st_size < 200_000


# --- colours ---


def palettes() -> dict[str, dict[str, tuple[float, ...]]]:
    """Return the colours of each theme: the dark one is there twice, as preferred and as chosen."""
    blocks = re.findall(r"color-scheme: (light|dark);\n(.*?)}", (STATIC / "style.css").read_text("utf-8"), re.DOTALL)
    found = [
        (scheme, {name: _rgb(value) for name, value in re.findall(r"--([a-z-]+): #([0-9a-f]{6});", text)})
        for scheme, text in blocks
    ]
    assert [scheme for scheme, _ in found] == ["light", "dark", "dark"]
    assert found[1] == found[2]
    return dict(found)


def _rgb(text: str) -> tuple[float, ...]:
    return tuple(int(text[i : i + 2], 16) / 255 for i in (0, 2, 4))


def contrast(one: tuple[float, ...], other: tuple[float, ...]) -> float:
    """Return the contrast of two colours, as WCAG 2.2 defines it."""

    def luminance(colour: tuple[float, ...]) -> float:
        parts = [each / 12.92 if each <= 0.04045 else ((each + 0.055) / 1.055) ** 2.4 for each in colour]
        return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


OUTCOMES = ["succeeded", "failed", "timed-out", "cancelled", "skipped", "lost", "running"]


@pytest.mark.pure
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_outcomes_can_be_read_on_every_ground(scheme: str) -> None:
    colours = palettes()[scheme]
    for ground in ("page", "surface", "stripe", "accent-soft"):
        for name in ("text", "muted", "accent", "on-held", *(f"on-{each}" for each in OUTCOMES)):
            assert contrast(colours[name], colours[ground]) >= 4.5, (name, ground)
    for name in (*OUTCOMES, "line", "focus"):
        assert contrast(colours[name], colours["surface"]) >= 3, name
