// Is all well? What runs, what fails, what comes, and what became of everything lately.
import { html, useEffect, useLayoutEffect, useRef, useState } from "../vendor/preact.js";
import { get, useLive } from "../api.js";
import { AllButtons, Empty, Failure, Loading, Moment, Panel, State, TaskLink } from "../widgets.js";
import { BAD, OutcomeText } from "../outcomes.js";
import { duration, ms, plural } from "../format.js";
import { useNow } from "../state.js";
import { hrefOf } from "../router.js";
import { drawn } from "../keyboard.js";
import { Timeline } from "../timeline.js";

const MOST = 4;
const MOST_NEXT = 9; // As many as fill the height of what is beside them, and no fewer than MOST.
const HOUR_MS = 3_600_000;
const narrow = matchMedia("(max-width: 760px)");

export function Overview({ parameters, scheduler }) {
  useEffect(() => {
    document.title = "Scheduler";
  }, []);
  const found = useLive(load, "overview");
  const steady = useSteady();
  if (found.error && !found.data) return html`<h1 class="visually-hidden">Overview</h1><${Failure} error=${found.error} again=${found.reload} />`;
  drawn.clear();
  for (const each of [...(found.data?.bad || []), ...(found.data?.running || []), ...(found.data?.next || [])]) drawn.set(each.id, each);
  return html`<h1 class="visually-hidden">Overview</h1>
    <${HealthLine} scheduler=${scheduler} />
    <div class="columns" ref=${steady}>
      <div><${Attention} items=${found.data?.bad} /><${Running} items=${found.data?.running} /></div>
      <${Coming} items=${found.data?.next} most=${rowsBeside(found.data)} />
    </div>
    <${Panel} title="Timeline" kind="wide"><${Timeline} parameters=${parameters} view="overview" /><//>`;
}

/** What becomes higher stays so, while its width is the same: otherwise what is below it would move with every failure. */
function useSteady() {
  const place = useRef(null);
  const most = useRef({ width: 0, height: 0 }).current;
  useLayoutEffect(() => {
    const element = place.current;
    if (!element) return;
    const { offsetWidth: width } = element;
    if (most.width !== width) [element.style.minHeight, most.height] = ["", 0];
    const height = Math.ceil(element.getBoundingClientRect().height);
    if (height > most.height) element.style.minHeight = narrow.matches ? "" : `${height}px`;
    Object.assign(most, { width, height: Math.max(height, most.height) });
  });
  return place;
}

/** How many rows of what comes are as high as the two panels beside it: a row of two lines is 58 pixels, an empty panel 50. */
function rowsBeside(data) {
  const heights = [data?.bad, data?.running].map((each) => (each?.length ? each.slice(0, MOST).reduce((sum, { last_run: run, state }) => sum + (run?.error && state !== "running" ? 77 : 58), 0) : 50));
  return Math.max(MOST, Math.min(MOST_NEXT, Math.round((heights[0] + heights[1] + 60) / 58)));
}

/** What is found quickly comes first: which runs failed last has to be looked up for each of the tasks. */
async function load(signal, tell) {
  const tasks = (parameters) => get("api/tasks", { limit: MOST + 1, ...parameters }, signal).then((page) => page.items);
  const [running, next] = await Promise.all([tasks({ state: ["running", "hung"] }), tasks({ sort: "next_run_at", limit: MOST_NEXT + 1 })]);
  tell({ running, next });
  const [overdue, failed] = await Promise.all([tasks({ overdue: true }), tasks({ outcome: BAD, sort: "-last_run_at" })]);
  const seen = new Set();
  const bad = [...overdue, ...running.filter((each) => each.state === "hung"), ...failed].filter((each) => !seen.has(each.id) && seen.add(each.id));
  return { bad, running, next };
}

function HealthLine({ scheduler }) {
  if (!scheduler) return html`<p class="health"><span class="muted">Loading …</span></p>`;
  const { states, outcomes, health: state } = scheduler;
  const failing = BAD.reduce((sum, each) => sum + (outcomes[each] || 0), 0);
  const paused = (states.paused || 0) + (states.suspended || 0);
  const store = scheduler.store;
  const facts = [
    html`<a href="#/tasks">${plural(scheduler.tasks, "task")}</a>`,
    failing ? html`<a class="text-failed" href=${hrefOf("tasks", "", { outcome: BAD })}>${failing} failing</a>` : "none failing",
    states.running ? html`<a href=${hrefOf("tasks", "", { state: "running" })}>${states.running} running</a>` : "none running",
    paused ? html`<a href=${hrefOf("tasks", "", { state: states.paused ? "paused" : "suspended" })}>${paused} held</a>` : null,
    html`<a href="#/instances">${plural(scheduler.instances, "instance")}</a>`,
    store ? `${store.name} ${store.state}` : "no store",
    scheduler.loop_lag ? html`<span title=${scheduler.loop_lag.cause || null}>loop lag ${duration(scheduler.loop_lag.p99_s)} p99, ${duration(scheduler.loop_lag.max_s)} max</span>` : null,
  ].filter(Boolean);
  return html`<section class=${`health ${state.healthy ? "is-well" : "is-ill"}`} aria-label="Health">
    <p class="health-word"><span class="dot" aria-hidden="true"></span><strong>${!scheduler.started ? "Not started" : state.healthy ? "All is well" : "Not well"}</strong>
    ${state.reasons.length ? html`<span class="health-reason">${state.reasons.join(" · ")}</span>` : null}</p>
    <${AllButtons} scheduler=${scheduler} />
    <ul class="facts">${facts.map((each) => html`<li>${each}</li>`)}</ul>
    ${scheduler.holds.length ? html`<p class="hold"><strong>All tasks are held</strong>: ${scheduler.holds.join("; ")}</p>` : null}
    ${scheduler.loop_lag?.cause && scheduler.loop_lag.max_s > 0.5 ? html`<p class="remark">The loop was blocked for ${duration(scheduler.loop_lag.max_s)} by ${scheduler.loop_lag.cause}</p>` : null}
    ${scheduler.partial ? html`<p class="remark">${scheduler.partial}</p>` : null}
  </section>`;
}

