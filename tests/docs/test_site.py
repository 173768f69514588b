"""The documentation site builds without a warning, its links lead somewhere, and it needs nothing from elsewhere."""

from __future__ import annotations

import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from kaiju_app import admin, errors, scheduler, testing

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"


def build(builder: str, directory: Path) -> None:
    pytest.importorskip("sphinx")
    options = ["-W", "--keep-going", "-q", "-b", builder, "-d", str(directory / "doctrees")]
    command = [sys.executable, "-m", "sphinx", *options, str(DOCS), str(directory / builder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=170)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.realtime
@pytest.mark.timeout(180)
def test_every_link_and_reference_of_the_sources_leads_somewhere(tmp_path: Path) -> None:
    build("dummy", tmp_path)  # Resolves all of them, and writes nothing.


class Links(HTMLParser):
    """The addresses that a page names, those that it loads by itself, and the anchors that it has."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.links: set[str] = set()
        self.loaded: set[str] = set()
        self.anchors: set[str] = set()
        self.feed(page.read_text("utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if not value:
                continue
            if name in ("id", "name"):
                self.anchors.add(value)
            elif name == "src" or (name == "href" and tag == "link"):
                self.loaded.add(value)
            elif name == "href":
                self.links.add(value)


@pytest.mark.realtime
@pytest.mark.slow
@pytest.mark.untimed
@pytest.mark.timeout(180)
def test_the_pages_are_whole_and_work_offline(tmp_path: Path) -> None:
    build("html", tmp_path)
    site = tmp_path / "html"
    pages = {page: Links(page) for page in site.rglob("*.html") if "_static" not in page.parts}
    broken: set[str] = set()
    for page, found in pages.items():
        for link in found.links | found.loaded:
            parts = urlsplit(link)
            if parts.scheme or link.startswith("//"):
                continue
            target = (page.parent / unquote(parts.path)).resolve() if parts.path else page
            if not target.exists() or (parts.fragment and parts.fragment not in pages[target].anchors):
                broken.add(f"{page.relative_to(site)}: {link}")

    assert len(pages) > len(list(DOCS.rglob("*.md")))  # And the index, and the search.
    assert broken == set()
    assert {each for found in pages.values() for each in found.loaded if "//" in each} == set()
    assert "Search.setIndex(" in (site / "searchindex.js").read_text("utf-8")[:100]  # A script, so it works from files.


@pytest.mark.pure
def test_every_page_is_in_a_table_of_contents() -> None:
    listed: set[Path] = set()
    for page in DOCS.rglob("*.md"):
        for tree in re.findall(r"^```\{toctree\}\n(.*?)^```", page.read_text("utf-8"), re.DOTALL | re.MULTILINE):
            listed.update(page.parent / f"{line}.md" for line in tree.split("\n") if line and not line.startswith(":"))

    assert listed == set(DOCS.rglob("*.md")) - {DOCS / "index.md"}


@pytest.mark.pure
@pytest.mark.parametrize(
    ("module", "page"), [(scheduler, "scheduler triggers"), (admin, "admin"), (testing, "testing errors")]
)
def test_the_reference_has_every_public_name(module: object, page: str) -> None:
    text = "".join((DOCS / "reference" / f"{each}.md").read_text("utf-8") for each in page.split())
    named = set(re.findall(r"^\.\. auto\w+:: (?:[a-z_.]+\.)?(\w+)$", text, re.MULTILINE))
    public = set(module.__all__) - set(vars(errors))  # type: ignore[attr-defined]  # A page of its own has all errors.

    assert public - {"VirtualLoop"} == named - {"errors"}
