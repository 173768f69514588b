"""The arguments of statements for PostgreSQL."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from kaiju_app.stores.postgres._columns import Names, numbers, texts


def read(array: str) -> list[str | None]:
    """Read the text of an array as PostgreSQL does: https://www.postgresql.org/docs/current/arrays.html#ARRAYS-IO."""
    assert (array[0], array[-1]) == ("{", "}")
    elements = re.findall(r'(?:"((?:[^"\\]|\\.)*)"|([^",]+))(?:,|$)', array[1:-1], re.DOTALL)
    return [None if bare == "NULL" else bare or unescaped(quoted) for quoted, bare in elements]


def unescaped(quoted: str) -> str:
    return re.sub(r"\\(.)", r"\1", quoted, flags=re.DOTALL)


@given(st.lists(st.none() | st.text(alphabet=st.sampled_from('ab"\\,{} \nNUL\u00e9')) | st.just("NULL")))
def test_any_texts_come_back_from_the_text_of_an_array(values: list[str | None]) -> None:
    assert read(texts(values)) == values


@given(st.lists(st.none() | st.integers() | st.booleans()))
def test_numbers_come_back_from_the_text_of_an_array(values: list[int | None]) -> None:
    assert read(numbers(values)) == [None if each is None else str(each) for each in values]


@given(st.lists(st.sets(st.sampled_from("abcdef")), min_size=1))
def test_the_text_is_that_of_the_names_of_this_claim(claims: list[set[str]]) -> None:
    names = Names()
    for each in claims:
        assert names.text(each) == texts(sorted(each))
