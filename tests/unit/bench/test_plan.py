"""Which works there are, and how the command line names them."""

from __future__ import annotations

import pytest

from bench import plan
from bench.__main__ import arguments
from bench.candidates import maker, names
from bench.saturation import Largest

pytestmark = pytest.mark.pure


def works(quick: bool, *loops: str) -> list[tuple[str, str]]:
    def unused(*_: object) -> dict[str, float]:
        raise AssertionError

    return [(work.name, work.loop) for work in plan.works(quick=quick, loops=loops, largest=Largest(unused))]


def test_every_work_has_a_name_that_can_be_given() -> None:
    assert {name for name, _ in works(False, "asyncio", "uvloop")} == set(plan.NAMES)


def test_on_uvloop_only_what_depends_on_the_loop_is_measured() -> None:
    assert works(False, "uvloop") == [("W1", "uvloop"), ("W2-overload", "uvloop"), ("W2-recovery", "uvloop")]


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("W2", ("W2",)),
        ("W2-overload,W4", ("W2-overload", "W4")),
        ("W8-sqlite", ("W8-sqlite-1000", "W8-sqlite-3000", "W8-sqlite-6000")),
    ],
)
def test_a_name_means_a_work_or_all_that_begin_with_it(text: str, meant: tuple[str, ...]) -> None:
    assert arguments().parse_args(["--only", text]).only == meant


def test_an_unknown_work_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        arguments().parse_args(["--only", "W8-oracle"])

    assert "W8-oracle not among W1, W2, W2-overload" in capsys.readouterr().err


def test_every_candidate_of_every_work_is_known() -> None:
    known = set(names())

    for work in plan.works(quick=False, loops=("asyncio", "uvloop"), largest=Largest(lambda *_: {}, 1_000)):
        assert set(work.whos(eager=True)) <= known
    for name in known:
        assert maker(name) is not None
