// The ledger of a task: runs and skips, the newest first.
import { html, useEffect, useState } from "../vendor/preact.js";
import { get, useLive } from "../api.js";
import { Empty, Failure, Loading, Moment, Panel } from "../widgets.js";
import { BAD, OutcomeText, toneOf } from "../outcomes.js";
import { duration, ms } from "../format.js";
import { go, hrefOf } from "../router.js";

const PAGE = 50;
const FILTERS = [["", "all"], ["BAD", "bad"], ["SKIPPED", "skipped"], ["SUCCEEDED", "succeeded"], ["CANCELLED", "cancelled"]];

export function History({ task, isMine, onRuns, parameters }) {
  const path = `api/tasks/${encodeURIComponent(task.id)}/runs`;
  const [wanted, setWanted] = useState("");
  const [older, setOlder] = useState({ key: "", items: [], next: null });
  const outcome = wanted === "BAD" ? BAD : wanted ? [wanted] : [];
  const key = `${task.id} ${wanted}`;
  const { data, error, reload } = useLive((signal) => get(path, { outcome, limit: PAGE }, signal), key, { concerns: isMine });
  const mine = older.key === key ? older : { items: [], next: undefined };
  const known = new Set();
  const items = [...(data?.items || []), ...mine.items].filter((each) => !known.has(idOf(each)) && known.add(idOf(each)));
  const next = mine.next === undefined ? data?.next : mine.next;
  useEffect(() => onRuns(items), [data, older]);
  const more = async () => {
    const page = await get(path, { outcome, limit: PAGE, cursor: next }).catch(() => null);
    // A cursor may be too old by now: then one begins with the newest again.
    if (page) setOlder({ key, items: [...mine.items, ...page.items], next: page.next });
    else reload();
  };
  const at = ms(parameters.get("at"));
  return html`<${Panel} title="History" kind="history" aside=${html`<div class="segments" role="group" aria-label="Which records">${FILTERS.map(([value, text]) => html`<button
      type="button" class="small" aria-pressed=${value === wanted ? "true" : "false"} onClick=${() => setWanted(value)}>${text}</button>`)}</div>`}>
    ${error && !items.length ? html`<${Failure} error=${error} />` : !data ? html`<${Loading} />`
      : !items.length ? html`<${Empty} title=${wanted ? "No such record" : "It has not run yet"}>Each tick leaves a record here: a run with its outcome, or a skip with the reason.<//>`
      : html`<table class="cards runs"><caption class="visually-hidden">History of ${task.name}, the newest first</caption>
        <thead><tr><th scope="col">Outcome</th><th scope="col">Tick</th><th scope="col" class="right">Late</th><th scope="col" class="right">Took</th><th scope="col" class="right">Attempts</th><th scope="col">Where</th></tr></thead>
        <tbody>${items.map((run) => html`<${Record} key=${idOf(run)} run=${run} task=${task} isChosen=${at !== null && ms(run.scheduled_at) <= at && at <= Math.max(ms(run.last_scheduled_at), ms(run.scheduled_at))} parameters=${parameters} />`)}</tbody></table>`}
    ${next ? html`<p class="center"><button type="button" onClick=${more}>Show older records</button></p>` : data?.oldest && items.length ? html`<p class="muted center hint">What was before <${Moment} at=${data.oldest} /> is not kept.</p>` : null}<//>`;
}

const idOf = (run) => `${run.run_id} ${run.scheduled_at} ${run.outcome} ${run.reason} ${run.delivery} ${run.manual}`;

function Record({ run, isChosen, task, parameters }) {
  const open = () => go(hrefOf("task", task.id, { ...Object.fromEntries(parameters), at: run.scheduled_at }), { replace: true });
  return html`<tr data-row class=${`${isChosen ? "is-chosen " : ""}tone-edge-${toneOf(run.outcome)}`} data-outcome=${run.outcome}>
    <td data-label="Outcome"><${OutcomeText} run=${run} />${run.manual ? html` <span class="chip">asked for</span>` : null}${run.delivery > 1 ? html` <span class="chip">delivery ${run.delivery}</span>` : null}
      ${run.error ? html`<${ErrorText} text=${run.error} />` : null}</td>
    <td data-label="Tick"><button type="button" class="link" data-open onClick=${open} title="Explain this tick"><${Moment} at=${run.scheduled_at} /></button>${run.count > 1 ? html` <span class="muted">to <${Moment} at=${run.last_scheduled_at} /></span>` : null}</td>
    <td data-label="Late" class="right num">${duration(run.lateness_s)}</td><td data-label="Took" class="right num">${duration(run.duration_s)}</td>
    <td data-label="Attempts" class="right num">${run.attempts || "–"}</td><td data-label="Where"><code class="where" title=${run.instance}>${run.instance.slice(0, 8)}</code></td></tr>`;
}

function ErrorText({ text }) {
  const lines = text.split("\n");
  const rest = lines.slice(1).join("\n").trim();
  if (!rest && lines[0].length < 160) return html`<span class="error-line">${lines[0]}</span>`;
  return html`<details class="error-more"><summary class="error-line">${lines[0].slice(0, 300)}</summary><pre tabindex="0">${text}</pre></details>`;
}
