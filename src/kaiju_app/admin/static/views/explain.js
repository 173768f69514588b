// Why a tick ran, or did not: what the endpoint says of an instant, as a sentence and as facts.
import { html, useEffect, useRef } from "../vendor/preact.js";
import { get, useLive } from "../api.js";
import { Loading, Moment } from "../widgets.js";
import { BAD, OutcomeText } from "../outcomes.js";
import { duration } from "../format.js";
import { go, hrefOf } from "../router.js";

const TONES = { ran: "well", running: "well", waiting: "held", skipped: "ill", disabled: "ill", planned: "well" };

export function Explanation({ task, at, parameters }) {
  const place = useRef(null);
  const rest = Object.fromEntries([...parameters].filter(([name]) => name !== "at"));
  const close = () => go(hrefOf("task", task.id, rest), { replace: true });
  useEffect(() => {
    if (!at) return undefined;
    const pressed = (event) => {
      if (event.key === "Escape" && !document.querySelector("dialog[open]")) close();
    };
    addEventListener("keydown", pressed);
    place.current?.scrollIntoView({ block: "nearest" });
    return () => removeEventListener("keydown", pressed);
  }, [at]);
  return html`<div aria-live="polite" ref=${place}>${at ? html`<${Answer} key=${at} task=${task} at=${at} rest=${rest} close=${close} />` : null}</div>`;
}

function Answer({ task, at, rest, close }) {
  const concerns = (kind, data) => data.task_id === task.id;
  const { data, error } = useLive((signal) => get(`api/tasks/${encodeURIComponent(task.id)}/explain`, { at }, signal), at, { concerns, everyMs: 30_000 });
  const place = useRef(null);
  useEffect(() => {
    if (data) place.current.scrollIntoView({ block: "nearest" }); // It has its height now.
  }, [Boolean(data)]);
  const other = (moment, text) => moment ? html`<a href=${hrefOf("task", task.id, { ...rest, at: moment })}>${text} <${Moment} at=${moment} /></a>` : null;
  const tone = BAD.includes(data?.run?.outcome) ? "ill" : TONES[data?.fate] || "open";
  return html`<section class=${`panel explanation is-${tone}`} aria-label="Explanation" data-explanation ref=${place}>
    <header class="panel-head"><h2>Why? <span class="muted"><${Moment} at=${at} kind="full" /></span></h2><button type="button" class="quiet" aria-label="Close the explanation" onClick=${close}>×</button></header>
    ${error && !data ? html`<p class="error-text">${error.message}</p>` : !data ? html`<${Loading} />` : html`
      <p class="sentence">${data.sentence}</p>
      <dl class="facts-grid">
        <div><dt>What became of it</dt><dd>${data.fate}</dd></div>
        ${data.tick ? html`<div><dt>Tick</dt><dd><${Moment} at=${data.tick} kind="full" /></dd></div>` : null}
        ${data.run ? html`<div><dt>Record</dt><dd><${OutcomeText} run=${data.run} /></dd></div>
          ${data.run.started_at ? html`<div><dt>Late, took</dt><dd class="num">${duration(data.run.lateness_s)}, ${duration(data.run.duration_s)}</dd></div>` : null}
          <div><dt>Where</dt><dd><code title=${data.run.instance}>${data.run.instance.slice(0, 8)}</code></dd></div>` : null}
      </dl>
      ${data.causes.length ? html`<ul class="causes">${data.causes.map((each) => html`<li><strong>${each.kind}</strong>${each.who ? ` by ${each.who}` : ""}
        ${each.since ? html` from <${Moment} at=${each.since} />` : null}${each.until ? html` to <${Moment} at=${each.until} />` : each.since ? " until now, or it is not known" : null}</li>`)}</ul>` : null}
      ${data.run?.error ? html`<details class="error-more" open><summary class="error-line">Error</summary><pre tabindex="0">${data.run.error}</pre></details>` : null}
      <p class="neighbours">${other(data.before, "← Tick before,")} ${other(data.after, "Tick after →")}</p>`}
  </section>`;
}
