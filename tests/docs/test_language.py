"""README.md and the site are in plain English, by the rules in plain_language.toml.

No checker of others is used: the wheel of vale holds no program and downloads one when it is first run, and proselint
is about typography and clichés.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from support.blocks import FENCE, PAGES, ROOT, name_of

pytestmark = pytest.mark.pure

RULES: dict[str, Any] = tomllib.loads(Path(__file__).with_name("plain_language.toml").read_text("utf-8"))
PATTERNS = [(re.compile(rule["find"], re.IGNORECASE | re.MULTILINE), rule["say"]) for rule in RULES["rule"]]
TEXTS = [*PAGES, ROOT / "SECURITY.md", ROOT / "CONTRIBUTING.md"]


def prose_of(text: str) -> str:
    """Return *text* without its code, addresses and directives; line numbers stay."""
    text = FENCE.sub(lambda fence: "\n" * fence[0].count("\n"), text)
    text = re.sub(r"^    .*$", "", text, flags=re.MULTILINE)
    text = re.sub(r"`[^`]+`", lambda code: "CODE" + "\n" * code[0].count("\n"), text)
    text = re.sub(r"!(?=\[)", "", text)
    return re.sub(r"\]\([^)]*\)|<[^>\n]*>", "", text)


def findings(text: str) -> list[str]:
    prose = prose_of(text)
    found = [
        f"line {prose.count(chr(10), 0, match.start()) + 1}: {match[0]!r}: say {say}"
        for pattern, say in PATTERNS
        for match in pattern.finditer(prose)
    ]
    for sentence in re.split(r"[.!?:;](?=\s)|\n\n|\n\s*(?:[*|#]|\d+\.)|\|", prose):
        words = sentence.split()
        if len(words) > RULES["longest_sentence"]:
            found.append(f"{len(words)} words in one sentence: {' '.join(words[:10])} ...")
    return found


@pytest.mark.parametrize("page", TEXTS, ids=name_of)
def test_the_text_is_in_plain_english(page: Path) -> None:
    assert findings(page.read_text("utf-8")) == []


@pytest.mark.parametrize("rule", RULES["rule"], ids=lambda rule: rule["say"])
def test_each_rule_finds_something(rule: dict[str, str]) -> None:
    wrong = (
        "utilize it in order to simply be very powerful, e.g. and/or due to the fact that note that it fires the "
        "backend master twice twice! — don't mind the behaviour"
    )
    assert re.search(rule["find"], wrong, re.IGNORECASE)


def test_a_sentence_that_is_too_long_is_found_and_code_is_not_read() -> None:
    assert len(findings("word next " * 23 + ".")) == 1
    assert findings("```python\nvery = 'utilize'\n```\n\nUse `very` here.") == []