/** A panel that is folded on a phone, where its number has to do until somebody opens it. */
function Card({ title, aside, count, isOpen = false, children }) {
  const [isNarrow, setNarrow] = useState(narrow.matches);
  useEffect(() => {
    const changed = () => setNarrow(narrow.matches);
    narrow.addEventListener("change", changed);
    return () => narrow.removeEventListener("change", changed);
  }, []);
  if (!isNarrow) return html`<${Panel} title=${title} aside=${aside}>${children}<//>`;
  const number = count === undefined ? "" : count > MOST && title !== "Next hour" ? `${MOST}+` : count;
  return html`<details class="panel" open=${isOpen}><summary class="panel-head"><h2>${title}</h2><span class="muted num">${number}</span></summary>
    ${children}${aside ? html`<p class="center">${aside}</p>` : null}</details>`;
}

function Attention({ items }) {
  return html`<${Card} title="Needs attention" isOpen=${true} count=${items?.length} aside=${items?.length > MOST ? html`<a href=${hrefOf("tasks", "", { outcome: BAD })}>all</a>` : null}>
    ${!items ? html`<${Loading} />` : !items.length ? html`<${Empty} title="Nothing fails">Tasks whose last run failed, or that are overdue, come first here.<//>`
      : html`<ul class="list">${items.slice(0, MOST).map((task) => html`<li key=${task.id} data-row data-task=${task.id}>
        <span class="line"><${TaskLink} id=${task.id} name=${task.name} />${task.overdue || task.state === "hung" || task.state === "paused" ? html`<${State} task=${task} />` : null}</span>
        ${task.last_run ? html`<span class="line sub"><${OutcomeText} run=${task.last_run} /><${Moment} at=${task.last_run.finished_at || task.last_run.scheduled_at} kind="past" /></span>
          ${task.last_run.error ? html`<span class="error-line">${task.last_run.error}</span>` : null}` : html`<span class="sub">It has never run</span>`}</li>`)}</ul>`}<//>`;
}

function Running({ items }) {
  return html`<${Card} title="Running now" count=${items?.length} aside=${items?.length > MOST ? html`<a href=${hrefOf("tasks", "", { state: "running" })}>all</a>` : null}>
    ${!items ? html`<${Loading} />` : !items.length ? html`<${Empty} title="Nothing runs at this moment">A run is listed here while it is in progress.<//>`
      : html`<ul class="list">${items.slice(0, MOST).map((task) => html`<li key=${task.id} data-row data-task=${task.id}>
        <span class="line"><${TaskLink} id=${task.id} name=${task.name} />${task.state === "hung" ? html`<${State} task=${task} />` : null}</span>
        <span class="sub num">${task.runs_in ? `in ${task.runs_in}` : ""}</span></li>`)}</ul>`}<//>`;
}

function Coming({ items, most }) {
  const now = useNow();
  const soon = items?.filter((each) => each.next_run_at && ms(each.next_run_at) < now + HOUR_MS && !each.holds.length);
  return html`<${Card} title="Next hour" count=${soon?.length} aside=${soon?.length > most ? html`<a href=${hrefOf("tasks", "", { sort: "next_run_at" })}>all</a>` : null}>
    ${!soon ? html`<${Loading} />` : !soon.length ? html`<${Empty} title="No tick in the next hour">The next ticks of all tasks are listed here, the soonest first.<//>`
      : html`<ul class="list">${soon.slice(0, most).map((task) => html`<li key=${task.id} data-row data-task=${task.id}>
        <span class="line"><${TaskLink} id=${task.id} name=${task.name} /><span class="muted"><${Moment} at=${task.next_run_at} kind="next" /></span></span>
        <span class="sub line"><span>${task.rule}</span><${Moment} at=${task.next_run_at} /></span></li>`)}</ul>`}<//>`;
}
