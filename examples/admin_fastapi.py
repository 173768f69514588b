"""A FastAPI shop with eight tasks, and the endpoint of its scheduler behind the shop's own login.

    PORT=8000 python examples/admin_fastapi.py

Open http://127.0.0.1:8000/ and log in: that leads to the dashboard. Or ask the endpoint itself:

    curl -c jar -X POST 'http://127.0.0.1:8000/login?user=olga'            # An operator; ron may only read.
    curl -b jar http://127.0.0.1:8000/scheduler/api/tasks                  # All tasks.
    curl -b jar 'http://127.0.0.1:8000/scheduler/api/runs?outcome=FAILED'  # What failed, and why.
    curl -b jar http://127.0.0.1:8000/scheduler/api/scheduler              # Who has blocked the loop: "loop_lag".
    curl http://127.0.0.1:8000/scheduler/health/ready                      # 503: a task is overdue. Needs no login.

To run a task, POST {} as application/json to /scheduler/api/tasks/ID/run, with the id from the list of tasks.
"""

import asyncio
import logging
import os
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import uvicorn
from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.responses import HTMLResponse

from kaiju_app.admin import Access, admin
from kaiju_app.scheduler import Backoff, Cron, ExecPolicy, Scheduler, Scope, current_run

scheduler = Scheduler(os.environ.get("STORE", "sqlite:///admin_shop.db"))


# --- eight tasks ---


async def refresh_rates() -> float:
    """Ask the bank for the exchange rate."""
    return 1.08


async def poll_supplier() -> str:
    """Ask for new prices; every third time the supplier does not answer."""
    if int(current_run().scheduled_at.timestamp()) % 3 == 0:
        raise ConnectionError("the supplier does not answer")
    return "17 new prices"


async def resize_images() -> None:
    """Block the loop, as a library that is not asynchronous does: /api/scheduler names this line."""
    time.sleep(1.5)  # noqa: ASYNC251


def compact_files() -> None:
    """Block a thread and not the loop: a plain function."""
    time.sleep(0.5)


async def send_newsletter() -> None:
    """Be paused from the start: see the lifespan."""


async def bill() -> str:
    """Run in one of the processes that share the store."""
    return "42 bills"


async def back_up() -> None:
    """Never succeed, so that it is soon overdue."""
    raise OSError("the disk is full")


async def close_the_day() -> None:
    """Run at night, local time."""


scheduler.schedule_task(refresh_rates, 1, name="rates")
scheduler.schedule_task(poll_supplier, 1, name="supplier", policy=ExecPolicy.SKIP)
scheduler.schedule_task(resize_images, 10, name="images")
scheduler.schedule_task(compact_files, 60, name="compact")
scheduler.schedule_task(send_newsletter, 3600, name="newsletter", first_run=None)
scheduler.schedule_task(bill, 2, name="bill", scope=Scope.CLUSTER)
scheduler.schedule_task(
    back_up, 2, name="backup", retries=1, retry_interval_s=Backoff(initial_s=0.1), expect_success_within_s=3
)
scheduler.schedule_task(close_the_day, trigger=Cron("30 2 * * *", tz="Europe/Berlin"), name="nightly")


# --- the shop and its login ---

USERS = {"olga": Access.OPERATE, "ron": Access.READ}  # A real shop has passwords.
sessions: dict[str, str] = {}


def authorize(request: Request) -> Access | tuple[Access, str]:
    """Say what the user of a session may do; the log and the holds name the user."""
    user = sessions.get(request.cookies.get("session", ""))
    return Access.NONE if user is None else (USERS[user], user)


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    async with scheduler:
        await scheduler.tasks["newsletter"].pause("the text is not ready", holder="marketing")
        yield


app = FastAPI(lifespan=lifespan)
app.mount("/scheduler", admin(scheduler, authorize=authorize))


@app.get("/", response_class=HTMLResponse)
async def home() -> str:
    forms = (
        f'<form method="post" action="/login?user={each}"><button>Log in as {each}</button></form>' for each in USERS
    )
    return f'<!doctype html><html lang="en"><title>The shop</title><h1>The shop</h1>{"".join(forms)}</html>'


@app.post("/login")
async def login(user: str, request: Request, response: Response) -> str:
    if user not in USERS:
        raise HTTPException(403, f"{user} is nobody here")
    session = secrets.token_urlsafe()
    sessions[session] = user
    response.set_cookie("session", session, httponly=True, samesite="strict")
    if "text/html" in request.headers.get("accept", ""):  # A browser goes on to the dashboard.
        response.status_code, response.headers["location"] = 303, "/scheduler/"
    return f"welcome, {user}"


async def main() -> None:
    # At shutdown uvicorn waits for open answers, and the event stream of an open dashboard does not end by itself.
    config = uvicorn.Config(app, port=int(os.environ.get("PORT", "8000")), timeout_graceful_shutdown=3)
    await uvicorn.Server(config).serve()


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    asyncio.run(main())
