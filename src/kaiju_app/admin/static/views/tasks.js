// All tasks. There may be ten thousand: pages are loaded as one scrolls, and only the rows that can be seen are drawn.
import { html, useEffect, useRef, useState } from "../vendor/preact.js";
import { get, useEvents } from "../api.js";
import { AllButtons, Buttons, Empty, Failure, Loading, Moment, Scope, State, TaskLink } from "../widgets.js";
import { BAD, OutcomeText, Sparkline, STATES } from "../outcomes.js";
import { go, hrefOf } from "../router.js";
import { drawn } from "../keyboard.js";
import { may, useCell } from "../state.js";
import { plural } from "../format.js";

const PAGE = 100;
const AHEAD = 6; // Rows that are drawn outside of what is seen, so that the keyboard reaches them.
const LEAST_MS = 1_500;
const LOOK_MS = 15_000;
const narrow = matchMedia("(max-width: 760px)");
const rowHeight = () => (narrow.matches ? 108 : 56); // As --row in style.css.

const COLUMNS = [["state", "State"], ["name", "Task"], ["last_run_at", "Last run"], [null, "Last 30"], ["next_run_at", "Next run"]];

function filtersOf(parameters) {
  return {
    q: parameters.get("q") || "", state: parameters.getAll("state"), outcome: parameters.getAll("outcome"),
    scope: parameters.getAll("scope"), overdue: parameters.get("overdue") || "", sort: parameters.get("sort") || "name",
  };
}

/** Change some filters. The others are taken from the address: a timer may know older ones. */
const change = (part) => {
  const all = { ...filtersOf(new URLSearchParams(location.hash.split("?")[1] || "")), ...part };
  go(hrefOf("tasks", "", { ...all, sort: all.sort === "name" ? "" : all.sort }), { replace: true });
};

/** The pages that are loaded so far, and what loads more and keeps those that are seen up to date. */
function usePages(filters) {
  const key = JSON.stringify(filters);
  const [found, setFound] = useState({ key: "", pages: [], error: null });
  const job = useRef({ key: "", loading: new Map(), pages: [], dirty: new Set(), last: 0, timer: 0, seen: [0, 0] }).current;

  const load = async (index) => {
    if (job.loading.has(index) || (index > 0 && !job.pages[index - 1]?.next)) return;
    const abort = new AbortController();
    const asked = job.key;
    job.loading.set(index, abort);
    job.dirty.delete(index);
    try {
      const cursor = index ? job.pages[index - 1].next : null;
      const page = await get("api/tasks", { ...JSON.parse(asked), limit: PAGE, cursor }, abort.signal);
      if (asked !== job.key) return;
      job.pages = [...job.pages.slice(0, index), page, ...job.pages.slice(index + 1)];
      if (!page.next) job.pages.length = index + 1;
      setFound({ key: asked, pages: job.pages, error: null });
    } catch (error) {
      if (error.name !== "AbortError" && asked === job.key) setFound({ key: asked, pages: job.pages, error });
    } finally {
      if (job.loading.get(index) === abort) job.loading.delete(index);
    }
  };
  const refresh = () => {
    clearTimeout(job.timer);
    job.last = performance.now();
    job.timer = setTimeout(all, LOOK_MS);
    if (!document.hidden) for (let i = job.seen[0]; i <= job.seen[1]; i += 1) if (job.dirty.has(i)) load(i);
  };
  const soon = () => {
    clearTimeout(job.timer);
    job.timer = setTimeout(refresh, Math.max(50, job.last + LEAST_MS - performance.now()));
  };
  const all = () => {
    job.pages.forEach((_, i) => job.dirty.add(i));
    if (!job.pages.length) job.dirty.add(0);
    refresh();
  };
  useEffect(() => {
    for (const each of job.loading.values()) each.abort();
    Object.assign(job, { key, pages: [], seen: [0, 0] });
    job.loading.clear();
    job.dirty.clear();
    load(0);
    job.timer = setTimeout(all, LOOK_MS);
    return () => clearTimeout(job.timer);
  }, [key]);
  useEvents((kind, data) => {
    if (kind === "reload") all();
    const index = job.pages.findIndex((page) => page.items.some((each) => each.id === data.task_id));
    if (index >= 0) {
      job.dirty.add(index);
      soon();
    }
  });
  const see = (first, last, total) => {
    job.seen = [Math.floor(first / PAGE), Math.floor(last / PAGE)];
    if (job.dirty.has(job.seen[0]) || job.dirty.has(job.seen[1])) soon();
    if (last > total - PAGE / 2 && job.pages.at(-1)?.next) load(job.pages.length);
  };
  const isOld = found.key !== key;
  return { pages: isOld ? [] : found.pages, error: isOld ? null : found.error, isLoading: isOld, see, again: () => load(0) };
}

