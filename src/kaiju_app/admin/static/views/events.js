// What happens, as it happens, on all instances.
import { html, useEffect, useRef, useState } from "../vendor/preact.js";
import { seen, useEvents } from "../api.js";
import { Empty, Moment, TaskLink } from "../widgets.js";
import { OutcomeText } from "../outcomes.js";
import { duration } from "../format.js";

const MOST_SHOWN = 200;
const LATE_S = 0.1; // As explanations give a reason for.

export function Events() {
  const [stopped, setStopped] = useState(null);
  const [text, setText] = useState("");
  const [, redraw] = useState(0);
  const frame = useRef(0);
  useEffect(() => {
    document.title = "Events · Scheduler";
    return () => cancelAnimationFrame(frame.current);
  }, []);
  useEvents(() => {
    if (stopped) return;
    frame.current ||= requestAnimationFrame(() => { // However many come, they are drawn once a frame.
      frame.current = 0;
      redraw((number) => number + 1);
    });
  });
  const wanted = text.toLowerCase();
  const all = (stopped || seen).filter((each) => !wanted || describe(each).includes(wanted));
  return html`<div class="head"><h1>Events</h1><p class="muted">Endings, states and holds of all instances, the newest first</p></div>
    <div class="filters"><label class="visually-hidden" for="search">Filter the events</label>
      <input id="search" type="search" placeholder="Filter: a task, an outcome, a word ( / )" value=${text} onInput=${(event) => setText(event.target.value)} />
      <button type="button" aria-pressed=${stopped ? "true" : "false"} onClick=${() => setStopped(stopped ? null : [...seen])}>${stopped ? "Go on" : "Hold the list"}</button></div>
    ${all.length ? html`<div class="panel"><ol class="events" aria-label="Events, the newest first">${all.slice(0, MOST_SHOWN).map((each) => html`<${Event} key=${each.key} event=${each} />`)}</ol></div>`
      : html`<${Empty} title=${seen.length ? "No event matches" : "Nothing has happened yet"}>Events appear here the moment a run ends, or a task is paused, resumed or starts. This page has listened since it was opened.<//>`}`;
}

function describe({ kind, data }) {
  return JSON.stringify([kind, data]).toLowerCase();
}

function Event({ event }) {
  const { kind, data } = event;
  return html`<li class="event" data-row data-task=${data.task_id}>
    <span class="when"><${Moment} at=${event.at} /></span>
    ${kind === "gap" ? html`<span class="what"><span class="state state-paused">gap</span></span><span class="more">${data.missed ? `${data.missed} events were missed` : "Some events were missed"}; the views were loaded again.</span>`
      : kind === "gone" ? html`<span class="what"><span class="state state-over">gone</span></span><span class="more">A task was removed.</span>`
      : kind === "task" ? html`<span class="what"><span class=${`state state-${data.state}`}>${data.state}</span></span>
        <span class="more"><${TaskLink} id=${data.task_id} name=${data.task} /> ${data.holds.map((each) => html`<span class="muted">held by ${each.holder}${each.reason ? `: ${each.reason}` : ""} </span>`)}</span>`
      : html`<span class="what"><${OutcomeText} run=${data} /></span>
        <span class="more"><${TaskLink} id=${data.task_id} name=${data.task} parameters=${{ at: data.scheduled_at }} />
        ${data.manual ? html`<span class="muted"> · asked for</span>` : null}</span>
        <span class="took muted num">${data.duration_s !== null ? `took ${duration(data.duration_s)}` : ""}</span>
        <span class="told">${data.error ? html`<span class="error-line">${data.error.split("\n")[0]}</span>`
          : data.lateness_s >= LATE_S ? html`<span class="muted num">${duration(data.lateness_s)} late</span>` : null}</span>`}</li>`;
}
