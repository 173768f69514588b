"""The example with six tasks on four workers, over HTTP: results, pauses, the latest errors, a worker that blocks."""

from __future__ import annotations

import json
import urllib.error
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from processes.examples.test_workers import Workers

pytestmark = [pytest.mark.realtime, pytest.mark.slow, pytest.mark.mechanism, pytest.mark.timeout(180)]


class Shop(Workers):
    """The processes of the example."""

    program = Path(__file__).parents[3] / "examples" / "shop.py"

    def tasks(self) -> dict[str, Any]:
        """Return the tasks by name, as one of the workers sees them."""
        return {each["name"]: each for each in self.ask("/tasks")["tasks"]}

    def refused(self, path: str) -> tuple[int, str]:
        """Return the status and the text with which a request is refused."""
        with pytest.raises(urllib.error.HTTPError) as refusal:
            self.ask(path, "POST")
        with refusal.value as answer:
            return answer.code, json.load(answer)["detail"]


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    shop = Shop(tmp_path)
    try:
        yield shop
    finally:
        shop.end()


def test_the_six_tasks_of_a_shop_on_four_workers(shop: Shop) -> None:
    shop.until(lambda _: True, "/tasks")
    assert set(shop.tasks()) == {"poll", "nightly", "report", "stock", "compact", "rates"}

    # Another attempt follows after each failed one, with growing pauses.
    polled = shop.until(bool, "/tasks/poll/history")[0]
    assert (polled["outcome"], polled["attempts"]) == ("SUCCEEDED", 3)
    assert polled["duration_s"] >= 0.5

    # A run at once, with its result, whichever worker runs it.
    rates = shop.ask("/tasks/rates/run", "POST")
    assert (rates["outcome"], rates["manual"], rates["result"]) == ("SUCCEEDED", True, 1.08)
    report = shop.ask("/tasks/report/run", "POST")
    assert (report["outcome"], report["manual"], report["result"]) == ("SUCCEEDED", True, "42 orders")
    assert report["fence"] >= 1

    # A pause holds in all workers, and says who made it and why.
    shop.ask("/tasks/report/pause?reason=audit", "POST")
    for _ in range(8):
        status, text = shop.refused("/tasks/report/run")
        assert status == 409
        assert text.startswith("task 'report' is suspended by pause() on ")
        assert "(audit)" in text
    shop.until(lambda _: shop.tasks()["report"]["state"] == "paused", "/tasks")
    shop.ask("/tasks/report/resume", "POST")
    assert shop.ask("/tasks/report/run", "POST")["outcome"] == "SUCCEEDED"
    assert shop.refused("/tasks/reports/run") == (404, "there is no task 'reports'")

    # The latest errors, whichever worker had them.
    shop.until(lambda found: any(each["task"] == "stock" for each in found), "/errors")
    (error,) = {each["error"] for each in shop.ask("/errors") if each["task"] == "stock"}
    assert error == "RuntimeError: shelf 7 has no label"

    # A plain function that blocks for two seconds does not keep its worker from answering.
    answers: list[tuple[datetime, int]] = []
    with ThreadPoolExecutor() as pool:
        compacting = pool.submit(compact, shop)
        while not compacting.done():
            answers.append((datetime.now(UTC), shop.ask("/tasks")["answered_by"]))
    done = compacting.result()
    began, ended = (datetime.fromisoformat(done[key]) for key in ("started_at", "finished_at"))
    busy = int(done["result"].removeprefix("compacted by "))
    assert done["duration_s"] >= 2
    assert [pid for at, pid in answers if began < at < ended and pid == busy]


def compact(shop: Shop) -> dict[str, Any]:
    """Run ``compact`` in the first worker that is not busy with its first run; return the record."""
    while True:
        try:
            return dict(shop.ask("/tasks/compact/run", "POST"))
        except urllib.error.HTTPError as exc:  # A run is in progress in this worker, and the policy is SKIP.
            with exc:
                if "is busy" not in json.load(exc)["detail"]:
                    raise