export function Tasks({ parameters, scheduler }) {
  const filters = filtersOf(parameters);
  const { pages, error, isLoading, see, again } = usePages(filters);
  const known = new Set();
  const items = pages.flatMap((page) => page.items).filter((each) => !known.has(each.id) && known.add(each.id));
  const hasMore = Boolean(pages.at(-1)?.next);
  useEffect(() => {
    document.title = "Tasks · Scheduler";
  }, []);
  const partial = pages[0]?.partial;
  const isFiltered = Boolean(filters.q || filters.state.length || filters.outcome.length || filters.scope.length || filters.overdue);
  const total = scheduler ? ` of ${scheduler.tasks.toLocaleString("en")}` : "";
  return html`<div class="head"><h1>Tasks</h1><p class="muted" aria-live="polite">${isLoading ? "Loading …"
      : isFiltered ? `${items.length.toLocaleString("en")}${hasMore ? "+" : ""}${total}` : scheduler ? plural(scheduler.tasks, "task") : ""}</p><${AllButtons} scheduler=${scheduler} /></div>
    <${Filters} filters=${filters} />
    ${partial ? html`<p class="remark">${partial}</p>` : null}
    ${error && !items.length ? html`<${Failure} error=${error} again=${again} />`
      : items.length ? html`<${Table} items=${items} filters=${filters} hasMore=${hasMore} see=${see} />`
      : isLoading ? html`<${Loading} />`
      : isFiltered ? html`<${Empty} title="No task matches">Search looks for a part of the name. <button type="button" onClick=${() => go("#/tasks")}>Show all tasks</button><//>`
      : html`<${Empty} title="There are no tasks yet">Add one in the code of the application: <code>scheduler.schedule_task(refresh, 60, name="refresh")</code><//>`}`;
}

function Filters({ filters }) {
  const [text, setText] = useState(filters.q);
  const timer = useRef(0);
  useEffect(() => setText(filters.q), [filters.q]);
  const typed = (event) => {
    setText(event.target.value);
    clearTimeout(timer.current);
    const q = event.target.value;
    timer.current = setTimeout(() => change({ q }), 200);
  };
  const state = filters.overdue ? "overdue" : filters.state[0] || "";
  const outcome = filters.outcome.length > 1 ? "BAD" : filters.outcome[0] || "";
  const setState = (value) => change(value === "overdue" ? { state: [], overdue: "true" } : { state: value ? [value] : [], overdue: "" });
  const setOutcome = (value) => change({ outcome: value === "BAD" ? BAD : value ? [value] : [] });
  const [isOpen, setOpen] = useState(false);
  const number = [state, outcome, filters.scope[0], filters.sort !== "name"].filter(Boolean).length;
  return html`<div class=${`filters ${isOpen ? "is-open" : ""}`} role="search">
    <label class="visually-hidden" for="search">Search tasks by name</label>
    <input id="search" type="search" placeholder="Search by name ( / )" autocomplete="off" value=${text} onInput=${typed} />
    <button type="button" class="filters-button" aria-expanded=${isOpen ? "true" : "false"} aria-controls="filters" onClick=${() => setOpen(!isOpen)}>${`Filters${number ? ` (${number})` : ""}`}</button>
    <div class="filters-all" id="filters">
    <${Select} label="State" value=${state} onChange=${setState} options=${[["", "any state"], ["overdue", "overdue"], ...STATES.map((each) => [each, each])]} />
    <${Select} label="Outcome of the last run" value=${outcome} onChange=${setOutcome} options=${[["", "any outcome"], ["BAD", "failed, timed out or lost"],
      ["SUCCEEDED", "succeeded"], ["FAILED", "failed"], ["TIMED_OUT", "timed out"], ["CANCELLED", "cancelled"], ["SKIPPED", "skipped"], ["LOST", "lost"]]} />
    <${Select} label="Scope" value=${filters.scope[0] || ""} onChange=${(value) => change({ scope: value ? [value] : [] })} options=${[["", "any scope"], ["LOCAL", "local"], ["CLUSTER", "cluster"]]} />
    <span class="only-narrow"><${Select} label="Order" value=${filters.sort} onChange=${(sort) => change({ sort })}
      options=${[["name", "by name"], ["next_run_at", "by next run"], ["-last_run_at", "by last run"], ["state", "by state"]]} /></span></div>
  </div>`;
}

const Select = ({ label, value, options, onChange }) => html`<select aria-label=${label} value=${value} onChange=${(event) => onChange(event.target.value)}>
  ${options.map(([each, text]) => html`<option value=${each} selected=${each === value}>${text}</option>`)}</select>`;

function Table({ items, filters, hasMore, see }) {
  const body = useRef(null);
  const rights = useCell(may);
  const acts = !rights || rights.includes("operate"); // As long as it is not known, the place for actions is empty.
  const [[first, last], setRange] = useState([0, 40]);
  const look = () => {
    if (!body.current) return;
    const height = rowHeight();
    const top = -body.current.getBoundingClientRect().top;
    const from = Math.max(0, Math.floor(top / height) - AHEAD);
    const to = Math.min(items.length, Math.ceil((top + innerHeight) / height) + AHEAD);
    setRange((before) => (before[0] === from && before[1] === to ? before : [from, to]));
    see(from, Math.max(from, to - 1), items.length);
  };
  const latest = useRef(look);
  latest.current = look;
  useEffect(() => {
    let frame = 0;
    const moved = () => {
      frame ||= requestAnimationFrame(() => {
        frame = 0;
        latest.current();
      });
    };
    addEventListener("scroll", moved, { passive: true });
    addEventListener("resize", moved);
    return () => {
      removeEventListener("scroll", moved);
      removeEventListener("resize", moved);
      cancelAnimationFrame(frame);
    };
  }, []);
  useEffect(look, [items.length, hasMore]);
  const shown = items.slice(first, last);
  drawn.clear();
  for (const each of shown) drawn.set(each.id, each);
  const height = rowHeight();
  return html`<div class=${`panel grid ${acts ? "" : "is-read-only"}`} role="table" aria-label="Tasks" aria-rowcount=${hasMore ? -1 : items.length + 1}>
    <div role="rowgroup" class="grid-head"><div role="row" class="grid-row" aria-rowindex="1">${COLUMNS.map(([by, text]) => html`<${Column} by=${by} text=${text} filters=${filters} />`)}${acts ? html`<div role="columnheader">Actions</div>` : null}</div></div>
    <div role="rowgroup" ref=${body} class="grid-body" style=${`height:${items.length * height}px`}>
      ${shown.map((task, i) => html`<${Row} key=${task.id} task=${task} index=${first + i} top=${(first + i) * height} />`)}</div>
    ${hasMore ? html`<p class="muted loading">More are loaded as you scroll …</p>` : null}</div>`;
}

function Column({ by, text, filters }) {
  if (!by) return html`<div role="columnheader">${text}</div>`;
  const isBy = filters.sort.replace("-", "") === by;
  const isDown = filters.sort.startsWith("-");
  const next = isBy && !isDown ? `-${by}` : by;
  return html`<div role="columnheader" aria-sort=${isBy ? (isDown ? "descending" : "ascending") : "none"}>
    <button type="button" class="sort" onClick=${() => change({ sort: next })}>${text}<span aria-hidden="true">${isBy ? (isDown ? " ↓" : " ↑") : ""}</span></button></div>`;
}

function Actions({ task }) {
  const rights = useCell(may);
  return rights && !rights.includes("operate") ? null : html`<div role="cell" class="c-act"><${Buttons} task=${task} isSmall=${true} /></div>`;
}

function Row({ task, index, top }) {
  const run = task.last_run;
  const hold = task.holds[0];
  return html`<div role="row" class="grid-row" aria-rowindex=${index + 2} data-row data-task=${task.id} style=${`transform:translateY(${top}px)`}>
    <div role="cell" class="c-state"><${State} task=${task} /></div>
    <div role="cell" class="c-name"><${TaskLink} id=${task.id} name=${task.name} /><span class="sub"><${Scope} scope=${task.scope} /> ${task.rule}</span></div>
    <div role="cell" class="c-last">${run ? html`<span><${OutcomeText} run=${run} /> <span class="muted"><${Moment} at=${run.finished_at || run.scheduled_at} kind="past" /></span></span>
      <span class="sub" title=${run.error || null}>${run.error || ""}</span>` : html`<span class="muted">never</span>`}</div>
    <div role="cell" class="c-spark"><${Sparkline} outcomes=${task.recent} /></div>
    <div role="cell" class="c-next">${hold && task.state !== "running" ? html`<span class="sub hold-text">held: ${hold.reason || hold.holder}</span>`
      : html`<${Moment} at=${task.next_run_at} />${task.next_run_at ? html`<span class="sub"><${Moment} at=${task.next_run_at} kind="next" /></span>` : null}`}</div>
    <${Actions} task=${task} />
  </div>`;
}
