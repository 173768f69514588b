"""The routes that answer why, and how much."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import Field
from starlette.responses import Response

from kaiju_app._core.explanation import Cause, Explanation

from ._api import READING, Api
from ._items import run_item
from ._models import CauseItem, ExplanationItem
from ._problems import Refused, answers
from ._requests import Instant
from ._task_routes import Parameters, TaskId
from ._text import harmless, name_of

METRICS = "text/plain; version=0.0.4; charset=utf-8"


class ExplainParameters(Parameters):
    """Which tick."""

    at: Instant | None = Field(None, description="A tick within a second of it is meant; by default now.")


def explain_routes(api: Api) -> APIRouter:
    """Return the route that explains a tick."""
    router = APIRouter(responses={**READING, **answers(404, 409, 503)})

    @router.get("/api/tasks/{id}/explain")
    async def explain(id: TaskId, asked: Annotated[ExplainParameters, Query()]) -> ExplanationItem:
        """Say what became of the tick at an instant, and why: in one sentence, and as facts."""
        task, _ = await api.tasks.find(id)
        if (where := task.home_name) is not None:
            raise Refused(409, "Not here", f"Only {where} can explain the ticks of this task: ask the endpoint there")
        return _item(await api.scheduler.explain(task.name, asked.at or api.now), task.id, api)

    return router


def _item(found: Explanation, task_id: str, api: Api) -> ExplanationItem:
    return ExplanationItem(
        task=name_of(found.task),
        task_id=task_id,
        asked=found.asked,
        tick=found.tick,
        fate=found.fate,
        sentence=harmless(found.sentence),
        run=None if found.run is None else run_item(found.run, api.tasks.ids),
        causes=[_cause(each) for each in found.causes],
        before=found.before,
        after=found.after,
    )


def _cause(cause: Cause) -> CauseItem:
    who = None if cause.who is None else harmless(cause.who)
    return CauseItem(
        kind=cause.kind, since=cause.since, until=cause.until, who=who, tick=cause.tick, instance=cause.instance
    )


def metrics_routes(api: Api) -> APIRouter:
    """Return the route with the metrics; none without the library prometheus-client."""
    router = APIRouter(responses=READING)
    if find_spec("prometheus_client") is None:
        return router
    registries: list[Any] = []

    @router.get(
        "/metrics",
        response_class=Response,
        responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}, "description": "The metrics."}},
    )
    async def metrics() -> Response:
        """Return the metrics as Prometheus reads them. Runs are counted from the first request on."""
        from prometheus_client import CollectorRegistry, generate_latest

        from kaiju_app.observability.prometheus import SchedulerCollector

        if not registries:
            registry = CollectorRegistry()
            registry.register(SchedulerCollector(api.scheduler))
            registries.append(registry)
        return Response(generate_latest(registries[0]), media_type=METRICS)

    return router
