"""Arguments and results as short texts: nothing in them is long, acts on a terminal or is a password."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kaiju_app._core.text import ACTING
from kaiju_app.admin._values import MOST_VALUE, shown, shown_arguments

pytestmark = pytest.mark.pure


@dataclass
class Account:
    user: str
    password: str = "hunter2"
    notes: str = field(default="hunter2", repr=False)


class Point(NamedTuple):
    x: int
    api_key: str = "hunter2"


class Broken:
    def __repr__(self) -> str:
        raise OSError("hunter2")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "None"),
        (7, "7"),
        ("it's", '"it\'s"'),
        (b"\x00", r"b'\x00'"),
        ("red \x1b[31m\n", r"'red \x1b[31m\n'"),
        ([1, (2,), {"a": {3}}], "[1, (2), {'a': {3}}]"),
        (deque([1]), "[1]"),
        ([[[[1]]]], "[[[[...]]]]"),
        ([], "[]"),
        (list(range(10)), "[0, 1, 2, 3, 4, 5, 6, 7, ... 2 more]"),
        ("x" * 1000, "'" + "x" * 96 + "..."),
        (PurePosixPath("/srv"), "PurePosixPath('/srv')"),
        (Account("me"), "Account(user='me', password=***)"),
        (Point(1), "Point(x=1, api_key=***)"),
        ({"Authorization": "Bearer hunter2", "n": 1}, "{'Authorization': ***, 'n': 1}"),
        ("postgresql://me:hunter2@db/shop", "'postgresql://***@db/shop'"),
        (["x" * 60 + "postgresql://me:" + "hunter2" * 9 + "@db/"], "['" + "x" * 60 + "postgresql://***@db/']"),
        ("dbname=x password=hunter2 ", "'dbname=x password=*** '"),
        (Broken(), "<Broken: no text, because of OSError>"),
        ([Broken(), 1], "[<Broken: no text, because of OSError>, 1]"),
        (10**5000, "<int: no text, because of ValueError>"),
    ],
    ids=lambda each: str(type(each).__name__),
)
def test_a_value_is_a_short_text_without_secrets(value: object, text: str) -> None:
    assert shown(value) == text


def test_arguments_are_secrets_by_the_names_of_their_parameters() -> None:
    def connect(host: str, db_password: str, /, *rest: int, token: str = "", retries: int = 0) -> None: ...

    given = shown_arguments(connect, ("db", "hunter2", 3), {"token": "hunter2", "retries": 2})

    assert given == (["'db'", "***", "3"], {"token": "***", "retries": "2"})
    assert shown_arguments(print, range(10), {})[0] == [*map(str, range(8)), "... and 2 more"]
    assert shown_arguments(dict, (), {f"k{n}": n for n in range(10)})[1]["..."] == "and 2 more"


scalars = st.none() | st.integers() | st.floats() | st.text() | st.binary() | st.booleans()
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=20) | st.dictionaries(st.text(), inner, max_size=20), max_leaves=200
)


@given(values)
def test_no_value_is_long_or_acts_on_a_terminal(value: Any) -> None:
    text = shown(value)

    assert 0 < len(text) <= MOST_VALUE
    assert not ACTING.search(text)
    assert "\n" not in text
    assert text.encode()


class Counted:
    def __init__(self) -> None:
        self.asked = 0

    def __repr__(self) -> str:
        self.asked += 1
        return "x"


def test_of_a_large_value_only_what_is_shown_is_looked_at() -> None:
    one = Counted()
    row = [one] * 10_000

    assert len(shown([row] * 10_000)) <= MOST_VALUE
    assert one.asked == 64
