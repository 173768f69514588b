// One task: what it is, what became of it, why, and what one can do.
import { html, useEffect, useState } from "../vendor/preact.js";
import { get, useLive } from "../api.js";
import { Buttons, Empty, Failure, Holds, Loading, Moment, Panel, Scope, State } from "../widgets.js";
import { duration } from "../format.js";
import { subject } from "../keyboard.js";
import { Timeline } from "../timeline.js";
import { Explanation } from "./explain.js";
import { History } from "./history.js";

export function Task({ id, parameters }) {
  const path = `api/tasks/${encodeURIComponent(id)}`;
  const isMine = (kind, data) => data.task_id === id;
  const { data: task, error, reload } = useLive((signal) => get(path, {}, signal), id, { concerns: isMine });
  const [runs, setRuns] = useState([]);
  useEffect(() => {
    document.title = `${task ? task.name : "Task"} · Scheduler`;
    subject.task = task;
    return () => {
      subject.task = null;
    };
  }, [task]);
  if (!task) {
    return error ? html`<h1>Task</h1><${Failure} error=${error} again=${reload} /><p><a href="#/tasks">All tasks</a></p>` : html`<h1 class="visually-hidden">Task</h1><${Loading} />`;
  }
  return html`<div class="task" data-task=${task.id}>
    <div class="head task-head"><div><p class="crumb"><a href="#/tasks">Tasks</a> /</p><h1 class="task-name">${task.name}</h1>
      <p class="task-rule"><${State} task=${task} /> <${Scope} scope=${task.scope} /> ${task.rule}</p></div><${Buttons} task=${task} /></div>
    ${task.doc ? html`<p class="doc muted">${task.doc}</p>` : null}
    ${task.note ? html`<p class="remark">${task.note}</p>` : null}
    <${Holds} holds=${task.holds} />
    <${Facts} task=${task} />
    <${Panel} title="Timeline" kind="wide" aside=${html`<span class="sub">Click anywhere on the time axis to read what became of that instant</span>`}><${Timeline} task=${task} parameters=${parameters} view="task" /><//>
    <${Explanation} task=${task} at=${parameters.get("at")} parameters=${parameters} />
    <div class="split">
      <${History} task=${task} isMine=${isMine} onRuns=${setRuns} parameters=${parameters} />
      <div class="side"><${Next} task=${task} isMine=${isMine} /><${Distribution} title="Duration" values=${runs.map((each) => each.duration_s)} /><${Distribution} title="Lateness" values=${runs.map((each) => each.lateness_s)} /></div>
    </div></div>`;
}

const WIDE = ["Function", "Defined at", "Arguments", "Last result"];

function Facts({ task }) {
  const limit = task.max_timeout_s ? duration(task.max_timeout_s) : null;
  const pause = task.retry_interval_s !== null && typeof task.retry_interval_s === "object" ? "growing pauses" : task.retry_interval_s === null ? "" : `pauses of ${duration(task.retry_interval_s)}`;
  const facts = [
    ["Next run", html`<${Moment} at=${task.next_run_at} />${task.next_run_at ? html` <span class="muted"><${Moment} at=${task.next_run_at} kind="next" /></span>` : null}`],
    ["Runs now", task.running ? `in ${task.runs_in || task.runs_on || "this process"}` : "no"],
    ["Where", task.scope === "CLUSTER" ? "one instance a tick" : `in ${task.process || "this process"}`],
    ["Policy", task.policy], ["Time limit", limit], ["Retries", task.retries ? `${task.retries}${pause ? `, ${pause}` : ""}` : task.retries === null ? null : "none"],
    ["Missed ticks", task.missed], ["After a lost run", task.scope === "CLUSTER" ? task.on_lost : null], ["Jitter", task.jitter_s ? `up to ${duration(task.jitter_s)}` : null],
    ["Overdue after", task.expect_success_within_s === null ? null : duration(task.expect_success_within_s)],
    ["Function", task.function ? html`<code>${task.function}</code>` : null], ["Defined at", task.defined_at ? html`<code>${task.defined_at}</code>` : null],
    ["Arguments", task.args ? html`<code>${[...task.args, ...Object.entries(task.kwargs).map(([name, value]) => `${name}=${value}`)].join(", ") || "none"}</code>` : null],
    ["Last result", task.result !== null && task.result !== undefined ? html`<code>${task.result}</code>` : null],
  ].filter(([, value]) => value !== null && value !== undefined);
  return html`<dl class="facts-grid">${facts.map(([name, value]) => html`<div class=${WIDE.includes(name) ? "is-wide" : ""}><dt>${name}</dt><dd>${value}</dd></div>`)}</dl>`;
}

function Next({ task, isMine }) {
  const { data, error } = useLive((signal) => get(`api/tasks/${encodeURIComponent(task.id)}/upcoming`, { n: 8 }, signal), `next ${task.id}`, { concerns: isMine });
  return html`<${Panel} title="Next runs">${error && !data ? html`<${Failure} error=${error} />` : !data ? html`<${Loading} />`
    : !data.items.length ? html`<${Empty} title="No run is planned">The rule has no further tick, or the task is held.<//>`
    : html`<ol class="list plain">${data.items.map((each) => html`<li class="line" key=${each.due}><${Moment} at=${each.due} /><span class="muted"><${Moment} at=${each.due} kind="next" /></span></li>`)}</ol>`}
    ${data?.remarks.map((each) => html`<p class="remark" key=${each.text}><strong>${each.level}</strong>: ${each.text}</p>`)}<//>`;
}

const BINS = 24;

/** A histogram of the loaded runs; its axis is logarithmic if they differ by a lot. */
function Distribution({ title, values }) {
  const known = values.filter((each) => each !== null && each !== undefined && each >= 0).sort((a, b) => a - b);
  if (known.length < 2) return html`<${Panel} title=${title}><${Empty} title="Too few runs">Its distribution is shown after two runs.<//><//>`;
  const at = (share) => known[Math.min(known.length - 1, Math.floor(share * known.length))];
  const low = Math.max(known[0], 1e-6);
  const high = Math.max(known.at(-1), low * 1.0001);
  const isLog = high / low > 20;
  const place = (value) => (isLog ? Math.log(Math.max(value, low) / low) / Math.log(high / low) : (value - low) / (high - low));
  const bins = new Array(BINS).fill(0);
  for (const each of known) bins[Math.max(0, Math.min(BINS - 1, Math.floor(place(each) * BINS)))] += 1;
  const most = Math.max(...bins);
  const said = `${title} of ${known.length} runs: median ${duration(at(0.5))}, 95 percent below ${duration(at(0.95))}, longest ${duration(known.at(-1))}`;
  return html`<${Panel} title=${title} aside=${html`<span class="muted">${known.length} runs</span>`}>
    <svg class="histogram" viewBox="0 0 240 56" preserveAspectRatio="none" role="img" aria-label=${said}>
      ${bins.map((count, i) => count ? html`<rect class="fill-accent" x=${i * 10 + 0.5} width="9" y=${54 - Math.max(2, (count / most) * 52)} height=${Math.max(2, (count / most) * 52)} />` : null)}
      <path class="axis" d="M0 55.5h240" /></svg>
    <p class="line sub num"><span>${duration(known[0])}</span>${isLog ? html`<span class="muted">log</span>` : null}<span>${duration(known.at(-1))}</span></p>
    <p class="line sub num"><span>median ${duration(at(0.5))}</span><span>p95 ${duration(at(0.95))}</span></p><//>`;
}
