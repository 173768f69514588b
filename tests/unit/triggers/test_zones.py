"""The zone of the host, from whatever the host says about it."""

from __future__ import annotations

from datetime import time
from pathlib import Path
from zoneinfo import TZPATH

import pytest

from kaiju_app.errors import InvalidArgument
from kaiju_app.triggers import Cron, trigger_from_json
from kaiju_app.triggers._zones import known_zone, local_zone

pytestmark = pytest.mark.pure


@pytest.mark.parametrize(
    ("given", "key"),
    [
        ("Asia/Tokyo", "Asia/Tokyo"),
        (":Asia/Tokyo", "Asia/Tokyo"),
        ("/usr/share/zoneinfo/Asia/Tokyo", "Asia/Tokyo"),
        (":/usr/share/zoneinfo/posix/Asia/Tokyo", "Asia/Tokyo"),
        ("", "UTC"),
    ],
)
@pytest.mark.parametrize("local", ["local", "localtime"])
def test_the_environment_says_the_zone(monkeypatch: pytest.MonkeyPatch, local: str, given: str, key: str) -> None:
    monkeypatch.setenv("TZ", given)

    rule = Cron("0 6 * * *", tz=local)

    assert (key, key) == (rule.tz, known_zone("tz", local).key)
    assert rule == Cron("0 6 * * *", key) == trigger_from_json({"cron": "0 6 * * *", "tz": local})
    assert {"cron": "0 6 * * *", "tz": key} == rule.json_repr(), "what is written is the same on every host"


def test_a_window_of_a_form_can_be_in_the_zone_of_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Asia/Tokyo")

    read = trigger_from_json({"except": [{"daily": ["22:00", "06:00"], "tz": "local"}], "rule": {"every": 1}})

    assert {"daily": [time(22).isoformat(), time(6).isoformat()], "tz": "Asia/Tokyo"} in read.json_repr()["except"]  # type: ignore[operator]


@pytest.mark.parametrize("given", ["CET-1CEST,M3.5.0,M10.5.0/3", "Nowhere/Land", "localtime", "/etc/localtime"])
def test_an_environment_without_a_name_is_refused_with_the_way_out(monkeypatch: pytest.MonkeyPatch, given: str) -> None:
    monkeypatch.setenv("TZ", given)
    why = f"^tz must be the key of an IANA time zone, such as 'Europe/Berlin', because TZ='{given}' is no such key"

    with pytest.raises(InvalidArgument, match=why):
        Cron("0 6 * * *", tz="local")


@pytest.fixture
def etc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with what a host says about its zone."""
    monkeypatch.delenv("TZ", raising=False)
    return tmp_path


def key(etc: Path) -> str:
    return local_zone("tz", "local", str(etc / "localtime")).key


@pytest.mark.parametrize(
    "target",
    ["/usr/share/zoneinfo/Asia/Tokyo", "../usr/share/zoneinfo/right/Asia/Tokyo", "/var/db/zoneinfo/Asia/Tokyo"],
)
def test_the_name_of_the_linked_file_says_the_zone(etc: Path, monkeypatch: pytest.MonkeyPatch, target: str) -> None:
    monkeypatch.setattr("os.path.exists", lambda path: True)
    (etc / "localtime").symlink_to(target)

    assert "Asia/Tokyo" == key(etc)


def test_a_link_to_a_link_is_followed(etc: Path) -> None:
    zone = next((path for each in TZPATH if (path := Path(each, "Asia", "Tokyo")).exists()), None)
    if zone is None:
        pytest.skip("this host has no files of time zones")
    (etc / "other").symlink_to(zone)
    (etc / "localtime").symlink_to(etc / "other")

    assert zone.resolve().name == key(etc).rpartition("/")[2]


def test_of_a_copy_the_name_is_in_the_file_beside_it(etc: Path) -> None:
    (etc / "localtime").write_bytes(b"TZif")
    (etc / "timezone").write_text("Asia/Tokyo\n")

    assert "Asia/Tokyo" == key(etc)


@pytest.mark.parametrize("beside", [None, b"", b"\xff", b"Nowhere/Land\n"])
def test_a_copy_without_a_name_is_refused_with_the_way_out(etc: Path, beside: bytes | None) -> None:
    (etc / "localtime").write_bytes(b"TZif")
    if beside is not None:
        (etc / "timezone").write_bytes(beside)

    with pytest.raises(InvalidArgument, match="because this host does not say in which zone it is, got 'local'"):
        key(etc)


def test_a_host_without_such_a_file_is_in_utc_as_for_the_c_library(etc: Path) -> None:
    assert "UTC" == key(etc)
