"""Arguments and results as short texts: nothing in them is long, acts on a terminal or is a password."""

from __future__ import annotations

import os
from argparse import Namespace
from collections import ChainMap, OrderedDict, UserDict, UserList, defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial, wraps
from pathlib import PurePosixPath
from reprlib import recursive_repr
from types import MappingProxyType, SimpleNamespace
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kaiju_app._core.text import ACTING
from kaiju_app.admin._values import MOST_VALUE, shown, shown_arguments
from kaiju_app.stores._masking import HIDDEN

pytestmark = pytest.mark.pure


@dataclass
class Account:
    user: str
    password: str = "hunter2"
    notes: str = field(default="hunter2", repr=False)

    def rename(self, user: str) -> None: ...


class Point(NamedTuple):
    x: int
    api_key: str = "hunter2"


class Hiding:
    def __repr__(self) -> str:
        return HIDDEN


class HidingText(Hiding, str):
    pass


class HidingBytes(Hiding, bytes):
    pass


class HidingDict(Hiding, dict[str, str]):
    pass


class HidingList(Hiding, list[str]):
    pass


@dataclass(repr=False)
class HidingData(Hiding):
    word: str = "hunter2"


@dataclass
class HidingByHand:
    word: str = "hunter2"

    @recursive_repr()
    def __repr__(self) -> str:
        return HIDDEN


class HidingPair(NamedTuple):
    user: str
    word: str = "hunter2"

    def __repr__(self) -> str:
        return HIDDEN


class HidingNamespace(Hiding, SimpleNamespace):
    pass


class HidingUserDict(Hiding, UserDict[str, str]):
    pass


@dataclass
class User:
    user: str
    word: str = "me"


@dataclass(repr=False)
class Login(User):  # Its __repr__ is that of User, which knows of no answer.
    answer: str = "hunter2"


class Plain(dict[str, str]):
    pass


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


@pytest.mark.parametrize(
    "value",
    [
        HidingText("hunter2"),
        HidingBytes(b"hunter2"),
        HidingDict(word="hunter2"),
        HidingList(["hunter2"]),
        HidingData(),
        HidingByHand(),
        HidingPair("me"),
        HidingNamespace(word="hunter2"),
        HidingUserDict(word="hunter2"),
    ],
    ids=lambda each: str(type(each).__name__),
)
def test_what_a_value_hides_stays_hidden(value: object) -> None:
    assert shown(value) == HIDDEN
    assert shown([value, {"n": value}, User("me", value)]) == "[***, {'n': ***}, User(user='me', word=***)]"  # type: ignore[arg-type]


def test_an_inherited_repr_shows_no_more_fields_than_it_writes() -> None:
    assert shown(Login("me")) == repr(Login("me")) == "Login(user='me', word='me')"


@pytest.mark.parametrize(
    "value",
    [
        {b"password": "hunter2"},
        {b"Cookie": b"hunter2"},
        Plain(password="hunter2"),
        OrderedDict(password="hunter2"),
        defaultdict(str, password="hunter2"),
        MappingProxyType({"password": "hunter2"}),
        MappingProxyType(OrderedDict(password="hunter2")),
        [MappingProxyType(Plain(password="hunter2"))],
    ],
    ids=lambda each: str(type(each).__name__),
)
def test_secrets_in_any_dict_are_known_by_their_keys(value: object) -> None:
    assert ": ***}" in shown(value)
    assert "hunter2" not in shown(value)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ([("password", "hunter2"), ("n", 1)], "[('password', ***), ('n', 1)]"),
        ((("X-API-Key", "hunter2"),), "(('X-API-Key', ***))"),
        ([["token", "hunter2"]], "[['token', ***]]"),
        (("token", "hunter2"), "('token', ***)"),
        ((b"Cookie", b"hunter2"), "(b'Cookie', ***)"),
        ({"password": "hunter2"}.items(), "dict_items([('password', ***)])"),
        ({"h": [("token", "hunter2")]}, "{'h': [('token', ***)]}"),
        (("user", "me"), "('user', 'me')"),
        (("token", "token", "token"), "('token', 'token', 'token')"),
        ([[[["token", "hunter2"]]]], "[[[[...]]]]"),
    ],
)
def test_secrets_in_pairs_are_known_by_the_first_of_them(value: object, text: str) -> None:
    assert shown(value) == text


def test_a_proxy_shows_its_mapping_as_that_one_shows_itself() -> None:
    assert shown(MappingProxyType({"n": 1})) == "mappingproxy({'n': 1})"
    assert shown(MappingProxyType(HidingDict(word="hunter2"))) == "mappingproxy(***)"


def login(user: str, password: str = "", **more: object) -> None: ...


