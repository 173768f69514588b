"""Tables fit the terminal, and what is in them cannot act on it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from kaiju_app._core.text import ACTING
from kaiju_app.cli._table import Column, clean, fitting, shortened, table

pytestmark = pytest.mark.pure


@given(st.text(), st.integers(0, 40))
def test_a_shortened_text_fits_and_keeps_both_ends(text: str, width: int) -> None:
    found = shortened(text, width)

    assert cell_len(found) <= width
    if cell_len(text) <= width:
        assert found == text
    elif width > 8 and cell_len(text) == len(text):
        assert text.startswith(found.partition("…")[0])
        assert text.endswith(found.rpartition("…")[2])


@given(st.lists(st.lists(st.text(max_size=60), min_size=3, max_size=3), max_size=6), st.integers(40, 120))
def test_every_line_of_a_table_fits_and_cannot_act_on_a_terminal(rows: list[list[str]], width: int) -> None:
    columns = [Column("NAME", gives=True), Column("WHY", gives=True), Column("HOW", gives=True, right=True)]
    lines = table(columns, rows, width)

    assert len(lines) == len(rows) + 1
    for line in lines:
        assert line.cell_len <= width
        assert not ACTING.search(line.plain)
        assert "\n" not in line.plain


def test_columns_are_aligned_also_below_wide_characters() -> None:
    lines = table([Column("NAME"), Column("N", right=True)], [["数据清理", "1"], ["a", "200"]], 80)

    assert [cell_len(line.plain) for line in lines] == [13, 13, 13]


def test_the_widest_that_gives_gives_first() -> None:
    assert fitting([30, 20, 10], [True, True, False], 50) == [20, 20, 10]
    assert fitting([30, 20, 10], [True, False, False], 50) == [20, 20, 10]
    assert fitting([5, 5], [True, True], 2) == [5, 5]


@pytest.mark.parametrize("text", ["a\x1b[31mb", "a\x07", "a\x9b2J", "a\u202eb", "a\nb", "a\tb", "a\x00b", "\ufeffa"])
def test_what_acts_on_a_terminal_is_written_out(text: str) -> None:
    found = clean(text)

    assert "\\" in found
    assert found.isprintable()
