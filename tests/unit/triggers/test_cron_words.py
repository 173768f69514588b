"""A cron rule in words: true where days of month and days of week meet, and in what cronsim does not know."""

from __future__ import annotations

import pytest

from kaiju_app.triggers._cron import Cron

pytestmark = pytest.mark.pure


OTHER_DAYS = "the last weekday of the month and the third day of month or on Monday and the last Friday of the month"
SPECIAL_DAYS = "the weekday nearest to day 15 of the month, and the fifth day of month"


@pytest.mark.parametrize(
    ("expression", "words"),
    [
        ("0 0 13 * fri", "At 00:00 on the 13th day of month or on Friday"),
        ("0 0 13 1 mon-fri", "At 00:00 on the 13th day of month or on Monday through Friday in January"),
        ("0 0 LW,3 * mon,5L", f"At 00:00 on {OTHER_DAYS}"),
        ("0 0 1-31 * fri", "At 00:00 every day"),
        ("0 0 13 6 0-7", "At 00:00 every day in June"),
        ("0 0 */2 * mon", "At 00:00 on every second day of month if it's on Monday"),
        ("0 0 13 * */2", "At 00:00 on the 13th day of month if it's on every second day of week"),
        ("0 0 13 * *", "At 00:00 on the 13th day of every month"),
        ("0 0 L-3 * *", "At 00:00 on the third day before the last day of the month"),
        ("0 0 15W * *", "At 00:00 on the weekday nearest to day 15 of the month"),
        (
            "0 0 L-1,15W,5 jan fri",
            f"At 00:00 on the first day before the last day of the month, {SPECIAL_DAYS} or on Friday in January",
        ),
        ("*/10 0 0 15W * *", "Every 10th second at minute 0 past hour 0 on the weekday nearest to day 15 of the month"),
    ],
)
def test_a_rule_says_when_it_runs(expression: str, words: str) -> None:
    assert f"{words}, UTC ({expression})" == str(Cron(expression))