TOKEN: dict[str, Any] = {"token": "hunter2"}
CONTAINERS = [
    (TOKEN.values(), "dict_values(***)"),
    (OrderedDict(TOKEN).values(), "odict_values(***)"),
    (OrderedDict(TOKEN).items(), "dict_items([('token', ***)])"),
    (UserDict(TOKEN), "{'token': ***}"),
    (UserDict(TOKEN).values(), "ValuesView(***)"),
    (UserDict(TOKEN).items(), "ItemsView({'token': ***})"),
    (UserDict(TOKEN).keys(), "KeysView({'token': ***})"),
    (UserList(["token", "hunter2"]), "['token', ***]"),
    (ChainMap(TOKEN, {"n": 1}), "ChainMap({'token': ***}, {'n': 1})"),
    (MappingProxyType(ChainMap(TOKEN)), "mappingproxy(ChainMap({'token': ***}))"),
    (SimpleNamespace(n=1, **TOKEN), "SimpleNamespace(n=1, token=***)"),
    (Namespace(n=1, **TOKEN), "Namespace(n=1, token=***)"),
    (partial(login, "me", **TOKEN, n=1), f"partial({login!r}, 'me', token=***, n=1)"),
    (partial(login, "me", "hunter2"), f"partial({login!r}, 'me', ***)"),
    (Account("me").rename, "<bound method Account.rename of Account(user='me', password=***)>"),
    (partial(Account("me").rename), "partial(<bound method Account.rename of Account(user='me', password=***)>)"),
]


@pytest.mark.parametrize(("value", "text"), CONTAINERS, ids=lambda each: str(type(each).__name__))
def test_secrets_in_the_containers_of_python_are_known_by_their_names(value: object, text: str) -> None:
    assert shown(value) == text
    assert shown({"n": value}) == f"{{'n': {text}}}"


@pytest.mark.parametrize("value", [each for each, _ in CONTAINERS], ids=lambda each: str(type(each).__name__))
@pytest.mark.parametrize("depth", range(6))
def test_no_container_shows_a_secret_at_any_depth(value: object, depth: int) -> None:
    for each in range(depth):
        value = SimpleNamespace(n=value) if each % 2 else ChainMap({"n": value})

    assert "hunter2" not in shown(value)
    assert len(shown(value)) <= MOST_VALUE


def test_the_environment_hides_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        monkeypatch.delenv(name)
    monkeypatch.setenv("API_TOKEN", "hunter2")
    monkeypatch.setenv("LANG", "C")

    assert shown(os.environ) == "{'API_TOKEN': ***, 'LANG': 'C'}"


def test_names_in_a_namespace_are_short_and_do_not_act_on_a_terminal() -> None:
    text = shown(SimpleNamespace(**{"red \x1b[31m\n": 1, "x" * 1000: 2}))

    assert text == rf"SimpleNamespace(red \x1b[31m\n=1, {'x' * 97}...=2)"


@pytest.mark.parametrize(
    ("names", "is_secret"),
    [
        ("password db_passwd passphrase passcode PASSWORD pass db_pass smtp-pass pwd", True),
        ("private_key access_key aws_secret_access_key signing_key signingKey api_key X-API-Key", True),
        ("cookie cookies Set-Cookie token tokens client_secret credentials Authorization", True),
        ("user key primary_key passenger passes bypass compass n", False),
    ],
)
def test_names_say_what_is_a_secret(names: str, is_secret: bool) -> None:
    assert {name: shown(7, name) for name in names.split()} == dict.fromkeys(names.split(), "***" if is_secret else "7")


Function = Callable[..., Any]


def retried(func: Function) -> Function:
    @wraps(func)
    def call(*args: Any, **kws: Any) -> Any:
        return func(*args, **kws)

    return call


def renamed(func: Function) -> Function:
    @wraps(func)
    def call(password: str, word: str) -> Any:
        return func(password, word)

    return call


class Client:
    @retried
    def login(self, user: str, password: str) -> None: ...


def test_arguments_of_a_decorated_function_are_secrets_if_either_signature_says_so() -> None:
    def login(user: str, password: str) -> None: ...

    given = ("me", "hunter2")

    assert shown_arguments(retried(login), given, {})[0] == ["'me'", "***"]
    assert shown_arguments(retried(retried(login)), given, {})[0] == ["'me'", "***"]
    assert shown_arguments(Client().login, given, {})[0] == ["'me'", "***"]
    assert shown_arguments(partial(retried(login), "me"), ("hunter2",), {})[0] == ["***"]
    assert shown_arguments(renamed(login), given, {})[0] == ["***", "***"]


def test_arguments_beyond_the_named_ones_are_secrets_by_the_name_of_the_rest() -> None:
    def check(user: str, *tokens: str) -> None: ...
    def add(user: str, *others: str) -> None: ...

    assert shown_arguments(check, ("me", "hunter2", "hunter2"), {})[0] == ["'me'", "***", "***"]
    assert shown_arguments(retried(check), ("me", "hunter2", "hunter2"), {})[0] == ["'me'", "***", "***"]
    assert shown_arguments(add, ("me", "you", "them"), {})[0] == ["'me'", "'you'", "'them'"]


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
