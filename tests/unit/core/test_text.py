"""Texts are cut to a stated length: head and tail are kept, and how much was left out is told."""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
from hypothesis import given

from kaiju_app._core.text import MOST_TEXT, describe_exception, hash_of, listed, shortened

pytestmark = pytest.mark.pure


def test_a_long_text_keeps_its_head_and_its_tail_and_tells_what_was_left_out() -> None:
    cut = shortened("a" * 3_000_000 + "b" * 2_000_000)

    assert cut == f"{'a' * 980} [4,998,040 characters left out] {'b' * 980}"
    assert len(cut) <= MOST_TEXT


@given(st.integers(0, 10**7), st.integers(100, 3_000))
def test_a_text_is_cut_at_most_once(length: int, most: int) -> None:
    text = "x" * length
    cut = shortened(text, most)

    assert len(cut) <= most
    assert (cut == text) is (length <= most)
    assert shortened(cut, most) == cut


def test_the_message_of_an_exception_is_cut() -> None:
    told = describe_exception(ValueError("x" * 5_000_000 + " at line 7"))

    assert told is not None
    assert len(told) <= MOST_TEXT
    assert told.startswith("ValueError: xxx")
    assert told.endswith("xxx at line 7")


def test_the_first_of_many_are_listed_with_how_many_more_there_are() -> None:
    assert ["", "a", "a, b", "a, b and 1 more", "a, b and 2 more"] == [
        listed("abcd"[:number], 2) for number in range(5)
    ]
    assert "a, b and 1 more" == listed(dict.fromkeys("abc"), 2)


def test_a_hash_of_a_text_is_the_same_in_every_process_and_every_version() -> None:
    """Jitter and H are made of it: with another one, tasks would run at other times."""
    assert 4_253_101_899_947_501_337 == hash_of("report\x001")
