// What an operator does with a task; what became of it is said in the live region, and all views look again.
import { emit, post } from "./api.js";
import { dialog, may, notice } from "./state.js";
import { labelOf } from "./outcomes.js";
import { duration, plural } from "./format.js";

const WAIT_S = 3;

const say = (text, isError = false) => notice.set({ text, isError, key: Math.random() });

async function attempt(task, what, request) {
  try {
    say(await request());
    return true;
  } catch (error) {
    say(`${what} ${task ? task.name : "all tasks"}: ${error.message}`, true);
    return false;
  } finally {
    if (task) emit("task", { task_id: task.id });
    else emit("reload", {});
  }
}

const path = (task, verb) => `api/tasks/${encodeURIComponent(task.id)}/${verb}`;

export function runNow(task) {
  say(`Running ${task.name} …`);
  return attempt(task, "Could not run", async () => {
    const { status, body } = await post(path(task, "run"), { wait_s: WAIT_S });
    if (status === 202) return `A run of ${task.name} was asked for`;
    return `${task.name} ${labelOf(body.outcome)} after ${duration(body.duration_s)}`;
  });
}

export const pause = (task, reason, for_s) =>
  attempt(task, "Could not pause", async () => {
    await post(path(task, "pause"), for_s ? { reason, for_s } : { reason });
    return `${task.name} is paused${for_s ? ` for ${duration(for_s)}` : " until it is resumed"}`;
  });

export const resume = (task) =>
  attempt(task, "Could not resume", async () => {
    const { body } = await post(path(task, "resume"), {});
    return body.holds.length ? `${task.name} is still held by ${body.holds[0].holder}` : `${task.name} is resumed`;
  });

export const cancel = (task, reason) =>
  attempt(task, "Could not cancel", async () => {
    await post(path(task, "cancel"), { reason });
    return `The run of ${task.name} was asked to end`;
  });

/** What became of all tasks: of how many, and which are as they were. */
function ofAll(what, { tasks, elsewhere, failed }) {
  const left = elsewhere.length ? `. The local tasks of ${elsewhere.join(", ")} are left as they are: only the endpoint of their own process can act on them` : "";
  if (failed.length) throw new Error(`${what.toLowerCase()} ${plural(tasks, "task")}, but not these: ${failed.join("; ")}${left}`);
  return `${what} ${plural(tasks, "task")}${left}`;
}

export const pauseAll = (reason, for_s) =>
  attempt(null, "Could not pause", async () => ofAll("Paused", (await post("api/pause", for_s ? { reason, for_s } : { reason })).body));

export const resumeAll = () => attempt(null, "Could not resume", async () => ofAll("Resumed", (await post("api/resume", {})).body));

export const askPauseAll = () => dialog.set({ kind: "pause all" });
export const askResumeAll = () => dialog.set({ kind: "resume all" });
export const askPause = (task) => dialog.set({ kind: "pause", task });
export const askCancel = (task) => dialog.set({ kind: "cancel", task });
export const isPaused = (task) => task.state === "paused" || (task.holds || []).length > 0;
export const pauseOrResume = (task) => (isPaused(task) ? resume(task) : askPause(task));

/** Whether the caller may do anything but look: to others no actions are shown. */
export const mayOperate = () => Boolean(may.value?.includes("operate"));

/** Why the buttons of a task cannot be used; null if they can. */
export function whyNot(task) {
  if (!mayOperate()) return "You may read but not operate";
  if (!task.controlled_here) return task.note || "Only the process that has this task can act on it";
  return null;
}
