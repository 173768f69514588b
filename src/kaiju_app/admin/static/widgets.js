// Small parts that several views use.
import { html } from "./vendor/preact.js";
import { may, useCell, useClock } from "./state.js";
import { duration, full, ms, relative, short } from "./format.js";
import { askCancel, askPauseAll, askResumeAll, isPaused, mayOperate, pauseOrResume, runNow, whyNot } from "./actions.js";
import { hrefOf } from "./router.js";

/** An instant: in full when one points at it. */
export function Moment({ at, kind = "short" }) {
  const [where, now] = useClock();
  const moment = typeof at === "string" ? ms(at) : at;
  if (moment === null || moment === undefined) return html`<span class="muted">–</span>`;
  const text = kind === "relative" ? relative(moment, now) : kind === "next" ? relative(Math.max(moment, now), now) : kind === "past" ? relative(Math.min(moment, now), now) : kind === "full" ? full(moment, where) : short(moment, where, now);
  return html`<time class="num" datetime=${new Date(moment).toISOString()} title=${full(moment, where)}>${text}</time>`;
}

export const Seconds = ({ s }) => html`<span class="num">${duration(s)}</span>`;

export function State({ task }) {
  const isOverdue = task.overdue && ["waiting", "over"].includes(task.state);
  return isOverdue ? html`<span class="state state-overdue" title="It has not succeeded in time">overdue</span>`
    : html`<span class=${`state state-${task.state}`}>${task.state}</span>`;
}

export const Scope = ({ scope }) =>
  html`<span class="scope" title=${scope === "CLUSTER" ? "One instance runs each tick" : "Each instance runs it by itself"}>${scope.toLowerCase()}</span>`;

export const TaskLink = ({ id, name, parameters }) =>
  html`<a class="task-link" data-open href=${hrefOf("task", id, parameters)}>${name}</a>`;

export function Holds({ holds }) {
  return holds.map((each, i) => html`<p class="hold" key=${i}>
    <strong>Held by ${each.holder}</strong>${each.reason ? html`: ${each.reason}` : " (no reason was given)"}
    <span class="muted"> · ${each.since ? html`since <${Moment} at=${each.since} />` : "since an unknown time"}
    ${each.until ? html`, until <${Moment} at=${each.until} /> (<${Moment} at=${each.until} kind="relative" />)` : ", until it is resumed"}</span>
  </p>`);
}

export function Buttons({ task, isSmall = false }) {
  useCell(may);
  if (!mayOperate()) return null;
  const why = whyNot(task);
  const kind = isSmall ? "small" : "";
  const name = (what) => `${what} ${task.name}`;
  return html`<div class="buttons">
    <button type="button" class=${kind} disabled=${!!why} title=${why || "Run it now (r)"} aria-label=${name("Run now:")} onClick=${() => runNow(task)}>Run${isSmall ? "" : " now"}</button>
    <button type="button" class=${kind} disabled=${!!why} title=${why || "p"} aria-label=${name(isPaused(task) ? "Resume:" : "Pause:")} onClick=${() => pauseOrResume(task)}>${isPaused(task) ? "Resume" : "Pause"}</button>
    ${isSmall ? null : html`<button type="button" class="danger" disabled=${!!why || !task.running} title=${why || (task.running ? "End the run in progress (c)" : "Nothing is running")} onClick=${() => askCancel(task)}>Cancel run</button>`}
  </div>`;
}

/** To pause all tasks, and at the same place to undo it. */
export function AllButtons({ scheduler }) {
  useCell(may);
  if (!scheduler || !mayOperate() || !scheduler.controlled_here) return null;
  return html`<div class="buttons" role="group" aria-label="All tasks">
    <button type="button" class="small" onClick=${askPauseAll}>Pause all …</button>
    ${scheduler.paused ? html`<button type="button" class="small" onClick=${askResumeAll}>Resume all …</button>` : null}</div>`;
}

export const Empty = ({ title, children }) => html`<div class="empty"><p class="empty-title">${title}</p><p>${children}</p></div>`;

export const Failure = ({ error, again }) => html`<div class="empty" role="alert">
  <p class="empty-title">${error.title || "Something went wrong"}</p><p>${error.message}</p>
  ${again ? html`<p><button type="button" onClick=${again}>Try again</button></p>` : null}</div>`;

export const Loading = () => html`<p class="muted loading">Loading …</p>`;

/** A part of a view with a heading. */
export const Panel = ({ title, aside, children, kind = "" }) => html`<section class=${`panel ${kind}`}>
  <header class="panel-head"><h2>${title}</h2>${aside ? html`<div class="aside">${aside}</div>` : null}</header>
  ${children}</section>`;
