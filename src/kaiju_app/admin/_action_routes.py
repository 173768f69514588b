"""The routes that change something."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from starlette.responses import Response

from kaiju_app.scheduler import RequestedRun

from ._access import caller_of
from ._api import OPERATING, Api
from ._items import run_item
from ._models import AllTasks, Asked, RunItem, TaskDetail
from ._problems import answers
from ._requests import CancelRequest, PauseRequest, ResumeRequest, RunRequest
from ._task_routes import TaskId
from ._text import harmless, name_of


def action_routes(api: Api) -> APIRouter:
    """Return the routes that change something."""
    router = APIRouter(responses=OPERATING)
    actions = api.actions

    @router.post(
        "/api/tasks/{id}/run",
        response_model=RunItem,
        responses={**answers(404, 429), 202: {"model": Asked, "description": "The run has not ended yet."}},
    )
    async def run(id: TaskId, asked: RunRequest, request: Request) -> RunItem | Response:
        """Run a task now; the ticks of its rule stay where they are."""
        task, _ = await api.tasks.find(id)
        found = await actions.run(task, asked.wait_s, caller_of(request))
        if isinstance(found, RequestedRun):
            body = Asked(task=name_of(task.name), task_id=task.id, tick=found.tick)
            return JSONResponse(body.model_dump(mode="json"), 202)
        return run_item(found, api.tasks.ids)

    @router.post("/api/tasks/{id}/pause", responses=answers(404))
    async def pause(id: TaskId, asked: PauseRequest, request: Request) -> TaskDetail:
        """Start no more runs until it is resumed, or for some seconds. A run in progress goes on."""
        task, _ = await api.tasks.find(id)
        await actions.pause(task, harmless(asked.reason), asked.for_s, caller_of(request))
        return await api.detail_now(id)

    @router.post("/api/tasks/{id}/resume", responses=answers(404))
    async def resume(id: TaskId, _: ResumeRequest, request: Request) -> TaskDetail:
        """End the pause; suspensions remain."""
        task, _seen = await api.tasks.find(id)
        await actions.resume(task, caller_of(request))
        return await api.detail_now(id)

    @router.post("/api/tasks/{id}/cancel", responses=answers(404))
    async def cancel(id: TaskId, asked: CancelRequest, request: Request) -> TaskDetail:
        """Ask the run in progress to end, in whichever process. A run under SHIELD refuses."""
        task, _ = await api.tasks.find(id)
        await actions.cancel(task, harmless(asked.reason), caller_of(request))
        return await api.detail_now(id)

    @router.post("/api/pause")
    async def pause_all(asked: PauseRequest, request: Request) -> AllTasks:
        """Pause all tasks that there are now: those of this instance, and all cluster tasks."""
        caller, reason = caller_of(request), harmless(asked.reason)
        done, elsewhere, failed = await actions.all(
            f"a pause ({reason!r}) of", lambda task: task.pause(reason, asked.for_s, holder=str(caller)), caller
        )
        return AllTasks(tasks=done, elsewhere=elsewhere, failed=failed)

    @router.post("/api/resume")
    async def resume_all(_: ResumeRequest, request: Request) -> AllTasks:
        """End the pauses of all tasks, whoever made them."""
        done, elsewhere, failed = await actions.all(
            "the end of the pauses of", lambda task: task.resume(), caller_of(request)
        )
        return AllTasks(tasks=done, elsewhere=elsewhere, failed=failed)

    return router
