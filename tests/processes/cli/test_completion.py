"""Completion in real shells, each in a terminal: commands, options and the names of tasks."""

from __future__ import annotations

import os
import pty
import re
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import pytest

from kaiju_app.cli._complete import (
    complete_outcome,
    complete_reason,
    complete_scope,
    complete_state,
    complete_task,
    open_quote,
    quoted,
)
from processes.cli.calls import OURS, endpoint

pytestmark = [pytest.mark.realtime, pytest.mark.slow, pytest.mark.untimed]

PATIENCE_S = 50
PROGRAMS = Path(sys.executable).parent
KILL_LINE, TAB, LEFT = "\x05\x15", "\t", "\x02"  # All of the line, also what follows the cursor.
SEQUENCE = re.compile(r"\x1b\[[0-9;?<>=]*[a-zA-Z]|\x1b[=>]|[\r\x07]")
SHELLS = {
    "bash": (["bash", "--norc", "--noprofile", "-i"], 'PS1="> "; eval "$(_KAIJU_COMPLETE=source_bash kaiju)"'),
    "zsh": (
        ["zsh", "-f", "-i"],
        'PS1="> "; autoload -Uz compinit; compinit -u -D; eval "$(_KAIJU_COMPLETE=source_zsh kaiju)"',
    ),
}


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with endpoint() as url:
        yield url


def environment(**more: str) -> dict[str, str]:
    clean = {name: value for name, value in os.environ.items() if name not in OURS}
    return {**clean, "PATH": f"{PROGRAMS}:{os.environ['PATH']}", "TERM": "xterm", **more}


@contextmanager
def shell(name: str, **more: str) -> Iterator[Callable[[str], str]]:
    """Start a shell in a terminal; return what types into it and reads what it writes within a moment."""
    if shutil.which(name) is None:
        pytest.skip(f"there is no {name} here")
    command, first = SHELLS[name]
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment(**more), start_new_session=True
    )

    def typed(text: str) -> str:
        os.write(ours, text.encode())
        found = b""
        while select.select([ours], [], [], 0.25)[0]:
            found += os.read(ours, 65_536)
        return SEQUENCE.sub("", found.decode("utf-8", "replace"))

    try:
        typed(f"{first}\n")
        yield typed
    finally:
        process.kill()
        process.wait()
        os.close(ours)
        os.close(theirs)


def completed(typed: Callable[[str], str], line: str, wanted: str) -> None:
    """Press TAB after *line*, again and again, as each answer has a second: a busy machine may be slower than that."""
    limit, seen = time.monotonic() + PATIENCE_S, ""
    while wanted not in seen:
        assert time.monotonic() < limit, seen
        seen = typed(KILL_LINE + line + TAB)
        until = time.monotonic() + 3
        while wanted not in seen and time.monotonic() < until:
            seen += typed("")


@pytest.mark.mechanism
@pytest.mark.parametrize("name", SHELLS)
def test_a_shell_completes_commands_and_names_of_tasks(url: str, name: str) -> None:
    with shell(name, KAIJU_URL=url) as typed:
        completed(typed, "kaiju expl", "explain")
        completed(typed, "kaiju show sto", "stock")
        completed(typed, "kaiju show nigh", r"nightly\ purge")
        completed(typed, r"kaiju show nightly\ p", r"nightly\ purge")
        completed(typed, 'kaiju show "nightly p', '"nightly purge"')
        completed(typed, "kaiju show 'nightly p", "'nightly purge'")
        completed(typed, f"kaiju show nigh 'later{LEFT * 7}", r"tly\ purge")


def test_fish_completes_commands_and_names_of_tasks(url: str) -> None:
    if shutil.which("fish") is None:
        pytest.skip("there is no fish here")

    def offered(line: str) -> list[str]:
        code = f"_KAIJU_COMPLETE=source_fish kaiju | source; complete -C '{line}'"
        done = subprocess.run(
            ["fish", "--no-config", "-c", code], capture_output=True, text=True, timeout=PATIENCE_S, check=True,
            env=environment(KAIJU_URL=url),
        )  # fmt: skip
        return [each.partition("\t")[0] for each in done.stdout.splitlines()]

    assert "explain" in offered("kaiju exp")
    limit = time.monotonic() + PATIENCE_S
    while "nightly purge" not in offered("kaiju show nigh"):
        assert time.monotonic() < limit


@pytest.mark.parametrize(
    ("words", "number", "mark", "name", "written"),
    [
        (["show", r"nightly\ p"], 1, "", "nightly $(p)", r"nightly\ \$\(p\)"),
        (["show", '"nightly p'], 1, '"', 'a "b" $c `d` \\', r"a \"b\" \$c \`d\` \\"),
        (["show", "'nightly p"], 1, "'", "a 'b' $c", r"a '\''b'\'' $c"),
        (["show", r"'it\'", "\"it's"], 2, '"', "it's", "it's"),
        (["show", '"a"', "'b'", r"c\"", r"d\'"], 4, "", "d'e", r"d\'e"),
        (["show", "nigh", "'later"], 1, "", "nightly purge", r"nightly\ purge"),
        (["show", "", '"later'], 1, "", "nightly purge", r"nightly\ purge"),
        (["show", "'two\nlines'", '"nigh', "'later"], 2, '"', "nightly purge", "nightly purge"),
        (["show", '"two\nlines', "'later"], 1, '"', "two\nlines", "two\nlines"),
    ],
)
def test_a_name_is_written_as_bash_takes_it_in_its_quotation(
    words: list[str], number: int, mark: str, name: str, written: str
) -> None:
    found = open_quote("\n".join(words), number)

    assert (found, quoted(name, found)) == (mark, written)


@pytest.mark.parametrize("address", ["http://127.0.0.1:1", "nonsense", "", "http://127.0.0.1:1/elsewhere"])
def test_completion_is_silent_when_nobody_answers(
    address: str, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for each in OURS:
        monkeypatch.delenv(each, raising=False)
    context = mock.Mock(params={"url": address})

    assert complete_task(context, "no") == []
    assert capfd.readouterr() == ("", "")


def test_completion_offers_the_words_of_the_endpoint() -> None:
    assert complete_outcome("ti") == ["timed_out"]
    assert complete_state("pa") == ["paused"]
    assert complete_scope("") == ["local", "cluster"]
    assert "backlog-full" in complete_reason("back")
